package bench

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/valyala/fasthttp"
)

const (
	paints     = 15 // of each page, idle and under load
	pollers    = 16
	limitTakes = time.Second // duration of the search for the maximum rate of polls
)

// firstPaint is the time in ms from the request of a page until it showed its first text or
// image (https://w3c.github.io/paint-timing/).
const firstPaint = `new Promise(done => new PerformanceObserver(list => { const e = ` +
	`list.getEntriesByName("first-contentful-paint")[0]; if (e) done(e.startTime); ` +
	`}).observe({type: "paint", buffered: true}))`

// BenchmarkFirstPaint measures the time until a patient's pages are painted in Chromium: on an
// idle server, and while the server answers half as many status polls as it can. Browser,
// pollers and server share the machine.
func BenchmarkFirstPaint(b *testing.B) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		b.Skipf("no Chromium on this machine: %v", err)
	}
	p := startServer(b)
	j, err := p.client.KickOff(b.Context(), "/no-form", p.patient, nil)
	if err != nil {
		b.Fatal(err)
	}
	form, err := p.client.KickOff(b.Context(), "", p.patient, nil)
	if err != nil {
		b.Fatal(err)
	}
	alloc, stopAlloc := chromedp.NewExecAllocator(b.Context(),
		append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium),
			chromedp.NoSandbox, chromedp.Flag("disable-gpu", true),
			chromedp.UserDataDir(b.TempDir()))...)
	defer stopAlloc()
	ctx, stop := chromedp.NewContext(alloc)
	defer stop()
	login := chromedp.Do(ctx, chromedp.Navigate(p.open.Base+"/patient-login"),
		chromedp.WaitVisible("#patient"), chromedp.SetValue("#patient", p.patient),
		chromedp.Submit("#password"), chromedp.WaitVisible(".cards"))
	if login != nil {
		b.Fatal(login)
	}
	pages := map[string]string{
		"login":   "/patient-login",
		"form":    "/jobs/" + form.ID + "/customize",
		"request": "/my/requests/" + j.ID,
	}
	for b.Loop() {
		for name, path := range pages {
			b.ReportMetric(p.painted(b, ctx, path), name+"-idle-ms")
		}
		limit := p.polling(b, j.StatusURL, 0, func() { pause(b, limitTakes) })
		done := p.polling(b, j.StatusURL, limit/2, func() {
			for name, path := range pages {
				b.ReportMetric(p.painted(b, ctx, path), name+"-loaded-ms")
			}
		})
		b.ReportMetric(limit, "polls/s-limit")
		b.ReportMetric(done, "polls/s-load")
	}
	b.ReportMetric(0, "ns/op")
}

// painted returns the median time to the first paint of a page that the browser has loaded
// before, as for a returning patient.
func (p *process) painted(b *testing.B, ctx context.Context, path string) float64 {
	b.Helper()
	var took []float64
	for range paints {
		if err := chromedp.Do(ctx, chromedp.Navigate(p.open.Base+path)); err != nil {
			b.Fatal(err)
		}
		at, err := chromedp.Run(ctx,
			chromedp.Evaluate[float64](firstPaint, chromedp.EvalAwaitPromise))
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, at)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// polling polls a status at a rate (0 means as fast as possible) while f runs, and returns the
// number of answers per second.
func (p *process) polling(b *testing.B, url string, rate float64, f func()) float64 {
	b.Helper()
	c := &fasthttp.Client{MaxConnsPerHost: pollers}
	defer c.CloseIdleConnections()
	var answered, asked atomic.Int64
	over := make(chan struct{})
	var group sync.WaitGroup
	begun := time.Now()
	for range pollers {
		group.Go(func() {
			req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(req)
			defer fasthttp.ReleaseResponse(resp)
			req.SetRequestURI(url)
			req.Header.Set("Authorization", "Bearer "+p.client.Token)
			for {
				select {
				case <-over:
					return
				default:
				}
				if rate > 0 {
					early := time.Until(begun.Add(
						time.Duration(float64(asked.Add(1)) / rate * float64(time.Second))))
					if early > 0 {
						pause(b, early)
					}
				}
				err := c.Do(req, resp)
				if err != nil || resp.StatusCode() != fasthttp.StatusAccepted {
					b.Error(fmt.Errorf("status %d: %w", resp.StatusCode(), err))
					return
				}
				answered.Add(1)
			}
		})
	}
	f()
	close(over)
	group.Wait()
	return float64(answered.Load()) / time.Since(begun).Seconds()
}
