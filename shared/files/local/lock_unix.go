//go:build linux || darwin || freebsd

package local

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lock locks a file, exclusively or shared. held is nil if another process has a conflicting
// lock.
func lock(path string, alone bool) (held io.Closer, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_SH
	if alone {
		how = unix.LOCK_EX
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = nil
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
