package telemetry

import (
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// Stderr is the process's standard error for those that must not wait for whoever reads it: a
// pager that is paused or a collector that hangs stops nothing. What is too much for the time
// being is dropped and counted.
var Stderr = newLines(os.Stderr)

// Exit ends the process, after what AtExit was given and what was written to Stderr, where
// neither takes longer than exitFlush.
func Exit(code int) {
	atExit.run(exitFlush)
	Stderr.Flush(exitFlush)
	os.Exit(code)
}

// exitFlush is how long the end of a process waits for its last words, and for its last duties.
const exitFlush = time.Second

// AtExit has Exit call f, which removes what nobody else would, until done is called.
func AtExit(f func()) (done func()) { return atExit.add(f) }

var atExit duties

// duties are what is to be done before a process ends.
type duties struct {
	mu   sync.Mutex
	all  map[int]func()
	last int
}

func (d *duties) add(f func()) (done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = map[int]func(){}
	}
	d.last++
	n := d.last
	d.all[n] = f
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.all, n)
	}
}

// run does all of them at once, and waits for limit at most.
func (d *duties) run(limit time.Duration) {
	d.mu.Lock()
	all := slices.Collect(maps.Values(d.all))
	d.mu.Unlock()
	var left sync.WaitGroup
	for _, f := range all {
		left.Go(f)
	}
	ended := make(chan struct{})
	go func() { left.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(limit):
	}
}

// mostHeld is how many bytes wait for a reader, beside those that are being written.
const mostHeld = 1 << 20

// Lines writes what it is given in the background, in order and each Write as a whole or not at
// all.
type Lines struct {
	to io.Writer

	mu      sync.Mutex
	waiting []byte
	idle    chan struct{} // closed when all is written; nil where nothing was to write
}

func newLines(to io.Writer) *Lines { return &Lines{to: to} }

// Write implements io.Writer. It never waits, and does not fail: nobody could be told.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting)+len(p) > mostHeld {
		LogDropped.Inc()
		return len(p), nil
	}
	l.waiting = append(l.waiting, p...)
	if l.idle == nil {
		l.idle = make(chan struct{})
		go l.drain()
	}
	return len(p), nil
}

func (l *Lines) drain() {
	for {
		l.mu.Lock()
		some := l.waiting
		l.waiting = nil
		if len(some) == 0 {
			close(l.idle)
			l.idle = nil
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		_, _ = l.to.Write(some) // nobody could be told
	}
}

// Flush waits until everything is written, for at most limit, and reports whether it is.
func (l *Lines) Flush(limit time.Duration) bool {
	l.mu.Lock()
	idle := l.idle
	l.mu.Unlock()
	if idle == nil {
		return true
	}
	select {
	case <-idle:
		return true
	case <-time.After(limit):
		return false
	}
}
