package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"ehi-server/exporter/dataset"
	"ehi-server/shared/bus"
	"ehi-server/shared/disk"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// A restore is put together in a stage, and becomes the data folder D at its end:
//
//	D.restoring        where D is absent or empty: one rename makes it D
//	D/.restoring       where D cannot be renamed to, because it is a volume or nobody may write beside it,
//	                   or where D has something in it (To.Replace). Then what D has goes to D/.replaced-TIME,
//	                   what was restored moves up, and the stage is removed
//
// While there is a stage, D is not to be used: Unfinished says so to every command that opens D. A restore
// that is made again removes the stage that another one has left, and begins anew.
const (
	stageName    = ".restoring"
	replacedName = ".replaced-"
	// placingName is in a stage within D while what was restored moves up: by then everything in D that a
	// restore makes has come from the stage.
	placingName = "placing"
	lockName    = "LOCK"
)

// Errors of restoring into a folder.
var (
	// ErrUnfinished says that a data folder is not to be used.
	ErrUnfinished = errors.New("a restore was not finished: restore the backup again, which begins anew")
	// ErrRestoring says that another process is restoring.
	ErrRestoring = errors.New("another process is restoring a backup into this folder")
)

// Unfinished reports whether a restore into a data folder was begun and has not ended. Errors:
// ErrUnfinished.
func Unfinished(data string) error {
	data, err := resolved(data)
	if err != nil {
		return err
	}
	for _, dir := range []string{data + stageName, filepath.Join(data, stageName)} {
		switch _, err := os.Lstat(dir); {
		case err == nil:
			return fmt.Errorf("%w. Or, if %s is not to be what was being restored, remove %s", ErrUnfinished, data, dir)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// resolved is the path of a folder, without links where it is there.
func resolved(data string) (string, error) {
	data, err := filepath.Abs(data)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(data)
	if errors.Is(err, fs.ErrNotExist) {
		return data, nil
	}
	return real, err
}

// stage is where a restore is put together.
type stage struct {
	data, dir string
	inside    bool // dir is in data
	replace   bool
	emptied   fs.FileMode // of an empty data folder that was removed to make room; 0: none was
	lock      *pebble.Lock
	// kept is whether the stage stays where the restore fails: it was found, so that somebody may have put
	// aside what was in the data folder, or this restore has begun to do so.
	kept bool
	done bool // what was in the stage is in its place
}

// newStage makes an empty stage for a data folder, which has to be empty unless replace. It removes what a
// restore has left that did not end. Errors: ErrNotEmpty, ErrRestoring, dataset.ErrInUse, bus.ErrInUse.
func newStage(data string, replace bool) (s *stage, err error) {
	data, err = resolved(data)
	if err != nil {
		return nil, err
	}
	within := &stage{data: data, dir: filepath.Join(data, stageName), inside: true, replace: replace}
	near := &stage{data: data, dir: data + stageName}
	have, err := within.contents()
	switch {
	case err != nil:
		return nil, err
	case within.exists():
		return within, within.again()
	case len(have) > 0 && !replace:
		return nil, fmt.Errorf("%w: %s", ErrNotEmpty, data)
	case len(have) > 0:
		if err := errors.Join(unused(data), near.remove()); err != nil {
			return nil, err
		}
		return within, within.begin()
	}
	if err := near.begin(); err == nil {
		if near.makeRoom() == nil {
			return near, nil
		}
		if err := near.drop(); err != nil {
			return nil, err
		}
	} else if errors.Is(err, ErrRestoring) {
		return nil, err
	}
	return within, within.begin()
}

// exists reports whether a restore has left the stage.
func (s *stage) exists() bool {
	_, err := os.Lstat(s.dir)
	return !errors.Is(err, fs.ErrNotExist)
}

// remove removes the stage, if a restore has left it. Errors: ErrRestoring.
func (s *stage) remove() error {
	if !s.exists() {
		return nil
	}
	if err := s.begin(); err != nil {
		return err
	}
	return s.drop()
}

// drop ends with the stage, and leaves nothing of it.
func (s *stage) drop() error {
	s.kept = false
	return s.close()
}

// again begins in a stage in the data folder that a restore has left. Errors: ErrNotEmpty, ErrRestoring.
func (s *stage) again() error {
	if err := s.begin(); err != nil {
		return err
	}
	have, err := s.contents()
	if err == nil && len(have) > 0 {
		err = unused(s.data)
		if !s.replace {
			err = fmt.Errorf("%w: %s", ErrNotEmpty, s.data)
		}
	}
	if err != nil {
		return errors.Join(err, s.close())
	}
	return nil
}

// unused reports whether no process works in a data folder. Errors: dataset.ErrInUse, bus.ErrInUse, files.ErrHeld.
func unused(data string) error {
	if err := local.Unused(filepath.Join(data, files.Folder)); err != nil {
		return err
	}
	records := filepath.Join(data, dataset.Folder)
	if _, err := os.Stat(records); err == nil {
		lock, err := pebble.LockDirectory(records, vfs.Default)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", dataset.ErrInUse, records, err)
		}
		if err := lock.Close(); err != nil {
			return err
		}
	}
	state := filepath.Join(data, NATSFolder)
	if _, err := os.Stat(state); err != nil {
		return nil //nolint:nilerr // there is none
	}
	return bus.Unused(state)
}

// begin makes the stage, or empties the one that is there, and keeps it to this process. Errors: ErrRestoring.
func (s *stage) begin() error {
	if s.inside {
		if err := os.MkdirAll(s.data, 0o700); err != nil {
			return err
		}
	}
	err := os.Mkdir(s.dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		s.kept, err = true, s.own()
	}
	if err != nil {
		return err
	}
	if s.lock, err = pebble.LockDirectory(s.dir, vfs.Default); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrRestoring, s.data, err)
	}
	if err := s.empty(); err != nil {
		return errors.Join(err, s.lock.Close())
	}
	return nil
}

// own makes sure that a stage which was there is a folder of this user.
func (s *stage) own() error {
	if info, err := os.Lstat(s.dir); err != nil || !info.IsDir() {
		return errors.Join(err, fmt.Errorf("%s is no folder", s.dir))
	}
	return os.Chmod(s.dir, 0o700) // #nosec G302 -- a folder; nobody else's can be changed
}

// made are what a restore puts into a data folder.
var made = append([]string{dataset.Folder, files.Folder, NATSFolder}, beside...)

// empty removes everything from the stage but its lock, and first what it has put into place.
func (s *stage) empty() error {
	if _, err := os.Lstat(filepath.Join(s.dir, placingName)); err == nil {
		for _, name := range made {
			if err := os.RemoveAll(filepath.Join(s.data, name)); err != nil {
				return err
			}
		}
		if err := disk.OS().SyncDir(s.data); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != lockName {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	return err
}

// makeRoom removes an empty data folder, so that the stage can be renamed to it. It fails where that is a
// volume.
func (s *stage) makeRoom() error {
	info, err := os.Lstat(s.data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.Remove(s.data)
	}
	if err == nil {
		s.emptied = info.Mode().Perm()
	}
	return err
}

// contents are the names in the data folder, but for those of stages, of what was replaced before, and of
// what a file system makes in an empty one.
func (s *stage) contents() ([]string, error) {
	names, err := disk.OS().ReadDir(s.data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return name == stageName || name == "lost+found" || strings.HasPrefix(name, replacedName)
	}), err
}

// commit makes everything in the stage durable, and the data folder of it.
func (s *stage) commit() error {
	if err := syncTree(s.dir); err != nil {
		return err
	}
	if s.inside {
		return s.moveUp()
	}
	if err := os.Rename(s.dir, s.data); err != nil {
		return err
	}
	s.done = true
	err := os.Remove(filepath.Join(s.data, lockName))
	return errors.Join(err, disk.OS().SyncDir(filepath.Dir(s.data)))
}

// moveUp puts what was restored into place, and what is there already aside.
func (s *stage) moveUp() error {
	s.kept = true
	if err := s.putAside(); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, placingName), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), disk.OS().SyncDir(s.dir)); err != nil {
		return err
	}
	for _, name := range made {
		err := os.Rename(filepath.Join(s.dir, name), filepath.Join(s.data, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := disk.OS().SyncDir(s.data); err != nil {
		return err
	}
	s.done = true
	return errors.Join(os.RemoveAll(s.dir), disk.OS().SyncDir(s.data))
}

// putAside keeps what the data folder has in a folder of its own there.
func (s *stage) putAside() error {
	have, err := s.contents()
	if err != nil || len(have) == 0 {
		return err
	}
	aside := filepath.Join(s.data, replacedName+time.Now().UTC().Format("20060102T150405.000"))
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	for _, name := range have {
		if err := os.Rename(filepath.Join(s.data, name), filepath.Join(aside, name)); err != nil {
			return err
		}
	}
	return errors.Join(disk.OS().SyncDir(aside), disk.OS().SyncDir(s.data))
}

// close ends with the stage, and empties it where it did not become the data folder.
func (s *stage) close() (err error) {
	if !s.done {
		err = s.abandon()
	}
	return errors.Join(err, s.lock.Close())
}

// abandon leaves the data folder as it was; where that cannot be said the stage stays, and with it the data
// folder is refused.
func (s *stage) abandon() error {
	if err := s.empty(); err != nil || s.kept {
		return err
	}
	if err := os.RemoveAll(s.dir); err != nil || s.emptied == 0 {
		return err
	}
	return os.Mkdir(s.data, s.emptied)
}

// syncTree makes a folder durable, with everything in it.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			return disk.OS().SyncDir(path)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
