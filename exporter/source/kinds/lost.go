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

// madeFile is next to the folder of a record store as soon as the store is created. It shows
// that a store existed, so that a folder that is lost or not mounted does not look like a new
// installation.
const madeFile = dataset.Folder + ".made"

// madeText explains the file to anyone who opens it.
const madeText = "The folder records contains a record store. Remove this file only to start " +
	"with a new store.\n"

// Lost returns an error if the data folder once had a record store and now has none. A data
// folder that never had one is fine. Errors: dataset.ErrDamaged.
func Lost(data string) error {
	made, records := filepath.Join(data, madeFile), filepath.Join(data, dataset.Folder)
	if _, err := os.Lstat(made); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	none, err := dataset.None(records)
	if err != nil || !none {
		return nil //nolint:nilerr // opening it says what is wrong
	}
	return fmt.Errorf("%w: %s is lost or not mounted: it holds no record store, but %s says that "+
		"there was one (remove that file only to start with a new store)", dataset.ErrDamaged,
		records, made)
}

// keepMade creates madeFile, if it does not exist.
func keepMade(data string) error {
	f, err := os.OpenFile(filepath.Join(data, madeFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(madeText)
	return errors.Join(err, f.Sync(), f.Close(), disk.OS().SyncDir(data))
}
