//go:build linux || darwin || freebsd

package files

import "golang.org/x/sys/unix"

// Free asks the file system. One that has hardly room for the names of files (inodes) takes nothing more, whatever
// bytes are free.
func (osDisk) Free(name string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(name, &s); err != nil {
		return 0, err
	}
	if few(s) {
		return 0, nil
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// FewNames reports whether it is the names of files that the disk of a folder has hardly room for.
func FewNames(folder string) bool {
	var s unix.Statfs_t
	return unix.Statfs(folder, &s) == nil && few(s)
}

// leastNames is how many files have to find room on a disk; on one of very few, a sixteenth of all.
const leastNames = 512

// few reports whether fewer find room. Without a total the file system has no such limit.
func few(s unix.Statfs_t) bool {
	return s.Files > 0 && int64(s.Ffree) < min(leastNames, int64(s.Files/16))
}
