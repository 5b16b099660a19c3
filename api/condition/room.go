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

// Flags are the settings of rescue mode.
type Flags struct {
	// RescueBelow is the number of bytes that must be free on each disk; 0 for no minimum.
	RescueBelow int64 `name:"rescue-below" help:"Free bytes on a disk of the data folder below which the server enters rescue mode: downloads, status requests, deletions and pages work, but it accepts nothing new. Exports always leave this space free. 0: never." default:"67108864" env:"EHI_RESCUE_BELOW" range:"0.."`
	// ReserveBytes is the size of the reserve; 0 for none.
	ReserveBytes int64 `name:"reserve-bytes" help:"Bytes of disk space that the server reserves next to its state. Rescue mode frees them, so that deletions can be recorded. 0: none." default:"16777216" env:"EHI_RESERVE_BYTES" range:"0.."`
}

// Room is the free space on the disks of the data folder. A file keeps part of it in reserve.
// When nothing else is left, the reserve is released, so that the server can still record what
// frees space, such as a deletion.
type Room struct {
	// Folders are the folders that the server writes to. Each may be on a separate disk.
	Folders []string
	// Floor is the number of bytes that must be free on each disk; 0 for no minimum.
	Floor int64
	// File is the reserve and Reserve its size in bytes; 0 for none.
	File    string
	Reserve int64
}

// ErrShort means that there is too little space to accept anything new.
var ErrShort = errors.New("the disk of the data folder is full")

// Short checks that at least Floor is free. Errors: ErrShort.
func (r Room) Short() error {
	free, err := r.free()
	if err == nil && free < r.Floor && slices.ContainsFunc(r.Folders, disk.FewNames) {
		return fmt.Errorf("%w: it has almost no free inodes (df -i)", ErrShort)
	}
	if err == nil && free < r.Floor {
		err = fmt.Errorf("%w: %s free, %s needed", ErrShort, size(free), size(r.Floor))
	}
	return err
}

// size formats a number of bytes.
func size(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }

// free returns the free space of the fullest disk.
func (r Room) free() (least int64, err error) {
	least = math.MaxInt64
	for _, folder := range r.Folders {
		free, err := disk.OS().Free(folder)
		if err != nil {
			return 0, fmt.Errorf("get the free space of %s: %w", folder, err)
		}
		least = min(least, free)
	}
	return least, nil
}

// Tend releases the reserve if space is short, and creates it again once there is more than
// enough. Errors: ErrShort, also if there is enough space except for the reserve.
func (r Room) Tend() error {
	if err := r.Short(); err != nil {
		return errors.Join(err, r.Release())
	}
	return r.set()
}

// Release releases the reserve.
func (r Room) Release() error {
	if err := os.Remove(r.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release the reserve: %w", err)
	}
	return nil
}

// set creates the reserve, unless it exists with the right size.
func (r Room) set() error {
	if r.Reserve == 0 {
		return r.Release()
	}
	switch info, err := os.Stat(r.File); {
	// put there while the server was running: a start refuses it
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s must be a regular file: move it away, and the server continues",
			r.File)
	case err == nil && info.Size() == r.Reserve:
		return nil
	}
	if free, err := r.free(); err != nil || free < r.Floor+r.Reserve {
		return errors.Join(err,
			fmt.Errorf("%w: %s free, %s needed", ErrShort, size(free), size(r.Floor+r.Reserve)))
	}
	if err := os.MkdirAll(filepath.Dir(r.File), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(r.File, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("create the reserve: %w", err)
	}
	if err := errors.Join(allocate(f, r.Reserve), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("create the reserve: %w", err), os.Remove(r.File))
	}
	return nil
}

// fill writes zeros, for systems that cannot reserve space otherwise.
func fill(f *os.File, bytes int64) error {
	zeros := make([]byte, 1<<20)
	for left := bytes; left > 0; left -= int64(len(zeros)) {
		if _, err := f.Write(zeros[:min(left, int64(len(zeros)))]); err != nil {
			return err
		}
	}
	return nil
}
