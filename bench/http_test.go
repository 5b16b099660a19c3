package bench

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"ehi-server/api/client"
)

// hammer sends b.N requests over a number of connections and returns how long each took, sorted.
// make prepares request i.
func hammer(
	b *testing.B, connections int, token string, status int,
	make func(i int, req *fasthttp.Request),
) []time.Duration {
	b.Helper()
	c := &fasthttp.Client{MaxConnsPerHost: connections}
	defer c.CloseIdleConnections()
	took := slices.Grow([]time.Duration(nil), b.N)[:b.N]
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range connections {
		wg.Go(func() {
			req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(req)
			defer fasthttp.ReleaseResponse(resp)
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				req.Header.Set("Authorization", "Bearer "+token)
				make(i, req)
				start := time.Now()
				if err := c.Do(req, resp); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(start)
				if resp.StatusCode() != status {
					b.Errorf("%s answered %d: %s", req.URI(), resp.StatusCode(), resp.Body())
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	return took
}

func reportRate(b *testing.B, what string, took []time.Duration) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), what+"/s")
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
}

// BenchmarkStatusPolls polls the status of open jobs over 32 and 256 connections of this
// process. Tokens are checked, and the throttle is active with a burst that is never exhausted.
func BenchmarkStatusPolls(b *testing.B) {
	p := startServer(b, "EHI_POLL_BURST=1000000000")
	var jobs []client.Job
	for range 64 {
		j, err := p.client.KickOff(b.Context(), "", p.patient, nil)
		if err != nil {
			b.Fatal(err)
		}
		jobs = append(jobs, j)
	}
	for _, n := range []int{32, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			took := hammer(b, n, p.client.Token, fasthttp.StatusAccepted,
				func(i int, req *fasthttp.Request) {
					req.SetRequestURI(jobs[i%len(jobs)].StatusURL)
				})
			reportRate(b, "polls", took)
		})
	}
}

// BenchmarkKickOffs starts exports that wait for the patient's form, so that only the kick-off
// is measured.
func BenchmarkKickOffs(b *testing.B) {
	p := startServer(b, "EHI_CLIENT_JOBS=100000000")
	took := hammer(b, 32, p.client.Token, fasthttp.StatusAccepted,
		func(_ int, req *fasthttp.Request) {
			req.SetRequestURI(p.client.Base + "/fhir/Patient/" + p.patient + "/$ehi-export")
			req.Header.SetMethod(fasthttp.MethodPost)
		})
	reportRate(b, "kick-offs", took)
	b.ReportMetric(p.rssPeak(), "rss-MB")
}

// BenchmarkDownloads downloads the largest file of a population's export by several clients
// concurrently, and compares the speed with reading the same file from the page cache without a
// server. An operation is one file.
func BenchmarkDownloads(b *testing.B) {
	data := b.TempDir()
	populate(b, data, 4*size(b))
	p := startOn(b, data)
	c := p.service(b)
	job, err := c.Start(b.Context(), "GET", "/fhir/$export?_type=Observation", nil)
	if err != nil {
		b.Fatal(err)
	}
	m := waitFor(b, c, job, 5*time.Millisecond)
	url, path, length := m.Output[0].URL, "", int64(0)
	err = filepath.WalkDir(filepath.Join(data, "exports"),
		func(at string, d os.DirEntry, err error) error {
			if err == nil && filepath.Ext(at) == ".ndjson" && path == "" {
				path = at
			}
			return err
		})
	if err != nil || path == "" {
		b.Fatalf("no file of the export: %v", err)
	}
	err = c.Stream(b.Context(), url, func(r io.Reader) (err error) {
		length, err = io.Copy(io.Discard, r)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	file := readRate(b, path)
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var wg sync.WaitGroup
			var next atomic.Int64
			for range n {
				wg.Go(func() {
					buf := make([]byte, 256<<10)
					for int(next.Add(1)) <= b.N {
						err := c.Stream(b.Context(), url, func(r io.Reader) error {
							got, err := io.CopyBuffer(onlyWriter{io.Discard}, r, buf)
							if err == nil && got != length {
								err = fmt.Errorf("%d bytes of %d", got, length)
							}
							return err
						})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			rate := float64(length) * float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(rate/1e6, "MB/s")
			b.ReportMetric(file/rate, "read-ratio")
		})
	}
}

// onlyWriter hides the method by which io.Discard reads a source itself, in small pieces.
type onlyWriter struct{ io.Writer }

// readRate returns the bytes per second at which a file in the page cache can be read.
func readRate(b *testing.B, path string) float64 {
	b.Helper()
	buf := make([]byte, 256<<10)
	var total int64
	start := time.Now()
	for range 10 {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{f}, buf)
		if err != nil {
			b.Fatal(err)
		}
		total += n
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
	return float64(total) / time.Since(start).Seconds()
}

// onlyReader hides the method by which a file writes itself to a destination.
type onlyReader struct{ io.Reader }
