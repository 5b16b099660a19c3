package dataset_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
)

// If one bit of a store is flipped, the store reports which file is damaged, or is as before. It
// neither ends the process nor gives other answers. Its messages and logs name no patient. This
// holds for a closed store, and for one whose process died some time after it had written.
func TestAFlippedBitIsSaidAndNamesNobody(t *testing.T) {
	const flips = 6 // in each file
	closed, killed := t.TempDir(), t.TempDir()
	fill := func(patients int, seed uint64) *dataset.Store {
		store, err := dataset.Open(dataset.Config{Dir: closed})
		if err != nil {
			t.Fatal(err)
		}
		err = store.Generate(t.Context(),
			synthetic.Config{Patients: patients, Resources: 40, Seed: seed}, time.Now(),
			func(int, int) {})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	if err := fill(3, 1).Close(); err != nil {
		t.Fatal(err)
	}
	store := fill(4, 2)
	eventually(t, func() bool { return dataset.Logged(store) == 0 })
	eventually(t, func() bool {
		killed = t.TempDir()
		return copyOfOneMoment(t, killed, closed)
	})
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, whole := range []string{closed, killed} {
		want, patients, err := contents(t.Context(), flip(t, whole, "", 0, 0),
			slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		said := 0
		for _, name := range names(t, whole) {
			info, err := os.Stat(filepath.Join(whole, name))
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() == 0 {
				continue
			}
			for range flips {
				at, bit := rnd.Int64N(info.Size()), byte(1)<<rnd.IntN(8)
				dir := flip(t, whole, name, at, bit)
				var log bytes.Buffer
				got, _, err := contents(t.Context(), dir, slog.New(slog.NewTextHandler(&log, nil)))
				switch {
				case errors.Is(err, dataset.ErrDamaged) && strings.Contains(err.Error(), dir):
					said++
				case err != nil:
					t.Errorf("%s, byte %d ^ %#x: %v", name, at, bit, err)
				case !bytes.Equal(got, want):
					t.Errorf("%s, byte %d ^ %#x: another content, and no error", name, at, bit)
				}
				for _, id := range patients {
					if text := fmt.Sprint(log.String(), err); strings.Contains(text, id) {
						t.Errorf("%s is named: %s", id, text)
					}
				}
				if strings.Count(log.String(), "\n") > 20 {
					t.Errorf("%d lines of log: %.2000s", strings.Count(log.String(), "\n"),
						log.String())
				}
			}
		}
		if said == 0 {
			t.Error("no flip was said")
		}
	}
}

// flip copies a store with one bit of a file flipped; none if there is no name.
func flip(t *testing.T, whole, name string, at int64, bit byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
		t.Fatal(err)
	}
	if name == "" {
		return dir
	}
	path := filepath.Join(dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= bit
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// eventually waits until a condition holds.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition does not hold after a minute")
		}
	}
}

// copyOfOneMoment copies the files of an open store. It reports whether the copy is a state that
// the store had, as a killed process leaves it. If tables come or go during the copy, it may have a
// list of tables that names one which it lacks.
func copyOfOneMoment(t *testing.T, to, dir string) bool {
	t.Helper()
	listed, length := names(t, dir), manifests(t, dir)
	err := os.CopyFS(to, os.DirFS(dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil && slices.Equal(listed, names(t, dir)) && length == manifests(t, dir)
}

// manifests returns the length of the lists of a store's tables, which grow when a table is
// added.
func manifests(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	for _, name := range names(t, dir) {
		if !strings.HasPrefix(name, "MANIFEST-") {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
	}
	return bytes
}

// contents returns a checksum of all records of a store and of their owners. It returns the
// first error, that of Check if there is one.
func contents(
	ctx context.Context, dir string, log *slog.Logger,
) (sum []byte, patients []string, err error) {
	store, err := dataset.Open(dataset.Config{Dir: dir, Log: log})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, store.Check(ctx), store.Close()) }()
	list, err := store.Patients(ctx, 100)
	if err != nil {
		return nil, nil, err
	}
	h := sha256.New()
	for _, p := range list {
		patients = append(patients, p.ID)
		r, err := store.Open(ctx, p.ID)
		if err != nil {
			return nil, nil, err
		}
		err = r.Scan(ctx, source.Query{}, func(r source.Resource) error {
			_, err := h.Write(r.Line)
			return err
		})
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, nil, err
		}
	}
	return h.Sum(nil), patients, nil
}
