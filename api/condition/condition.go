// Package condition decides whether a process works in full or in rescue mode, in which it only
// serves and deletes what exists. It also repairs what it can: it restarts an embedded NATS that
// could not write, as soon as a restart can help.
//
// It answers two questions. Routes use Rescue, which answers immediately and from evidence only:
// a disk without room, or a state that accepts no records. A slow response is no evidence.
// Monitors use Ready, which writes and reads everywhere that requests do. It counts a part that
// does not respond in time as failed.
package condition

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ehi-server/shared/telemetry"
)

// State is the store of the jobs' records.
type State interface {
	// Check writes to the state and reads from it.
	Check(ctx context.Context) error
	// Broken returns why the state accepts no records until Restart; nil if it accepts them.
	Broken() error
	// Restart reopens the state with what is stored.
	Restart(ctx context.Context) error
}

// Parts are what a Watch observes.
type Parts struct {
	State State
	// Others are further checks of things that requests need, by name.
	Others map[string]func(context.Context) error
	Room   Room
	// Opened is why the process was opened in rescue mode; nil if it was not. The process stays
	// in rescue mode until it is reopened.
	Opened error
	Log    *slog.Logger
}

// Watch tracks the condition of a process. A nil Watch belongs to a process that is always well.
type Watch struct {
	Parts
	rescue atomic.Pointer[error]
	doubts chan struct{}
	proofs []*proof

	starved bool          // a disk was nearly full since the state was opened
	wait    time.Duration // before the next restart
	next    time.Time     // earliest time of the next restart
}

// Times of a Watch.
const (
	// every is the interval of checks, and soon the interval while something is wrong.
	every, soon = time.Second, 250 * time.Millisecond
	// goodFor is how long an answer of Ready is cached, so that frequent callers cause no more
	// writes.
	goodFor = time.Second
	// answerTime is the time limit for each check.
	answerTime = 5 * time.Second
	// restartTime limits how long a restart of the state may take.
	restartTime = 30 * time.Second
	// longestWait is the longest pause between two restarts that did not help.
	longestWait = time.Minute
)

// ErrRoom is returned by Run if a process in rescue mode can be reopened in full.
var ErrRoom = errors.New("the disk has room again")

// leastRoom is the minimum of free space for a restart: with less, NATS could not write.
const leastRoom = 1 << 20

// New returns a Watch. Run keeps it up to date.
func New(p Parts) *Watch {
	w := &Watch{Parts: p, doubts: make(chan struct{}, 1)}
	w.proofs = append(w.proofs, &proof{name: "the state in NATS", check: p.State.Check})
	for name, check := range p.Others {
		w.proofs = append(w.proofs, &proof{name: name, check: check})
	}
	w.set(p.Opened)
	return w
}

// Rescue returns why the process is in rescue mode; nil if it is not.
func (w *Watch) Rescue() error {
	if w == nil {
		return nil
	}
	if why := w.rescue.Load(); why != nil {
		return *why
	}
	return nil
}

// Doubt triggers a check without delay, after a failure that a disk may have caused.
func (w *Watch) Doubt() {
	if w == nil {
		return
	}
	select {
	case w.doubts <- struct{}{}:
	default:
	}
}

// Ready checks that the process can do all of its work: it writes and reads wherever requests
// do. A result is cached for goodFor. Callers during a check wait for its result, for at most
// answerTime.
func (w *Watch) Ready() error {
	if err := w.Rescue(); err != nil || w == nil {
		return err
	}
	errs := make([]error, len(w.proofs))
	var all sync.WaitGroup
	for i, p := range w.proofs {
		all.Go(func() { errs[i] = p.ask() })
	}
	all.Wait()
	err := errors.Join(errs...)
	if err != nil {
		w.Doubt()
	}
	return err
}

// Run checks and repairs until ctx ends. Errors: ErrRoom.
func (w *Watch) Run(ctx context.Context) error {
	for {
		why := w.look(ctx)
		// a process that was opened in rescue mode stays in it and is never ready
		if why == nil && w.Opened != nil {
			return ErrRoom
		}
		w.set(why)
		pause := every
		if w.Rescue() != nil {
			pause = soon
		}
		select {
		case <-time.After(pause):
		case <-w.doubts:
		case <-ctx.Done():
			return nil
		}
	}
}

// look returns why the process cannot accept anything new; nil if it can. It restarts the state
// if that can help.
func (w *Watch) look(ctx context.Context) error {
	short := w.Room.Tend()
	free, err := w.Room.free()
	writable := err != nil || free >= leastRoom
	w.starved = w.starved || !writable
	broken := w.State.Broken()
	if broken == nil && w.starved && short == nil { // other writes may have failed unnoticed
		broken = errors.New("its disk was full")
	}
	if broken != nil && writable && !time.Now().Before(w.next) {
		w.set(cmp.Or(short, broken))
		broken = w.restart(ctx, broken)
	}
	return cmp.Or(short, broken)
}

// restart restarts the state. The pause doubles after each restart that did not help.
func (w *Watch) restart(ctx context.Context, why error) error {
	w.Log.Warn("restarting the embedded NATS", "why", why)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restartTime)
	defer cancel()
	began := time.Now()
	err := cmp.Or(w.State.Restart(ctx), w.State.Broken())
	w.next = time.Now().Add(w.wait)
	if err != nil {
		w.wait = min(max(soon, 2*w.wait), longestWait)
		w.Log.Error("restart the embedded NATS", "err", err)
		return err
	}
	w.wait, w.starved = soon, false
	w.Log.Info("restarted the embedded NATS", "took", time.Since(began))
	return nil
}

// set stores the condition and logs a change.
func (w *Watch) set(why error) {
	was := w.Rescue()
	if why == nil {
		w.rescue.Store(nil)
		telemetry.Rescue.Set(0)
	} else {
		w.rescue.Store(&why)
		telemetry.Rescue.Set(1)
	}
	switch {
	case was == nil && why != nil:
		w.Log.Error("entered rescue mode: no new exports; downloads, status requests and "+
			"deletions work", "why", why)
	case was != nil && why == nil:
		w.Log.Info("left rescue mode")
	}
}

// Reason explains rescue mode to anybody, in one line and without the details of the log.
func Reason(why error) string {
	if errors.Is(why, ErrShort) {
		for line := range strings.SplitSeq(why.Error(), "\n") {
			if strings.HasPrefix(line, ErrShort.Error()) {
				return line
			}
		}
	}
	return "the server cannot write its state at the moment"
}

// proof is the check of one part, with its last result.
type proof struct {
	name  string
	check func(context.Context) error

	mu      sync.Mutex
	at      time.Time // of the last result
	err     error
	running chan struct{} // closed when the running check has ended; nil if none runs
}

// ask returns the last result or that of a new check. It does not start a second check while one
// runs.
func (p *proof) ask() error {
	p.mu.Lock()
	if !p.at.IsZero() && time.Since(p.at) < goodFor {
		defer p.mu.Unlock()
		return p.err
	}
	ended := p.running
	if ended == nil {
		ended = make(chan struct{})
		p.running = ended
		go p.run(ended)
	}
	p.mu.Unlock()
	limit := time.NewTimer(answerTime)
	defer limit.Stop()
	select {
	case <-ended:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.err
	case <-limit.C:
		return fmt.Errorf("%s has not answered for %v", p.name, answerTime)
	}
}

func (p *proof) run(ended chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	err := p.check(ctx)
	if err != nil {
		err = fmt.Errorf("%s: %w", p.name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.err, p.running = time.Now(), err, nil
	close(ended)
}
