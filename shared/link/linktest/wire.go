// Package linktest provides a slow connection to NATS, for tests.
package linktest

import (
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Wire is a proxy between a process and NATS that can delay data. It preserves the order.
type Wire struct {
	net.Listener
	to    string
	delay atomic.Int64 // of data in both directions, in nanoseconds
	back  atomic.Int64 // of data that NATS sends, in addition
	ends  sync.WaitGroup
	mu    sync.Mutex
	open  map[net.Conn]bool
	done  chan struct{}
}

// Forever is a delay longer than any test: nothing is forwarded.
const Forever = time.Hour

// NewWire starts a proxy to a NATS URL. It stops with the test.
func NewWire(t *testing.T, to string) *Wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{
		Listener: ln, to: strings.TrimPrefix(to, "nats://"),
		open: map[net.Conn]bool{}, done: make(chan struct{}),
	}
	w.ends.Go(w.serve)
	t.Cleanup(func() {
		close(w.done)
		err := ln.Close()
		w.mu.Lock()
		for c := range w.open {
			err = errors.Join(err, c.Close())
		}
		w.mu.Unlock()
		w.ends.Wait()
		if err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return w
}

// URL returns the address of NATS through the proxy.
func (w *Wire) URL() string { return "nats://" + w.Addr().String() }

// SlowBack delays only what NATS sends.
func (w *Wire) SlowBack(d time.Duration) { w.back.Store(int64(d)) }

// Slow delays data in both directions.
func (w *Wire) Slow(d time.Duration) {
	w.delay.Store(int64(d))
	w.back.Store(int64(d))
}

func (w *Wire) serve() {
	for {
		in, err := w.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", w.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		w.mu.Lock()
		w.open[in], w.open[out] = true, true
		w.mu.Unlock()
		w.ends.Go(func() { w.carry(in, out, &w.delay) })
		w.ends.Go(func() { w.carry(out, in, &w.back) })
	}
}

// piece is data and its time of arrival.
type piece struct {
	at   time.Time
	data []byte
}

// carry forwards data with the current delay.
func (w *Wire) carry(from, to net.Conn, delay *atomic.Int64) {
	pieces := make(chan piece, 10_000)
	w.ends.Go(func() {
		defer to.Close()   // errors of closing do not matter
		defer from.Close() // and later data is not read
		for p := range pieces {
			for wait := time.Duration(1); wait > 0; {
				wait = min(time.Until(p.at.Add(time.Duration(delay.Load()))), 50*time.Millisecond)
				select {
				case <-time.After(wait):
				case <-w.done:
					return
				}
			}
			if _, err := to.Write(p.data); err != nil {
				return
			}
		}
	})
	defer close(pieces)
	for {
		buf := make([]byte, 32<<10)
		n, err := from.Read(buf)
		if n > 0 {
			select {
			case pieces <- piece{time.Now(), buf[:n]}:
			case <-w.done:
				return
			}
		}
		if err != nil {
			return
		}
	}
}
