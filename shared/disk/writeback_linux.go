package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeBack starts to write a range of a file to the disk without waiting. Errors do not matter:
// Sync makes the file durable.
func writeBack(f *os.File, offset, length int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, length, unix.SYNC_FILE_RANGE_WRITE)
}

// forget drops a range of a file from the page cache, so that the next read reaches the disk. It
// is best effort.
func forget(f *os.File, offset, length int64) {
	_ = unix.Fadvise(int(f.Fd()), offset, length, unix.FADV_DONTNEED)
}
