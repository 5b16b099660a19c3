package session

import (
	"context"
	"sync"
	"time"
)

// Checks of long responses run in the background, so that no piece of a download waits for a
// slow NATS. A response continues unless it is known to have lost its authorization.

const (
	// recheckEvery is the pause between checks of what another process may have ended.
	recheckEvery = time.Second
	// recheckTime is the time limit of a check, and recheckWait how long a piece of a response
	// waits for it. What this process itself has ended is known by then.
	recheckTime = 5 * time.Second
	recheckWait = 250 * time.Millisecond
)

// rechecks are the running checks.
type rechecks struct {
	ctx   context.Context //nolint:containedctx // ends when the server is closed
	stop  func()          // and wait until none is running
	under sync.WaitGroup
}

func newRechecks() *rechecks {
	ctx, cancel := context.WithCancel(context.Background())
	r := &rechecks{ctx: ctx}
	r.stop = func() { cancel(); r.under.Wait() }
	return r
}

// recheck has the result of the last check.
type recheck struct {
	of *rechecks
	// look checks again. It returns an error if it cannot find out.
	look func(context.Context) (bool, error)
	// version changes when this process ends something, which triggers a check immediately.
	version func() uint64

	mu      sync.Mutex
	over    bool
	looking bool
	at      time.Time
	seen    uint64
}

// of returns a recheck for something that is valid now.
func (r *rechecks) of(look func(context.Context) (bool, error), version func() uint64) *recheck {
	return &recheck{of: r, look: look, version: version, at: time.Now(), seen: version()}
}

// goesOn returns the result of the last check. It waits for a new check for at most recheckWait,
// and only once for each.
func (r *recheck) goesOn() bool {
	if done := r.begin(); done != nil {
		limit := time.NewTimer(recheckWait)
		defer limit.Stop()
		select {
		case <-done:
		case <-limit.C:
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.over
}

// begin starts a check if one is due. It returns nil if none is.
func (r *recheck) begin() (done chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	version := r.version()
	due := version != r.seen || time.Since(r.at) >= recheckEvery
	if r.over || r.looking || !due || r.of.ctx.Err() != nil {
		return nil
	}
	r.looking, r.seen = true, version
	done = make(chan struct{})
	r.of.under.Go(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(r.of.ctx, recheckTime)
		defer cancel()
		goesOn, err := r.look(ctx)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.looking, r.at = false, time.Now()
		r.over = err == nil && !goesOn
	})
	return done
}
