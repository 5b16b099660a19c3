package bench

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"ehi-server/api/client"
)

// withoutMetrics builds this test binary with metrics that do nothing.
func withoutMetrics(b *testing.B) (exe string) {
	b.Helper()
	real, err := filepath.Abs("../shared/telemetry/define.go")
	if err != nil {
		b.Fatal(err)
	}
	none, err := filepath.Abs("testdata/nometrics/define.go")
	if err != nil {
		b.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {real: none}})
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	exe = filepath.Join(dir, "bench.test")
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		b.Fatal(err)
	}
	out, err := exec.CommandContext(b.Context(), "go", "test", "-c", "-overlay", path, "-o", exe,
		"ehi-server/bench").CombinedOutput()
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return exe
}

// costs are the times that one configuration took for the work of an operation.
type costs struct{ population, polls, exports time.Duration }

// BenchmarkCost does the same work on servers with and without metrics and traces, alternately:
// a population of 4 times EHI_BENCH_SIZE, 50,000 polls over 32 connections, and 200 exports of a
// patient by 8 clients. It reports the throughput with metrics and traces divided by the
// throughput without. The trace collector discards all traces.
func BenchmarkCost(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	b.Cleanup(collector.Close)
	own, none := self(b), withoutMetrics(b)
	setUps := []struct {
		name, exe string
		env       []string
	}{
		{"none", none, nil}, {"metrics", own, nil},
		{"traces", own, []string{"EHI_TRACE_ENDPOINT=" + collector.URL}},
		{
			"traces-1-of-100",
			own,
			[]string{"EHI_TRACE_ENDPOINT=" + collector.URL, "EHI_TRACE_RATIO=0.01"},
		},
	}
	servers := make([]*process, len(setUps))
	services := make([]*client.Client, len(setUps))
	for i, s := range setUps {
		data := b.TempDir()
		populate(b, data, 4*size(b))
		patient := generate(b, data)
		servers[i] = startBinary(b, s.exe, data, s.env...)
		servers[i].authorize(b, patient)
		services[i] = servers[i].service(b)
		servers[i].exportPopulation(b, services[i], "GET", "/fhir/$export", false) // warm up
	}
	took := make([]costs, len(setUps))
	for n := 0; b.Loop(); n++ {
		for k := range setUps {
			i := (k + n) % len(setUps) // so that the order changes
			p := servers[i]
			took[i].population +=
				p.exportPopulation(b, services[i], "GET", "/fhir/$export", false).took
			took[i].polls += p.pollOften(b, 50_000, 32)
			began := time.Now()
			var clients sync.WaitGroup
			for range 8 {
				clients.Go(func() { p.inARow(b, 25, nil) })
			}
			clients.Wait()
			took[i].exports += time.Since(began)
		}
	}
	ratio := func(name string, with, without costs) {
		b.ReportMetric(without.population.Seconds()/with.population.Seconds(), name+"-population")
		b.ReportMetric(without.polls.Seconds()/with.polls.Seconds(), name+"-polls")
		b.ReportMetric(without.exports.Seconds()/with.exports.Seconds(), name+"-exports")
	}
	ratio("metrics", took[1], took[0])
	ratio("traces", took[2], took[1])
	ratio("traces-1-of-100", took[3], took[1])
}

// pollOften polls n times the status of a job that waits for its form.
func (p *process) pollOften(b *testing.B, n int64, connections int) time.Duration {
	b.Helper()
	j, err := p.client.KickOff(b.Context(), "", p.patient, nil)
	if err != nil {
		b.Fatal(err)
	}
	c := &fasthttp.Client{MaxConnsPerHost: connections}
	defer c.CloseIdleConnections()
	var asked atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range connections {
		wg.Go(func() {
			req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(req)
			defer fasthttp.ReleaseResponse(resp)
			req.SetRequestURI(j.StatusURL)
			req.Header.Set("Authorization", "Bearer "+p.client.Token)
			for asked.Add(1) <= n {
				err := c.Do(req, resp)
				if err != nil || resp.StatusCode() != fasthttp.StatusAccepted {
					b.Errorf("%d, %v", resp.StatusCode(), err)
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := p.client.Delete(b.Context(), j.StatusURL); err != nil {
		b.Fatal(err)
	}
	return took
}
