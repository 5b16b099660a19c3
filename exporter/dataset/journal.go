package dataset

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// If Pebble cannot end a log or begin the next one, it panics without holding its lock, and
// unlocks it during the panic: the process dies with a stack trace and cannot recover. So the
// store first checks whether it can begin a log. If the log still fails, it ends the process
// with a message, as Pebble's other fatal errors do.

// journal is the file system of a store. It is used as a pointer, because Pebble compares file
// systems. While it is armed, an error in one of the store's logs ends the process.
type journal struct {
	vfs.FS
	dir   string
	fatal func(format string, a ...any)
	armed *atomic.Bool
}

func (j *journal) check(name string, err error) error {
	if err != nil && j.armed.Load() && strings.HasSuffix(name, ".log") &&
		filepath.Dir(name) == j.dir {
		j.fatal("log: %v", err)
	}
	return err
}

// Create implements vfs.FS.
func (j *journal) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := j.FS.Create(name, c)
	return j.file(name, f, err)
}

// ReuseForWrite implements vfs.FS.
func (j *journal) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := j.FS.ReuseForWrite(old, name, c)
	return j.file(name, f, err)
}

func (j *journal) file(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, j.check(name, err)
	}
	return logFile{f, j, name}, nil
}

// OpenDir implements vfs.FS.
func (j *journal) OpenDir(name string) (vfs.File, error) {
	f, err := j.FS.OpenDir(name)
	if err != nil || filepath.Clean(name) != j.dir {
		return f, err
	}
	return folder{f, j}, nil
}

// folder is the folder of a store. If it cannot be synced, Pebble panics in a goroutine of its
// own, even while it opens the store. So such an error ends the process whether the journal is
// armed or not.
type folder struct {
	vfs.File
	of *journal
}

// Sync implements vfs.File.
func (f folder) Sync() error {
	err := f.File.Sync()
	if err != nil {
		f.of.fatal("folder: %v", err)
	}
	return err
}

type logFile struct {
	vfs.File
	of   *journal
	name string
}

// Sync implements vfs.File.
func (l logFile) Sync() error { return l.of.check(l.name, l.File.Sync()) }

// SyncData implements vfs.File.
func (l logFile) SyncData() error { return l.of.check(l.name, l.File.SyncData()) }

// SyncTo implements vfs.File.
func (l logFile) SyncTo(length int64) (bool, error) {
	full, err := l.File.SyncTo(length)
	return full, l.of.check(l.name, err)
}

// takesFiles creates, syncs and removes a file in a folder.
func takesFiles(dir string) error {
	f, err := os.CreateTemp(dir, "temporary.")
	if err != nil {
		return err
	}
	_, err = f.WriteString("ok")
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}
