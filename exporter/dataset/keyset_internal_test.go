package dataset

import (
	"encoding/binary"
	"path/filepath"
	"testing"
)

// A set finds keys that came before, in its batch or in the store. Nothing of it is left: not when
// it is closed, and of a process that was killed not after the next set, or the next import.
func TestAKeysetLeavesNothing(t *testing.T) {
	s, err := Open(Config{Dir: filepath.Join(t.TempDir(), "records")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() // nothing of it counts
	const many = 100_000
	add := func(k *keyset, i int) (rowAt, bool) {
		t.Helper()
		var d digest
		binary.BigEndian.PutUint32(d[:], uint32(i/2))
		first, twice, err := k.add(i%2, d, rowAt{i % 3, i})
		if err != nil {
			t.Fatal(err)
		}
		return first, twice
	}
	left := func() bool {
		t.Helper()
		there, err := some(s.db, []byte{kScratch})
		if err != nil {
			t.Fatal(err)
		}
		return there
	}
	for range 2 { // the first one is as if the process had been killed
		k, err := s.newKeyset()
		if err != nil {
			t.Fatal(err)
		}
		for i := range many {
			if first, twice := add(k, i); twice {
				t.Fatalf("%d is that at %v", i, first)
			}
		}
		for _, i := range []int{0, 1, many / 2, many - 1} {
			if first, twice := add(k, i); !twice || first != (rowAt{i % 3, i}) {
				t.Errorf("%d: %v, %v", i, first, twice)
			}
		}
		if !left() {
			t.Fatal("all is in the batch: this tests nothing")
		}
	}
	k, err := s.newKeyset()
	if err != nil || left() {
		t.Errorf("%v; a new set is not empty", err)
	}
	add(k, 1)
	if err := k.close(); err != nil || left() {
		t.Errorf("%v; something is left", err)
	}
}
