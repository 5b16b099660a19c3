package dataset

import (
	"bytes"
	"encoding/binary"
	"time"
)

const (
	kCompartment = 'c'
	kShared      = 's'
	kLink        = 'l'
	kSharedLink  = 'x'
	kIdentifier  = 'i'
	kURN         = 'u'
	kOwner       = 'o'
	kOrphan      = 'n'
	kPatient     = 'p'
	kSharedOf    = 'h'
	kTouched     = 't'
	kDangling    = 'd'
	kPending     = 'q'
	kFile        = 'f'
	kGeneration  = 'g'
	kVersion     = 'v'
)

// key joins a kind and parts: 'c', "p1", "Observation", "o1". A key with fewer parts than its kind has, and a final "", is
// the prefix of all keys below it.
func key(kind byte, parts ...string) []byte { return appendKey(nil, kind, parts...) }

func appendKey(k []byte, kind byte, parts ...string) []byte {
	k = append(k, kind)
	for i, p := range parts {
		if i > 0 {
			k = append(k, 0)
		}
		k = append(k, p...)
	}
	return k
}

// split takes a key apart again.
func split(k []byte) [][]byte { return bytes.Split(k[1:], []byte{0}) }

// after is the end of the range of keys that begin with prefix.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

const (
	headerSize = 8
	// severalFlag marks a resource of several patients' compartments: a population's export must not list it twice.
	severalFlag = 1 << 63
)

// header is the first bytes of a value.
func header(at time.Time, several bool) uint64 {
	h := uint64(at.UnixMilli())
	if several {
		h |= severalFlag
	}
	return h
}

func decodeValue(v []byte) (at time.Time, line []byte) {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(v) &^ severalFlag)), v[headerSize:]
}

// isSeveral reports whether a value has the flag.
func isSeveral(v []byte) bool { return v[0]&0x80 != 0 }

func encodeValue(at time.Time, several bool, line []byte) []byte {
	v := make([]byte, 0, headerSize+len(line))
	return append(binary.BigEndian.AppendUint64(v, header(at, several)), line...)
}
