package kinds_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source/kinds"
)

// A records folder that is missing, empty or not mounted counts as damage. No command creates a
// new store in its place, which would be filled with demo patients or backed up as if it were
// complete.
func TestALostRecordStoreIsNeverANewOne(t *testing.T) {
	for name, lose := range map[string]func(records string) error{
		"gone": os.RemoveAll,
		"emptied": func(records string) error {
			return errors.Join(os.RemoveAll(records), os.Mkdir(records, 0o700))
		},
		"all but its lock": func(records string) error {
			return errors.Join(os.RemoveAll(records), os.Mkdir(records, 0o700),
				os.WriteFile(filepath.Join(records, "LOCK"), nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			records := filepath.Join(data, dataset.Folder)
			if err := kinds.Lost(data); err != nil {
				t.Fatalf("a data folder that is new: %v", err)
			}
			s := open(t, data)
			if !s.Fresh() {
				t.Error("a new store is not new")
			}
			if err := errors.Join(s.Close(), lose(records)); err != nil {
				t.Fatal(err)
			}
			// the first attempt must not leave anything that the second one takes for a store
			for range 2 {
				_, err := kinds.Store(kinds.Config{Data: data})
				if !errors.Is(err, dataset.ErrDamaged) || !strings.Contains(err.Error(), records) {
					t.Errorf("the store is opened, or its folder not named: %v", err)
				}
			}
			if err := kinds.Lost(data); !errors.Is(err, dataset.ErrDamaged) {
				t.Errorf("it is not called lost: %v", err)
			}
			if err := os.Remove(filepath.Join(data, "records.made")); err != nil {
				t.Fatal(err)
			}
			if err := open(t, data).Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func open(t *testing.T, data string) *dataset.Store {
	t.Helper()
	s, err := kinds.Store(kinds.Config{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
