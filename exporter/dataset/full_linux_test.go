package dataset_test

import (
	"bytes"
	"log/slog"
	"os"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/files/filestest"
)

// A store that is closed while its disk is full closes, at worst with an error, and has lost
// nothing. Pebble would end the process if it could not begin another log.
func TestAStoreIsClosedOnAFullDisk(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	filestest.Mount(t, dir, "160m")
	generate := func(patients int, seed uint64) *dataset.Store {
		store, err := dataset.Open(dataset.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		config := synthetic.Config{Patients: patients, Resources: 40, Seed: seed}
		if err := store.Generate(t.Context(), config, time.Now(), func(int, int) {}); err != nil {
			t.Fatal(err)
		}
		return store
	}
	if err := generate(3, 1).Close(); err != nil {
		t.Fatal(err)
	}
	store := generate(4, 2)
	if err := os.CopyFS(other, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	discard := slog.New(slog.DiscardHandler)
	want, _, err := contents(t.Context(), other, discard)
	if err != nil {
		t.Fatal(err)
	}
	clear := filestest.Fill(t, dir, 0)
	if err := store.Close(); err != nil {
		t.Log("the store says:", err)
	}
	clear()
	got, _, err := contents(t.Context(), dir, discard)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("after a stop on a full disk the store has %d bytes of content, want %d: %v",
			len(got), len(want), err)
	}
}
