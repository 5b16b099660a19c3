package session

import (
	"context"
	"sync"
	"time"
)

// What goes on for long is asked about beside it: however slow NATS is, no piece of a download waits for it. What is
// not known to have ended goes on.

const (
	// recheckEvery is for how long it is not looked again whether something that another process may have ended goes
	// on still.
	recheckEvery = time.Second
	// recheckTime is how long one look may take, and recheckWait how long a piece waits for it: what this process has
	// ended itself is known by then.
	recheckTime = 5 * time.Second
	recheckWait = 250 * time.Millisecond
)

// rechecks are the looks that are under way.
type rechecks struct {
	ctx   context.Context //nolint:containedctx // ends when the server is closed
	stop  func()          // and wait until nothing goes on
	under sync.WaitGroup
}

func newRechecks() *rechecks {
	ctx, cancel := context.WithCancel(context.Background())
	r := &rechecks{ctx: ctx}
	r.stop = func() { cancel(); r.under.Wait() }
	return r
}

// recheck knows whether something goes on, as of its last look.
type recheck struct {
	of *rechecks
	// look finds out whether it goes on. Errors: where that cannot be found out.
	look func(context.Context) (bool, error)
	// version changes with what this process ends: then it is looked at once.
	version func() uint64

	mu      sync.Mutex
	over    bool
	looking bool
	at      time.Time
	seen    uint64
}

// of makes a recheck of what goes on at the moment.
func (r *rechecks) of(look func(context.Context) (bool, error), version func() uint64) *recheck {
	return &recheck{of: r, look: look, version: version, at: time.Now(), seen: version()}
}

// goesOn reports whether it goes on, as far as is known. It waits for recheckWait at most, and never for a look that
// it waited for before.
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

// begin begins a look where one is due; nil where none is.
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
