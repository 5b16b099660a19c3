//go:build linux || darwin || freebsd

package disk

import (
	"golang.org/x/sys/unix"
)

// Free asks the file system. One that has hardly room for the names of files (inodes) takes nothing
// more, whatever bytes are free.
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

// FewNames reports whether it is the names of files that the disk of a folder has hardly room for.
func FewNames(folder string) bool {
	var s unix.Statfs_t
	return unix.Statfs(folder, &s) == nil && few(uint64(s.Files), uint64(s.Ffree))
}

// leastNames is how many files have to find room on a disk; on one of very few, a sixteenth of all.
const leastNames = 512

// few reports whether fewer than leastNames find room. Without a total the file system has no such
// limit, and one that does not know how many find room, as CephFS, says all ones.
func few(total, free uint64) bool {
	return total > 0 && free < min(leastNames, total/16)
}
