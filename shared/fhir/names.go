package fhir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrRepeated is the error for an object that repeats the name of a field, in whatever spelling.
type ErrRepeated struct{ Name string }

func (e ErrRepeated) Error() string { return fmt.Sprintf("an object has two fields %q", e.Name) }

// CheckNames detects an object with a repeated name, for which readers may use either value. It
// leaves syntax errors to the parser. Errors: ErrRepeated.
func CheckNames(doc []byte) error {
	c := Cursor{Unique: true}
	for c.Reset(doc); c.Next(); {
	}
	if repeated, is := errors.AsType[ErrRepeated](c.Err()); is {
		return repeated
	}
	return nil
}

// names holds the names of the open objects, the outer ones first. FHIR objects have few fields,
// which are compared one by one. The names of a large object are in a set.
type names struct {
	list []nameOf
	sets []nameSet // of the large objects, the outer ones first
}

// nameSet holds the names of an object, which start at from in the list.
type nameSet struct {
	from int
	has  map[string]bool
}

// nameOf is a name and a hash.
type nameOf struct {
	sum uint64
	key []byte
}

// manyNames is the number of names from which an object uses a set.
const manyNames = 64

func (n *names) reset() {
	n.list, n.sets = n.list[:0], n.sets[:0]
}

// repeated adds a name to an object, whose names start at from, and reports whether the object
// has it already.
func (n *names) repeated(from int, key []byte) bool {
	sum := sumOf(key)
	own := n.list[from:]
	if len(own) >= manyNames {
		return n.inSet(from, key)
	}
	for i := range own {
		if own[i].sum == sum && bytes.Equal(own[i].key, key) {
			return true
		}
	}
	n.list = append(n.list, nameOf{sum, key})
	return false
}

// inSet is repeated for a large object. The names of nested objects have been removed.
func (n *names) inSet(from int, key []byte) bool {
	if last := len(n.sets) - 1; last < 0 || n.sets[last].from != from {
		has := map[string]bool{}
		for _, before := range n.list[from:] {
			has[string(before.key)] = true
		}
		n.sets = append(n.sets, nameSet{from, has})
	}
	has := n.sets[len(n.sets)-1].has
	if has[string(key)] {
		return true
	}
	has[string(key)] = true
	return false
}

// cut removes the names of a closed object.
func (n *names) cut(from int) {
	if last := len(n.sets) - 1; last >= 0 && n.sets[last].from >= from {
		n.sets = n.sets[:last]
	}
	n.list = n.list[:from]
}

// sumOf is a hash of the length of a name and its first and last bytes.
func sumOf(key []byte) uint64 {
	if len(key) >= 8 {
		first, last := binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[len(key)-8:])
		return first ^ (last*31 + uint64(len(key)))
	}
	var sum uint64
	for _, b := range key {
		sum = sum<<8 | uint64(b)
	}
	return sum
}
