//go:build linux || darwin || freebsd

package disk

import (
	"golang.org/x/sys/unix"
)

// Free asks the file system. It returns 0 if the inodes are almost used up, whatever bytes are
// free.
func (osFS) Free(name string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(name, &s); err != nil {
		return 0, err
	}
	if few(uint64(s.Files), uint64(s.Ffree)) {
		return 0, nil
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// FewNames reports whether the disk of a folder has almost no free inodes.
func FewNames(folder string) bool {
	var s unix.Statfs_t
	return unix.Statfs(folder, &s) == nil && few(uint64(s.Files), uint64(s.Ffree))
}

// leastNames is the number of inodes that must be free. On a disk with few inodes a sixteenth of
// all is enough.
const leastNames = 512

// few reports whether fewer than leastNames inodes are free. total is 0 if the file system has
// no limit. free is all ones if the file system does not know it, as with CephFS.
func few(total, free uint64) bool {
	return total > 0 && free < min(leastNames, total/16)
}
