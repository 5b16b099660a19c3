package progress

import (
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/listener"
	"ehi-server/api/request"
	"ehi-server/shared/telemetry"
)

// Holds are the status requests that wait for news of their job. A request about a job that is
// about to end is held until it ends: an export of 5 ms then costs its client 5 ms, not the second
// of Retry-After. A held request is a goroutine and a connection that wait; no worker knows of it.
type Holds struct {
	most    int // how many may wait at once
	stop    func()
	clients *listener.HangUps

	mu    sync.Mutex
	jobs  map[string]map[*held]struct{}
	n     int
	ended bool
	end   chan struct{} // closed when no request may wait any longer
}

// held is one request that waits.
type held struct {
	news chan struct{} // has something if the job has changed since it was last received from
}

// Jobs tell which jobs change (bus.Jobs).
type Jobs interface {
	// OnChange calls f with the ID of each job that changes, until stop is called.
	OnChange(f func(job string)) (stop func())
}

// NewHolds starts to follow jobs; Close ends it. At most most requests wait at once; 0: none does.
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
		default: // it has not looked yet
		}
	}
}

// join adds a request that waits for a job; leave is called when it waits no more. ok is false if
// too many wait, or the server is being stopped.
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

// Release ends all waiting, for good. It can be called again.
func (h *Holds) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ended {
		h.ended = true
		close(h.end)
	}
}

// Close ends all waiting, and the following of jobs. No request may be held at that time or later.
func (h *Holds) Close() {
	h.Release()
	h.stop()
	h.clients.Close()
}

// key is where a request keeps a fact, in Fiber's Locals.
type key int

// heldKey is the time that a request was held.
const heldKey key = 0

// Held is how long a request was held. It is no part of the time that the server took.
func Held(c *fiber.Ctx) time.Duration {
	d, _ := c.Locals(heldKey).(time.Duration)
	return d
}

// shortHold is up to when a held request just waits; in a longer wait it ends when its client hangs
// up.
const shortHold = time.Second

// Hold keeps a request until over is true, for at most most. over looks at the job anew; it is
// called before the first wait and after each change. waited is false if the request was not kept
// at all: most is 0, too many others wait, or the server is being stopped. Errors: those of over.
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
	telemetry.HTTPInFlight.Dec() // it is not being answered
	defer telemetry.HTTPInFlight.Inc()
	began := time.Now()
	outcome, err := h.wait(c, w, most, over)
	took := time.Since(began)
	c.Locals(heldKey, Held(c)+took)
	telemetry.HeldSeconds.WithLabelValues(outcome).Observe(took.Seconds())
	return true, err
}

// wait waits until over is true. outcome says why it waits no more: news, time, stop, or gone (the
// client).
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
