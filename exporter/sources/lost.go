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

// madeFile lies beside the folder of a record store from when it was made on. So a folder that was lost, or
// is not mounted, is not taken for one that never was.
const madeFile = dataset.Folder + ".made"

// madeText is for who finds the file.
const madeText = "There is a record store in the folder records. Remove this file only to begin with a new one.\n"

// Lost tells a record store that is gone from one that never was: its folder holds none, and the data folder
// says that it did. Errors: dataset.ErrDamaged.
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
	return fmt.Errorf("%w: %s is lost, or not mounted: it holds no record store, and %s says that there was one (remove that file only to begin with a new store)", dataset.ErrDamaged, records, made)
}

// keepMade says in a data folder that it has a record store.
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
