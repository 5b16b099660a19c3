package telemetry

import (
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// Stderr is the standard error of the process without blocking: a paused pager or a hanging log
// collector stops nothing. It drops and counts what the reader cannot take in time.
var Stderr = newLines(os.Stderr)

// Exit runs the functions of AtExit, flushes Stderr and exits. It waits for at most exitFlush.
func Exit(code int) {
	atExit.run(exitFlush)
	Stderr.Flush(exitFlush)
	os.Exit(code)
}

// exitFlush bounds how long an exit waits.
const exitFlush = time.Second

// AtExit registers f, a clean-up, to be called by Exit until done is called.
func AtExit(f func()) (done func()) { return atExit.add(f) }

var atExit duties

// duties holds the functions of AtExit.
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

// run calls all functions concurrently and waits for at most limit.
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

// mostHeld is how many bytes may wait for the reader, besides those being written.
const mostHeld = 1 << 20

// Lines writes in the background, in order. Each Write is written completely or not at all.
type Lines struct {
	to io.Writer

	mu      sync.Mutex
	waiting []byte
	idle    chan struct{} // closed when everything is written; nil if nothing was written
}

func newLines(to io.Writer) *Lines { return &Lines{to: to} }

// Write implements io.Writer. It never blocks and never fails: there would be no place to report
// a failure.
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
		_, _ = l.to.Write(some) // a failure cannot be reported
	}
}

// Flush waits until everything is written, at most limit, and reports whether it is.
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
