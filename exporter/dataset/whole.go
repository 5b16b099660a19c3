package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"ehi-server/shared/disk"
)

// Pebble trusts its folder: if the marker is missing it creates a new store and deletes the
// other files, and it takes a missing log for an empty one. The folder is therefore checked
// first. A file that is missing beside others means damage, never a new store.
const (
	// manifestMarker is the prefix of the file whose name says which Pebble manifest is current.
	manifestMarker = "marker.manifest."
	// closedList is a list of all files that the store had when it was closed. It does not exist
	// while the store is open.
	closedList = "ehi.closed"
	// logless marks a store that is, or was when its process died, written without a log.
	logless = "ehi.logless"
)

// ErrDamaged is returned by Open if the folder has lost a file or a part of one.
var ErrDamaged = errors.New("the record store is damaged; it is left as it is: put the file " +
	"back, or restore a backup into another folder")

// ErrNewer is returned by Open if a newer version has closed the store and wrote a list that
// this one cannot read.
var ErrNewer = errors.New(
	"the record store was closed by another version of the server, a newer one as a rule; " +
		"it is left as it is: start that version")

// hold creates a store's folder, or checks the existing one, and locks it. fresh reports whether
// it had no store. Errors: ErrInUse, ErrDamaged.
func hold(c Config) (lock *pebble.Lock, fresh bool, err error) {
	dir := c.Dir
	if c.ReadOnly {
		if _, err := os.Stat(dir); err != nil {
			return nil, false, fmt.Errorf("open record store: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, fmt.Errorf("open record store: %w", err)
	}
	lock, err = pebble.LockDirectory(dir, vfs.Default)
	var unopened *fs.PathError // the lock file itself
	if errors.As(err, &unopened) {
		return nil, false, fmt.Errorf("open record store: %w", err)
	}
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) ||
		err != nil && strings.Contains(err.Error(), "lock held") {
		return nil, false, fmt.Errorf("%w: %s", ErrInUse, dir)
	}
	if err != nil {
		return nil, false, fmt.Errorf("open record store: %w", err)
	}
	fresh, err = inspect(dir)
	if err == nil && c.ReadOnly && fresh {
		err = fmt.Errorf("open record store: %s holds none", dir)
	}
	if err == nil && !c.ReadOnly {
		err = begin(dir, c.Bulk)
	}
	if err != nil {
		return nil, false, errors.Join(err, lock.Close())
	}
	return lock, fresh, nil
}

// inspect checks a folder before Pebble opens it. fresh reports whether it has no store. Errors:
// ErrDamaged.
func inspect(dir string) (fresh bool, err error) {
	sizes, err := sizesOf(dir)
	if err != nil {
		return false, fmt.Errorf("open record store: %w", err)
	}
	if err := compareClosed(dir, sizes); err != nil {
		return false, err
	}
	marker, logged, other := "", false, ""
	for name := range sizes {
		if strings.HasPrefix(name, manifestMarker) {
			marker = max(marker, name)
		}
		logged = logged || strings.HasSuffix(name, ".log")
		if !precedesMarker(name) {
			other = name
		}
	}
	_, unlogged := sizes[logless]
	_, closed := sizes[closedList]
	switch {
	case marker == "" && other == "": // an interrupted creation, which is repeated
		return true, nil
	case marker == "":
		return false,
			fmt.Errorf("%w: %s holds %s and no file %s*", ErrDamaged, dir, other, manifestMarker)
	case !logged && !unlogged && !closed:
		return false, fmt.Errorf("%w: %s was not closed and holds no *.log", ErrDamaged, dir)
	}
	return false, checkManifest(dir, marker)
}

// None reports whether a folder has no store, or does not exist. Errors: ErrDamaged.
func None(dir string) (bool, error) { return inspect(dir) }

// precedesMarker reports whether Pebble may write a file before the first marker of a store.
func precedesMarker(name string) bool {
	return slices.Contains([]string{"LOCK", logless, "MANIFEST-000001"}, name) ||
		strings.HasPrefix(name, "marker.format-version.") || strings.HasPrefix(name, "temporary.")
}

// closedFile describes a file of a closed store.
type closedFile struct {
	Size int64 `json:"size"` // in bytes
	// SHA256 is the digest of the content; nil for a table, which has its own checksums.
	SHA256 []byte `json:"sha256,omitempty"`
}

// UnmarshalJSON also accepts a bare size, as older builds wrote it.
func (c *closedFile) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &c.Size) == nil {
		return nil
	}
	type plain closedFile
	return json.Unmarshal(text, (*plain)(c))
}

// closedFileOf describes a file that nobody writes to.
func closedFileOf(dir, name string, size int64) (closedFile, error) {
	c := closedFile{Size: size}
	if name == "LOCK" || strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob") {
		return c, nil
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return c, err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	c.SHA256 = sum.Sum(nil)
	return c, errors.Join(err, f.Close())
}

// sizesOf returns the size of each file of a folder in bytes; none if there is no folder.
func sizesOf(dir string) (map[string]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, e := range entries {
		if e.Name() == "lost+found" { // the folder is a mount point
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) { // another process holds the store
			continue
		}
		if err != nil {
			return nil, err
		}
		sizes[e.Name()] = info.Size()
	}
	return sizes, nil
}

// compareClosed compares a folder with its list. Errors: ErrDamaged.
func compareClosed(dir string, sizes map[string]int64) error {
	text, err := os.ReadFile(filepath.Join(dir, closedList))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open record store: %w", err)
	}
	closed := map[string]closedFile{}
	err = json.Unmarshal(text, &closed)
	// Damage does not cause this.
	if _, other := errors.AsType[*json.UnmarshalTypeError](err); other && json.Valid(text) {
		return fmt.Errorf("%w: %s: %w", ErrNewer, filepath.Join(dir, closedList), err)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, filepath.Join(dir, closedList), err)
	}
	for name, then := range closed {
		if err := then.compare(dir, name, sizes); err != nil {
			return err
		}
	}
	return nil
}

// compare compares a file with its description. Errors: ErrDamaged.
func (c closedFile) compare(dir, name string, sizes map[string]int64) error {
	path := filepath.Join(dir, name)
	size, there := sizes[name]
	switch {
	case !there:
		return fmt.Errorf("%w: %s is missing", ErrDamaged, path)
	case size != c.Size:
		return fmt.Errorf("%w: %s has %d bytes, and had %d when the store was closed", ErrDamaged,
			path, size, c.Size)
	case c.SHA256 == nil:
		return nil
	}
	now, err := closedFileOf(dir, name, size)
	if err != nil {
		return fmt.Errorf("open record store: %w", err)
	}
	if !bytes.Equal(now.SHA256, c.SHA256) {
		return fmt.Errorf("%w: %s has changed since the store was closed", ErrDamaged, path)
	}
	return nil
}

// begin records that the store is open, so that its list of files no longer applies.
func begin(dir string, unlogged bool) error {
	err := remove(dir, closedList)
	if unlogged {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, logless), nil, 0o600))
	}
	return errors.Join(err, disk.OS().SyncDir(dir))
}

// logs records that the store is written with a log from here on.
func logs(dir string) error { return remove(dir, logless) }

// diedUnlogged reports whether a process died while it wrote the store without a log.
func diedUnlogged(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, logless))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// finish writes the list of files after the store was closed.
func finish(dir string) error {
	if err := remove(dir, logless); err != nil {
		return err
	}
	sizes, err := sizesOf(dir)
	if err != nil {
		return err
	}
	closed := map[string]closedFile{}
	for name, size := range sizes {
		if closed[name], err = closedFileOf(dir, name, size); err != nil {
			return err
		}
	}
	text, err := json.Marshal(closed)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "temporary.")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, closedList))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return disk.OS().SyncDir(dir)
}

func remove(dir, name string) error {
	err := os.Remove(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
