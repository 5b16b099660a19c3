package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bucket is a KV bucket whose changes can be followed also over the loss of its connection.
type Bucket struct {
	jetstream.KeyValue
	js   jetstream.JetStream
	link *link
}

// PutFor stores a value under a key, whatever there was, for ttl: whole seconds, rounded up.
func (b *Bucket) PutFor(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return putFor(ctx, b.js, b.Bucket(), key, value, ttl)
}

// ReplaceFor is PutFor where the key is still at a revision. Errors: jetstream.ErrKeyExists where it is not.
func (b *Bucket) ReplaceFor(ctx context.Context, key string, value []byte, revision uint64, ttl time.Duration) error {
	return putFor(ctx, b.js, b.Bucket(), key, value, ttl, jetstream.WithExpectLastSequencePerSubject(revision))
}

// Forget removes a key; an absent one is no error. Whoever follows the bucket hears of it.
func (b *Bucket) Forget(ctx context.Context, key string) error {
	return b.Purge(ctx, key, jetstream.PurgeTTL(markerTTL))
}

// allTimeout is how long All may take.
const allTimeout = 30 * time.Second

// All calls f with the entry of every key that matches pattern and has a value, in no order. All of
// them are read in one pass, not by a question for each. The first error of f ends it. Errors: those
// of f; a context's where it takes longer than allTimeout.
func (b *Bucket) All(ctx context.Context, pattern string, f func(jetstream.KeyValueEntry) error) error {
	ctx, cancel := context.WithTimeout(ctx, allTimeout)
	defer cancel()
	w, err := b.Watch(ctx, pattern, jetstream.IgnoreDeletes())
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }() // it ends with the context, too
	for {
		select {
		case e, open := <-w.Updates():
			if !open {
				return nats.ErrConnectionClosed
			}
			if e == nil { // that was all
				return nil
			}
			if err := f(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// putFor publishes the message that is a key's value, with a lifetime where ttl is not zero: the KV interface knows one for new keys only.
func putFor(ctx context.Context, js jetstream.JetStream, bucket, key string, value []byte, ttl time.Duration, opts ...jetstream.PublishOpt) error {
	if ttl > 0 {
		opts = append(opts, jetstream.WithMsgTTL((ttl + time.Second - 1).Truncate(time.Second)))
	}
	_, err := js.PublishMsg(ctx, &nats.Msg{Subject: "$KV." + bucket + "." + key, Data: value}, opts...)
	return err
}

// Follow calls apply, from one goroutine, with the latest entry of every key that matches pattern (deletions included) and then with
// each change, until stop is called. It returns once everything that was there has been applied. Whenever the connection has been lost
// and is back, everything is applied again, and reloaded, where it is not nil, is called with the revisions of all keys: what it does not name
// went meanwhile. The end of ctx ends the waiting, not the following.
func (b *Bucket) Follow(ctx context.Context, pattern string, apply func(jetstream.KeyValueEntry), reloaded func(keys map[string]uint64)) (stop func(), err error) {
	f := &following{bucket: b, pattern: pattern, apply: apply, reloaded: reloaded, loaded: make(chan error, 1)}
	follow, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.run(follow)
	}()
	stop = func() { cancel(); <-ended }
	select {
	case err = <-f.loaded:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// following is one follower of a bucket.
type following struct {
	bucket   *Bucket
	pattern  string
	apply    func(jetstream.KeyValueEntry)
	reloaded func(map[string]uint64)
	loaded   chan error // told once, of the first load
	told     bool
}

func (f *following) tell(err error) {
	if !f.told {
		f.told = true
		f.loaded <- err
	}
}

// run watches the bucket over one connection after the other.
func (f *following) run(ctx context.Context) {
	for ctx.Err() == nil {
		watchCtx, cancel := context.WithCancel(ctx)
		unbind := f.bucket.link.bind(cancel)
		err := f.watch(watchCtx)
		unbind()
		cancel()
		if err != nil {
			f.tell(err)
			select {
			case <-time.After(reconnectWait):
			case <-ctx.Done():
			}
		}
	}
}

// watch applies everything, and then each change, until ctx ends.
func (f *following) watch(ctx context.Context) error {
	watch, err := f.bucket.Watch(ctx, f.pattern)
	if err != nil {
		return fmt.Errorf("watch %s of bucket %s: %w", f.pattern, f.bucket.Bucket(), err)
	}
	defer func() { _ = watch.Stop() }() // the connection may be gone already; then the watch is too
	keys := map[string]uint64{}
	for {
		select {
		case e, ok := <-watch.Updates():
			switch {
			case !ok:
				return nil
			case e != nil:
				if f.apply(e); keys != nil {
					keys[e.Key()] = e.Revision()
				}
			case keys != nil: // all that was there has come
				if f.told && f.reloaded != nil {
					f.reloaded(keys)
				}
				keys = nil
				f.tell(nil)
			}
		case <-ctx.Done():
			return nil
		}
	}
}
