package bus_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{StoreDir: dir, AckWait: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func newJob(id string) *ehi.Job {
	return &ehi.Job{
		Version:   ehi.RecordVersion,
		ID:        id,
		Status:    ehi.AwaitingInput,
		WithForm:  true,
		CreatedAt: time.Now().UTC(),
	}
}

func TestTopologyIsDeclaredAgainAndStateSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if err := b.Jobs.Create(t.Context(), newJob("a")); err != nil {
		t.Fatal(err)
	}
	if err := b.PublishStart(t.Context(), ehi.Interactive, "a", 1); err != nil {
		t.Fatal(err)
	}
	b.Close()

	b = open(t, dir)
	j, err := b.Jobs.Get(t.Context(), "a")
	if err != nil || j.Status != ehi.AwaitingInput {
		t.Fatalf("job after restart: %+v, %v", j, err)
	}
	if l := b.Jobs.List(func(bus.Summary) bool { return true }); len(l) != 1 || l[0].ID != "a" {
		t.Fatalf("index after restart: %+v", l)
	}
	d, err := b.Next(t.Context(), ehi.Interactive)
	if err != nil || d.Job != "a" || d.Number != 1 {
		t.Fatalf("command after restart: %+v, %v", d, err)
	}
	if err := d.Done(); err != nil {
		t.Fatal(err)
	}
}

// EHI-7: of many simultaneous submissions exactly one wins.
func TestUpdateLetsExactlyOneSubmissionWin(t *testing.T) {
	b := open(t, t.TempDir())
	if err := b.Jobs.Create(t.Context(), newJob("a")); err != nil {
		t.Fatal(err)
	}
	var won, refused atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := b.Jobs.Update(t.Context(), "a", func(j *ehi.Job) error {
				return j.Submit(ehi.ReleaseForm{}, "patient", time.Now())
			})
			switch {
			case err == nil:
				won.Add(1)
			case ehi.CodeOf(err) == ehi.Conflict:
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || refused.Load() != 19 {
		t.Fatalf("%d won, %d were refused", won.Load(), refused.Load())
	}
}

func TestDeletedJobIsGoneAtOnceAndStaysGone(t *testing.T) {
	b := open(t, t.TempDir())
	if err := b.Jobs.Create(t.Context(), newJob("a")); err != nil {
		t.Fatal(err)
	}
	if err := b.Jobs.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(context.Context, string) (*ehi.Job, error){
		"Get":  b.Jobs.Get,
		"Peek": b.Jobs.Peek,
	} {
		if _, err := read(t.Context(), "a"); ehi.CodeOf(err) != ehi.NotFound {
			t.Errorf("%s of a deleted job: %v", name, err)
		}
	}
	if l := b.Jobs.List(func(bus.Summary) bool { return true }); len(l) != 0 {
		t.Errorf("index still has %+v", l)
	}
}

func TestTwoProcessesSeeEachOthersChanges(t *testing.T) {
	a, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	b, err := bus.Open(t.Context(), bus.Config{Flags: bus.Flags{URL: a.ClientURL()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := a.Jobs.Create(t.Context(), newJob("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Jobs.Peek(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	_, err = a.Jobs.Update(t.Context(), "x", func(j *ehi.Job) error {
		return j.Submit(ehi.ReleaseForm{}, "p", time.Now())
	})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(4 * time.Second); ; {
		j, err := b.Jobs.Peek(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if j.Status == ehi.Requested {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the other process never saw the change")
		}
	}
}

func TestStartIsPublishedOnceForTheSameNumber(t *testing.T) {
	b := open(t, t.TempDir())
	for range 3 {
		if err := b.PublishStart(t.Context(), ehi.Interactive, "a", 1); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := b.Queued(t.Context(), ehi.Interactive); err != nil || n != 1 {
		t.Fatalf("%d commands queued, %v", n, err)
	}
	if has, err := b.HasStart(t.Context(), ehi.Interactive, "a"); err != nil || !has {
		t.Fatalf("HasStart = %v, %v", has, err)
	}
	if has, err := b.HasStart(t.Context(), ehi.Interactive, "b"); err != nil || has {
		t.Fatalf("HasStart of another = %v, %v", has, err)
	}
}

func TestCommandWithoutHeartbeatIsRedelivered(t *testing.T) {
	b := open(t, t.TempDir())
	if err := b.PublishStart(t.Context(), ehi.Interactive, "a", 1); err != nil {
		t.Fatal(err)
	}
	for want := 1; want <= 2; want++ {
		d, err := b.Next(t.Context(), ehi.Interactive)
		if err != nil || d.Number != want {
			t.Fatalf("delivery %d: %+v, %v", want, d, err)
		}
	}
}

// The attempt number is the fence.
func TestSupersededWorkerCannotCommit(t *testing.T) {
	b := open(t, t.TempDir())
	ctx, now := t.Context(), time.Now()
	slow, err := b.Tasks.Take(ctx, "j", 0, 0, "slow", now)
	if err != nil {
		t.Fatal(err)
	}
	fast, err := b.Tasks.Take(ctx, "j", 0, 0, "fast", now)
	if err != nil || fast.Attempt != 2 {
		t.Fatalf("second take: %+v, %v", fast, err)
	}
	if err := b.Tasks.Commit(ctx, slow, now); !errors.Is(err, bus.ErrSuperseded) {
		t.Fatalf("the superseded worker's commit: %v", err)
	}
	fast.Files = []ehi.File{{Type: "Patient", Count: 1}}
	if err := b.Tasks.Commit(ctx, fast, now); err != nil {
		t.Fatal(err)
	}
	again, err := b.Tasks.Take(ctx, "j", 0, 0, "third", now)
	if err != nil || !again.Committed || again.Attempt != 2 || len(again.Files) != 1 {
		t.Fatalf("take of a committed task: %+v, %v", again, err)
	}
	if err := b.Tasks.Delete(ctx, "j", 1); err != nil {
		t.Fatal(err)
	}
	if err := b.Tasks.Commit(ctx, fast, now); !errors.Is(err, bus.ErrSuperseded) {
		t.Fatalf("commit of a deleted task: %v", err)
	}
}

func TestCancelAndProgressReachTheirListeners(t *testing.T) {
	b := open(t, t.TempDir())
	cancelled, progress := make(chan string, 1), make(chan ehi.Progress, 1)
	for _, on := range []func() (func() error, error){
		func() (func() error, error) { return b.OnCancel(func(job string) { cancelled <- job }) },
		func() (func() error, error) {
			return b.OnProgress(func(p ehi.Progress) { progress <- p })
		},
	} {
		if _, err := on(); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(b.Cancel("j"), b.PublishProgress(ehi.Progress{Job: "j", Done: 5, Total: 10}))
	if err != nil {
		t.Fatal(err)
	}
	if got := <-cancelled; got != "j" {
		t.Errorf("cancelled %q", got)
	}
	if got := <-progress; got.Percent() != 50 {
		t.Errorf("progress %+v", got)
	}
}

// Pages follow one another without a gap, whatever is in between, newest first.
func TestPagesOfJobs(t *testing.T) {
	b := open(t, t.TempDir())
	begin := time.Now().UTC().Truncate(time.Second)
	for i := range 50 {
		j := newJob(fmt.Sprintf("j%02d", i))
		j.CreatedAt = begin.Add(time.Duration(i/2) * time.Second) // two at a time
		if err := b.Jobs.Create(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	odd := func(s bus.Summary) bool { return (s.ID[2]-'0')%2 == 1 }
	all := b.Jobs.List(odd)
	if len(all) != 25 || all[0].ID != "j49" || all[24].ID != "j01" {
		t.Fatalf("list %+v", all)
	}
	for _, limit := range []int{1, 7, 25, 100} {
		var got []bus.Summary
		for after := ""; ; after = got[len(got)-1].ID {
			page := b.Jobs.Page(odd, after, limit)
			if len(page) > limit {
				t.Fatalf("%d jobs on a page of %d", len(page), limit)
			}
			got = append(got, page...)
			if len(page) < limit {
				break
			}
		}
		if !slices.Equal(got, all) {
			t.Errorf("pages of %d: %+v", limit, got)
		}
	}
}

// A lane that somebody deleted, wholly or its consumer, is there again; what waits for a command
// gets it.
func TestADeletedLaneIsMended(t *testing.T) {
	for what, remove := range map[string]func(context.Context, jetstream.JetStream) error{
		"stream": func(ctx context.Context, js jetstream.JetStream) error {
			return js.DeleteStream(ctx, "EHI_INTERACTIVE")
		},
		"consumer": func(ctx context.Context, js jetstream.JetStream) error {
			return js.DeleteConsumer(ctx, "EHI_INTERACTIVE", "workers")
		},
	} {
		t.Run(what, func(t *testing.T) {
			b, err := bus.Open(t.Context(), bus.Config{
				StoreDir: t.TempDir(),
				Flags:    bus.Flags{Listen: "127.0.0.1:0"},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.Close)
			conn, err := nats.Connect(b.ClientURL())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(conn.Close)
			js, err := jetstream.New(conn)
			if err != nil {
				t.Fatal(err)
			}
			if err := remove(t.Context(), js); err != nil {
				t.Fatal(err)
			}
			if err := b.Mend(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := b.PublishStart(t.Context(), ehi.Interactive, "a", 1); err != nil {
				t.Fatal(err)
			}
			if d, err := b.Next(t.Context(), ehi.Interactive); err != nil || d.Job != "a" {
				t.Fatalf("%+v, %v", d, err)
			}
		})
	}
}

// A process whose NATS went away and came back is told at once what others did meanwhile,
// deletions included.
func TestAfterAReconnectTheCopyIsBroughtUpToDate(t *testing.T) {
	dir := t.TempDir()
	server, err := bus.Open(t.Context(), bus.Config{
		StoreDir: dir,
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimPrefix(server.ClientURL(), "nats://")
	other, err := bus.Open(t.Context(), bus.Config{Flags: bus.Flags{URL: server.ClientURL()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	for _, id := range []string{"deleted", "changed", "same"} {
		if err := server.Jobs.Create(t.Context(), newJob(id)); err != nil {
			t.Fatal(err)
		}
	}
	statuses := func() map[string]ehi.Status {
		got := map[string]ehi.Status{}
		for _, s := range other.Jobs.List(func(bus.Summary) bool { return true }) {
			got[s.ID] = s.Status
		}
		return got
	}
	await := func(want map[string]ehi.Status) {
		t.Helper()
		begun := time.Now()
		for !maps.Equal(statuses(), want) {
			// without a reload it takes two lost heartbeats of 5 s
			if time.Since(begun) > 4*time.Second {
				t.Fatalf("%v, want %v", statuses(), want)
			}
		}
	}
	await(map[string]ehi.Status{
		"deleted": ehi.AwaitingInput,
		"changed": ehi.AwaitingInput,
		"same":    ehi.AwaitingInput,
	})
	server.Close()
	for begun := time.Now(); ; { // who asks meanwhile is told at once, and nothing is done later
		asked := time.Now()
		err := other.Jobs.Create(t.Context(), newJob("ghost"))
		if bus.IsAway(err) && time.Since(asked) < time.Second {
			break
		}
		if err == nil || time.Since(begun) > 10*time.Second {
			t.Fatalf("a write while NATS is away: %v after %v", err, time.Since(asked))
		}
	}

	// Nobody listens yet: what happens now the other one cannot hear.
	alone, err := bus.Open(t.Context(), bus.Config{StoreDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alone.Jobs.Update(t.Context(), "changed",
		func(j *ehi.Job) error {
			return j.Submit(ehi.ReleaseForm{}, "p", time.Now())
		}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(alone.Jobs.Delete(t.Context(), "deleted"),
		alone.Jobs.Create(t.Context(), newJob("new"))); err != nil {
		t.Fatal(err)
	}
	alone.Close()

	server, err = bus.Open(t.Context(), bus.Config{StoreDir: dir, Flags: bus.Flags{Listen: addr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	await(map[string]ehi.Status{
		"changed": ehi.Requested,
		"same":    ehi.AwaitingInput,
		"new":     ehi.AwaitingInput,
	})
}

// A process that is started before its NATS waits for it, as long as it is told to.
func TestOpenWaitsForNATS(t *testing.T) {
	dir := t.TempDir()
	first, err := bus.Open(t.Context(), bus.Config{
		StoreDir: dir,
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	url := first.ClientURL()
	first.Close()
	if _, err := bus.Open(t.Context(), bus.Config{Flags: bus.Flags{URL: url}}); !bus.IsAway(err) {
		t.Fatalf("without a wait: %v", err)
	}
	type opened struct {
		b   *bus.Bus
		err error
	}
	waiting := make(chan opened)
	go func() {
		b, err := bus.Open(t.Context(), bus.Config{
			Flags: bus.Flags{URL: url, Dial: bus.Dial{Wait: 20 * time.Second}},
		})
		waiting <- opened{b, err}
	}()
	second, err := bus.Open(t.Context(), bus.Config{
		StoreDir: dir,
		Flags:    bus.Flags{Listen: strings.TrimPrefix(url, "nats://")},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Close)
	o := <-waiting
	if o.err != nil {
		t.Fatal(o.err)
	}
	o.b.Close()
}

// Each state of a job is told once, however often its record is read: whoever answers news by
// reading would otherwise make news for ever.
func TestAChangeIsToldOnce(t *testing.T) {
	b := open(t, t.TempDir())
	var mu sync.Mutex
	told := map[string]int{}
	stop := b.Jobs.OnChange(func(id string) {
		mu.Lock()
		defer mu.Unlock()
		told[id]++
	})
	defer stop()
	times := func(id string) int {
		mu.Lock()
		defer mu.Unlock()
		return told[id]
	}
	if err := b.Jobs.Create(t.Context(), newJob("a")); err != nil {
		t.Fatal(err)
	}
	before, _ := b.Jobs.Summary("a")
	for range 5 {
		if _, err := b.Jobs.Get(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if after, _ := b.Jobs.Summary("a"); after.Revision() != before.Revision() || times("a") != 1 {
		t.Errorf("of one creation, read five times, %d changes are told", times("a"))
	}
	submit := func(j *ehi.Job) error { return j.Submit(ehi.ReleaseForm{}, "patient", time.Now()) }
	if _, err := b.Jobs.Update(t.Context(), "a", submit); err != nil {
		t.Fatal(err)
	}
	if after, _ := b.Jobs.Summary("a"); after.Revision() == before.Revision() || times("a") != 2 {
		t.Errorf("after an update %d changes are told", times("a"))
	}
	if err := b.Jobs.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Jobs.Get(t.Context(), "a"); ehi.CodeOf(err) != ehi.NotFound {
		t.Fatal(err)
	}
	if times("a") != 3 {
		t.Errorf("of a creation, an update and a deletion %d changes are told", times("a"))
	}
}
