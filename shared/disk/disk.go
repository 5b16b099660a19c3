package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// FS is a file system: the operating system's, or one of a test that fails or loses data. Names
// are paths. All methods are safe for concurrent use.
type FS interface {
	// Create creates a file. Errors: fs.ErrExist.
	Create(name string) (File, error)
	// Link gives a file a second name. Both names last until they are removed. Errors:
	// fs.ErrExist, and ErrNotLinked if the names cannot share a file.
	Link(old, new string) error
	// Open opens a file for reading. Errors: fs.ErrNotExist.
	Open(name string) (ReadFile, error)
	// Remove deletes a file. Errors: fs.ErrNotExist.
	Remove(name string) error
	// ReadDir lists the names in a folder, in any order.
	ReadDir(name string) ([]string, error)
	// MkdirAll creates a folder and its parents. It succeeds if the folder exists.
	MkdirAll(name string) error
	// SyncDir makes the names in a folder durable.
	SyncDir(name string) error
	// Free returns how many bytes the disk of a folder can still take.
	Free(name string) (int64, error)
}

// File is a file that is being written.
type File interface {
	io.Writer
	// WriteBack tells the disk to start writing a range that was written to the file. It does
	// not wait.
	WriteBack(offset, length int64)
	// Sync makes the written bytes durable. The file's name needs SyncDir too.
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

// OS returns the operating system's file system.
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

// ErrNotLinked means that two names cannot share a file: they are on different file systems, or
// the file system has no hard links.
var ErrNotLinked = errors.New("no hard link is possible")

func (osFS) Link(old, new string) error {
	err := os.Link(old, new)
	for _, no := range []syscall.Errno{
		syscall.EXDEV, syscall.EPERM, syscall.EMLINK, syscall.ENOTSUP, syscall.ENOSYS,
	} {
		if errors.Is(err, no) {
			return errors.Join(ErrNotLinked, err)
		}
	}
	return err
}

// ErrEndless means that a path is a pipe, a socket or a device, whose reading might never end.
var ErrEndless = errors.New("a pipe, a socket or a device is in the place of a file")

// plain checks that opening a path, or the target of a link, does not block. Errors:
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

// IsFull reports whether an error means that the disk or a quota is full.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// IsShort reports whether an error means a temporary shortage of open files or memory.
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
