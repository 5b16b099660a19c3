package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// FS is a file system: the operating system's, unless a test puts one in its place that fails or
// forgets. Names are paths. All methods may be called from many goroutines.
type FS interface {
	// Create makes a new file. Errors: fs.ErrExist.
	Create(name string) (File, error)
	// Open opens a file for reading. Errors: fs.ErrNotExist.
	Open(name string) (ReadFile, error)
	// Remove deletes a file. Errors: fs.ErrNotExist.
	Remove(name string) error
	// ReadDir lists the names in a folder, in any order.
	ReadDir(name string) ([]string, error)
	// MkdirAll makes a folder and those above it; it is no error when it is there.
	MkdirAll(name string) error
	// SyncDir makes the names in a folder durable.
	SyncDir(name string) error
	// Free is how many bytes the disk of a folder can still take.
	Free(name string) (int64, error)
}

// File is a file that is being written.
type File interface {
	io.Writer
	// WriteBack tells the disk to begin with a range that has been written; nothing waits for it.
	WriteBack(offset, length int64)
	// Sync makes what was written durable; the file's name needs SyncDir besides.
	Sync() error
	Close() error
}

// ReadFile is a file that is being read.
type ReadFile interface {
	io.ReaderAt
	// Size is the file's length in bytes.
	Size() (int64, error)
	Close() error
}

// OS is the operating system's file system.
func OS() FS { return osFS{} }

// osFS is the operating system's file system.
type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) WriteBack(offset, length int64) { writeBack(f.File, offset, length) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (osFS) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// ErrEndless says that there is something in a file's place that may be read for ever.
var ErrEndless = errors.New("a pipe, a socket or a device is in the place of a file")

// plain reports whether a name, or what it links to, can be opened without a wait. Errors:
// fs.ErrNotExist, ErrEndless.
func plain(name string) error {
	info, err := os.Stat(name)
	if err == nil && info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeDevice) != 0 {
		err = &fs.PathError{Op: "open", Path: name, Err: ErrEndless}
	}
	return err
}

func (osFS) Open(name string) (ReadFile, error) {
	if err := plain(name); err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Remove(name string) error   { return os.Remove(name) }
func (osFS) MkdirAll(name string) error { return os.MkdirAll(name, 0o700) }

func (osFS) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// IsFull tells an error that is due to a full disk, or a quota, from others.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// IsShort tells an error that is due to a lack of open files or of memory, which passes, from
// others.
func IsShort(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOMEM)
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
