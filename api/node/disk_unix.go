//go:build unix

package node

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// sameDisk reports whether a folder is on the disk of the one above it, as one is that is not
// made yet.
func sameDisk(above, folder string) bool {
	a, err := os.Stat(above)
	b, e := os.Stat(folder)
	if errors.Is(e, fs.ErrNotExist) {
		return true
	}
	if err != nil || e != nil {
		return false
	}
	return a.Sys().(*syscall.Stat_t).Dev == b.Sys().(*syscall.Stat_t).Dev
}
