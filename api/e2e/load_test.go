package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/source"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// BULK-4, and bounded memory: of a thousand simultaneous exports, each is
// either accepted and correct, or refused with 429 or 503 and Retry-After, without a trace.
// Afterwards the process is as before.
func TestAThousandExportsAtOnceAreRightOrRefused(t *testing.T) {
	const most = 50
	limits := map[string]func(*node.Config){
		"429": func(c *node.Config) { c.Jobs.ClientJobs = most },
		"503": func(c *node.Config) { c.Bus.MaxQueue = most },
	}
	for status, limit := range limits {
		t.Run(status, func(t *testing.T) {
			cfg := config()
			cfg.Worker.Workers = 2
			limit(&cfg)
			var door sync.RWMutex
			w := start(t, t.TempDir(), cfg, node.Options{
				WrapSource: func(s source.Source) source.Source { return closable{s, &door} },
			})
			p := w.demoPatient()
			pat := w.patient(p)
			first := w.kickOff(pat, "/no-form/auto-approve", p, nil)
			want := w.contents(pat, w.manifest(pat, first))
			if len(want) < 20 {
				t.Fatalf("an export of %d files", len(want))
			}
			if err := pat.Delete(t.Context(), first.StatusURL); err != nil {
				t.Fatal(err)
			}
			w.open.Close()
			goroutines, heap := census(), liveHeap()

			door.Lock() // none finishes before the last is requested
			taken := w.rush(pat, p, 1000, status)
			door.Unlock()
			if len(taken) < most || len(taken) > most+cfg.Worker.Workers {
				t.Errorf("%d of 1,000 exports were taken, where %d may run", len(taken), most)
			}
			w.checkAndDelete(pat, taken, want)

			left := w.node.Bus.Jobs.List(func(bus.Summary) bool { return true })
			if len(left) != 0 {
				t.Errorf("%d jobs are left of those that were deleted or refused", len(left))
			}
			w.open.Close()
			w.until("no goroutine is left of the rush", func() bool {
				return census() <= goroutines
			})
			// JetStream keeps its latest blocks for some seconds
			if grown := liveHeap() - heap; grown > 64<<20 {
				t.Errorf("%d bytes more are alive than before", grown)
			}
		})
	}
}

// A server that is told to stop is not ready and refuses kick-offs. It answers everything else,
// and running exports complete.
func TestAStoppedServerEndsWhatItRuns(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	var j client.Job
	var patient string
	t.Run("stopped", func(t *testing.T) {
		cfg := config()
		cfg.Worker.Drain = time.Minute
		var door sync.RWMutex
		w := start(t, data, cfg, node.Options{
			WrapSource: func(s source.Source) source.Source { return closable{s, &door} },
		})
		patient = w.demoPatient()
		pat := w.patient(patient)
		door.Lock()
		defer door.Unlock()
		j = w.kickOff(pat, "/no-form/auto-approve", patient, nil)
		w.until("the export runs", func() bool {
			_, taken, err := w.node.Bus.Tasks.Get(t.Context(), j.ID, 0)
			return taken && err == nil
		})
		w.stop()
		w.until("the server is not ready", func() bool {
			return w.do(w.open, "GET", "/readyz").Status == 503
		})
		refusal := w.do(pat, "POST", "/no-form/fhir/Patient/"+patient+"/$ehi-export", "Prefer",
			"respond-async", "Accept", "application/fhir+json")
		w.wantOutcome(refusal, 503, "is stopping")
		if refusal.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		w.want(w.do(pat, "GET", j.StatusURL), 202, "")
	})
	w := start(t, data, config(), node.Options{})
	if job := w.wait(j.ID, ehi.Approved); len(job.Counts) == 0 {
		t.Errorf("the job counts nothing: %+v", job)
	}
	if task, _, err := w.node.Bus.Tasks.Get(t.Context(), j.ID, 0); err != nil || task.Attempt != 1 {
		t.Errorf("task %+v, %v", task, err)
	}
}

// Without space for exports, the server is not ready and refuses kick-offs. Finished exports are
// still available.
func TestAFullDiskRefusesKickOffsOnly(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	var j client.Job
	var token, patient string
	t.Run("with space", func(t *testing.T) {
		w := start(t, data, config(), node.Options{})
		patient = w.demoPatient()
		pat := w.patient(patient)
		token, j = pat.Token, w.kickOff(pat, "/no-form/auto-approve", patient, nil)
		w.wait(j.ID, ehi.Approved)
	})
	cfg := config()
	cfg.Jobs.MinFreeBytes = 1 << 62
	w := start(t, data, cfg, node.Options{})
	pat := w.open.WithToken(token)
	w.want(w.do(w.open, "GET", "/readyz"), 503, "")
	refusal := w.do(pat, "POST", "/fhir/Patient/"+patient+"/$ehi-export", "Prefer", "respond-async",
		"Accept", "application/fhir+json")
	w.wantOutcome(refusal, 503, "The disk is full")
	if refusal.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	j.StatusURL = w.node.URL + "/jobs/" + j.ID + "/status"
	if got := w.contents(pat, w.manifest(pat, j)); len(got) < 20 {
		t.Errorf("%d files can be read", len(got))
	}
	if err := pat.Delete(t.Context(), j.StatusURL); err != nil {
		t.Error(err)
	}
}

// until waits for a condition.
func (w *world) until(what string, holds func() bool) {
	w.t.Helper()
	await(w.t, what, holds)
}

// closable is a source that opens no record while its door is closed.
type closable struct {
	source.Source
	door *sync.RWMutex
}

func (c closable) Open(ctx context.Context, patient string) (source.Record, error) {
	c.door.RLock()
	defer c.door.RUnlock()
	return c.Source.Open(ctx, patient)
}

// rush kicks off n exports at once. Refusals must have the right form.
func (w *world) rush(c *client.Client, patient string, n int, status string) (taken []client.Job) {
	w.t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			j, err := c.KickOff(w.t.Context(), "/no-form/auto-approve", patient, nil)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				taken = append(taken, j)
				return
			}
			refusal, ok := errors.AsType[*client.Error](err)
			if !ok {
				w.t.Error(err)
				return
			}
			seconds, err := strconv.Atoi(refusal.Header.Get("Retry-After"))
			if strconv.Itoa(refusal.Status) != status || err != nil || seconds < 1 ||
				!strings.Contains(string(refusal.Body), "OperationOutcome") {
				w.t.Errorf("refused by %d, Retry-After %q: %s", refusal.Status,
					refusal.Header.Get("Retry-After"), refusal.Body)
			}
		})
	}
	wg.Wait()
	return taken
}

// checkAndDelete waits for exports, compares them with the expected one, and deletes them.
func (w *world) checkAndDelete(c *client.Client, jobs []client.Job, want []string) {
	w.t.Helper()
	for _, j := range jobs {
		if got := w.contents(c, w.manifest(c, j)); !slices.Equal(got, want) {
			w.t.Errorf("the export of job %s differs from the first", j.ID)
		}
		if err := c.Delete(w.t.Context(), j.StatusURL); err != nil {
			w.t.Fatal(err)
		}
	}
}

// contents reads the files of an export. Of native files it has their names and hashes: their list
// names the job, and their descriptor the time of the export.
func (w *world) contents(c *client.Client, m *ehi.Manifest) (files []string) {
	w.t.Helper()
	for _, e := range m.Output {
		data, err := c.Download(w.t.Context(), e.URL)
		if err != nil {
			w.t.Fatal(err)
		}
		if strings.HasSuffix(e.URL, "/documents.DocumentReference.ndjson") {
			data = w.nativeFiles(data)
		}
		files = append(files, string(data))
	}
	return files
}

// nativeFiles returns what a list says of native files, whichever export it is of.
func (w *world) nativeFiles(list []byte) (out []byte) {
	w.t.Helper()
	for line := range bytes.Lines(list) {
		var d fhir.DocumentReference
		if err := json.Unmarshal(line, &d); err != nil || len(d.Content) != 1 {
			w.t.Fatalf("%s: %v", line, err)
		}
		a := d.Content[0].Attachment
		if _, name, _ := strings.Cut(a.URL, "/download/"); name != "tables/datapackage.json" {
			out = fmt.Appendln(out, name, a.Size, a.Hash)
		}
	}
	return out
}

// census counts the goroutines, except fasthttp's idle workers, which wait some seconds for
// another connection.
func census() (n int) {
	stacks := make([]byte, 16<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if !strings.Contains(stack, "fasthttp.(*workerPool)") {
			n++
		}
	}
	return n
}

func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
