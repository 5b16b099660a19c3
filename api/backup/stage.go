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
	"ehi-server/exporter/dataset/blobs"
	"ehi-server/shared/bus"
	"ehi-server/shared/disk"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// A restore is prepared in a stage, which becomes the data folder D at the end:
//
//	D.restoring        if D is absent or empty. One rename makes it D
//	D/.restoring       if the stage cannot be renamed to D, because D is a volume, its parent is
//	                   read-only, or D is not empty (To.Replace). The contents of D move to
//	                   D/.replaced-TIME, the restored files move up, and the stage is removed
//
// While a stage exists, D must not be used: every command that opens D checks Unfinished. A
// repeated restore removes the stage of an earlier one and starts again.
const (
	stageName    = ".restoring"
	replacedName = ".replaced-"
	// placingName is a file in a stage within D that exists while the restored files move up.
	// From then on, all names in D that a restore creates come from the stage.
	placingName = "placing"
	lockName    = "LOCK"
)

// Errors of restoring into a folder.
var (
	// ErrUnfinished means that a data folder must not be used.
	ErrUnfinished = errors.New(
		"a restore did not finish: run it again, it starts from the beginning")
	// ErrRestoring means that another process is restoring.
	ErrRestoring = errors.New("another process is restoring a backup into this folder")
)

// Unfinished reports whether a restore into a data folder was started and not completed. Errors:
// ErrUnfinished.
func Unfinished(data string) error {
	data, err := resolved(data)
	if err != nil {
		return err
	}
	for _, dir := range []string{data + stageName, filepath.Join(data, stageName)} {
		switch _, err := os.Lstat(dir); {
		case err == nil:
			return fmt.Errorf("%w. To keep %s without the backup, remove %s instead", ErrUnfinished,
				data, dir)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// resolved returns the path of a folder, with links resolved if it exists.
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

// stage is where a restore is prepared.
type stage struct {
	data, dir string
	inside    bool // whether dir is in data
	replace   bool
	emptied   fs.FileMode // mode of an empty data folder that was removed to make room; 0 for none
	lock      *pebble.Lock
	// kept is true if the stage must remain after a failure. It existed already, so the contents
	// of the data folder may have been moved aside, or this restore has begun to move them.
	kept bool
	done bool // the contents of the stage are in place
}

// newStage creates an empty stage for a data folder, which must be empty unless replace is set.
// It removes the stage of an earlier, unfinished restore. Errors: ErrNotEmpty, ErrRestoring,
// dataset.ErrInUse, bus.ErrInUse.
func newStage(data string, replace bool) (s *stage, err error) {
	data, err = resolved(data)
	if err != nil {
		return nil, err
	}
	within := &stage{
		data:    data,
		dir:     filepath.Join(data, stageName),
		inside:  true,
		replace: replace,
	}
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

// exists reports whether an earlier restore left the stage.
func (s *stage) exists() bool {
	_, err := os.Lstat(s.dir)
	return !errors.Is(err, fs.ErrNotExist)
}

// remove removes the stage of an earlier restore, if there is one. Errors: ErrRestoring.
func (s *stage) remove() error {
	if !s.exists() {
		return nil
	}
	if err := s.begin(); err != nil {
		return err
	}
	return s.drop()
}

// drop removes the stage completely.
func (s *stage) drop() error {
	s.kept = false
	return s.close()
}

// again starts in a stage inside the data folder that an earlier restore left. Errors:
// ErrNotEmpty, ErrRestoring.
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

// unused checks that no process uses a data folder. Errors: dataset.ErrInUse, bus.ErrInUse,
// files.ErrHeld.
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

// begin creates the stage, or empties an existing one, and locks it for this process. Errors:
// ErrRestoring.
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

// own checks that an existing stage is a folder of this user.
func (s *stage) own() error {
	if info, err := os.Lstat(s.dir); err != nil || !info.IsDir() {
		return errors.Join(err, fmt.Errorf("%s is not a folder", s.dir))
	}
	return os.Chmod(s.dir, 0o700) // #nosec G302 -- a folder; nobody else's can be changed
}

// made lists the names that a restore creates in a data folder.
var made = append([]string{dataset.Folder, dataset.BlobFolder, files.Folder, NATSFolder},
	beside...)

// empty removes everything from the stage except its lock. It first removes what was already
// moved into place.
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

// makeRoom removes an empty data folder, so that the stage can be renamed to it. It fails if the
// folder is a volume.
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

// contents returns the names in the data folder, except stages, folders of replaced contents,
// and what a file system creates in an empty volume.
func (s *stage) contents() ([]string, error) {
	names, err := disk.OS().ReadDir(s.data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return name == stageName || name == "lost+found" || strings.HasPrefix(name, replacedName)
	}), err
}

// commit syncs everything in the stage and makes it the data folder.
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

// moveUp moves the restored files into place. The previous contents are already aside.
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

// putAside moves the contents of the data folder into a folder inside it.
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

// close releases the stage, and empties it if it did not become the data folder.
func (s *stage) close() (err error) {
	if !s.done {
		err = s.abandon()
	}
	return errors.Join(err, s.lock.Close())
}

// abandon restores the previous state of the data folder. If that is uncertain, the stage stays,
// and the data folder is refused.
func (s *stage) abandon() error {
	if err := s.empty(); err != nil || s.kept {
		return err
	}
	if err := os.RemoveAll(s.dir); err != nil || s.emptied == 0 {
		return err
	}
	return os.Mkdir(s.data, s.emptied)
}

// syncTree syncs a folder and everything in it.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			return disk.OS().SyncDir(path)
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		flag := os.O_RDWR
		if info.Mode().Perm() == blobs.Mode {
			flag = os.O_RDONLY // nobody but root can open it for writing
		}
		f, err := os.OpenFile(path, flag, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
