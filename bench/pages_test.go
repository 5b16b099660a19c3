package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	openPages = 200  // open pages of administrators
	pageJobs  = 1000 // exports that run meanwhile
	// pages that parse every event; parsing in all of them would measure this process
	timedPages = 10
	renewEvery = 5 * time.Second
)

// BenchmarkAdminPages runs 1,000 exports without an administrator's page open, and again with
// 200 of them. Each page follows the server's events and reloads the list as the page's script
// does, at most every five seconds. It reports the cost of the pages, and the time from sending
// a kick-off until a page knows of the job.
func BenchmarkAdminPages(b *testing.B) {
	p := startServer(b, "EHI_CLIENT_JOBS=1000")
	for b.Loop() {
		cpu := p.cpuSeconds()
		alone := p.someJobs(b, func(string, time.Time) {})
		cpuAlone, rssAlone := p.cpuSeconds()-cpu, p.rss()

		pages := p.openPages(b)
		cpu = p.cpuSeconds()
		watched := p.someJobs(b, pages.expect)
		cpuWatched, rssWatched := p.cpuSeconds()-cpu, p.rss()
		took := pages.close(b)
		b.ReportMetric(cpuAlone, "cpu-s-alone")
		b.ReportMetric(cpuWatched, "cpu-s-watched")
		b.ReportMetric(rssAlone, "MiB-alone")
		b.ReportMetric(rssWatched, "MiB-watched")
		b.ReportMetric(pageJobs/alone.Seconds(), "jobs/s-alone")
		b.ReportMetric(pageJobs/watched.Seconds(), "jobs/s-watched")
		b.ReportMetric(ms(took[len(took)/2]), "delay-p50-ms")
		b.ReportMetric(ms(took[len(took)*99/100]), "delay-p99-ms")
		b.ReportMetric(ms(took[len(took)-1]), "delay-max-ms")
	}
	b.ReportMetric(0, "ns/op")
}

// someJobs runs exports to their manifests, and calls sent with the time of each kick-off.
func (p *process) someJobs(b *testing.B, sent func(job string, at time.Time)) time.Duration {
	b.Helper()
	begun := time.Now()
	var group sync.WaitGroup
	left := make(chan struct{}, pageJobs)
	for range pageJobs {
		left <- struct{}{}
	}
	close(left)
	for range kickers {
		group.Go(func() {
			for range left {
				at := time.Now()
				j, err := p.client.KickOff(b.Context(), "/no-form/auto-approve", p.patient, nil)
				if err != nil {
					b.Error(err)
					return
				}
				sent(j.ID, at)
				waitFor(b, p.client, j, 20*time.Millisecond)
			}
		})
	}
	group.Wait()
	return time.Since(begun)
}

// pages are open pages of administrators.
type pages struct {
	group  sync.WaitGroup
	end    chan struct{}
	bodies []io.Closer

	mu    sync.Mutex
	sent  map[string]time.Time
	heard map[string][]time.Time // may precede the answer to the kick-off
}

func (p *process) openPages(b *testing.B) *pages {
	b.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Transport: &http.Transport{MaxIdleConnsPerHost: openPages}}
	login, err := browser.Post(p.open.Base+"/admin/login", "application/json",
		strings.NewReader(`{"username":"admin","password":"admin-password"}`))
	if err != nil || login.StatusCode != http.StatusOK {
		b.Fatalf("log in: %+v, %v", login, err)
	}
	_ = login.Body.Close() // only its cookie is needed
	out := &pages{
		end:   make(chan struct{}),
		sent:  map[string]time.Time{},
		heard: map[string][]time.Time{},
	}
	for i := range openPages {
		r, err := browser.Get(p.open.Base + "/admin/ui/events")
		if err != nil || r.StatusCode != http.StatusOK {
			b.Fatalf("follow: %+v, %v", r, err)
		}
		out.bodies = append(out.bodies, r.Body)
		out.group.Go(func() { out.read(b, r.Body, i < timedPages) })
		out.group.Go(func() { out.renew(b, browser, p.open.Base+"/admin/ui/jobs") })
	}
	return out
}

// read reads a page's events to their end.
func (p *pages) read(b *testing.B, body io.Reader, timed bool) {
	lines := bufio.NewReaderSize(body, 1<<16)
	seen := map[string]bool{}
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok || !timed {
			continue
		}
		at := time.Now()
		var news struct {
			Jobs []struct{ ID string }
		}
		if err := json.Unmarshal(data, &news); err != nil {
			b.Error(err)
			return
		}
		p.mu.Lock()
		for _, j := range news.Jobs {
			if !seen[j.ID] {
				seen[j.ID] = true
				p.heard[j.ID] = append(p.heard[j.ID], at)
			}
		}
		p.mu.Unlock()
	}
}

// renew reloads the list as the page's script does during constant changes.
func (p *pages) renew(b *testing.B, browser *http.Client, list string) {
	wait := time.Second + rand.N(time.Second)
	for {
		select {
		case <-p.end:
			return
		case <-time.After(wait):
		}
		wait = renewEvery
		r, err := http.NewRequest(http.MethodGet, list, nil)
		if err != nil {
			b.Error(err)
			return
		}
		r.Header.Set("Accept", "text/html")
		resp, err := browser.Do(r)
		if err != nil {
			b.Error(err)
			return
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			b.Errorf("the list: %d, %v", resp.StatusCode, err)
		}
		_ = resp.Body.Close() // read to its end
	}
}

// expect records when a job's kick-off was sent.
func (p *pages) expect(job string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent[job] = at
}

// complete reports whether every timed page has received every job.
func (p *pages) complete() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for job := range p.sent {
		if len(p.heard[job]) < timedPages {
			return false
		}
	}
	return true
}

// close closes the pages. It returns the delays after which the timed pages received the jobs,
// sorted.
func (p *pages) close(b *testing.B) (took []time.Duration) {
	b.Helper()
	for deadline := time.Now().Add(10 * time.Second); !p.complete(); pause(b, 10*time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatal("a page has not heard of a job within ten seconds")
		}
	}
	close(p.end)
	for _, body := range p.bodies {
		_ = body.Close() // ends in the middle
	}
	p.group.Wait()
	for job, at := range p.sent {
		for _, heard := range p.heard[job] {
			took = append(took, heard.Sub(at))
		}
	}
	slices.Sort(took)
	return took
}
