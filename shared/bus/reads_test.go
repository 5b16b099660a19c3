package bus

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"ehi-server/shared/ehi"
)

// askers is how many ask at once.
const askers = 500

// readsDuring counts the messages that are read from buckets while f runs askers times at once.
func readsDuring(t *testing.T, b *Bus, f func() error) int {
	t.Helper()
	conn, err := nats.Connect("", nats.InProcessServer(b.embedded))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sub, err := conn.SubscribeSync("$JS.API.DIRECT.GET.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
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
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	reads, _, err := sub.Pending()
	if err != nil {
		t.Fatal(err)
	}
	return reads
}

// When a job ends, everybody who waits for it asks for its record and its tasks at once: NATS is
// asked a few times, not once for each.
func TestSimultaneousReadsOfARecordAreShared(t *testing.T) {
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	ctx := t.Context()
	taken, err := b.Tasks.Take(ctx, "j", 0, 0, "worker", time.Now())
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

	err = b.Jobs.Create(ctx, &ehi.Job{
		Version: ehi.RecordVersion,
		ID:      "j",
		Status:  ehi.AwaitingInput,
	})
	if err != nil {
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
func TestASharedReadIsNeverStale(t *testing.T) {
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	ctx := t.Context()
	for n := range 20 {
		taken, err := b.Tasks.Take(ctx, "j", n, 0, "worker", time.Now())
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
