package condition

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"ehi-server/shared/disk"
)

// Room is the room that the data folder has on its disks. A part of it is kept in reserve, in a file: when nothing
// else is left it is given up, so that what makes room again can be recorded, such as a deletion.
type Room struct {
	// Folders are those that are written to, each of which may be on a disk of its own.
	Folders []string
	// Floor is how many bytes have to be free in each; 0: none have to.
	Floor int64
	// File is the reserve, Reserve its size in bytes; 0: there is none.
	File    string
	Reserve int64
}

// ErrShort says that there is too little room to take anything new.
var ErrShort = errors.New("the disk of the data folder is full")

// Short reports whether there is less room than Floor. Errors: ErrShort.
func (r Room) Short() error {
	free, err := r.free()
	if err == nil && free < r.Floor && slices.ContainsFunc(r.Folders, disk.FewNames) {
		return fmt.Errorf("%w: it has hardly room for more files (inodes; df -i), whatever bytes are free", ErrShort)
	}
	if err == nil && free < r.Floor {
		err = fmt.Errorf("%w: %s free, and %s needed", ErrShort, size(free), size(r.Floor))
	}
	return err
}

// size is a number of bytes for people.
func size(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }

// free is what the fullest disk has left.
func (r Room) free() (least int64, err error) {
	least = math.MaxInt64
	for _, folder := range r.Folders {
		free, err := disk.OS().Free(folder)
		if err != nil {
			return 0, fmt.Errorf("ask for the room in %s: %w", folder, err)
		}
		least = min(least, free)
	}
	return least, nil
}

// Tend gives the reserve up where the room is short, and makes it anew where there is more than enough. Errors:
// ErrShort, also where there is room again but not for the reserve.
func (r Room) Tend() error {
	if err := r.Short(); err != nil {
		return errors.Join(err, r.Release())
	}
	return r.set()
}

// Release gives the reserve up.
func (r Room) Release() error {
	if err := os.Remove(r.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("give up the reserve: %w", err)
	}
	return nil
}

// set makes the reserve where there is none, or one of another size.
func (r Room) set() error {
	if r.Reserve == 0 {
		return r.Release()
	}
	switch info, err := os.Stat(r.File); {
	case err == nil && !info.Mode().IsRegular(): // put there while the server runs: a start refuses it
		return fmt.Errorf("%s has to be a file, and is none: move it away, and the server goes on by itself", r.File)
	case err == nil && info.Size() == r.Reserve:
		return nil
	}
	if free, err := r.free(); err != nil || free < r.Floor+r.Reserve {
		return errors.Join(err, fmt.Errorf("%w: %s free, and %s needed", ErrShort, size(free), size(r.Floor+r.Reserve)))
	}
	if err := os.MkdirAll(filepath.Dir(r.File), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(r.File, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make the reserve: %w", err)
	}
	if err := errors.Join(allocate(f, r.Reserve), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("make the reserve: %w", err), os.Remove(r.File))
	}
	return nil
}

// fill writes zeros, where the system cannot take room otherwise.
func fill(f *os.File, bytes int64) error {
	zeros := make([]byte, 1<<20)
	for left := bytes; left > 0; left -= int64(len(zeros)) {
		if _, err := f.Write(zeros[:min(left, int64(len(zeros)))]); err != nil {
			return err
		}
	}
	return nil
}
