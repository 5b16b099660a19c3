package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

const (
	kCompartment = 'c'
	kShared      = 's'
	kLink        = 'l'
	kSharedLink  = 'x'
	kIdentifier  = 'i'
	kPlain       = 'P'
	kURN         = 'u'
	kConditional = 'b'
	kCalled      = 'U'
	kSearch      = 'N'
	kOwn         = 'O'
	kBuried      = 'Z'
	kLast        = 'L'
	kOwner       = 'o'
	kUnplaced    = 'n'
	kDerived     = 'r'
	kAbout       = 'a'
	kPlace       = 'j'
	kRelink      = 'k'
	kWaiting     = 'w'
	kWaitsFor    = 'e'
	kPatient     = 'p'
	kStray       = 'y'
	kMerged      = 'm'
	kSharedOf    = 'h'
	kTouched     = 't'
	kDangling    = 'd'
	kPending     = 'q'
	kTombstone   = 'z'
	kFile        = 'f'
	kGeneration  = 'g'
	kVersion     = 'v'
	kRecords     = 'V'
)

// key joins a kind and parts: 'c', "p1", "Observation", "o1". A key with fewer parts than its
// kind has, and a final "", is the prefix of all keys below it.
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

// digest stands for a text of any length in a key; it may hold zero bytes, so that what follows
// it is found by its length.
type digest [16]byte

func digestOf(parts ...string) (d digest) {
	var room [256]byte
	text := room[:0]
	for _, p := range parts {
		text = append(append(text, p...), 0)
	}
	sum := sha256.Sum256(text)
	return digest(sum[:len(d)])
}

// digestKey is the key of a digest, and of the parts that follow it.
func digestKey(kind byte, d digest, parts ...string) []byte {
	k := append([]byte{kind}, d[:]...)
	for i, p := range parts {
		if i > 0 {
			k = append(k, 0)
		}
		k = append(k, p...)
	}
	return k
}

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
	// severalFlag marks a resource of several patients' compartments: a population's export must
	// not list it twice.
	severalFlag = 1 << 63
	// copyFlag marks a resource that came as a copy, in a document for example: where versions
	// are equal, any other one wins.
	copyFlag = 1 << 62
)

// value is a resource as it is stored. The line is final: references are resolved as far as they
// can be. Whatever is derived from a line can be stored beside it in encode, which alone writes
// values.
type value struct {
	at      time.Time // when it was imported
	several bool
	copied  bool
	version []byte // what its entry said of it beyond its meta, see version.encode
	refs    []byte // where its references stand, see refTable
	line    []byte
}

// size is the length of the encoded value.
func (v *value) size() int {
	return headerSize + sizeOfPart(v.version) + sizeOfPart(v.refs) + len(v.line)
}

func sizeOfPart(part []byte) int {
	var length [binary.MaxVarintLen64]byte
	return binary.PutUvarint(length[:], uint64(len(part))) + len(part)
}

func appendPart(dst, part []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(part))), part...)
}

// cutPart takes what appendPart wrote off the front.
func cutPart(b []byte) (part, rest []byte) {
	n, used := binary.Uvarint(b)
	rest = b[used:]
	return rest[:n], rest[n:]
}

// encode appends the value to dst.
func (v *value) encode(dst []byte) []byte {
	h := uint64(v.at.UnixMilli())
	if v.several {
		h |= severalFlag
	}
	if v.copied {
		h |= copyFlag
	}
	dst = binary.BigEndian.AppendUint64(dst, h)
	dst = appendPart(appendPart(dst, v.version), v.refs)
	return append(dst, v.line...)
}

// decode reads a stored value, whose bytes it shares.
func decode(b []byte) value {
	h := binary.BigEndian.Uint64(b)
	version, rest := cutPart(b[headerSize:])
	refs, line := cutPart(rest)
	return value{
		at:      time.UnixMilli(int64(h &^ (severalFlag | copyFlag))),
		several: h&severalFlag != 0,
		copied:  h&copyFlag != 0,
		version: version,
		refs:    refs,
		line:    line,
	}
}

// decodeValue reads when a resource was imported, and its line.
func decodeValue(b []byte) (at time.Time, line []byte) {
	v := decode(b)
	return v.at, v.line
}

// isSeveral reports whether a value has the flag.
func isSeveral(b []byte) bool { return b[0]&0x80 != 0 }
