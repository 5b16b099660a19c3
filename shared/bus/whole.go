package bus

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/zeebo/xxh3"
)

// sumLine is the last line of a file of writeWhole: the XXH3 of the bytes before it.
const sumLine = "\nxxh3 %016x\n"

// errNotWhole means that a file of writeWhole is damaged.
var errNotWhole = errors.New("it is damaged")

// writeWhole writes a file with its checksum, atomically: after a power failure there is either
// the new file or the previous one.
func writeWhole(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s"+sumLine, data, xxh3.Hash(data))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncAt(filepath.Dir(path))
}

// readWhole reads a file of writeWhole, or one of an older build without a checksum. It returns
// nil if there is none.
func readWhole(path string) ([]byte, error) {
	all, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data, _, summed := bytes.Cut(all, []byte("\n"))
	if summed && string(all[len(data):]) != fmt.Sprintf(sumLine, xxh3.Hash(data)) {
		return nil, fmt.Errorf("%s cannot be read: %w", path, errNotWhole)
	}
	return data, nil
}
