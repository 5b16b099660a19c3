package listener

import (
	"container/list"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"ehi-server/shared/telemetry"
)

// conn is a connection that is closed if its client reads too little of its responses for too
// long. (A time limit for a whole response would interrupt large downloads that make progress.)
// It counts its bytes.
type conn struct {
	net.Conn
	raw    syscall.RawConn // nil if the connection is not a socket
	conns  *Conns
	closed sync.Once

	writing sync.Mutex
	uptake  uptake

	until deadline // set by the HTTP server

	// Guarded by the lock of conns.
	peer  *peer         // the peer that it belongs to
	idle  *list.Element // position while no request of it is being answered
	since uint64        // order among idle connections
	left  bool          // whether it was closed
	gone  bool          // whether the HTTP server has finished with it
	cut   bool          // whether it was closed to make room
}

func newConn(c net.Conn, conns *Conns) *conn {
	return &conn{Conn: c, raw: rawConn(c), uptake: uptake{within: conns.Stall}, conns: conns}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	telemetry.HTTPReceived.Add(float64(n))
	return n, err
}

// Write implements net.Conn. It fails and ends the connection if the client reads too little.
func (c *conn) Write(p []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	defer func() { telemetry.HTTPSent.Add(float64(n)) }()
	for {
		if !c.uptake.goesOn(time.Now(), len(p)-n, c.unsent) {
			c.reset()
			return n, os.ErrDeadlineExceeded
		}
		if err := c.Conn.SetWriteDeadline(c.until.orEarlier(c.uptake.by)); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:])
		n += m
		c.uptake.sent += int64(m)
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.until.passed(time.Now()) {
			return n, err
		}
	}
}

// unsent returns the number of written bytes that the client's machine has not acknowledged.
func (c *conn) unsent() int64 { return unsent(c.raw) }

// reset ends the connection immediately and drops what its client has not read.
func (c *conn) reset() {
	telemetry.StalledCut.Inc()
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // otherwise the kernel keeps trying for minutes
	}
	_ = c.Close()
}

// SetWriteDeadline implements net.Conn. It limits writes in addition to the client's pace.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.until.set(t)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.until.set(t)
	return c.Conn.SetDeadline(t)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.closed.Do(func() {
		telemetry.HTTPConnections.Dec()
		c.conns.OnChange(-1)
		c.conns.leave(c)
	})
	return c.Conn.Close()
}

// deadline is a time that one goroutine sets while others read it; the zero time means none.
type deadline struct {
	mu sync.Mutex
	at time.Time
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = t
}

// orEarlier returns the earlier of the deadline and t.
func (d *deadline) orEarlier(t time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at.IsZero() || t.Before(d.at) {
		return t
	}
	return d.at
}

func (d *deadline) passed(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.at.IsZero() && !now.Before(d.at)
}
