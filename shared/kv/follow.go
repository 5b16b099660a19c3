package kv

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/link"
	"ehi-server/shared/subject"
)

// Follow calls apply, from one goroutine, with the latest entry of every key of a pattern,
// deletions included, and then with each change, until stop is called. It returns once all
// existing entries have been applied. After a lost connection it applies all entries again and
// calls reloaded, if not nil, with the revisions of all keys: a key that is not among them was
// deleted meanwhile. ctx bounds the wait for the first load, not the following.
func (b *Bucket) Follow(
	ctx context.Context, p subject.Pattern, apply func(Entry),
	reloaded func(keys map[subject.Subject]uint64),
) (stop func(), err error) {
	f := &following{
		bucket:   b,
		pattern:  p,
		apply:    apply,
		reloaded: reloaded,
		loaded:   make(chan error, 1),
	}
	follow, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.run(follow)
	}()
	stop = func() { cancel(); <-ended }
	if err = f.await(ctx, loadSilence); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// following is one follower of a bucket.
type following struct {
	bucket   *Bucket
	pattern  subject.Pattern
	apply    func(Entry)
	reloaded func(map[subject.Subject]uint64)
	loaded   chan error // receives the result of the first load, once
	told     bool
	came     atomic.Int64 // entries of all loads
}

// loadSilence is how long the first load may receive nothing. If a block is damaged, NATS
// announces records that never arrive.
const loadSilence = 12 * time.Second

// await waits for the first load while entries keep arriving.
func (f *following) await(ctx context.Context, silence time.Duration) error {
	tick := time.NewTicker(silence / 12)
	defer tick.Stop()
	came, since := int64(0), time.Now()
	for {
		select {
		case err := <-f.loaded:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if n := f.came.Load(); n != came {
			came, since = n, time.Now()
		} else if time.Since(since) >= silence {
			return fmt.Errorf("wait for the records of bucket %s: %d came, and no other for %v: "+
				"stream %s of NATS is damaged, or NATS does not answer: "+
				"restore a backup, or look at what NATS says in the log",
				f.bucket.name, n, silence, StreamOf(f.bucket.name))
		}
	}
}

func (f *following) tell(err error) {
	if !f.told {
		f.told = true
		f.loaded <- err
	}
}

// run watches the bucket, one connection after another.
func (f *following) run(ctx context.Context) {
	for ctx.Err() == nil {
		watchCtx, cancel := context.WithCancel(ctx)
		unbind := f.bucket.link.Bind(cancel)
		err := f.watch(watchCtx)
		unbind()
		cancel()
		if err != nil {
			f.tell(err)
			select {
			case <-time.After(link.RetryWait):
			case <-ctx.Done():
			}
		}
	}
}

// loadIdle is how long a load waits for the next record.
const loadIdle = 30 * time.Second

// ErrUnreadable means that a bucket has a record that NATS cannot read, because its file is
// damaged.
var ErrUnreadable = errors.New("a record cannot be read")

// watch applies all entries, and then each change, until ctx ends.
func (f *following) watch(ctx context.Context) error {
	kv, err := f.bucket.link.KeyValue(ctx, f.bucket.name)
	if err != nil {
		return err
	}
	watch, err := kv.Watch(ctx, f.pattern.String())
	if err != nil {
		return fmt.Errorf("watch %s of bucket %s: %w", f.pattern, f.bucket.name, err)
	}
	defer end(watch)
	return f.take(ctx, watch.Updates(), compareEvery)
}

// compareEvery is how often the load compares itself with the bucket while changes arrive
// without a pause.
const compareEvery = 5 * time.Second

// take applies entries until ctx ends or the updates end. It asks the bucket whether all
// existing entries have arrived: when NATS signals the end, which may be too early; after each
// silence, because the signal may be lost; and periodically, because changes may arrive without
// a pause.
func (f *following) take(
	ctx context.Context, updates <-chan jetstream.KeyValueEntry, every time.Duration,
) error {
	keys, came, compared, told := map[subject.Subject]uint64{}, time.Now(), time.Now(), false
	compare := func() {
		compared = time.Now()
		lacks, err := f.bucket.lacks(ctx, f.pattern, keys)
		if err != nil || len(lacks) > 0 {
			return
		}
		f.loadedAll(keys)
		keys = nil
	}
	idle := time.NewTimer(endUntold)
	defer idle.Stop()
	for {
		if keys != nil {
			idle.Reset(endUntold)
		} else {
			idle.Stop()
		}
		select {
		case <-idle.C:
			switch compare(); {
			case keys == nil:
			case told: // the missing records cannot be read
				f.loadedAll(keys)
				keys = nil
			case time.Since(came) >= loadIdle:
				return fmt.Errorf("%w: bucket %s has not told all of its records, and no further "+
					"one has come for %v",
					ErrUnreadable, f.bucket.name, loadIdle)
			}
		case e, ok := <-updates:
			switch {
			case !ok:
				return nil
			case e != nil:
				f.came.Add(1)
				came = time.Now()
				entry, ok := entryOf(e)
				if !ok {
					continue
				}
				if f.apply(entry); keys != nil {
					keys[entry.Key] = entry.Revision
				}
				if keys != nil && time.Since(compared) >= every {
					compare()
				}
			case keys != nil:
				told = true
				compare()
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// loadedAll reports that all records have arrived.
func (f *following) loadedAll(keys map[subject.Subject]uint64) {
	if f.told && f.reloaded != nil {
		f.reloaded(keys)
	}
	f.tell(nil)
}
