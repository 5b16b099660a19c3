package dataset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"ehi-server/exporter/source"
)

// The documents of a store of an earlier version, and those that were removed from it, are found
// again too. From then on, builds of that version refuse the store.
func TestDocumentsOfAnEarlierLayoutAreFound(t *testing.T) {
	const documents, removed = 100, 30
	s, err := Open(Config{Dir: filepath.Join(t.TempDir(), "records")})
	if err != nil {
		t.Fatal(err)
	}
	load := func(rows string) {
		t.Helper()
		from := t.TempDir()
		err := os.WriteFile(filepath.Join(from, documentIndex),
			[]byte("patient,path,status\n"+rows), 0o600)
		for i := range documents {
			file := filepath.Join(from, fmt.Sprint(i, ".txt"))
			err = errors.Join(err, os.WriteFile(file, []byte("a form"), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
		rep, err := s.Import(t.Context(), []string{from}, source.ImportOptions{Now: time.Now()})
		if err != nil || rep.Problems > 0 {
			t.Fatal(rep.Bad, err)
		}
	}
	held := func(step string) {
		t.Helper()
		n := 0
		err := each(s.db, []byte{kDocument}, func(_, _ []byte) error { n++; return nil })
		if err != nil || n != documents-removed {
			t.Errorf("%s: %d documents, %v", step, n, err)
		}
		layout, err := get(s.db, key(kVersion))
		if err != nil || string(layout) != layoutFindable {
			t.Errorf("%s: layout %s, %v", step, layout, err)
		}
	}
	var current, gone string
	for i := range documents {
		current += fmt.Sprintf("a,%d.txt,\n", i)
		if i < removed {
			gone += fmt.Sprintf("a,%d.txt,entered-in-error\n", i)
		}
	}
	load(current)
	load(gone)
	held("at first")
	b := s.db.NewBatch()
	for _, kind := range []byte{isSame, isSameGone, isFormer} {
		err = errors.Join(err, b.DeleteRange(indexKey(kind), indexKey(kind+1), nil))
	}
	err = errors.Join(err, b.Set(key(kVersion), []byte(layoutMoved), nil), b.Commit(pebble.Sync))
	if err != nil {
		t.Fatal(err)
	}
	load(current)
	held("of an earlier version")
	load(current)
	held("again")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// The keys of stored documents follow from names as exports write them. Whoever changes these
// changes layoutFindable, so that stores get their keys anew.
func TestKeysOfDocumentsStayAsTheyAreStored(t *testing.T) {
	e := &documentEntry{
		Name: strings.Repeat("é", 70) + `a?/b"c.txt`, Title: "Brief: \u202e1/2", Path: "x/y.txt",
		Blob: "b", Created: time.Date(2024, 2, 29, 1, 2, 3, 0, time.UTC), Owner: owner{"", "s", "v"},
	}
	for patient, want := range map[string][3]string{
		"a": {
			"2298fbf20d0bbf5a7771ba1b0fca4501", "6f4e61553d7c123cd98afdd4d364d996",
			"79af7a197fc8fbaa8d06bd051a49ec25",
		},
		"": {
			"762838e44421ec5996ebbd777c35cdf9", "a22a27c9ac1c4989855c8d708decf21d",
			"49cee25b200c72a316115c023af670bf",
		},
	} {
		at := homeAt(patient, e.Owner)
		got := [3]string{
			hexOf(at.byPath(e)), hexOf(at.byAppearance(e, true)), hexOf(at.byAppearance(e, false)),
		}
		if got != want {
			t.Errorf("%q: %q, want %q", patient, got, want)
		}
	}
}
