package bus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Follow calls apply, from one goroutine, with the latest entry of every key that matches pattern (deletions included) and then with
// each change, until stop is called. It returns once everything that was there has been applied. The end of ctx ends the waiting, not
// the following.
func Follow(ctx context.Context, kv jetstream.KeyValue, pattern string, apply func(jetstream.KeyValueEntry)) (stop func(), err error) {
	watchCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	watch, err := kv.Watch(watchCtx, pattern)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch %s of bucket %s: %w", pattern, kv.Bucket(), err)
	}
	loaded, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for e := range watch.Updates() {
			if e == nil { // all that was there has come
				close(loaded)
				continue
			}
			apply(e)
		}
	}()
	stop = func() {
		_ = watch.Stop() // the connection may be gone already; then the watch is too
		cancel()
		<-ended
	}
	select {
	case <-loaded:
		return stop, nil
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}
