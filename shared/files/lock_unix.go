//go:build linux || darwin || freebsd

package files

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// TryLock takes a lock that one process at a time has on the folder of the exports, until it is closed
// or the process ends. held is nil where another one has it.
func (l *Local) TryLock(name string) (held io.Closer, err error) { return lock(l.lockFile(name), true) }

func (l *Local) lockFile(name string) string { return filepath.Join(l.root, "."+name+".lock") }

// lock takes a lock on a file, alone or together with others. held is nil where somebody has it who does not share it.
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
