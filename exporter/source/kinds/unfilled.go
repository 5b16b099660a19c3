package kinds

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ehi-server/exporter/dataset"
	"ehi-server/shared/disk"
)

// unfilledFile is next to the folder of a record store from before the store is created until it
// has all of its demo patients. A process that dies in between leaves it there.
const unfilledFile = dataset.Folder + ".demo"

// Unfilled reports whether the record store of a data folder was created with Config.Demo and
// does not have all of its demo patients yet.
func Unfilled(data string) (bool, error) {
	_, err := os.Lstat(filepath.Join(data, unfilledFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Filled removes the mark: the record store has its demo patients, or will not get any.
func Filled(data string) error {
	err := os.Remove(filepath.Join(data, unfilledFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, disk.OS().SyncDir(data))
}

// keepUnfilled creates unfilledFile before a new store is created with Demo. Without Demo it
// removes the file, because another process now writes to the store.
func (c Config) keepUnfilled() error {
	if c.ReadOnly {
		return nil
	}
	if !c.Demo {
		return Filled(c.Data)
	}
	none, err := dataset.None(filepath.Join(c.Data, dataset.Folder))
	if err != nil || !none {
		return nil //nolint:nilerr // opening it says what is wrong
	}
	f, err := os.OpenFile(filepath.Join(c.Data, unfilledFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		err = errors.Join(f.Close(), disk.OS().SyncDir(c.Data))
	}
	if err != nil {
		return fmt.Errorf("note that the record store needs demo patients: %w", err)
	}
	return nil
}
