package local

import (
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"sync/atomic"

	"ehi-server/shared/disk"
	"ehi-server/shared/files"
)

// DefaultSpillBytes is the size from which an output gets a file of its own.
const DefaultSpillBytes = 512 << 10

// Config sets up a Store.
type Config struct {
	// Root is the directory of all exports; it is made with mode 0700 where it is absent.
	Root string
	// SpillBytes is how large an output may grow in memory before it gets a file of its own.
	// Default DefaultSpillBytes.
	SpillBytes int
	// Disk is the file system. Default: the operating system's.
	Disk disk.FS
	// Log tells of files that are found damaged. Default: nobody is told.
	Log *slog.Logger
	// Unsummed writes files without checksums, so that no damage to them is noticed: benchmarks
	// measure by it what checksums cost. No setting of a program leads here.
	Unsummed bool
}

// Store is a files.Store on a disk. It is safe for use by many goroutines, and by many
// processes on one disk.
type Store struct {
	*files.Base
	tree     tree
	spill    atomic.Int64
	unsummed bool
}

var _ files.Store = (*Store)(nil)

// Open opens a store, and makes its folders where they are absent.
func Open(c Config) (*Store, error) {
	if c.SpillBytes <= 0 {
		c.SpillBytes = DefaultSpillBytes
	}
	if c.Disk == nil {
		c.Disk = disk.OS()
	}
	t := tree{root: c.Root, disk: c.Disk}
	s := &Store{Base: files.NewBase(t, c.Log), tree: t, unsummed: c.Unsummed}
	s.SetSpillBytes(c.SpillBytes)
	return s, t.make()
}

// SetSpillBytes changes Config.SpillBytes for batches from here on.
func (s *Store) SetSpillBytes(n int) {
	if n > 0 {
		s.spill.Store(int64(n))
	}
}

// Check writes, syncs and removes a small file, so that a full or read-only disk shows itself.
func (s *Store) Check() error {
	name := filepath.Join(s.tree.root, ".check-"+rand.Text())
	f, err := s.tree.disk.Create(name)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, "ok")
	return errors.Join(err, f.Sync(), f.Close(), s.tree.disk.Remove(name))
}

// Free is how many bytes the disk of the exports can still take.
func (s *Store) Free() (int64, error) { return s.tree.disk.Free(s.tree.root) }
