package telemetry

import (
	"io"
	"os"
	"sync"
	"time"
)

// Stderr is the process's standard error for those that must not wait for whoever reads it: a pager that is paused or
// a collector that hangs stops nothing. What is too much for the time being is dropped and counted.
var Stderr = newLines(os.Stderr)

// Exit ends the process, after what was written to Stderr, if somebody takes that within exitFlush.
func Exit(code int) {
	Stderr.Flush(exitFlush)
	os.Exit(code)
}

// exitFlush is how long the end of a process waits for its last words.
const exitFlush = time.Second

// mostHeld is how many bytes wait for a reader, beside those that are being written.
const mostHeld = 1 << 20

// Lines writes what it is given in the background, in order and each Write as a whole or not at all.
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
