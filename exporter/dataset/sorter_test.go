package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ehi-server/exporter/source"
)

// For any order of sets, deletes and lookups of keys, a sorter returns the last value of each,
// in the order of keys, completely or in parts.
func TestASorterGivesTheLastValueOfEachKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "sorter")
		if err != nil {
			t.Fatal(err)
		}
		s := newSorter(dir, sorting{pile: 300, block: 60, all: 1 << 20, looks: 1 << 20})
		defer func() {
			if err := errors.Join(s.close(), os.Remove(dir)); err != nil { // it is empty
				t.Error(err)
			}
		}()
		want := map[string]string{}
		lookUp := func(k []byte) {
			got, err := s.get(k)
			if err == nil && got != nil {
				_, got = decodeValue(got)
			}
			v, there := want[string(k)]
			if err != nil || string(got) != v || there != (got != nil) {
				t.Fatalf("%q is %q, %v; want %q", k, got, err, v)
			}
		}
		someKey := func() []byte {
			patients := []string{
				"a", "a-b", "ab", "b", "patient-of-a-long-name-1", "patient-of-a-long-name-2",
			}
			patient := rapid.SampledFrom(patients).Draw(t, "patient")
			return key(kCompartment, patient, "Observation",
				fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "id")))
		}
		for range rapid.IntRange(0, 150).Draw(t, "steps") {
			k := someKey()
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				delete(want, string(k))
				err = s.delete(k)
			case 1:
				lookUp(k)
			default:
				line := strings.Repeat("x", rapid.IntRange(0, 400).Draw(t, "length"))
				want[string(k)] = line
				err = s.set(k, &value{at: time.UnixMilli(0), line: []byte(line)})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := s.seal(); err != nil {
			t.Fatal(err)
		}
		lookUp(someKey())
		got := map[string]string{}
		var order []string
		for _, p := range s.parts(rapid.Int64Range(1, 2000).Draw(t, "bytes of a part")) {
			lower, upper := p.keys(kCompartment)
			m, err := s.merging(lower)
			if err != nil {
				t.Fatal(err)
			}
			err = m.before(upper, func(k, v []byte) error {
				_, line := decodeValue(v)
				got[string(k)] = string(line)
				order = append(order, string(k))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if !maps.Equal(got, want) || !slices.IsSorted(order) || len(order) != len(want) {
			t.Fatalf("%d keys in %d steps, want %d", len(got), len(order), len(want))
		}
	})
}

// Data that the disk returns changed ends the import, and never becomes a record.
func TestASorterNoticesWhatADiskChanges(t *testing.T) {
	s := newSorter(t.TempDir(), sorting{pile: 1 << 20, block: 1 << 10, all: 1 << 20})
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	for n := range 100 {
		k := key(kCompartment, "p", "Observation", fmt.Sprint(n))
		if err := s.set(k, &value{line: bytes.Repeat([]byte("x"), 100)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.seal(); err != nil {
		t.Fatal(err)
	}
	file := s.runs[0].file
	for at := int64(0); ; at += 97 {
		var b [1]byte
		if _, err := file.ReadAt(b[:], at); err != nil {
			break
		}
		flip := func() {
			b[0] ^= 1
			if _, err := file.WriteAt(b[:], at); err != nil {
				t.Fatal(err)
			}
		}
		flip()
		m, err := s.merging([]byte{kCompartment})
		if err == nil {
			err = m.before(nil, func(_, _ []byte) error { return nil })
		}
		if !errors.Is(err, errChanged) {
			t.Fatalf("byte %d was changed: %v", at, err)
		}
		flip()
	}
}

// eachRecord counts the resources of compartments.
func eachRecord(s *Store, visit func()) error {
	return each(s.db, []byte{kCompartment}, func(_, _ []byte) error {
		visit()
		return nil
	})
}

// The tables that a killed import has left are removed when the store is opened.
func TestTablesOfAKilledImportAreRemoved(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, sortedPrefix+"123")
	for range 2 {
		s, err := Open(Config{Dir: dir, Bulk: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", left, err)
		}
		if err := os.WriteFile(left, []byte("half of a table"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A first import in bulk writes the resources to their final tables, without other files.
func TestAFirstImportInBulkWritesTheTablesAsTheyStay(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Config{Dir: dir, Bulk: true})
	if err != nil {
		t.Fatal(err)
	}
	s.sorting.pile, s.sorting.part = 64<<10, 64<<10
	var lines strings.Builder
	const patients, each = 40, 50
	for n := range patients * each {
		if n%each == 0 {
			fmt.Fprintf(&lines, `{"resourceType":"Patient","id":"p%d"}`+"\n", n/each)
		}
		const observation = `{"resourceType":"Observation","id":"o%d",` +
			`"subject":{"reference":"Patient/p%d"},` +
			`"note":[{"text":%q}]}`
		fmt.Fprintf(&lines, observation+"\n", n, n%patients, strings.Repeat("text ", 40))
	}
	all := strings.NewReader(lines.String())
	rep, err := s.ImportFrom(t.Context(), "lines", all, source.ImportOptions{Now: time.Now()})
	if err != nil || rep.Problems > 0 {
		t.Fatal(err, rep)
	}
	tables, err := s.db.SSTables()
	if err != nil {
		t.Fatal(err)
	}
	own := 0
	for level, all := range tables {
		for _, one := range all {
			first, last := one.Smallest.UserKey[0], one.Largest.UserKey[0]
			switch {
			case first == kCompartment && last == kCompartment && level == len(tables)-1:
				own++
			case first <= kCompartment && last >= kCompartment:
				t.Errorf("a table of level %d reaches from %q to %q", level, first, last)
			}
		}
	}
	if own < 2 {
		t.Errorf("%d tables of resources alone, want several", own)
	}
	n := 0
	err = eachRecord(s, func() { n++ })
	if err != nil || n != patients*(each+1) {
		t.Errorf("%d resources, %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), sortedPrefix) {
			t.Errorf("%s is left", e.Name())
		}
	}
}
