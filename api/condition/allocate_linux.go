package condition

import (
	"os"

	"golang.org/x/sys/unix"
)

// allocate reserves disk space for a file.
func allocate(f *os.File, bytes int64) error {
	if err := unix.Fallocate(int(f.Fd()), 0, 0, bytes); err != unix.EOPNOTSUPP {
		return err
	}
	return fill(f, bytes)
}
