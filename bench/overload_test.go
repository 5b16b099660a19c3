package bench

import (
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ehi-server/api/client"
)

// overloadEnv is the duration of the load in BenchmarkOverload. Default 2 s.
const overloadEnv = "EHI_BENCH_OVERLOAD"

// BenchmarkOverload requests four times as many exports as the server can complete. Accepted
// exports must be correct. Refused ones must be refused at once, by 429 or 503 with Retry-After.
// After the load, the server must be as fast as before.
func BenchmarkOverload(b *testing.B) {
	lasting := 2 * time.Second
	if s := os.Getenv(overloadEnv); s != "" {
		var err error
		if lasting, err = time.ParseDuration(s); err != nil {
			b.Fatalf("%s: %v", overloadEnv, err)
		}
	}
	p := startServer(b, "EHI_MAX_QUEUE=200")
	want := p.digest(b, p.export(b))
	for b.Loop() {
		p.overload(b, lasting, want)
	}
}

// offered counts the outcomes of the requested exports.
type offered struct {
	mu      sync.Mutex
	taken   []time.Duration
	refused []time.Duration
	status  []time.Duration
}

func (p *process) overload(b *testing.B, lasting time.Duration, want [32]byte) {
	b.Helper()
	begun := time.Now()
	const measured = 500
	p.fullFlows(b, measured)
	capacity := measured / time.Since(begun).Seconds()
	idle := slices.Max(p.inARow(b, 20, nil))

	accepted := make(chan client.Job, 100_000)
	var o offered
	var followers, askers sync.WaitGroup
	var done atomic.Int64
	for range kickers {
		followers.Go(func() {
			for j := range accepted {
				p.follow(b, j, done.Add(1), want, &o)
			}
		})
	}
	start := time.Now()
	every := time.Duration(float64(time.Second) / (4 * capacity))
	var asked atomic.Int64
	for range 4 * kickers {
		askers.Go(func() {
			for {
				due := start.Add(time.Duration(asked.Add(1)) * every)
				if due.Sub(start) > lasting {
					return
				}
				pause(b, time.Until(due))
				p.ask(b, accepted, &o)
			}
		})
	}
	askers.Wait()
	over := time.Now()
	elapsed := over.Sub(start)
	close(accepted)
	followers.Wait()
	drained := time.Since(over)
	recovered := p.normalAfter(b, idle)
	rate := func(d []time.Duration) float64 { return float64(len(d)) / elapsed.Seconds() }
	p99 := func(d []time.Duration) float64 {
		slices.Sort(d)
		return ms(d[max(0, len(d)*99/100-1)])
	}
	if len(o.refused) == 0 || len(o.taken) == 0 {
		b.Fatalf("%d taken, %d refused", len(o.taken), len(o.refused))
	}
	b.ReportMetric(capacity, "capacity-jobs/s")
	b.ReportMetric(rate(o.taken)+rate(o.refused), "offered-jobs/s")
	b.ReportMetric(rate(o.taken), "taken-jobs/s")
	b.ReportMetric(p99(o.refused), "refused-p99-ms")
	b.ReportMetric(p99(o.status), "status-p99-ms")
	b.ReportMetric(drained.Seconds(), "drained-s")
	b.ReportMetric(recovered.Seconds(), "normal-after-s")
	b.ReportMetric(p.rssPeak(), "rss-MB")
}

// pause waits for d, or until the benchmark ends.
func pause(b *testing.B, d time.Duration) {
	select {
	case <-time.After(d):
	case <-b.Context().Done():
	}
}

// ask requests one export, and does not repeat the request if it is refused.
func (p *process) ask(b *testing.B, accepted chan<- client.Job, o *offered) {
	begun := time.Now()
	j, err := p.client.KickOff(b.Context(), noForm, p.patient, nil)
	took := time.Since(begun)
	refusal, refused := errors.AsType[*client.Error](err)
	if err != nil &&
		(!refused || refusal.Status != 503 && refusal.Status != 429 ||
			refusal.Header.Get("Retry-After") == "") {
		b.Error(err)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if refused {
		o.refused = append(o.refused, took)
		return
	}
	o.taken = append(o.taken, took)
	accepted <- j
}

// wholeEvery is the interval at which exports are downloaded completely. For the others only the
// manifest is checked, because clients share the processors with the server.
const wholeEvery = 10

// follow follows an accepted export through to its deletion.
func (p *process) follow(b *testing.B, j client.Job, n int64, want [32]byte, o *offered) {
	for {
		begun := time.Now()
		a, err := p.client.Do(b.Context(), "GET", j.StatusURL, nil)
		if err != nil || a.Status != 200 && a.Status != 202 {
			b.Errorf("status of an export that was taken: %+v, %v", a, err)
			return
		}
		o.mu.Lock()
		o.status = append(o.status, time.Since(begun))
		o.mu.Unlock()
		if a.Status == 200 {
			break
		}
		pause(b, 20*time.Millisecond)
	}
	m := waitFor(b, p.client, j, time.Millisecond)
	var total int64
	for _, e := range m.Output {
		total += e.Count
	}
	if total != p.total {
		b.Errorf("job %s lists %d resources of %d", j.ID, total, p.total)
	}
	if n%wholeEvery == 0 && p.digest(b, m) != want {
		b.Errorf("job %s differs from the first export", j.ID)
	}
	if err := p.client.Delete(b.Context(), j.StatusURL); err != nil {
		b.Error(err)
	}
}

// normalAfter returns the time until ten consecutive exports are as fast as the slowest one of
// an idle server, within a factor of two.
func (p *process) normalAfter(b *testing.B, idle time.Duration) time.Duration {
	b.Helper()
	begun := time.Now()
	for time.Since(begun) < time.Minute {
		first := time.Since(begun)
		if slices.Max(p.inARow(b, 10, nil)) <= 2*idle {
			return first
		}
	}
	b.Error("a minute after the load the server is still slow")
	return time.Minute
}
