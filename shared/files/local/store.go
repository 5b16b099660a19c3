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

// DefaultSpillBytes is the size in bytes from which an output has a file of its own.
const DefaultSpillBytes = 512 << 10

// Config configures a Store.
type Config struct {
	// Root is the export folder. Open creates it with mode 0700 if it does not exist.
	Root string
	// SpillBytes is the size in bytes up to which an output stays in memory. Default:
	// DefaultSpillBytes.
	SpillBytes int
	// Disk is the file system. Default: the operating system's.
	Disk disk.FS
	// Log receives messages about damaged files. Default: none.
	Log *slog.Logger
	// Unsummed writes files without checksums, so that damage to them goes unnoticed. Benchmarks
	// use it to measure the cost of checksums; no setting enables it.
	Unsummed bool
}

// Store is a files.Store on a disk. It is safe for concurrent use by many goroutines, and by
// many processes on one disk.
type Store struct {
	*files.Base
	tree     tree
	spill    atomic.Int64
	unsummed bool
}

var _ files.Store = (*Store)(nil)

// Open opens a store and creates its folders if they do not exist.
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

// SetSpillBytes changes Config.SpillBytes for later batches.
func (s *Store) SetSpillBytes(n int) {
	if n > 0 {
		s.spill.Store(int64(n))
	}
}

// Check writes, syncs and removes a small file, which fails on a full or read-only disk.
func (s *Store) Check() error {
	name := filepath.Join(s.tree.root, ".check-"+rand.Text())
	f, err := s.tree.disk.Create(name)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, "ok")
	return errors.Join(err, f.Sync(), f.Close(), s.tree.disk.Remove(name))
}

// Free returns how many bytes the disk can still take.
func (s *Store) Free() (int64, error) { return s.tree.disk.Free(s.tree.root) }
