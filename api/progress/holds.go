package progress

import (
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/listener"
	"ehi-server/api/request"
	"ehi-server/shared/telemetry"
)

// Holds keeps status requests that wait for a change of their job. If a job is about to end, its
// request is held until then: an export of 5 ms takes its client 5 ms, not the second of
// Retry-After. A held request costs a goroutine and a connection, but no worker.
type Holds struct {
	most    int // limit of waiting requests
	stop    func()
	clients *listener.HangUps

	mu    sync.Mutex
	jobs  map[string]map[*held]struct{}
	n     int
	ended bool
	end   chan struct{} // closed when requests may no longer wait
}

// held is a waiting request.
type held struct {
	news chan struct{} // has a value if the job has changed since the last receive
}

// Jobs reports changes of jobs (bus.Jobs).
type Jobs interface {
	// OnChange calls f with the ID of each job that changes, until stop is called.
	OnChange(f func(job string)) (stop func())
}

// NewHolds starts following jobs. Close ends it. most is the limit of waiting requests; 0 for
// none.
func NewHolds(jobs Jobs, most int) (*Holds, error) {
	clients, err := listener.NewHangUps()
	if err != nil {
		return nil, err
	}
	h := &Holds{
		most:    most,
		clients: clients,
		jobs:    map[string]map[*held]struct{}{},
		end:     make(chan struct{}),
	}
	h.stop = jobs.OnChange(h.note)
	return h, nil
}

// note wakes the requests that wait for a job.
func (h *Holds) note(job string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.jobs[job] {
		select {
		case w.news <- struct{}{}:
		default: // it has not woken up yet
		}
	}
}

// join adds a request that waits for a job. Call leave when it stops waiting. ok is false if too
// many wait, or the server is stopping.
func (h *Holds) join(job string) (w *held, leave func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || h.most <= 0 {
		return nil, nil, false
	}
	if h.n >= h.most {
		telemetry.HoldsRefused.Inc()
		return nil, nil, false
	}
	w = &held{news: make(chan struct{}, 1)}
	if h.jobs[job] == nil {
		h.jobs[job] = map[*held]struct{}{}
	}
	h.jobs[job][w] = struct{}{}
	h.n++
	telemetry.HTTPHeld.Inc()
	return w, func() { h.leave(job, w) }, true
}

func (h *Holds) leave(job string, w *held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.jobs[job], w)
	if len(h.jobs[job]) == 0 {
		delete(h.jobs, job)
	}
	h.n--
	telemetry.HTTPHeld.Dec()
}

// Release ends all waiting for good. It can be called more than once.
func (h *Holds) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ended {
		h.ended = true
		close(h.end)
	}
}

// Close ends all waiting and stops following jobs. No request may be held during Close or later.
func (h *Holds) Close() {
	h.Release()
	h.stop()
	h.clients.Close()
}

// key is the type of keys in Fiber's Locals.
type key int

// heldKey is the key of the time that a request was held.
const heldKey key = 0

// Held returns how long a request was held. This does not count as the server's response time.
func Held(c *fiber.Ctx) time.Duration {
	d, _ := c.Locals(heldKey).(time.Duration)
	return d
}

// shortHold is the limit up to which a held request simply waits. A longer wait ends when the
// client hangs up.
const shortHold = time.Second

// Hold keeps a request until over is true, for at most most. over reads the job again; Hold
// calls it before the first wait and after each change. waited is false if the request was not
// kept: most is 0, too many others wait, or the server is stopping. Errors: those of over.
func (h *Holds) Hold(
	c *fiber.Ctx, job string, most time.Duration, over func() (bool, error),
) (waited bool, err error) {
	if most <= 0 {
		return false, nil
	}
	w, leave, ok := h.join(job)
	if !ok {
		return false, nil
	}
	defer leave()
	telemetry.HTTPInFlight.Dec() // a held request is not being answered
	defer telemetry.HTTPInFlight.Inc()
	began := time.Now()
	outcome, err := h.wait(c, w, most, over)
	took := time.Since(began)
	c.Locals(heldKey, Held(c)+took)
	telemetry.HeldSeconds.WithLabelValues(outcome).Observe(took.Seconds())
	return true, err
}

// wait waits until over is true. outcome is why it stopped waiting: news, time, stop, or gone
// (the client).
func (h *Holds) wait(
	c *fiber.Ctx, w *held, most time.Duration, over func() (bool, error),
) (outcome string, err error) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	var gone <-chan struct{}
	if most > shortHold {
		var forget func()
		gone, forget = h.clients.Watch(c.Context().Conn())
		defer forget()
	}
	for {
		request.RestartTime(c)
		// Also before the first wait: the job may have changed since it was read.
		if is, err := over(); err != nil || is {
			return "news", err
		}
		select {
		case <-w.news:
		case <-timer.C:
			return "time", nil
		case <-h.end:
			return "stop", nil
		case <-gone:
			c.Context().SetConnectionClose()
			return "gone", nil
		}
	}
}
