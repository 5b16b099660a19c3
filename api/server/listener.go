package server

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

// unstalled is a listener whose connections are cut where their client takes too little of its answers
// for too long. A limit on a whole answer would cut large downloads that move. What passes is counted.
// Accept waits for nothing but the next connection, and for what it needs itself: nobody who is slow holds others up.
type unstalled struct {
	net.Listener
	most  time.Duration
	count func(change int64) // is told of each connection that opens or closes
	open  *openConns
	// lacking is told why no connection can be accepted for a moment.
	lacking func(error)
	full    []byte // what a connection is told that there is no place for; nil: nothing
}

// Accept implements net.Listener.
func (l unstalled) Accept() (net.Conn, error) {
	wait := time.Duration(0)
	for {
		conn, err := l.Listener.Accept()
		if lacks(err) {
			if wait == 0 {
				l.lacking(err)
			}
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			time.Sleep(wait) // for connections to close: nothing tells of that
			continue
		}
		if err != nil {
			return nil, err
		}
		c := &unstalledConn{Conn: conn, raw: rawConn(conn), taken: taking{most: l.most}, count: l.count, open: l.open}
		if l.admit(c) {
			return c, nil
		}
	}
}

// lacks reports whether the system could not give a connection for a moment, or the client took it back.
func lacks(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// admit lets a connection in, and closes those that make room for it; one that has no place is closed.
func (l unstalled) admit(c *unstalledConn) bool {
	rest, why := l.open.admit(c)
	for _, idle := range rest {
		telemetry.IdleClosed.Inc()
		_ = idle.Close() // its client said nothing
	}
	if why == "" {
		telemetry.HTTPConnections.Inc()
		l.count(1)
		return true
	}
	telemetry.Refused.WithLabelValues(why).Inc()
	if why == noPlace && l.full != nil {
		_, _ = c.Conn.Write(l.full) // fits into the buffer of a socket that nothing was written to
	}
	_ = c.Conn.Close()
	return false
}

type unstalledConn struct {
	net.Conn
	raw    syscall.RawConn // nil where the connection is no socket
	count  func(change int64)
	open   *openConns
	closed sync.Once

	writing sync.Mutex
	taken   taking

	until deadline // set from outside

	// Of openConns, under its lock.
	peer  *peer         // whose it is
	idle  *list.Element // its place while no request of it is being answered
	since uint64        // orders those that are idle
	left  bool          // whether it was closed
	gone  bool          // whether the HTTP server is done with it
	cut   bool          // whether it was closed to make room
}

// Read implements net.Conn.
func (c *unstalledConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	telemetry.HTTPReceived.Add(float64(n))
	return n, err
}

// Write implements net.Conn. It fails, and ends the connection, where the client takes too little.
func (c *unstalledConn) Write(p []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	defer func() { telemetry.HTTPSent.Add(float64(n)) }()
	for {
		if !c.taken.goesOn(time.Now(), len(p)-n, c.unsent) {
			c.reset()
			return n, os.ErrDeadlineExceeded
		}
		if err := c.Conn.SetWriteDeadline(c.until.orEarlier(c.taken.by)); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:])
		n += m
		c.taken.sent += int64(m)
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.until.passed(time.Now()) {
			return n, err
		}
	}
}

// unsent is how many bytes that were written the client's machine has not taken.
func (c *unstalledConn) unsent() int64 { return unsent(c.raw) }

// reset ends the connection at once, with what its client did not take.
func (c *unstalledConn) reset() {
	telemetry.StalledCut.Inc()
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // else the kernel tries on for minutes
	}
	_ = c.Close()
}

// SetWriteDeadline implements net.Conn. It bounds writes beside the client's pace.
func (c *unstalledConn) SetWriteDeadline(t time.Time) error {
	c.until.set(t)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *unstalledConn) SetDeadline(t time.Time) error {
	c.until.set(t)
	return c.Conn.SetDeadline(t)
}

// Close implements net.Conn.
func (c *unstalledConn) Close() error {
	c.closed.Do(func() {
		telemetry.HTTPConnections.Dec()
		c.count(-1)
		c.open.leave(c)
	})
	return c.Conn.Close()
}

// deadline is an instant that is set while others look at it; the zero time is none.
type deadline struct {
	mu sync.Mutex
	at time.Time
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = t
}

// orEarlier is the earlier one of the deadline and t.
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
