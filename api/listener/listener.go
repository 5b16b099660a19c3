package listener

import (
	"errors"
	"net"
	"syscall"
	"time"

	"ehi-server/shared/telemetry"
)

// limited is a listener that admits connections according to conns. Accept waits only for the
// next connection, and for resources that the process lacks: a slow client never delays others.
type limited struct {
	net.Listener
	conns *Conns
	full  []byte // response to a connection for which there is no room; nil for none
}

// Accept implements net.Listener.
func (l limited) Accept() (net.Conn, error) {
	wait := time.Duration(0)
	for {
		accepted, err := l.Listener.Accept()
		if passing(err) {
			if wait == 0 {
				l.conns.Log.Warn("cannot accept connections at the moment", "err", err)
			}
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			time.Sleep(wait) // until connections close, of which there is no notification
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

// passing reports whether an error of Accept is temporary: the system lacked resources, or the
// client closed its connection.
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

// admit accepts a connection and closes others to make room, or closes it if there is no room.
func (l limited) admit(c *conn) bool {
	rest, why := l.conns.admit(c)
	for _, idle := range rest {
		telemetry.IdleClosed.Inc()
		_ = idle.Close() // its client has sent nothing
	}
	if why == "" {
		telemetry.HTTPConnections.Inc()
		l.conns.OnChange(1)
		return true
	}
	telemetry.Refused.WithLabelValues(why).Inc()
	if why == allFull && l.full != nil {
		_, _ = c.Conn.Write(l.full) // it fits into the empty buffer of the socket
	}
	_ = c.Conn.Close()
	return false
}
