package listener

import (
	"errors"
	"net"
	"syscall"
	"time"

	"ehi-server/shared/telemetry"
)

// limited is a listener that admits connections by the table conns. Accept waits for nothing but
// the next connection, and for resources that the process lacks: a slow client never holds up
// others.
type limited struct {
	net.Listener
	conns *Conns
	full  []byte // what the client of a connection reads for which there is no room; nil: nothing
}

// Accept implements net.Listener.
func (l limited) Accept() (net.Conn, error) {
	wait := time.Duration(0)
	for {
		accepted, err := l.Listener.Accept()
		if passing(err) {
			if wait == 0 {
				l.conns.Log.Warn("no connection can be accepted for a moment", "err", err)
			}
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			time.Sleep(wait) // until connections close: nothing tells of that
			continue
		}
		if err != nil {
			return nil, err
		}
		if c := newConn(accepted, l.conns); l.admit(c) {
			return c, nil
		}
	}
}

// passing reports whether an error of accepting will pass: the system lacked something for a
// moment, or the client took its connection back.
func passing(err error) bool {
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// admit lets a connection in and closes those that make room for it, or closes it if it has no
// room.
func (l limited) admit(c *conn) bool {
	rest, why := l.conns.admit(c)
	for _, idle := range rest {
		telemetry.IdleClosed.Inc()
		_ = idle.Close() // its client has said nothing
	}
	if why == "" {
		telemetry.HTTPConnections.Inc()
		l.conns.OnChange(1)
		return true
	}
	telemetry.Refused.WithLabelValues(why).Inc()
	if why == allFull && l.full != nil {
		_, _ = c.Conn.Write(l.full) // fits into the buffer of a socket that nothing was written to
	}
	_ = c.Conn.Close()
	return false
}
