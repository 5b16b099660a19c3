package listener

import (
	"crypto/tls"
	"net"
	"syscall"
)

// rawConn returns the socket below a connection; nil for none.
func rawConn(c net.Conn) syscall.RawConn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if ours, ok := c.(*conn); ok {
		c = ours.Conn
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}
