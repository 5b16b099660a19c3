package bench

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ehi-server/api/client"
)

// soakEnv is the number of jobs in BenchmarkSoak. The default, 500, only shows that it works.
const soakEnv = "EHI_BENCH_SOAK"

// BenchmarkSoak runs short jobs consecutively, from kick-off to deletion. After a sixth of them
// and at the end, it measures what the server holds: memory, open files, goroutines, and the
// disk space of the state and of the exports. None of it may grow.
func BenchmarkSoak(b *testing.B) {
	jobs := 500
	if s := os.Getenv(soakEnv); s != "" {
		var err error
		if jobs, err = strconv.Atoi(s); err != nil {
			b.Fatalf("%s: %v", soakEnv, err)
		}
	}
	p := startServer(b)
	for b.Loop() {
		p.fullFlows(b, jobs/6)
		before := p.footprint(b)
		p.fullFlows(b, jobs-jobs/6)
		after := p.footprint(b)
		for i, name := range []string{
			"rss-MB", "files", "goroutines", "state-MB", "exports-MB", "series",
		} {
			b.ReportMetric(before[i], "early-"+name)
			b.ReportMetric(after[i], "late-"+name)
		}
	}
}

// fullFlows runs n exports: kick-off, manifest, one file, deletion.
func (p *process) fullFlows(b *testing.B, n int) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range kickers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if !p.fullFlow(b, p.client) {
					return
				}
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

func (p *process) fullFlow(b *testing.B, c *client.Client) bool {
	j, err := c.KickOff(b.Context(), noForm, p.patient, nil)
	if err != nil {
		b.Error(err)
		return false
	}
	m, err := c.Wait(b.Context(), j.StatusURL, 2_000_000)
	if err != nil || len(m.Output) == 0 {
		b.Errorf("%+v, %v", m, err)
		return false
	}
	data, err := c.Download(b.Context(), m.Output[0].URL)
	if err != nil || len(data) == 0 {
		b.Errorf("%d bytes, %v", len(data), err)
		return false
	}
	if err := c.Delete(b.Context(), j.StatusURL); err != nil {
		b.Error(err)
		return false
	}
	return true
}

// footprint returns what the server holds: MiB of memory, open files, goroutines, MiB of state
// and of exports, and series of metrics.
func (p *process) footprint(b *testing.B) []float64 {
	b.Helper()
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "fd"))
	if err != nil {
		b.Skip("the system does not tell what a process has open")
	}
	return []float64{
		p.rss(),
		float64(len(open)),
		p.metric(b, "go_goroutines"),
		diskUse(b, filepath.Join(p.data, "nats")),
		diskUse(b, filepath.Join(p.data, "exports")),
		p.series(b),
	}
}

// series returns the number of series that Prometheus would store for the server.
func (p *process) series(b *testing.B) (n float64) {
	b.Helper()
	a, err := p.open.Do(b.Context(), "GET", "/metrics", nil)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(a.Body)) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}

// diskUse returns the size of a folder's files in MiB.
func diskUse(b *testing.B, dir string) float64 {
	b.Helper()
	var n int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // it was removed meanwhile
		}
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return float64(n) / (1 << 20)
}
