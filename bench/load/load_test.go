package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/goleak"

	"ehi-server/api/node"
	"ehi-server/bench/verify"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp starts this goroutine once per process for its Date header, and never ends
		// it.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// The cleaner of a stopped worker pool notices the stop when it wakes up, within 10 s.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// serve runs a server with demo patients until the test ends.
func serve(t *testing.T) string { return serveSource(t, "") }

// serveSource runs a server with the patients of a source; "" for demo patients. Its archives are
// small, so that there are several.
func serveSource(t *testing.T, source string) string {
	t.Helper()
	url, stop, err := host(t.Context(), source, func(c *node.Config) {
		c.Limits.ArchiveBytes = 1 << 20
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return url
}

// parse parses a command line for a server.
func parse(t *testing.T, url string, args ...string) *config {
	t.Helper()
	var c config
	k, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Parse(append([]string{
		"--url", url, "--quiet", "--duration=2s", "--pause=2ms", "--patients=3", "--concurrency=4",
	}, args...))
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

func run(t *testing.T, c *config) *result {
	t.Helper()
	r, err := drive(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestARunIsMeasuredAndReported(t *testing.T) {
	dir := t.TempDir()
	c := parse(t, serve(t), "--mix=export=60,poll=20,abort=20", "--slo=p99-flow=60s",
		"--slo=errors=0", "--slo=max-status=1us")
	r := run(t, c)
	if r.Wrong > 0 || len(r.Errors) > 0 || r.Patients != 3 {
		t.Errorf("errors %v, wrong %d, %d patients\n%v", r.Errors, r.Wrong, r.Patients, r.Examples)
	}
	for _, a := range []action{exportAll, pollOnly, abortIt} {
		if r.Flows[a] == 0 {
			t.Errorf("no flow %s: %v", a, r.Flows)
		}
	}
	loose := r.Steps[slices.Index(steps, native)].Count // documents and tables have no lines
	if n := r.Files - loose; n < 10*r.Flows[exportAll] || r.Lines < 10*n || r.Bytes < 100*r.Lines ||
		loose < r.Flows[exportAll] {
		t.Errorf("%d files, %d lines, %d bytes and %d native files of %d exports", n, r.Lines,
			r.Bytes, loose, r.Flows[exportAll])
	}
	for i, s := range r.Steps {
		if s.Step != steps[i] || s.Count == 0 || s.P50 <= 0 || s.P50 > s.P99 || s.P99 > s.Max+1 {
			t.Errorf("step %+v", s)
		}
	}
	if !r.SLO[0].Kept || !r.SLO[1].Kept || r.SLO[2].Kept || !r.Failed() {
		t.Errorf("objectives %+v", r.SLO)
	}

	jsonPath, htmlPath := filepath.Join(dir, "r.json"), filepath.Join(dir, "r.html")
	if err := r.save(jsonPath, htmlPath); err != nil {
		t.Fatal(err)
	}
	var back result
	if data, err := os.ReadFile(jsonPath); err != nil || json.Unmarshal(data, &back) != nil ||
		back.Lines != r.Lines {
		t.Errorf("JSON %v: %+v", err, back)
	}
	html, err := os.ReadFile(htmlPath)
	if err != nil || bytes.Count(html, []byte("<polyline")) < 12 ||
		bytes.Contains(html, []byte("NaN")) || bytes.Contains(html, []byte("Inf")) ||
		!bytes.Contains(html, []byte("broken")) {
		t.Errorf("page of %d bytes, %d lines: %v", len(html),
			bytes.Count(html, []byte("<polyline")), err)
	}
	var table bytes.Buffer
	r.print(&table)
	text := table.String()
	if !strings.Contains(text, "max-status=1us: BROKEN") ||
		!strings.Contains(text, "p99-flow=60s: kept") {
		t.Error(text)
	}
}

// In an open model, flows start at scheduled times, and waiting for a free user counts.
func TestOpenModelCountsTheWait(t *testing.T) {
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			<-time.After(100 * time.Millisecond) // a slow server
			w.WriteHeader(http.StatusAccepted)
			return
		}
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Location", "http://"+r.Host+"/jobs/1/status")
		w.WriteHeader(http.StatusAccepted)
	}))
	defer slow.Close()
	r := run(t,
		parse(t, slow.URL, "--auth=none", "--patient=p", "--mix=abort=1", "--rate=50",
			"--concurrency=1", "--duration=1s"))
	if r.Flows[abortIt] != 50 {
		t.Fatalf("%d flows: %v", r.Flows[abortIt], r.Examples)
	}
	byStep := map[step]stepResult{}
	for _, s := range r.Steps {
		byStep[s.Step] = s
	}
	// One user completes ten per second of the fifty that are due, so the last one waits for
	// four seconds.
	if d, f := byStep[remove], byStep[flow]; f.Max < 2*d.Max || f.Max < 3000 {
		t.Errorf("delete %.0f ms, flow %.0f ms", d.Max, f.Max)
	}
}

// The order of lines does not matter, but their content does.
func TestAnExportHasToBeTheSameEachTime(t *testing.T) {
	of := func(lines ...string) verify.Sum {
		var t verify.Tally
		for _, l := range lines {
			t.Line([]byte(l))
		}
		return t.Sum
	}
	s := newSums()
	for _, c := range []struct {
		key  string
		sum  verify.Sum
		same bool
	}{
		{"p", of("a", "b"), true}, {"p", of("b", "a"), true}, {"p", of("a", "c"), false},
		{"p", of("a", "b", "b"), false}, {"q", of("a", "c"), true},
	} {
		if why := s.differ(c.key, c.sum, verify.Content{}); (why == "") != c.same {
			t.Errorf("%s: %q", c.key, why)
		}
	}
}

func TestMixAndObjectivesAreRead(t *testing.T) {
	for _, bad := range []string{
		"--mix=", "--mix=export", "--mix=export=0", "--mix=walk=1", "--slo=p99=1s",
		"--slo=p101-status=1s", "--slo=p99-dance=1s", "--slo=errors=x",
	} {
		k, err := kong.New(&config{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Parse([]string{bad}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
