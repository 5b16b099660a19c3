package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/ehi"
)

// childEnv makes the test binary a server process. Its value is a childSpec as JSON.
const childEnv = "EHI_E2E_SERVE"

// childSpec describes a server process.
type childSpec struct {
	Data, Addr string
	// Gate is the number of resources after which an export reports that it is at the gate. It
	// then waits for its end or SIGUSR1; 0 for no gate.
	Gate int
	// Poison is a patient whose record kills the process.
	Poison string
	// NATS is the server to join; "" for an embedded one.
	NATS string
}

// runChild serves and exits, if the environment says so.
func runChild() {
	spec := os.Getenv(childEnv)
	if spec == "" {
		return
	}
	if err := serveChild(spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveChild(encoded string) error {
	var spec childSpec
	if err := json.Unmarshal([]byte(encoded), &spec); err != nil {
		return err
	}
	cfg := config()
	cfg.Addr, cfg.Bus.URL, cfg.Keeper.Every = spec.Addr, spec.NATS, 100*time.Millisecond
	opts := node.Options{}
	if spec.Gate > 0 {
		open := make(chan os.Signal, 1)
		signal.Notify(open, syscall.SIGUSR1)
		opts.WrapSource = func(s source.Source) source.Source { return gated{s, spec.Gate, open} }
	}
	if spec.Poison != "" {
		opts.WrapSource = func(s source.Source) source.Source { return deadly{s, spec.Poison} }
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n, err := node.Open(ctx, cfg, spec.Data, slog.New(slog.NewTextHandler(os.Stderr, nil)), opts)
	if err != nil {
		return err
	}
	fmt.Println(n.URL)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent, or when the parent says so
		cancel()
	}()
	if err := n.Run(ctx); err != nil {
		return err
	}
	return n.Close()
}

// gated is a source whose scans report and stop after n resources, until the gate is opened or
// their context ends.
type gated struct {
	source.Source
	n    int
	open <-chan os.Signal
}

func (g gated) Open(ctx context.Context, patient string) (source.Record, error) {
	r, err := g.Source.Open(ctx, patient)
	return &gatedRecord{Record: r, left: g.n, open: g.open}, err
}

type gatedRecord struct {
	source.Record
	left int
	open <-chan os.Signal
}

func (r *gatedRecord) Scan(
	ctx context.Context, q source.Query, visit func(source.Resource) error,
) error {
	return r.Record.Scan(ctx, q, func(res source.Resource) error {
		if r.left--; r.left == 0 {
			fmt.Println("at the gate")
			select {
			case <-r.open:
			case <-ctx.Done():
			}
		}
		return visit(res)
	})
}

// deadly is a source with a record that kills the process that reads it.
type deadly struct {
	source.Source
	patient string
}

func (d deadly) Open(ctx context.Context, patient string) (source.Record, error) {
	if patient == d.patient {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // does not return
	}
	return d.Source.Open(ctx, patient)
}

// child is a server process.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	url   string
	log   string // the file with its standard error
}

// spawn starts a process and waits until it listens.
func spawn(t *testing.T, spec childSpec) *child {
	t.Helper()
	c := launch(t, spec)
	c.url = c.line()
	return c
}

// launch starts a process without waiting for it.
func launch(t *testing.T, spec childSpec) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the process has its own handle
	c := &child{t: t, cmd: exec.Command(exe), log: log.Name()}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(encoded))
	c.cmd.Stderr = log
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(stdout)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // this and the next fail if the test has ended it
		_ = c.cmd.Wait()
		if t.Failed() {
			t.Logf("a server process:\n%s", c.said())
		}
	})
	return c
}

// signal sends a signal to the process.
func (c *child) signal(s os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// said returns what the process has written to standard error.
func (c *child) said() string {
	c.t.Helper()
	data, err := os.ReadFile(c.log)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}

// line waits for a line of the process, and kills it if none comes.
func (c *child) line() string {
	c.t.Helper()
	// fails if it has ended
	limit := time.AfterFunc(2*time.Minute, func() { _ = c.cmd.Process.Kill() })
	defer limit.Stop()
	s, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatalf("the server process ended: %v", err)
	}
	return strings.TrimSpace(s)
}

// kill kills with SIGKILL.
func (c *child) kill() {
	c.t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	_ = c.cmd.Wait() // reports the signal, as it should
}

// A process dies in the middle of an export. After the restart the job completes, its files are
// correct, and nothing is left over. A finished job can still be downloaded, and an open form is
// still open.
func TestKilledInTheMiddleOfAnExport(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	importRecords(t, data)
	largest := "fbfec681-d357-4b28-b1d2-5db6434c7846"

	first := spawn(t, childSpec{Data: data, Addr: "127.0.0.1:0"})
	open := client.New(first.url)
	t.Cleanup(open.Close)
	pat, _, err := open.Authorize(t.Context(), largest)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, open: open}
	finished := w.kickOff(pat, "/no-form/auto-approve", largest, nil)
	before, _ := w.download(pat, w.manifest(pat, finished))
	exports := filepath.Join(data, "exports")
	n := filesByJob(t, exports)[finished.ID]
	if n < 2 {
		t.Errorf("%d files: the record is to be large enough for some of its own", n)
	}
	openForm := w.kickOff(pat, "/auto-approve", largest, nil)
	first.kill()

	addr := strings.TrimPrefix(first.url, "http://")
	second := spawn(t, childSpec{Data: data, Addr: addr, Gate: 400})
	running := w.kickOff(pat, "/no-form/auto-approve", largest, nil)
	if s := second.line(); s != "at the gate" {
		t.Fatal(s)
	}
	a, err := pat.Do(t.Context(), "GET", running.StatusURL, nil)
	if err != nil || a.Status != 202 {
		t.Fatalf("status of the running export: %+v, %v", a, err)
	}
	second.kill()

	spawn(t, childSpec{Data: data, Addr: addr})
	got, _ := w.download(pat, w.manifest(pat, running))
	sameExport(t, before, got)
	again, _ := w.download(pat, w.manifest(pat, finished))
	sameExport(t, before, again)
	w.submit(pat, openForm.ID, everything())
	w.manifest(pat, openForm)

	awaitFiles(t, exports, map[string]int{finished.ID: n, running.ID: n, openForm.ID: n})
	for _, j := range []client.Job{finished, running, openForm} {
		if err := pat.Delete(t.Context(), j.StatusURL); err != nil {
			t.Error(err)
		}
	}
	awaitFiles(t, exports, map[string]int{})
}

// A command that kills its process each time ends as a failed job, and the process survives.
// Other exports complete.
func TestAPoisonousCommandIsGivenUp(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	ids := demoRecords(t, data)
	c := spawn(t, childSpec{Data: data, Addr: "127.0.0.1:0", Poison: ids[0]})
	open := client.New(c.url)
	t.Cleanup(open.Close)
	w := &world{t: t, open: open}
	patients := []*client.Client{w.patient(ids[0]), w.patient(ids[1])}
	poison := w.kickOff(patients[0], "/auto-approve", ids[0], nil)
	// it dies before or after it responds
	if a, err := patients[0].Submit(t.Context(), poison.ID, everything()); err == nil &&
		a.Status != 200 {
		t.Fatalf("submit: %+v", a)
	}
	addr := strings.TrimPrefix(c.url, "http://")
	crashes := 0
	for {
		a, err := patients[0].Do(t.Context(), "GET", poison.StatusURL, nil)
		if err == nil && a.Status == 500 && strings.Contains(string(a.Body), "5 attempts") {
			break
		}
		if err == nil && a.Status != 202 {
			t.Fatalf("status %d: %s", a.Status, a.Body)
		}
		if err == nil {
			continue
		}
		if state := c.end(); !strings.Contains(state, "killed") {
			t.Fatalf("the process ended otherwise: %s", state)
		}
		if crashes++; crashes > 5 {
			t.Fatal("the command killed its process a sixth time")
		}
		c = launch(t, childSpec{Data: data, Addr: addr, Poison: ids[0]})
		if _, err := c.out.ReadString('\n'); err != nil {
			continue // it died again before it reported its address
		}
	}
	if crashes != 5 {
		t.Errorf("%d crashes, where 5 attempts may be made", crashes)
	}
	other := w.kickOff(patients[1], "/no-form/auto-approve", ids[1], nil)
	if got, _ := w.download(patients[1], w.manifest(patients[1], other)); len(got) < 100 {
		t.Errorf("the other export has %d resources", len(got))
	}
	exports := filepath.Join(data, "exports")
	awaitFiles(t, exports, map[string]int{other.ID: filesByJob(t, exports)[other.ID]})
}

// demoRecords fills a data folder's store and returns its patients.
func demoRecords(t *testing.T, data string) (ids []string) {
	t.Helper()
	store, err := kinds.Store(kinds.Config{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Generate(t.Context(), node.Demo, time.Now(), func(int, int) {}); err != nil {
		t.Fatal(err)
	}
	list, err := store.Patients(t.Context(), 10)
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		ids = append(ids, p.ID)
	}
	return ids
}

// end waits for a process that dies by itself, and returns how it ended.
func (c *child) end() string {
	c.t.Helper()
	_ = c.cmd.Wait() // reports the signal
	return c.cmd.ProcessState.String()
}

func sameExport[R any](t *testing.T, want, got map[string]R) {
	t.Helper()
	a, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Error("two exports of one record differ")
	}
}

// filesByJob counts the files in the exports folder.
func filesByJob(t *testing.T, root string) map[string]int {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "??", "*"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, p := range paths {
		job, _, _ := strings.Cut(filepath.Base(p), ".")
		got[job]++
	}
	return got
}

// awaitFiles waits until the exports folder has exactly the wanted number of files of these
// jobs. The keeper runs every 100 ms there.
func awaitFiles(t *testing.T, root string, want map[string]int) {
	t.Helper()
	var got map[string]int
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		if got = filesByJob(t, root); fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
	}
	t.Errorf("files by job: %v, want %v", got, want)
}

// EHI-13: a DELETE stops a running export within a second, and its files are deleted.
func TestEHI13DeleteStopsARunningExport(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	importRecords(t, data)
	stopped := make(chan struct{})
	cfg := config()
	w := start(t, data, cfg, node.Options{
		WrapSource: func(s source.Source) source.Source { return signalling{s, stopped} },
	})
	pat := w.patient(alfredo)
	j := w.kickOff(pat, "/no-form/auto-approve", alfredo, nil)
	<-stopped // it runs
	if err := pat.Delete(t.Context(), j.StatusURL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-stopped: // it was told to stop
	case <-time.After(time.Second):
		t.Fatal("the export still runs a second after its deletion")
	}
	a, err := pat.Do(t.Context(), "GET", j.StatusURL, nil)
	if err != nil || a.Status != 404 || !strings.Contains(string(a.Body), "Export job not found!") {
		t.Errorf("status after DELETE: %d %s, %v", a.Status, a.Body, err)
	}
	awaitFiles(t, filepath.Join(data, "exports"), map[string]int{})
	for end := time.Now().Add(10 * time.Second); ; {
		if n, err := w.node.Bus.Queued(t.Context(), ehi.Interactive); err == nil && n == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the command of the deleted job stays in the queue")
		}
	}
	if _, ok, err := w.node.Bus.Tasks.Get(t.Context(), j.ID, 0); ok || err != nil {
		t.Errorf("the task of the deleted job is still there: %v", err)
	}
	if list := w.node.Bus.Jobs.List(nil2all); len(list) != 0 {
		t.Errorf("jobs left: %+v", list)
	}
}

// signalling is a source whose scans report their start, wait for the end of their context, and
// report that.
type signalling struct {
	source.Source
	c chan struct{}
}

func (s signalling) Open(ctx context.Context, patient string) (source.Record, error) {
	r, err := s.Source.Open(ctx, patient)
	return &signallingRecord{r, s.c}, err
}

type signallingRecord struct {
	source.Record
	c chan struct{}
}

func (r *signallingRecord) Scan(
	ctx context.Context, _ source.Query, _ func(source.Resource) error,
) error {
	r.c <- struct{}{}
	<-ctx.Done()
	r.c <- struct{}{}
	return ctx.Err()
}

// A job whose export fails every time ends as failed, and stays so (BULK-5).
func TestBULK5ExportThatNeverSucceedsEndsAsFailed(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Limits.MaxDeliver = 2
	w := start(t, t.TempDir(), cfg, node.Options{
		WrapSource: func(s source.Source) source.Source { return broken{s} },
	})
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "/no-form", p, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if job, err := w.admin.WaitJob(ctx, j.ID, ehi.Failed); err != nil || job.Error == "" {
		t.Fatalf("%+v, %v", job, err)
	}
	for range 2 {
		a, err := pat.Do(t.Context(), "GET", j.StatusURL, nil)
		if err != nil || a.Status != 500 ||
			!strings.Contains(string(a.Body), `"OperationOutcome"`) ||
			!strings.Contains(string(a.Body), "2 attempts") {
			t.Errorf("status of a failed job: %d %s, %v", a.Status, a.Body, err)
		}
	}
	awaitFiles(t, filepath.Join(w.data, "exports"), map[string]int{})
}

// broken is a source whose scans panic.
type broken struct{ source.Source }

func (s broken) Open(ctx context.Context, patient string) (source.Record, error) {
	r, err := s.Source.Open(ctx, patient)
	return brokenRecord{r}, err
}

type brokenRecord struct{ source.Record }

func (brokenRecord) Scan(context.Context, source.Query, func(source.Resource) error) error {
	panic("a broken source")
}
