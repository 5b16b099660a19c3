//go:build linux || darwin || freebsd

package files

import "golang.org/x/sys/unix"

// Free asks the file system.
func (osDisk) Free(name string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(name, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
