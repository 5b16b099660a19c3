//go:build unix

package node

import "golang.org/x/sys/unix"

// OpenFiles is how many files the system allows this process to have open.
func OpenFiles() (uint64, error) {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return uint64(limit.Max), err // Go raises the soft limit to it
}
