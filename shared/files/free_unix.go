//go:build linux || darwin || freebsd

package files

import "golang.org/x/sys/unix"

// Free is how many bytes this process can still write to the store's file system.
func (l *Local) Free() (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(l.root, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
