package disk

import (
	"path/filepath"
	"syscall"
)

// Leaving returns a disk that reports itself full while less than the given number of bytes is
// free. It reserves space for other users of the same disk.
func Leaving(d FS, bytes int64) FS { return leaving{d, bytes} }

type leaving struct {
	FS
	bytes int64
}

// room checks the free space. Errors: syscall.ENOSPC.
func (l leaving) room(folder string) error {
	free, err := l.Free(folder)
	if err == nil && free < l.bytes {
		err = syscall.ENOSPC
	}
	return err
}

// Create implements FS.
func (l leaving) Create(name string) (File, error) {
	if err := l.room(filepath.Dir(name)); err != nil {
		return nil, err
	}
	f, err := l.FS.Create(name)
	return &leavingFile{File: f, disk: l, folder: filepath.Dir(name)}, err
}

// askEvery is how many bytes are written to a file between two checks of the free space.
const askEvery = 1 << 20

type leavingFile struct {
	File
	disk    leaving
	folder  string
	written int // since the last check
}

// Write implements io.Writer.
func (f *leavingFile) Write(p []byte) (int, error) {
	if f.written += len(p); f.written >= askEvery {
		f.written = 0
		if err := f.disk.room(f.folder); err != nil {
			return 0, err
		}
	}
	return f.File.Write(p)
}
