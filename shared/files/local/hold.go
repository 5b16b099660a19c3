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

// TryLock takes an exclusive lock on the export folder, until held is closed or the process
// ends. held is nil if another process has the lock.
func (s *Store) TryLock(name string) (held io.Closer, err error) {
	return lock(s.tree.lockFile(name), true)
}

// Hold implements files.Store: it marks the folder as in use, until the result is closed or the
// process ends. Several processes, such as those that share one NATS, may hold it. If the disk
// is too full for the lock file, Hold succeeds without a lock. It returns files.ErrHeld while a
// process replaces the folder.
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

// Unused returns files.ErrHeld if a process uses the export folder root.
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

// holdName is the lock that all processes share that use the folder.
const holdName = "held"

// lockFile returns the path of a lock's file.
func (t tree) lockFile(name string) string { return filepath.Join(t.root, "."+name+".lock") }
