package server

import (
	"net"
	"sync"
	"time"

	"ehi-server/shared/telemetry"
)

// unstalled is a listener whose connections are cut where their client takes nothing of an answer for
// too long. A limit on the whole answer would cut large downloads that move. What passes is counted.
type unstalled struct {
	net.Listener
	most  time.Duration
	count func(change int64) // is told of each connection that opens or closes
}

// Accept implements net.Listener.
func (l unstalled) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	telemetry.HTTPConnections.Inc()
	l.count(1)
	return &unstalledConn{Conn: c, most: l.most, count: l.count}, nil
}

type unstalledConn struct {
	net.Conn
	most   time.Duration
	count  func(change int64)
	closed sync.Once
}

// Read implements net.Conn.
func (c *unstalledConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	telemetry.HTTPReceived.Add(float64(n))
	return n, err
}

// Write implements net.Conn.
func (c *unstalledConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.most)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	telemetry.HTTPSent.Add(float64(n))
	return n, err
}

// Close implements net.Conn.
func (c *unstalledConn) Close() error {
	c.closed.Do(func() {
		telemetry.HTTPConnections.Dec()
		c.count(-1)
	})
	return c.Conn.Close()
}
