package fhir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrRepeated is the error of an object that has two fields of one name, however that is spelled.
type ErrRepeated struct{ Name string }

func (e ErrRepeated) Error() string { return fmt.Sprintf("an object has two fields %q", e.Name) }

// CheckNames looks for an object with two fields of one name, of which each reader may take
// another. What is no JSON is left to who reads it. Errors: ErrRepeated.
func CheckNames(doc []byte) error {
	c := Cursor{Unique: true}
	for c.Reset(doc); c.Next(); {
	}
	if repeated, is := errors.AsType[ErrRepeated](c.Err()); is {
		return repeated
	}
	return nil
}

// names are those of the objects that are open, the outer ones first. Objects of FHIR have few
// fields, which are compared one by one; of a large object they are kept in a set.
type names struct {
	list []nameOf
	sets []nameSet // of the large objects, the outer ones first
}

// nameSet is the names of an object, which begin at from in the list.
type nameSet struct {
	from int
	has  map[string]bool
}

// nameOf is a name, and a number that differs for nearly all different names.
type nameOf struct {
	sum uint64
	key []byte
}

// manyNames is from how many names on an object's are kept in a set.
const manyNames = 64

func (n *names) reset() {
	n.list, n.sets = n.list[:0], n.sets[:0]
}

// repeated adds a name to an object, whose names begin at from, and reports whether it has it
// already.
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

// inSet is repeated for a large object. The names of those within it are gone.
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

// cut leaves out the names of an object that is closed.
func (n *names) cut(from int) {
	if last := len(n.sets) - 1; last >= 0 && n.sets[last].from >= from {
		n.sets = n.sets[:last]
	}
	n.list = n.list[:from]
}

// sumOf is made of the first and the last bytes of a name, and its length.
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
