// Package e2e runs the whole server and drives it over HTTP, on real records and on the demo
// patients.
package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ehi-server/api/fhirapi"
	"ehi-server/api/listener"
	"ehi-server/api/server"
	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/keeper"
	"ehi-server/exporter/worker"
	"ehi-server/shared/bus"

	"go.uber.org/goleak"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/api/openid"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/built"
	"ehi-server/shared/ehi"
	"ehi-server/shared/records"
)

func TestMain(m *testing.M) {
	// Tests compare exports byte by byte, and the list of native files names the job. Tests of
	// native content have sources of their own.
	node.Demo.Native = ""
	runChild() // a crash test's server process ends here
	if err := runMoreAtOnce(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	goleak.VerifyTestMain(m,
		goleak.Cleanup(func(code int) {
			if err := errors.Join(built.Remove(), removeImported()); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
			os.Exit(code)
		}),
		// Left by Pebble after an Open that failed because another process uses the store.
		goleak.IgnoreAnyFunction(
			"github.com/cockroachdb/pebble/v2/vfs.(*diskHealthCheckingFS).startTickerLocked.func1"),
		// fasthttp starts it once per process for its Date header, and never ends it.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// The cleaner of a stopped worker pool notices the stop when it wakes up, within 10 s.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// runMoreAtOnce runs twice as many tests at the same time as there are processors, unless the
// command line sets a number, because tests mostly wait. A test that measures times, or the
// process's use of resources, does not call t.Parallel.
func runMoreAtOnce() error {
	flag.Parse()
	const parallel = "test.parallel"
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == parallel })
	if told {
		return nil
	}
	return flag.Set(parallel, strconv.Itoa(2*runtime.GOMAXPROCS(0)))
}

// patience is how long a test waits for something that must happen. It does not matter if it
// happens.
const patience = 2 * time.Minute

// config returns the configuration of a test server: a free port, and outputs of 50 kB and more
// in separate files, so that tests cover both ways of storing them.
func config() node.Config {
	return node.Config{
		Addr:   "127.0.0.1:0",
		Mode:   "sandbox",
		Worker: worker.Flags{Workers: 4, BulkWorkers: 2},
		Limits: ehi.Limits{
			TaskBytes:     1 << 20,
			ArchiveBytes:  2 << 30,
			FileResources: 100_000,
			AckWait:       time.Second,
			MaxDeliver:    5,
			FileTTL:       time.Hour,
			SpillBytes:    50_000,
			Stall:         5 * time.Minute,
		},
		FHIR: fhirapi.Flags{PageTasks: 100},
		Jobs: jobs.Flags{
			ClientJobs:         10_000,
			ClientBulkJobs:     20,
			JobTTL:             time.Hour,
			AttachmentBytes:    1 << 20,
			AttachmentsPerCall: 10,
		},
		Auth: auth.Flags{
			SandboxSecret: "test_client_secret",
			KeyFlags:      auth.KeyFlags{AccessTTL: time.Hour},
			RefreshTTL:    2160 * time.Hour,
			KeyAge:        2160 * time.Hour,
		},
		Bus:       bus.Flags{MaxQueue: 100_000, SyncEvery: 2 * time.Second},
		Keeper:    keeper.Flags{Every: time.Hour},
		Admin:     session.Flags{User: "admin", Password: "admin-password"},
		Demo:      true,
		Source:    kinds.Flags{Spec: "records"},
		Store:     kinds.StoreFlags{CacheBytes: 32 << 20},
		Import:    source.ImportFlags{MaxResource: 64 << 20, InlineBytes: source.DefaultInline},
		Audit:     bus.AuditConfig{TTL: 52560 * time.Hour},
		StaffOIDC: openid.Config{NameClaim: "sub", RolesClaim: "roles"},
		HTTP: server.Flags{
			MaxBodyBytes:   1 << 20,
			MaxHeaderBytes: 16 << 10,
			ReadTimeout:    time.Minute,
			IdleTimeout:    2 * time.Minute,
		},
		Connections: listener.Flags{Most: 8192, Stall: time.Minute},
	}
}

// world is a running server with its clients.
type world struct {
	t     *testing.T
	node  *node.Node
	open  *client.Client // without credentials
	admin *client.Client
	data  string
	stop  func() // as with a signal
}

// start runs a server on a data folder until the test ends.
func start(t *testing.T, data string, cfg node.Config, opts node.Options) *world {
	t.Helper()
	return startLogging(t, data, cfg, opts, slog.New(slog.DiscardHandler))
}

// startLogging is start with a logger.
func startLogging(
	t *testing.T, data string, cfg node.Config, opts node.Options, log *slog.Logger,
) *world {
	t.Helper()
	n, err := node.Open(t.Context(), cfg, data, log, opts)
	if err != nil {
		t.Fatal(err)
	}
	w, end := running(t, n, cfg)
	w.data = data
	t.Cleanup(end)
	return w
}

// running runs a server until end is called.
func running(t *testing.T, n *node.Node, cfg node.Config) (w *world, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	w = &world{t: t, node: n, open: client.NewSecured(n.URL, roots(t, cfg.TLS.Cert)), stop: cancel}
	end = func() {
		w.open.Close()
		cancel()
		if err := errors.Join(<-done, n.Close()); err != nil {
			t.Error(err)
		}
	}
	var err error
	if w.admin, err = w.open.AdminLogin(t.Context(), cfg.Admin.User,
		cfg.Admin.Password); err != nil {
		end()
		t.Fatal(err)
	}
	return w, end
}

// roots returns a configuration that trusts a server's self-signed certificate.
func roots(t *testing.T, cert string) *tls.Config {
	t.Helper()
	if cert == "" {
		return nil
	}
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s is no certificate", cert)
	}
	return &tls.Config{RootCAs: pool}
}

// startOnRecords starts a server after importing the real records.
func startOnRecords(t *testing.T) *world {
	t.Helper()
	data := t.TempDir()
	importRecords(t, data)
	return start(t, data, config(), node.Options{})
}

// importRecords gives a data folder the real records. They are imported once for all tests: an
// import takes longer than all the rest of most tests.
func importRecords(t *testing.T, data string) {
	t.Helper()
	imported, err := importOnce(records.Dir(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(data, os.DirFS(imported)); err != nil {
		t.Fatal(err)
	}
}

var imported struct {
	sync.Mutex
	folder string // "" until a test needs it
}

// importOnce returns a data folder with the imported records, which nobody may open.
func importOnce(dir string) (string, error) {
	imported.Lock()
	defer imported.Unlock()
	if imported.folder != "" {
		return imported.folder, nil
	}
	data, err := os.MkdirTemp("", "imported")
	if err != nil {
		return "", err
	}
	if err := importInto(data, dir); err != nil {
		return "", errors.Join(err, os.RemoveAll(data))
	}
	imported.folder = data
	return data, nil
}

func importInto(data, dir string) error {
	store, err := kinds.Store(kinds.Config{Data: data})
	if err != nil {
		return err
	}
	_, err = store.Import(context.Background(), []string{dir},
		source.ImportOptions{Now: time.Now()})
	return errors.Join(err, store.Close())
}

// removeImported deletes what importOnce has made.
func removeImported() error {
	imported.Lock()
	defer imported.Unlock()
	return os.RemoveAll(imported.folder) // of "" it removes nothing
}

func (w *world) patient(id string) *client.Client {
	w.t.Helper()
	c, _, err := w.open.Authorize(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) kickOff(c *client.Client, base, patient string, body []byte) client.Job {
	w.t.Helper()
	j, err := c.KickOff(w.t.Context(), base, patient, body)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

func (w *world) submit(c *client.Client, job string, f form) {
	w.t.Helper()
	if a, err := c.Submit(w.t.Context(), job, f); err != nil || a.Status != 200 {
		w.t.Fatalf("submit: %v %+v", err, a)
	}
}

func (w *world) wait(job string, status ehi.Status) client.AdminJob {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	j, err := w.admin.WaitJob(ctx, job, status)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

func (w *world) manifest(c *client.Client, j client.Job) *ehi.Manifest {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	m, err := c.Wait(ctx, j.StatusURL, 10*time.Millisecond)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// export runs one export with a form (nil for none) and returns its resources by key and its
// whole text.
func (w *world) export(patient string, f form) (map[string]records.Resource, string) {
	w.t.Helper()
	c := w.patient(patient)
	base := "/auto-approve"
	if f == nil {
		base += "/no-form"
	}
	j := w.kickOff(c, base, patient, nil)
	if f != nil {
		w.submit(c, j.ID, f)
	}
	out, text := w.download(c, w.manifest(c, j))
	if err := c.Delete(w.t.Context(), j.StatusURL); err != nil {
		w.t.Fatal(err)
	}
	return out, text
}

// download reads all files of a manifest and checks their framing (REAL-3).
func (w *world) download(c *client.Client, m *ehi.Manifest) (map[string]records.Resource, string) {
	w.t.Helper()
	out := map[string]records.Resource{}
	var text strings.Builder
	for _, e := range m.Output {
		data, err := c.Download(w.t.Context(), e.URL)
		if err != nil {
			w.t.Fatal(err)
		}
		text.Write(data)
		lines := bytes.Split(data, []byte{'\n'})
		if n := len(lines) - 1; n == 0 || len(lines[n]) != 0 || int64(n) != e.Count {
			w.t.Fatalf("%s has %d lines, the manifest says %d", e.URL, n, e.Count)
		}
		for _, line := range lines[:len(lines)-1] {
			var r records.Resource
			if err := json.Unmarshal(line, &r); err != nil {
				w.t.Fatalf("%s: %v in %.200s", e.URL, err, line)
			}
			if r["resourceType"] != e.Type {
				w.t.Errorf("%s holds a %s", e.URL, r["resourceType"])
			}
			if out[records.Key(r)] != nil {
				w.t.Errorf("%s twice", records.Key(r))
			}
			out[records.Key(r)] = r
		}
	}
	return out, text.String()
}

// form is the form of EHI-7 on the wire.
type form map[string]map[string]map[string]any

// newForm selects categories and authorizations: "labs", "a:hiv".
func newForm(on ...string) form {
	f := form{"parameters": {}, "authorizations": {}}
	for _, c := range ehi.Categories() {
		f["parameters"][string(c.Key)] = map[string]any{"name": c.Name, "enabled": false}
	}
	for _, a := range ehi.Authorizations() {
		f["authorizations"][string(a.Key)] = map[string]any{"name": a.Name, "value": false}
	}
	for _, key := range on {
		if a, ok := strings.CutPrefix(key, "a:"); ok {
			f["authorizations"][a]["value"] = true
			continue
		}
		f["parameters"][key]["enabled"] = true
	}
	return f
}

// parsed returns the form as the server reads it.
func (f form) parsed(t *testing.T) *ehi.ReleaseForm {
	t.Helper()
	body, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	out, err := ehi.ParseReleaseForm(body)
	if err != nil {
		t.Fatal(err)
	}
	return &out
}

// dates sets the limits of a category.
func (f form) dates(key, from, to string) form {
	f["parameters"][key]["from"], f["parameters"][key]["to"] = from, to
	return f
}

// everything selects all categories and authorizations except the given ones.
func everything(but ...string) form {
	var on []string
	for _, c := range ehi.Categories() {
		on = append(on, string(c.Key))
	}
	for _, a := range ehi.Authorizations() {
		on = append(on, "a:"+string(a.Key))
	}
	var kept []string
	for _, key := range on {
		if !strings.Contains(" "+strings.Join(but, " ")+" ", " "+key+" ") {
			kept = append(kept, key)
		}
	}
	return newForm(kept...)
}

// await waits until a condition holds. It checks a hundred times per second, because a busy loop
// would take the processor from what it waits for.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("after %v it is still not so: %s", patience, what)
		}
	}
}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns what was written so far.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// alfredo is a patient of the real records.
const alfredo = "538a9a4e-8437-47d3-8c01-1a17dca8f0be"

// demoPatient returns the first patient of the sandbox's demo population.
func (w *world) demoPatient() string {
	w.t.Helper()
	list, err := w.node.Patients(w.t.Context(), 1)
	if err != nil || len(list) != 1 {
		w.t.Fatalf("demo patients: %v, %v", list, err)
	}
	return list[0].ID
}
