package files

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeBack starts to write a range of a file to the disk, without waiting. It promises nothing, so its failure means nothing:
// Sync makes the file durable.
func writeBack(f *os.File, offset, length int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, length, unix.SYNC_FILE_RANGE_WRITE)
}
