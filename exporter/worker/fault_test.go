package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// A commit whose answer was lost may have succeeded: its files stay, and the next delivery finds
// it.
func TestACommitWhoseAnswerGotLostStands(t *testing.T) {
	server, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
		AckWait:  300 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	p := newProxy(t, strings.TrimPrefix(server.ClientURL(), "nats://"))
	h := newHouse(t)
	h.bus, h.keeper.Bus = server, server
	worker, err := bus.Open(t.Context(), bus.Config{
		Flags:   bus.Flags{URL: "nats://" + p.addr},
		AckWait: 300 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(worker.Close)
	h.bus = worker
	h.work(&muffled{Source: h.source, once: new(sync.Once), muffle: func() {
		p.muffled.Store(true)
	}}, "w")
	h.bus = server
	h.request("a", true)
	for end := time.Now().Add(10 * time.Second); ; {
		if task, _, err := server.Tasks.Get(t.Context(), "a", 0); err == nil && task.Committed {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the commit did not get through")
		}
	}
	<-p.swallowed // the answer to the commit
	h.await("a", ehi.Requested)
	p.restore()
	h.await("a", ehi.Retrieved)
	if task, _, err := server.Tasks.Get(t.Context(), "a", 0); err != nil || task.Attempt != 1 {
		t.Errorf("task %+v, %v", task, err)
	}
	h.checkFiles("a")
}

// muffled is a source that calls muffle when its first record has been read.
type muffled struct {
	source.Source
	once   *sync.Once
	muffle func()
}

func (m *muffled) Open(ctx context.Context, patient string) (source.Record, error) {
	r, err := m.Source.Open(ctx, patient)
	return muffledRecord{r, m}, err
}

type muffledRecord struct {
	source.Record
	m *muffled
}

func (r muffledRecord) Close() error {
	r.m.once.Do(r.m.muffle)
	return r.Record.Close()
}

// proxy forwards connections. While it is muffled, it drops the server's answers.
type proxy struct {
	addr      string
	muffled   atomic.Bool
	swallowed chan struct{}
	mu        sync.Mutex
	conns     []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: ln.Addr().String(), swallowed: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				t.Error(err)
				return
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			wg.Go(func() { _, _ = io.Copy(out, in) }) // ends with the connection
			wg.Go(func() { p.answer(in, out) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		p.restore()
		wg.Wait()
	})
	return p
}

func (p *proxy) answer(in, out net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := out.Read(buf)
		if err != nil {
			return
		}
		if p.muffled.Load() {
			select {
			case p.swallowed <- struct{}{}:
			default:
			}
			continue
		}
		if _, err := in.Write(buf[:n]); err != nil {
			return
		}
	}
}

// restore cuts the connections. New ones are forwarded completely.
func (p *proxy) restore() {
	p.muffled.Store(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close() // it may be closed already
	}
	p.conns = nil
}

// A panic anywhere in an export fails only that export, and the log shows where it happened.
func TestAPanicFailsItsExportAlone(t *testing.T) {
	for _, where := range []string{"open", "scan", "close"} {
		t.Run(where, func(t *testing.T) {
			h := newHouse(t)
			var log lockedBuffer
			h.log = slog.New(slog.NewTextHandler(&log, nil))
			h.work(&panicking{Source: h.source, where: where, patient: "broken"}, "w")
			whole := h.patient
			h.patient.ID = "broken"
			h.request("a", true)
			h.patient = whole
			h.request("b", true)
			if j := h.await("a", ehi.Failed); !strings.Contains(j.Error, "3 attempts") {
				t.Errorf("error %q", j.Error)
			}
			h.await("b", ehi.Retrieved)
			text := log.String()
			if !strings.Contains(text, "a panic in "+where) ||
				!strings.Contains(text, "fault_test.go") || strings.Contains(text, "job=b") {
				t.Errorf("the log:\n%s", text)
			}
			h.checkFiles("a")
			h.checkFiles("b")
		})
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// panicking is a source with a patient whose record panics.
type panicking struct {
	source.Source
	where, patient string
}

func (s *panicking) Open(ctx context.Context, patient string) (source.Record, error) {
	if patient != s.patient {
		return s.Source.Open(ctx, patient)
	}
	if s.where == "open" {
		panic("a panic in open")
	}
	all, err := s.Source.Patients(ctx, 1)
	if err != nil {
		return nil, err
	}
	r, err := s.Source.Open(ctx, all[0].ID)
	return panickingRecord{r, s.where}, err
}

type panickingRecord struct {
	source.Record
	where string
}

func (r panickingRecord) Scan(
	ctx context.Context, q source.Query, visit func(source.Resource) error,
) error {
	n := 0
	return r.Record.Scan(ctx, q, func(res source.Resource) error {
		if n++; n > 50 && r.where == "scan" {
			panic("a panic in scan")
		}
		return visit(res)
	})
}

func (r panickingRecord) Close() error {
	err := r.Record.Close()
	if r.where == "close" {
		panic("a panic in close")
	}
	return err
}

// Only failures of the export itself count as failed attempts. MaxDeliver is 3 here, and the
// worker is stopped five times.
func TestHandedBackExportsDoNotCountAsFailures(t *testing.T) {
	h := newHouse(t)
	h.request("a", true)
	for range 5 {
		waiting := &gate{Source: h.source, reached: make(chan struct{}, 10)}
		stop := h.work(waiting, "stopped")
		<-waiting.reached
		stop()
	}
	h.work(h.source, "last")
	h.await("a", ehi.Retrieved)
	task, _, err := h.bus.Tasks.Get(t.Context(), "a", 0)
	if err != nil || task.Attempt != 6 || task.Excused != 5 {
		t.Errorf("task %+v, %v", task, err)
	}
	h.checkFiles("a")
}

// A source that hangs does not block a job forever, whether or not it ends with its context.
func TestAnExportThatDoesNotGoOnIsGivenUp(t *testing.T) {
	t.Run("every time", func(t *testing.T) {
		h := newHouse(t)
		h.stall = 300 * time.Millisecond
		h.work(&gate{Source: h.source, reached: make(chan struct{}, 10)}, "w")
		h.request("a", true)
		if j := h.await("a", ehi.Failed); !strings.Contains(j.Error, "3 attempts") {
			t.Errorf("error %q", j.Error)
		}
		h.checkFiles("a")
	})
	t.Run("once, and deaf", func(t *testing.T) {
		h := newHouse(t)
		h.stall = 300 * time.Millisecond
		release := make(chan struct{})
		h.work(&deaf{Source: h.source, release: release}, "w")
		h.request("a", true)
		h.await("a", ehi.Retrieved)
		close(release)
		if task, _, err := h.bus.Tasks.Get(t.Context(), "a", 0); err != nil || task.Attempt != 2 {
			t.Errorf("task %+v, %v", task, err)
		}
	})
}

// deaf is a source whose first record hangs and ignores its context.
type deaf struct {
	source.Source
	asked   atomic.Bool
	release chan struct{}
}

func (d *deaf) Open(ctx context.Context, patient string) (source.Record, error) {
	if !d.asked.Swap(true) {
		<-d.release
	}
	return d.Source.Open(ctx, patient)
}

// A committed task is counted exactly once, by the next delivery if the worker stops before it
// counts it, and no matter how often the command is delivered.
func TestACommittedTaskIsCountedOnce(t *testing.T) {
	h := newHouse(t)
	h.request("a", false)
	task, err := h.bus.Tasks.Take(t.Context(), "a", 0, 0, "stopped", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	task.Files = []ehi.File{{Type: "Patient", Count: 1, Bytes: 10}}
	if err := h.bus.Tasks.Commit(t.Context(), task, time.Now()); err != nil {
		t.Fatal(err)
	}
	for start := 1; start <= 5; start++ {
		if err := h.bus.PublishStart(t.Context(), ehi.Interactive, "a", start); err != nil {
			t.Fatal(err)
		}
	}
	h.work(h.source, "w")
	h.await("a", ehi.Retrieved)
	for end := time.Now().Add(10 * time.Second); ; {
		if n, err := h.bus.Queued(t.Context(), ehi.Interactive); err == nil && n == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("commands are left")
		}
	}
	j, err := h.bus.Jobs.Get(t.Context(), "a")
	if err != nil || j.Counts["Patient"] != 1 || j.Bytes != 10 || len(j.Counts) != 1 {
		t.Errorf("job %+v, %v", j, err)
	}
}

// All jobs finish even if the command streams are purged: the keeper rebuilds the commands
// from the records.
func TestTheReconcilerMakesUpForAPurgedStream(t *testing.T) {
	for what, harm := range map[string]func(context.Context, jetstream.Stream,
		jetstream.JetStream) error{
		"purged": func(ctx context.Context, s jetstream.Stream, _ jetstream.JetStream) error {
			return s.Purge(ctx)
		},
		"deleted": func(ctx context.Context, s jetstream.Stream, js jetstream.JetStream) error {
			return js.DeleteStream(ctx, s.CachedInfo().Config.Name)
		},
		"without its consumer": func(ctx context.Context, s jetstream.Stream,
			_ jetstream.JetStream) error {
			return s.DeleteConsumer(ctx, "workers")
		},
	} {
		t.Run(what, func(t *testing.T) {
			b, err := bus.Open(t.Context(), bus.Config{
				StoreDir: t.TempDir(),
				Flags:    bus.Flags{Listen: "127.0.0.1:0"},
				AckWait:  300 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.Close)
			h := newHouse(t)
			h.bus, h.keeper.Bus = b, b
			waiting := &door{
				Source:  h.source,
				reached: make(chan struct{}, 100),
				open:    make(chan struct{}),
			}
			h.work(waiting, "w")
			ids := []string{"a", "b", "c", "d", "e"} // two are taken, and three wait
			for _, id := range ids {
				h.request(id, true)
			}
			<-waiting.reached
			<-waiting.reached
			h.requestPopulation("all")

			conn, err := nats.Connect(b.ClientURL())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(conn.Close)
			js, err := jetstream.New(conn)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"EHI_INTERACTIVE", "EHI_BULK"} {
				s, err := js.Stream(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				if err := harm(t.Context(), s, js); err != nil {
					t.Fatal(err)
				}
			}
			close(waiting.open)
			h.keeper.Every, h.keeper.Lost = 50*time.Millisecond, 100*time.Millisecond
			ctx, cancel := context.WithCancel(t.Context())
			kept := make(chan error, 1)
			go func() { kept <- h.keeper.Run(ctx) }()
			for _, id := range append(ids, "all") {
				h.await(id, ehi.Retrieved)
				h.checkFiles(id)
			}
			cancel()
			if err := <-kept; err != nil {
				t.Error(err)
			}
		})
	}
}

// A power failure can bring back an acknowledged command together with an older record of its
// job. NATS does not deliver that command again; the export finishes nevertheless.
func TestAnExportFinishesAfterAnOldCommandReturns(t *testing.T) {
	h := newHouse(t)
	dir := filepath.Join(t.TempDir(), "nats")
	open := func() *bus.Bus {
		b, err := bus.Open(t.Context(), bus.Config{StoreDir: dir, AckWait: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		h.bus, h.keeper.Bus = b, b
		return b
	}
	before := open()
	for _, id := range []string{"a", "b"} {
		h.request(id, true)
	}
	h.requestPopulation("all")
	kept := filepath.Join(t.TempDir(), "streams")
	streams := filepath.Join(dir, "jetstream", "$G", "streams")
	for _, lane := range []string{"EHI_INTERACTIVE", "EHI_BULK"} {
		err := os.CopyFS(filepath.Join(kept, lane), os.DirFS(filepath.Join(streams, lane, "msgs")))
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, lane := range []ehi.Lane{ehi.Interactive, ehi.Interactive, ehi.Bulk} {
		d, err := before.Next(t.Context(), lane)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Done(); err != nil {
			t.Fatal(err)
		}
	}
	for _, lane := range []ehi.Lane{ehi.Interactive, ehi.Bulk} {
		for n := uint64(1); n > 0; { // acknowledgements are asynchronous
			var err error
			if n, err = before.Queued(t.Context(), lane); err != nil {
				t.Fatal(err)
			}
		}
	}
	before.Close()
	if err := os.Remove(dir + ".files.json"); err != nil { // as after a kill
		t.Fatal(err)
	}
	for _, lane := range []string{"EHI_INTERACTIVE", "EHI_BULK"} {
		msgs := filepath.Join(streams, lane, "msgs")
		err := errors.Join(os.RemoveAll(msgs), os.CopyFS(msgs, os.DirFS(filepath.Join(kept, lane))))
		if err != nil {
			t.Fatal(err)
		}
	}
	after := open()
	t.Cleanup(after.Close)
	if n, err := after.Queued(t.Context(), ehi.Interactive); err != nil || n != 2 {
		t.Fatalf("%d commands have come back, %v", n, err)
	}
	h.request("new", true)
	if err := h.keeper.Reconcile(t.Context(), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	h.work(h.source, "w")
	for _, id := range []string{"a", "b", "new", "all"} {
		h.await(id, ehi.Retrieved)
		h.checkFiles(id)
	}
}

// requestPopulation creates a job that exports the whole store, and publishes its start command.
func (h *house) requestPopulation(id string) {
	h.t.Helper()
	at := time.Now().UTC()
	j := &ehi.Job{
		Version:     ehi.RecordVersion,
		ID:          id,
		Level:       ehi.System,
		Operation:   ehi.EHIExport,
		Lane:        ehi.Bulk,
		Status:      ehi.Requested,
		CreatedAt:   at,
		RequestedAt: at,
		ExpiresAt:   at.Add(time.Hour),
		Starts:      1,
	}
	err := errors.Join(h.bus.Jobs.Create(h.t.Context(), j),
		h.bus.PublishStart(h.t.Context(), ehi.Bulk, id, 1))
	if err != nil {
		h.t.Fatal(err)
	}
}

// A timeout of the source counts as a failed attempt, so the job ends.
func TestASourceThatTimesOutIsNoExcuse(t *testing.T) {
	h := newHouse(t)
	h.work(&slow{h.source}, "w")
	h.request("a", true)
	if j := h.await("a", ehi.Failed); !strings.Contains(j.Error, "3 attempts") {
		t.Errorf("error %q", j.Error)
	}
}

type slow struct{ source.Source }

func (slow) Open(context.Context, string) (source.Record, error) {
	return nil, fmt.Errorf("ask the hospital: %w", context.DeadlineExceeded)
}

// The streams are synced separately. So a power failure can destroy the record of a task, or its
// commit, although the job has counted it.
func TestAnExportWhoseTaskIsLostIsMadeAnew(t *testing.T) {
	for name, as := range map[string]struct {
		population bool
		change     func(*ehi.Job) error
		noticed    func(h *house) error
	}{
		"retrieved": {},
		"approved": {change: func(j *ehi.Job) error {
			return errors.Join(j.Explain("looked at"),
				j.Approve("admin", time.Now().UTC(), time.Hour))
		}},
		"approved by one of two": {change: func(j *ehi.Job) error {
			anybody := func(string, string) bool { return true }
			return j.ApproveByTwo(j.Contents(), "admin", "1", anybody, time.Now().UTC(), time.Hour)
		}},
		"missed by a request": {noticed: func(h *house) error {
			h.keeper.Doubt("a")
			return nil
		}},
		"population": {population: true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			stop := h.work(h.source, "w")
			if as.population {
				h.requestPopulation("a")
			} else {
				h.request("a", true)
			}
			was := h.await("a", ehi.Retrieved)
			if as.change != nil {
				var err error
				if was, err = h.bus.Jobs.Update(t.Context(), "a", as.change); err != nil {
					t.Fatal(err)
				}
			}
			before := h.stored("a")
			if as.population && was.Tasks < 2 {
				t.Fatalf("the population has %d tasks", was.Tasks)
			}
			stop()
			if err := h.bus.Tasks.DeleteOne(t.Context(), "a", 0); err != nil {
				t.Fatal(err)
			}
			if as.noticed == nil {
				as.noticed = func(h *house) error { return h.keeper.SweepRecords(t.Context()) }
			}
			if err := as.noticed(h); err != nil {
				t.Fatal(err)
			}
			h.work(h.source, "w")
			ctx, cancel := context.WithCancel(t.Context())
			kept := make(chan error, 1)
			h.keeper.Every = 20 * time.Millisecond
			go func() { kept <- h.keeper.Run(ctx) }()
			var now *ehi.Job
			for end := time.Now().Add(20 * time.Second); ; {
				var err error
				if now, err = h.bus.Jobs.Get(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
				if now.Status == ehi.Retrieved && now.Starts > was.Starts {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("the job is %s after %d starts", now.Status, now.Starts)
				}
			}
			cancel()
			if err := <-kept; err != nil {
				t.Error(err)
			}
			h.checkFiles("a")
			undecided := now.DecidedBy+now.Reason == "" && now.ApprovedAt.IsZero() &&
				len(now.Approvals) == 0
			if now.Starts != was.Starts+1 || !undecided {
				t.Errorf("the job is %+v", now)
			}
			if !maps.Equal(now.Counts, was.Counts) || now.Files != was.Files ||
				now.Bytes != was.Bytes ||
				!slices.Equal(now.Done, was.Done) {
				t.Errorf("%v in %d files, %v before in %d", now.Counts, now.Files, was.Counts,
					was.Files)
			}
			task, _, err := h.bus.Tasks.Get(t.Context(), "a", 0)
			if err != nil || !task.Committed || task.Attempt != 2 || task.Failures() != 0 {
				t.Errorf("task %+v, %v", task, err)
			}
			after := h.stored("a")
			for _, f := range before { // the record that named it may be restored
				if !slices.Contains(after, f) {
					t.Errorf("%s was whole and is removed", f.Name)
				}
			}
			for _, f := range task.Files { // a name never stands for other bytes
				if slices.ContainsFunc(before,
					func(s files.Stored) bool { return s.Name == f.Object }) {
					t.Errorf("%s is written a second time", f.Object)
				}
			}
		})
	}
}

// The commit of a task can be lost alone: then its record is an older one. A keeper finds it
// when it starts.
func TestAnExportWhoseCommitIsLostIsMadeAnew(t *testing.T) {
	h := newHouse(t)
	stop := h.work(h.source, "w")
	h.request("a", true)
	h.await("a", ehi.Retrieved)
	stop()
	if err := h.bus.Tasks.DeleteOne(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := h.bus.Tasks.Take(t.Context(), "a", 0, 0, "w", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := h.keeper.SweepRecords(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.await("a", ehi.Requested)
	h.work(h.source, "w")
	h.await("a", ehi.Retrieved)
	h.checkFiles("a")
}

// The rest of a population is never read from other records. If the records have changed, the
// job fails with a reason.
func TestAPopulationWhoseTaskIsLostFailsOnceItsRecordsAreGone(t *testing.T) {
	h := newHouse(t)
	stop := h.work(h.source, "w")
	h.requestPopulation("a")
	h.await("a", ehi.Retrieved)
	stop()
	if err := h.bus.Tasks.DeleteOne(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	}
	err := h.source.(*dataset.Store).Generate(
		t.Context(), synthetic.Config{Patients: 1, Seed: 2}, time.Now(), func(int, int) {})
	if err := errors.Join(err, h.keeper.SweepRecords(t.Context())); err != nil {
		t.Fatal(err)
	}
	h.work(h.source, "w")
	if j := h.await("a", ehi.Failed); !strings.HasSuffix(j.Error, "Request the export again.") {
		t.Errorf("it failed by %q", j.Error)
	}
}
