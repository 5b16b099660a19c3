package server

import (
	"strconv"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/abuse"
	"ehi-server/api/content"
	"ehi-server/api/listener"
	"ehi-server/api/request"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// A status request about a job that is about to end is held until it ends, rather than answered that
// it has not: an export of 5 ms costs its client 5 ms, not the second of Retry-After. A held
// request is a goroutine and a connection that wait; no worker knows of it.

// holds are the status requests that wait for news of their job.
type holds struct {
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
	news chan struct{} // has something where the job has changed since it was last received from
}

// newHolds starts to follow jobs. At most most requests wait at once; 0: none does.
func newHolds(jobs *bus.Jobs, most int) (*holds, error) {
	clients, err := listener.NewHangUps()
	if err != nil {
		return nil, err
	}
	h := &holds{most: most, clients: clients, jobs: map[string]map[*held]struct{}{}, end: make(chan struct{})}
	h.stop = jobs.OnChange(h.note)
	return h, nil
}

// note wakes the requests that wait for a job.
func (h *holds) note(job string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.jobs[job] {
		select {
		case w.news <- struct{}{}:
		default: // it has not looked yet
		}
	}
}

// join adds a request that waits for a job; leave is called when it waits no more. ok is false where
// too many wait, or the server is being stopped.
func (h *holds) join(job string) (w *held, leave func(), ok bool) {
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

func (h *holds) leave(job string, w *held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.jobs[job], w)
	if len(h.jobs[job]) == 0 {
		delete(h.jobs, job)
	}
	h.n--
	telemetry.HTTPHeld.Dec()
}

// release ends all waiting, for good; it can be called again.
func (h *holds) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ended {
		h.ended = true
		close(h.end)
	}
}

// close releases what newHolds took.
func (h *holds) close() {
	h.release()
	h.stop()
	h.clients.Close()
}

// shortHold is up to when a held request just waits; in a longer wait it ends when its client hangs up.
const shortHold = time.Second

// patience is how long a status request may be held, and until when: by default while a machine works
// on the job, by Prefer: wait also while a person does. applied is the preference that is kept.
func (s *Server) patience(c *fiber.Ctx, j *ehi.Job) (most time.Duration, over func(*ehi.Job) bool, applied string) {
	if asked, ok := content.Preferred(c).Wait(); ok && s.MaxHold >= time.Second {
		most = min(asked, s.MaxHold.Truncate(time.Second))
		began := j.Status
		return most, func(j *ehi.Job) bool {
			return j.Status.Settled() || j.Status == ehi.AwaitingInput && began != ehi.AwaitingInput
		}, "wait=" + strconv.Itoa(int(most/time.Second))
	}
	if j.Status == ehi.Requested {
		most = s.Hold
	}
	return most, func(j *ehi.Job) bool { return j.Status != ehi.Requested }, ""
}

// await waits with the answer to a status request for as long as its client and the limits allow, and
// returns the job as it is then. Requests that are held do not count as polls; others are held to a
// pace. Errors: those of keepPace.
func (s *Server) await(c *fiber.Ctx, j *ehi.Job) (*ehi.Job, error) {
	most, over, applied := s.patience(c, j)
	if j.Status.Settled() {
		preferenceApplied(c, applied)
		return j, nil
	}
	j, waited, err := s.hold(c, j, most, over)
	if waited || most == 0 { // no wait was asked for, and there was none
		preferenceApplied(c, applied)
	}
	if waited || err != nil {
		return j, err
	}
	return s.keepPace(c, j)
}

// keepPace delays or refuses a poll that comes too soon. Errors: ehi.Throttled, and those of ownJob.
func (s *Server) keepPace(c *fiber.Ctx, j *ehi.Job) (*ehi.Job, error) {
	delay, refused := s.polls.Admit(j.ID, time.Now())
	if delay > 0 {
		status := j.Status
		j, waited, err := s.hold(c, j, delay, func(j *ehi.Job) bool { return j.Status != status })
		if waited || err != nil {
			return j, err
		}
		refused = s.polls.Refuse(j.ID, time.Now())
	}
	if refused > 0 {
		abuse.SetRetryAfter(c, refused)
		telemetry.Refused.WithLabelValues("polls").Inc()
		return j, abuse.ErrPolls
	}
	return j, nil
}

func preferenceApplied(c *fiber.Ctx, preference string) {
	if preference != "" {
		c.Set("Preference-Applied", preference)
	}
}

// heldKey is where the time is kept that a request was held.
const heldKey = "held"

// heldFor is how long a request was held: no part of the time that the server took.
func heldFor(c *fiber.Ctx) time.Duration {
	d, _ := c.Locals(heldKey).(time.Duration)
	return d
}

// hold keeps a request until over is true of its job, for at most most. waited is false where it was
// not kept at all. The token is looked at again afterwards: it may have been revoked meanwhile.
func (s *Server) hold(c *fiber.Ctx, j *ehi.Job, most time.Duration, over func(*ehi.Job) bool) (_ *ehi.Job, waited bool, err error) {
	if most <= 0 {
		return j, false, nil
	}
	w, leave, ok := s.holds.join(j.ID)
	if !ok {
		return j, false, nil
	}
	defer leave()
	telemetry.HTTPInFlight.Dec() // it is not being answered
	defer telemetry.HTTPInFlight.Inc()
	began := time.Now()
	j, outcome, err := s.waitForNews(c, w, most, over)
	took := time.Since(began)
	c.Locals(heldKey, heldFor(c)+took)
	telemetry.HeldSeconds.WithLabelValues(outcome).Observe(took.Seconds())
	if err == nil {
		_, err = s.authenticate(c)
	}
	return j, true, err
}

// waitForNews waits until over is true of the request's job. outcome says why it waits no more: news, time,
// stop, gone (the client).
func (s *Server) waitForNews(
	c *fiber.Ctx, w *held, most time.Duration, over func(*ehi.Job) bool,
) (j *ehi.Job, outcome string, err error) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	var gone <-chan struct{}
	if most > shortHold {
		var forget func()
		gone, forget = s.holds.clients.Watch(c.Context().Conn())
		defer forget()
	}
	for {
		request.RestartTime(c)
		// Also before the first wait: the job may have changed since it was read.
		if j, err = s.ownJob(c); err != nil || over(j) {
			return j, "news", err
		}
		select {
		case <-w.news:
		case <-timer.C:
			return j, "time", nil
		case <-s.holds.end:
			return j, "stop", nil
		case <-gone:
			c.Context().SetConnectionClose()
			return j, "gone", nil
		}
	}
}
