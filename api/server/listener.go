package server

import (
	"net"
	"time"
)

// unstalled is a listener whose connections are cut where their client takes nothing of an answer for too long. A limit on the whole
// answer would cut large downloads that move.
type unstalled struct {
	net.Listener
	most time.Duration
}

// Accept implements net.Listener.
func (l unstalled) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &unstalledConn{c, l.most}, nil
}

type unstalledConn struct {
	net.Conn
	most time.Duration
}

// Write implements net.Conn.
func (c *unstalledConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.most)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
