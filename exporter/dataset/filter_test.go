package dataset

import (
	"encoding/binary"
	"testing"
)

func numberedKey(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte("o"), n) }

func TestAFilterThatHasGrownLacksNoKey(t *testing.T) {
	const keys = smallFilterKeys + smallFilterKeys/4
	f := newFilter()
	for n := range uint64(keys) {
		f.add(numberedKey(n))
	}
	if f.older == nil {
		t.Fatal("it has not grown")
	}
	for n := range uint64(keys) {
		if f.lacks(numberedKey(n)) {
			t.Fatalf("key %d was added and is lacked", n)
		}
	}
	wrong := 0
	for n := range uint64(keys) {
		if !f.lacks(numberedKey(keys + n)) {
			wrong++
		}
	}
	if wrong > keys/100 {
		t.Errorf("wrong about %d of %d keys; want at most one in a hundred", wrong, keys)
	}
}

func TestAFilterDoesNotGrowByKeysThatItHas(t *testing.T) {
	f := newFilter()
	for range smallFilterKeys + 1 {
		f.add(numberedKey(7))
	}
	if f.older != nil {
		t.Error("one key made it grow")
	}
}
