package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/ehi"
)

// askers is how many ask at once.
const askers = 500

// readsDuring counts the messages that are read from buckets while f runs askers times at once.
func readsDuring(t *testing.T, b *Bus, f func() error) int64 {
	t.Helper()
	var reads atomic.Int64
	sub, err := b.conn.Subscribe("$JS.API.DIRECT.GET.>", func(*nats.Msg) { reads.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	if err := b.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			<-begin
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	close(begin)
	wg.Wait()
	if err := b.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := sub.Drain(); err != nil {
		t.Fatal(err)
	}
	return reads.Load()
}

// When a job ends, everybody who waits for it asks for its record and its tasks at once: NATS is asked
// a few times, not once for each.
func TestThoseWhoAskAtOnceShareARead(t *testing.T) {
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	ctx := t.Context()
	taken, err := b.Tasks.Take(ctx, "j", 0, "worker", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Tasks.Commit(ctx, taken, time.Now()); err != nil {
		t.Fatal(err)
	}
	reads := readsDuring(t, b, func() error {
		task, ok, err := b.Tasks.Get(ctx, "j", 0)
		if err == nil && (!ok || !task.Committed) {
			t.Error("the task is not seen as committed")
		}
		return err
	})
	if reads == 0 || reads > askers/5 {
		t.Errorf("%d questions for a task are %d reads", askers, reads)
	}

	if err := b.Jobs.Create(ctx, &ehi.Job{Version: ehi.RecordVersion, ID: "j", Status: ehi.AwaitingInput}); err != nil {
		t.Fatal(err)
	}
	for reads = 0; reads == 0; { // news of the job may come in between
		b.Jobs.cache.Purge()
		reads = readsDuring(t, b, func() error {
			_, err := b.Jobs.Peek(ctx, "j")
			return err
		})
	}
	if reads > askers/5 {
		t.Errorf("%d questions for a job are %d reads", askers, reads)
	}
}

// A task that is committed while others ask for it is seen as committed by whoever asks afterwards.
func TestASharedReadIsNeverOlderThanTheQuestion(t *testing.T) {
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	ctx := t.Context()
	for n := range 20 {
		taken, err := b.Tasks.Take(ctx, "j", n, "worker", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var committed atomic.Bool
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for seen := false; !seen; {
					was := committed.Load()
					task, _, err := b.Tasks.Get(ctx, "j", n)
					if err != nil {
						t.Error(err)
						return
					}
					if seen = task.Committed; was && !seen {
						t.Error("a task that is committed is not seen as such")
						return
					}
				}
			})
		}
		if err := b.Tasks.Commit(ctx, taken, time.Now()); err != nil {
			t.Fatal(err)
		}
		committed.Store(true)
		wg.Wait()
	}
}

// All gives each value that is there, without a question for each; what was deleted, and other keys,
// are not among them. It ends with the first error, and with its context.
func TestAllValuesAreReadInOnePass(t *testing.T) {
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	const n = 300
	for i := range n {
		for _, kind := range []string{"wanted", "other"} {
			if _, err := b.Auth.PutString(t.Context(), fmt.Sprintf("%s.%d", kind, i), kind); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 10 {
		if err := b.Auth.Forget(t.Context(), fmt.Sprintf("wanted.%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	var found atomic.Int64
	count := func(e jetstream.KeyValueEntry) error {
		if string(e.Value()) != "wanted" {
			t.Errorf("%s is %q", e.Key(), e.Value())
		}
		found.Add(1)
		return nil
	}
	if err := b.Auth.All(t.Context(), "wanted.*", count); err != nil || found.Load() != n-10 {
		t.Errorf("%d values, %v", found.Load(), err)
	}
	if err := b.Auth.All(t.Context(), "nothing.*", count); err != nil || found.Load() != n-10 {
		t.Errorf("of nothing: %d values, %v", found.Load(), err)
	}
	enough := errors.New("enough")
	first := func(jetstream.KeyValueEntry) error { return enough }
	if err := b.Auth.All(t.Context(), "wanted.*", first); !errors.Is(err, enough) {
		t.Errorf("its error is %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Auth.All(gone, "wanted.*", count); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context's end: %v", err)
	}
}
