package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"ehi-server/shared/disk"
	"ehi-server/shared/files"
)

// TryLock takes a lock that one process at a time has on the folder of the exports, until it is
// closed or the process ends. held is nil where another one has it.
func (s *Store) TryLock(name string) (held io.Closer, err error) {
	return lock(s.tree.lockFile(name), true)
}

// Hold implements files.Store: it tells others that a process works in the folder, until it is
// closed or the process ends. Several processes may, as those that share one NATS. Where the disk
// takes no file for it, nobody is told. Errors: files.ErrHeld, where somebody replaces the folder.
func (s *Store) Hold() (io.Closer, error) {
	held, err := lock(s.tree.lockFile(holdName), false)
	if err == nil && held == nil {
		return nil, fmt.Errorf("%w: %s", files.ErrHeld, s.tree.root)
	}
	if err != nil {
		return io.NopCloser(nil),
			nil //nolint:nilerr // a disk without room is no reason not to serve what is there
	}
	return held, nil
}

// Unused finds out whether nobody works in a folder of exports. Errors: files.ErrHeld.
func Unused(root string) error {
	if _, err := disk.OS().ReadDir(root); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	held, err := lock(tree{root: root}.lockFile(holdName), true)
	if err == nil && held == nil {
		return fmt.Errorf("%w: %s", files.ErrHeld, root)
	}
	if err != nil {
		return err
	}
	return held.Close()
}

// holdName is the lock that every process shares that works in the folder.
const holdName = "held"

// lockFile is the file of a lock.
func (t tree) lockFile(name string) string { return filepath.Join(t.root, "."+name+".lock") }
