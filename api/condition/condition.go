// Package condition knows whether a process does all of its work or, in rescue mode, only what gives back and deletes
// what is there. It heals what can be healed: an embedded NATS that could not write is started anew when it can.
//
// There are two questions. Rescue is for routes: it is answered at once, by evidence only, which is a disk without room or
// a state that takes no records; a slow answer is none. Ready is for monitors: it writes and reads everywhere that requests
// do, and counts what does not answer in time as a failure.
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

// State is where the records of jobs are.
type State interface {
	// Check writes to it and reads.
	Check(ctx context.Context) error
	// Broken tells why it takes no records until Restart; nil where it does.
	Broken() error
	// Restart begins anew with what is stored.
	Restart(ctx context.Context) error
}

// Parts are what a Watch looks at.
type Parts struct {
	State State
	// Others are further things that requests need, by their names.
	Others map[string]func(context.Context) error
	Room   Room
	// Opened is why the process was opened in rescue mode; nil where it was not. It stays in it until it is opened anew.
	Opened error
	Log    *slog.Logger
}

// Watch keeps the condition of a process. The zero pointer is a process that is always well.
type Watch struct {
	Parts
	rescue atomic.Pointer[error]
	doubts chan struct{}
	proofs []*proof

	starved bool          // a disk was as good as full since the state was opened
	wait    time.Duration // before the next restart
	next    time.Time     // when the state may be started anew
}

// Times of a Watch.
const (
	// every is the pause between two looks, and soon the pause while something is wrong.
	every, soon = time.Second, 250 * time.Millisecond
	// goodFor is for how long an answer to Ready is good: whoever asks without end makes nothing write more often.
	goodFor = time.Second
	// answerTime is how long each part may take to prove that it works.
	answerTime = 5 * time.Second
	// restartTime bounds the wait for a state that is started anew.
	restartTime = 30 * time.Second
	// longestWait is between two restarts that did not help.
	longestWait = time.Minute
)

// ErrRoom is returned by Run where a process that was opened in rescue mode can be opened in full.
var ErrRoom = errors.New("there is room again")

// leastRoom is below which starting the state anew is of no use: it could write nothing.
const leastRoom = 1 << 20

// New makes a Watch. Run keeps it.
func New(p Parts) *Watch {
	w := &Watch{Parts: p, doubts: make(chan struct{}, 1)}
	w.proofs = append(w.proofs, &proof{name: "the state in NATS", check: p.State.Check})
	for name, check := range p.Others {
		w.proofs = append(w.proofs, &proof{name: name, check: check})
	}
	w.set(p.Opened)
	return w
}

// Rescue tells why the process is in rescue mode; nil where it is not.
func (w *Watch) Rescue() error {
	if w == nil {
		return nil
	}
	if why := w.rescue.Load(); why != nil {
		return *why
	}
	return nil
}

// Doubt has the condition looked at without delay: something failed that a disk may be the cause of.
func (w *Watch) Doubt() {
	if w == nil {
		return
	}
	select {
	case w.doubts <- struct{}{}:
	default:
	}
}

// Ready proves that the process can do all of its work: it writes and reads wherever requests do. An answer is
// good for goodFor; who asks while a proof goes on waits for it, and for at most answerTime.
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

// Run looks, and heals, until ctx ends. Errors: ErrRoom.
func (w *Watch) Run(ctx context.Context) error {
	for {
		why := w.look(ctx)
		if why == nil && w.Opened != nil { // it stays in rescue mode to its end, and is never ready
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

// look finds out why nothing new can be taken, nil where it can, and starts the state anew where that is of use.
func (w *Watch) look(ctx context.Context) error {
	short := w.Room.Tend()
	free, err := w.Room.free()
	writable := err != nil || free >= leastRoom
	w.starved = w.starved || !writable
	broken := w.State.Broken()
	if broken == nil && w.starved && short == nil { // what else could not write, nobody was told
		broken = errors.New("its disk was full")
	}
	if broken != nil && writable && !time.Now().Before(w.next) {
		w.set(cmp.Or(short, broken))
		broken = w.restart(ctx, broken)
	}
	return cmp.Or(short, broken)
}

// restart starts the state anew. Restarts that do not help come ever less often.
func (w *Watch) restart(ctx context.Context, why error) error {
	w.Log.Warn("the embedded NATS is started anew", "why", why)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restartTime)
	defer cancel()
	began := time.Now()
	err := cmp.Or(w.State.Restart(ctx), w.State.Broken())
	w.next = time.Now().Add(w.wait)
	if err != nil {
		w.wait = min(max(soon, 2*w.wait), longestWait)
		w.Log.Error("start the embedded NATS anew", "err", err)
		return err
	}
	w.wait, w.starved = soon, false
	w.Log.Info("the embedded NATS was started anew", "took", time.Since(began))
	return nil
}

// set says how things are, and tells it where it is news.
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
		w.Log.Error("rescue mode: nothing new is taken; downloads, status and deletions go on", "why", why)
	case was != nil && why == nil:
		w.Log.Info("rescue mode is over")
	}
}

// Reason is why a process is in rescue mode, for anybody: in one line, and without what only the log tells.
func Reason(why error) string {
	if errors.Is(why, ErrShort) {
		for line := range strings.SplitSeq(why.Error(), "\n") {
			if strings.HasPrefix(line, ErrShort.Error()) {
				return line
			}
		}
	}
	return "the state of the server cannot be written at the moment"
}

// proof is one part's, and its last outcome.
type proof struct {
	name  string
	check func(context.Context) error

	mu      sync.Mutex
	at      time.Time // of the last outcome
	err     error
	running chan struct{} // closed when the check that goes on has ended; nil where none does
}

// ask returns the last outcome, or that of a new check. A check that does not end is not begun twice.
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
