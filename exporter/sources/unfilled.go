package sources

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ehi-server/exporter/dataset"
	"ehi-server/shared/disk"
)

// unfilledFile lies beside the folder of a record store that is being made and filled with demo patients, from
// before the store is there until all of them are. A process that dies in between leaves it.
const unfilledFile = dataset.Folder + ".demo"

// Unfilled reports whether the record store of a data folder is one that Config.Demo has made, and that has not
// got all of its demo patients.
func Unfilled(data string) (bool, error) {
	_, err := os.Lstat(filepath.Join(data, unfilledFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Filled says that the record store has its demo patients, or is to get none.
func Filled(data string) error {
	err := os.Remove(filepath.Join(data, unfilledFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, disk.OS().SyncDir(data))
}

// keepUnfilled says of a store that is about to be made that it is to be filled, and of one that somebody else
// writes to that it is not.
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
		return fmt.Errorf("say that the record store is to be filled: %w", err)
	}
	return nil
}
