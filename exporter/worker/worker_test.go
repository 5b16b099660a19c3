package worker_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/keeper"
	"ehi-server/exporter/pairing"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/exporter/worker"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
	"ehi-server/shared/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is everything that a worker needs, with one synthetic patient.
type house struct {
	t       *testing.T
	bus     *bus.Bus
	files   *local.Store
	source  source.Source
	patient ehi.Patient
	keeper  *keeper.Keeper
	log     *slog.Logger
	stall   time.Duration
}

func newHouse(t *testing.T) *house {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		AckWait:  800 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	store, err := dataset.Open(dataset.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := store.Generate(t.Context(), synthetic.Config{Patients: 1, Seed: 1}, time.Now(),
		func(int, int) {}); err != nil {
		t.Fatal(err)
	}
	patients, err := store.Patients(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	f, err := local.Open(local.Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return &house{
		t,
		b,
		f,
		store,
		patients[0],
		&keeper.Keeper{Bus: b, Files: f, Log: quiet()},
		quiet(),
		0,
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// work runs a pool until the test ends, or stop is called.
func (h *house) work(s source.Source, name string) (stop func()) {
	h.t.Helper()
	return h.workAndDrain(s, name, 0)
}

// workAndDrain runs a pool whose exports may continue for drain after it is stopped.
func (h *house) workAndDrain(s source.Source, name string, drain time.Duration) (stop func()) {
	h.t.Helper()
	rules, err := release.RulesFromFile("")
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	parts := pairing.Parts{
		Bus:    h.bus,
		Source: s,
		Files:  h.files,
		Rules:  rules,
		Log:    h.log,
		Name:   name,
	}
	server, err := pairing.Open(ctx, parts, ehi.Limits{
		MaxDeliver: 3,
		Stall:      h.stall,
		AckWait:    h.bus.AckWait(),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	member := pairing.Join(parts, server)
	pool := worker.New(worker.Config{
		Bus:        h.bus,
		Source:     s,
		Files:      h.files,
		Rules:      rules,
		Log:        h.log,
		Name:       name,
		Flags:      worker.Flags{Workers: 2, Drain: drain},
		RetryAfter: 10 * time.Millisecond,
		Membership: member,
	})
	go func() {
		var all errgroup.Group
		all.Go(func() error { return server.Run(ctx) })
		all.Go(func() error { return member.Run(ctx) })
		all.Go(func() error { return pool.Run(ctx) })
		done <- all.Wait()
	}()
	var once bool
	stop = func() {
		if once {
			return
		}
		once = true
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	}
	h.t.Cleanup(stop)
	return stop
}

// request creates a requested job.
func (h *house) request(id string, publish bool) {
	h.t.Helper()
	at := time.Now().UTC()
	j := &ehi.Job{
		Version:     ehi.RecordVersion,
		ID:          id,
		Patient:     h.patient,
		Lane:        ehi.Interactive,
		Status:      ehi.Requested,
		CreatedAt:   at,
		RequestedAt: at,
		ExpiresAt:   at.Add(time.Hour),
		Starts:      1,
		Tasks:       1,
	}
	if err := h.bus.Jobs.Create(h.t.Context(), j); err != nil {
		h.t.Fatal(err)
	}
	if publish {
		if err := h.bus.PublishStart(h.t.Context(), ehi.Interactive, id, 1); err != nil {
			h.t.Fatal(err)
		}
	}
}

// await waits for a job's status.
func (h *house) await(id string, want ehi.Status) *ehi.Job {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		j, err := h.bus.Jobs.Get(h.t.Context(), id)
		if err != nil {
			h.t.Fatal(err)
		}
		if j.Status == want {
			return j
		}
		if time.Now().After(end) {
			h.t.Fatalf("job %s is still %s", id, j.Status)
		}
	}
}

func (h *house) stored(id string) []files.Stored {
	h.t.Helper()
	var out []files.Stored
	err := h.files.Walk(func(job string, stored []files.Stored) error {
		if job == id {
			out = stored
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func TestARequestedJobIsExported(t *testing.T) {
	h := newHouse(t)
	h.work(h.source, "w")
	h.request("a", true)
	j := h.await("a", ehi.Retrieved)
	task, ok, err := h.bus.Tasks.Get(t.Context(), "a", 0)
	if err != nil || !ok || !task.Committed || task.Attempt != 1 || task.Worker != "w" {
		t.Errorf("task %+v, %v", task, err)
	}
	if j.Counts["Patient"] != 1 || j.Counts["Observation"] < 100 || j.Bytes == 0 ||
		j.TransactionTime.IsZero() || len(h.stored("a")) != 1 {
		t.Errorf("job %+v", j)
	}
}

// A failed attempt is repeated. Its files are removed, and those of the next attempt stay.
func TestAFailedAttemptIsMadeAgain(t *testing.T) {
	h := newHouse(t)
	h.work(&flaky{Source: h.source, failures: 2}, "w")
	h.request("a", true)
	h.await("a", ehi.Retrieved)
	task, _, err := h.bus.Tasks.Get(t.Context(), "a", 0)
	if err != nil || task.Attempt != 3 {
		t.Errorf("task %+v, %v", task, err)
	}
	if s := h.stored("a"); len(s) != 1 || s[0].Attempt != 3 {
		t.Errorf("stored %+v", s)
	}
}

func TestAfterTheLastDeliveryTheJobIsFailed(t *testing.T) {
	h := newHouse(t)
	h.work(&flaky{Source: h.source, failures: 100}, "w")
	h.request("a", true)
	if j := h.await("a", ehi.Failed); !strings.Contains(j.Error, "3 attempts") {
		t.Errorf("error %q", j.Error)
	}
	if s := h.stored("a"); len(s) != 0 {
		t.Errorf("stored %+v", s)
	}
}

// flaky is a source whose records fail after 100 resources, a given number of times.
type flaky struct {
	source.Source
	failures int
}

var errFlaky = errors.New("the source broke")

func (f *flaky) Open(ctx context.Context, patient string) (source.Record, error) {
	r, err := f.Source.Open(ctx, patient)
	if f.failures == 0 {
		return r, err
	}
	f.failures--
	return flakyRecord{r}, err
}

type flakyRecord struct{ source.Record }

func (r flakyRecord) Scan(
	ctx context.Context, q source.Query, visit func(source.Resource) error,
) error {
	n := 0
	return r.Record.Scan(ctx, q, func(res source.Resource) error {
		if n++; n > 100 {
			return errFlaky
		}
		return visit(res)
	})
}

// A worker that is stopped during an export hands it over and removes its files.
func TestAStoppedWorkersExportGoesToAnother(t *testing.T) {
	h := newHouse(t)
	waiting := &gate{Source: h.source, reached: make(chan struct{}, 10)}
	stop := h.work(waiting, "first")
	h.request("a", true)
	<-waiting.reached
	stop()
	h.work(h.source, "second")
	h.await("a", ehi.Retrieved)
	task, _, err := h.bus.Tasks.Get(t.Context(), "a", 0)
	if err != nil || task.Worker != "second" || task.Attempt != 2 || len(h.stored("a")) != 1 {
		t.Errorf("task %+v, %v, stored %+v", task, err, h.stored("a"))
	}
}

// A stopped worker finishes its exports if it has the time, and takes no new ones.
func TestAStoppedWorkerEndsItsExport(t *testing.T) {
	h := newHouse(t)
	waiting := &door{Source: h.source, reached: make(chan struct{}, 10), open: make(chan struct{})}
	stop := h.workAndDrain(waiting, "first", time.Minute)
	h.request("a", true)
	h.request("b", true)
	<-waiting.reached
	<-waiting.reached
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	h.request("c", true)
	select {
	case <-waiting.reached:
		t.Error("a command was taken after the stop")
	case <-stopped:
		t.Error("the pool did not wait for its exports")
	case <-time.After(4 * h.bus.AckWait()): // the heartbeat continues meanwhile
	}
	close(waiting.open)
	<-stopped
	for _, id := range []string{"a", "b"} {
		task, _, err := h.bus.Tasks.Get(t.Context(), id, 0)
		if err != nil || task.Worker != "first" || task.Attempt != 1 || !task.Committed {
			t.Errorf("task %+v, %v", task, err)
		}
	}
	if j, err := h.bus.Jobs.Get(t.Context(), "c"); err != nil || j.Status != ehi.Requested {
		t.Errorf("job %+v, %v", j, err)
	}
}

// A full disk uses up none of a job's attempts: MaxDeliver is 3 here, and the disk is full seven
// times.
func TestAnExportWaitsWhileTheDiskIsFull(t *testing.T) {
	h := newHouse(t)
	h.work(&full{Source: h.source, times: 7}, "w")
	h.request("a", true)
	h.await("a", ehi.Retrieved)
	task, _, err := h.bus.Tasks.Get(t.Context(), "a", 0)
	if err != nil || task.Attempt != 8 || len(h.stored("a")) != 1 {
		t.Errorf("task %+v, %v, stored %+v", task, err, h.stored("a"))
	}
}

// full is a source that fails with a full disk, a given number of times.
type full struct {
	source.Source
	times int
}

func (f *full) Open(ctx context.Context, patient string) (source.Record, error) {
	if f.times--; f.times >= 0 {
		return nil, &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	}
	return f.Source.Open(ctx, patient)
}

// door is a source that reports each request for a record, and opens records only when the door
// is open.
type door struct {
	source.Source
	reached, open chan struct{}
}

func (d *door) Open(ctx context.Context, patient string) (source.Record, error) {
	d.reached <- struct{}{}
	select {
	case <-d.open:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return d.Source.Open(ctx, patient)
}

// gate is a source whose scans report that they have started, and then wait for the end of their
// context.
type gate struct {
	source.Source
	reached chan struct{}
}

func (g *gate) Open(ctx context.Context, patient string) (source.Record, error) {
	r, err := g.Source.Open(ctx, patient)
	return gateRecord{r, g.reached}, err
}

type gateRecord struct {
	source.Record
	reached chan struct{}
}

func (r gateRecord) Scan(ctx context.Context, _ source.Query, _ func(source.Resource) error) error {
	r.reached <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

// The heartbeat keeps a long export with its worker: AckWait is 800 ms here.
func TestALongExportStaysWithItsWorker(t *testing.T) {
	h := newHouse(t)
	waiting := &gate{Source: h.source, reached: make(chan struct{}, 10)}
	h.work(waiting, "w")
	h.request("a", true)
	<-waiting.reached
	select {
	case <-waiting.reached:
		t.Error("the export was delivered twice")
	case <-time.After(3 * h.bus.AckWait()):
	}
}

// The keeper finds a job whose command is lost and publishes the command again, whether or
// not it was published before.
func TestReconcilerRepublishesLostCommands(t *testing.T) {
	h := newHouse(t)
	h.request("lost", false)
	h.request("queued", true)
	future := time.Now().Add(time.Minute)
	if err := h.keeper.Reconcile(t.Context(), time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n, _ := h.bus.Queued(t.Context(), ehi.Interactive); n != 1 {
		t.Errorf("%d commands after a round that was too early", n)
	}
	for range 2 {
		if err := h.keeper.Reconcile(t.Context(), future); err != nil {
			t.Fatal(err)
		}
		if n, _ := h.bus.Queued(t.Context(), ehi.Interactive); n != 2 {
			t.Errorf("%d commands after reconciling", n)
		}
	}
	for range 2 { // take both commands, and lose them
		d, err := h.bus.Next(t.Context(), ehi.Interactive)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Done(); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); ; { // acknowledgements are asynchronous
		if n, err := h.bus.Queued(t.Context(), ehi.Interactive); err == nil && n == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the acknowledged commands stay in the queue")
		}
	}
	if err := h.keeper.Reconcile(t.Context(), future); err != nil {
		t.Fatal(err)
	}
	h.work(h.source, "w")
	h.await("lost", ehi.Retrieved)
	h.await("queued", ehi.Retrieved)
}

// Files that no record names are removed. Files that a record names, or may name later, stay.
func TestKeeperRemovesOrphansOnly(t *testing.T) {
	h := newHouse(t)
	stop := h.work(h.source, "w")
	h.request("kept", true)
	h.await("kept", ehi.Retrieved)
	stop()
	leave := func(job string, attempt int) {
		t.Helper()
		b, err := h.files.NewBatch(job, 0, attempt)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Create().Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	leave("nobody", 1) // the folder of a deleted job
	h.request("running", false)
	if _, err := h.bus.Tasks.Take(t.Context(), "running", 0, 0, "x", time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.bus.Tasks.Take(t.Context(), "running", 0, 0, "y", time.Now()); err != nil {
		t.Fatal(err)
	}
	leave("running", 1) // of a superseded attempt
	leave("running", 2) // of the running attempt
	leave("running", 3) // of an attempt that is just starting
	if err := h.keeper.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string][]int{}
	for _, id := range []string{"kept", "nobody", "running"} {
		for _, s := range h.stored(id) {
			got[id] = append(got[id], s.Attempt)
		}
	}
	if len(got["kept"]) != 1 || len(got["nobody"]) != 0 || len(got["running"]) != 2 ||
		got["running"][0] != 2 {
		t.Errorf("attempts left: %v", got)
	}
}

// EHI-17: expired jobs are deleted, with their records and files.
func TestEHI17ExpiredJobsVanish(t *testing.T) {
	h := newHouse(t)
	h.work(h.source, "w")
	h.request("a", true)
	j := h.await("a", ehi.Retrieved)
	if err := h.keeper.Expire(t.Context(), j.ExpiresAt.Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	h.await("a", ehi.Retrieved)
	if err := h.keeper.Expire(t.Context(), j.ExpiresAt); err != nil {
		t.Fatal(err)
	}
	if _, err := h.bus.Jobs.Get(t.Context(), "a"); ehi.CodeOf(err) != ehi.NotFound {
		t.Errorf("the expired job: %v", err)
	}
	_, ok, err := h.bus.Tasks.Get(t.Context(), "a", 0)
	if ok || err != nil || len(h.stored("a")) != 0 {
		t.Errorf("left of the expired job: task %v, files %v, %v", ok, h.stored("a"), err)
	}
}

// rounds runs n rounds of a keeper with a clock.
func (h *house) rounds(k *keeper.Keeper, clock func() time.Time, n int) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	k.Clock, k.Every = clock, time.Millisecond
	k.Also = func(context.Context) error {
		if n--; n == 0 {
			cancel()
		}
		return nil
	}
	if err := k.Run(ctx); err != nil {
		h.t.Error(err)
	}
}

// A server starts with a clock that is 40 days ahead, as after a dead battery. It keeps exports
// that were valid for another hour, with their files, logs an error, and stores nothing of that
// time. This also holds if no server has noted when it last ran, as with older builds.
func TestAStartByAClockThatIsAheadExpiresNothing(t *testing.T) {
	for name, noted := range map[string]bool{"noted": true, "of an older build": false} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.work(h.source, "w")
			h.request("kept", true)
			h.await("kept", ehi.Retrieved)
			if noted {
				h.rounds(h.keeper, time.Now, 1)
			}
			book := &logtest.Book{}
			log := slog.New(slog.NewTextHandler(book, nil))
			again := &keeper.Keeper{
				Bus:   h.bus,
				Files: h.files,
				Log:   log,
				Flags: keeper.Flags{Grace: time.Hour},
			}
			h.rounds(again, func() time.Time { return time.Now().Add(40 * 24 * time.Hour) }, 2)
			h.await("kept", ehi.Retrieved)
			if len(h.stored("kept")) == 0 {
				t.Error("the export's files are gone")
			}
			if !strings.Contains(book.String(),
				"far ahead of the time when a server last ran here") {
				t.Errorf("nothing is said of the clock: %s", book.String())
			}
			at, err := h.files.Served()
			if err != nil || at.IsZero() || time.Since(at).Abs() > time.Hour {
				t.Errorf("a server ran last at %v, %v", at, err)
			}
			again = &keeper.Keeper{Bus: h.bus, Files: h.files, Log: h.log} // without a grace
			h.rounds(again, func() time.Time { return time.Now().Add(40 * 24 * time.Hour) }, 1)
			if _, err := h.bus.Jobs.Get(t.Context(), "kept"); ehi.CodeOf(err) != ehi.NotFound {
				t.Errorf("without a grace: %v", err)
			}
		})
	}
}

// A clock that leaps two days ahead by mistake does not expire exports that were valid for
// another hour. Jobs that have expired without the leap are deleted.
func TestALeapOfTheClockExpiresNothing(t *testing.T) {
	h := newHouse(t)
	var ahead atomic.Int64
	h.keeper.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	h.keeper.Grace, h.keeper.Every = time.Hour, time.Millisecond
	over := func(id string) {
		t.Helper()
		at := time.Now().UTC()
		j := &ehi.Job{
			Version:   ehi.RecordVersion,
			ID:        id,
			Patient:   h.patient,
			Lane:      ehi.Interactive,
			Status:    ehi.AwaitingInput,
			CreatedAt: at,
			ExpiresAt: at,
			Tasks:     1,
		}
		if err := h.bus.Jobs.Create(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			if _, err := h.bus.Jobs.Get(t.Context(), id); ehi.CodeOf(err) == ehi.NotFound {
				return
			} else if err != nil || time.Now().After(end) {
				t.Fatalf("what is over is still there: %v", err)
			}
		}
	}
	h.request("kept", false)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.keeper.Run(ctx) }()
	over("before")
	ahead.Store(int64(48 * time.Hour))
	over("after")
	if _, err := h.bus.Jobs.Get(t.Context(), "kept"); err != nil {
		t.Errorf("an export that is good for an hour more, after a leap of two days: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
