package listener

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// unsent returns how many bytes in a socket's buffer the other side has not acknowledged; 0 if
// unknown.
func unsent(raw syscall.RawConn) (n int64) {
	if raw == nil {
		return 0
	}
	err := raw.Control(func(fd uintptr) {
		if queued, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			n = int64(queued)
		}
	})
	if err != nil { // closed: the next write reports it
		return 0
	}
	return n
}
