package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeBack starts to write a range of a file to the disk, without waiting. It promises nothing, so
// its failure means nothing: Sync makes the file durable.
func writeBack(f *os.File, offset, length int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, length, unix.SYNC_FILE_RANGE_WRITE)
}

// forget has the system drop a range of a file from its memory, so that the disk is read. Where it
// does not, it is not.
func forget(f *os.File, offset, length int64) {
	_ = unix.Fadvise(int(f.Fd()), offset, length, unix.FADV_DONTNEED)
}
