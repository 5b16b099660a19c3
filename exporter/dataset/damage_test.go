package dataset_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/logtest"
)

// A store that has lost one of its files, or a part of one, reports this or is as before. It is
// never treated as new, and no remaining file is removed. This holds for a closed store, and for
// one whose process died.
func TestAStoreThatLostAFileIsNotTakenForNew(t *testing.T) {
	closed, killed := t.TempDir(), t.TempDir()
	store, err := dataset.Open(dataset.Config{Dir: closed})
	if err != nil {
		t.Fatal(err)
	}
	if !store.Fresh() {
		t.Error("a new store is not new")
	}
	err = store.Generate(t.Context(), synthetic.Config{Patients: 3, Resources: 40, Seed: 1},
		time.Now(), func(int, int) {})
	if err := errors.Join(err, os.CopyFS(killed, os.DirFS(closed)), store.Close()); err != nil {
		t.Fatal(err)
	}
	for whole, cut := range map[string]bool{closed: true, killed: false} {
		tried, refused := 0, 0
		for _, name := range names(t, whole) {
			for _, keep := range []float64{-1, 0.5} {
				if keep > 0 && !cut {
					continue // the end of a log that was being written may be missing
				}
				tried++
				if loseOne(t, whole, name, keep) {
					refused++
				}
			}
		}
		if refused == 0 {
			t.Error("no loss was refused")
		}
		t.Logf("%d losses, %d refused", tried, refused)
	}
}

// A store that another version has closed is distinguished from a damaged one, and is not
// changed.
func TestAStoreThatAnotherVersionHasClosedIsNotDamaged(t *testing.T) {
	dir := t.TempDir()
	store, err := dataset.Open(dataset.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "ehi.closed")
	for text, want := range map[string]error{
		`{"LOCK":["of",0,"bytes"]}`:                dataset.ErrNewer,
		`{"LOCK":{"size":{"bytes":0}}}`:            dataset.ErrNewer,
		`{"LOCK":{"size":0`:                        dataset.ErrDamaged,
		`{"LOCK":{"size":0,"sha256":"no base64"}}`: dataset.ErrDamaged,
	} {
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := dataset.Open(dataset.Config{Dir: dir})
		if !errors.Is(err, want) || !strings.Contains(err.Error(), list) {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
		if kept, err := os.ReadFile(list); err != nil || string(kept) != text {
			t.Errorf("%s is left as %s, %v", text, kept, err)
		}
	}
}

// loseOne removes a file from a copy of a store, or truncates it to a share, and reports whether
// the store is refused then.
func loseOne(t *testing.T, whole, lost string, keep float64) (refused bool) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, lost)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if keep < 0 {
		err = os.Remove(path)
	} else {
		err = os.Truncate(path, int64(keep*float64(info.Size())))
	}
	if err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	patients, err := patientsOf(t.Context(), dir)
	switch {
	case err != nil:
		left := slices.DeleteFunc(names(t, dir), func(name string) bool { return name == "LOCK" })
		if before = slices.DeleteFunc(before,
			func(name string) bool { return name == "LOCK" }); !slices.Equal(left, before) {
			t.Errorf("without %s (%v) the store is refused, and has changed from %v to %v", lost,
				keep, before, left)
		}
		if strings.HasPrefix(lost, "marker.manifest.") && !errors.Is(err, dataset.ErrDamaged) {
			t.Errorf("without %s: %v", lost, err)
		}
		return true
	case patients != 3:
		t.Errorf("without %s (%v) the store opens with %d patients of 3", lost, keep, patients)
	}
	return false
}

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		out = append(out, f.Name())
	}
	return out
}

func patientsOf(ctx context.Context, dir string) (int, error) {
	store, err := dataset.Open(dataset.Config{Dir: dir})
	if err != nil {
		return 0, err
	}
	if store.Fresh() {
		return 0, errors.Join(errors.New("it is taken for new"), store.Close())
	}
	list, err := store.Patients(ctx, 10)
	return len(list), errors.Join(err, store.Close())
}

// A folder is created anew if the process ended while it created the store, because it holds
// nothing.
func TestAStoreThatWasBeingMadeIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"LOCK", "MANIFEST-000001"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store, err := dataset.Open(dataset.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if !store.Fresh() {
		t.Error("it is not new")
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// The store's memory says nothing about its disk: Check finds a table that cannot be read any
// more, although everything that was read before still can be.
func TestCheckReadsTheDisk(t *testing.T) {
	dir := t.TempDir()
	config := synthetic.Config{Patients: 3, Resources: 40, Seed: 1}
	store, err := dataset.Open(dataset.Config{Dir: dir})
	if err == nil {
		err = store.Generate(t.Context(), config, time.Now(), func(int, int) {})
	}
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	if store, err = dataset.Open(dataset.Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	// everything is in memory, and the files are open
	if _, err := store.Counts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := store.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal("no table", err)
	}
	aside := filepath.Join(t.TempDir(), "aside")
	// reads of it fail
	if err := errors.Join(os.Rename(tables[0], aside), os.Mkdir(tables[0], 0o700)); err != nil {
		t.Fatal(err)
	}
	await := func(fails bool) (err error) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			if err = store.Check(t.Context()); (err != nil) == fails {
				return err
			}
			if time.Now().After(end) {
				t.Fatalf("Check says %v, want an error: %v", err, fails)
			}
		}
	}
	if err := await(true); !strings.Contains(err.Error(), filepath.Base(tables[0])) {
		t.Errorf("the error does not name the file: %v", err)
	}
	if err := errors.Join(os.Remove(tables[0]), os.Rename(aside, tables[0])); err != nil {
		t.Fatal(err)
	}
	if err := await(false); err != nil {
		t.Error(err)
	}
}

// If the folder of a store accepts no new file, the store does not flush, and the process does
// not end: Pebble would panic, from which nothing recovers. Written data is there when the
// folder is restored.
func TestAFolderThatTakesNoFileEndsNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "records")
	var book logtest.Book
	store, err := dataset.Open(dataset.Config{
		Dir: dir,
		Log: slog.New(slog.NewTextHandler(&book, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	config := synthetic.Config{Patients: 3, Resources: 40, Seed: 1}
	if err := store.Generate(t.Context(), config, time.Now(), func(int, int) {}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil { // creating a file in it fails
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); !strings.Contains(book.String(),
		"log stays as it is"); {
		if time.Now().After(end) {
			t.Fatalf("the log says: %s", book.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	want, err := store.Patients(t.Context(), 10)
	if err := errors.Join(err, store.Close()); err != nil || len(want) != 3 {
		t.Fatal(len(want), err)
	}
	if store, err = dataset.Open(dataset.Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	got, err := store.Patients(t.Context(), 10)
	if err := errors.Join(err, store.Close()); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d patients are there, want %d: %v", len(got), len(want), err)
	}
}
