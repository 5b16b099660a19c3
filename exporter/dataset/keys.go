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

	kDocument  = 'D'
	kDocuments = 'M'
	kBlob      = 'F'
	kLoose     = 'C'
	kListed    = 'E'
	kIndexed   = 'J'
	kNamed     = 'A'
	kNative    = 'Y'
	kUprooted  = 'H'
	kTables    = 'T'
	kRow       = 'R'
	kWaitRow   = 'Q'
	kRowIndex  = 'X'
	kUnchecked = 'G'
	kPass      = 'W'
	kScratch   = '0'
	kLost      = '1'
)

// key joins a kind and parts: 'c', "p1", "Observation", "o1". With fewer parts than the kind has
// and a final "", the result is the prefix of all keys below it.
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

// split splits a key into its parts.
func split(k []byte) [][]byte { return bytes.Split(k[1:], []byte{0}) }

// digest represents a text of any length in a key. It may contain zero bytes, so readers find
// the next part by the digest's length.
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

// digestKey returns a key with a digest and the parts that follow it.
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

// after returns the end of the range of keys with a prefix.
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
	// severalFlag marks a resource in several patients' compartments. A population's export must
	// list it only once.
	severalFlag = 1 << 63
	// copyFlag marks a resource that was imported as a copy, for example in a document. If
	// versions are equal, a resource that is not a copy wins.
	copyFlag = 1 << 62
	// movedFlag marks a resource whose line has stand-ins for data, see source.Moved.
	movedFlag = 1 << 61
)

// value is a stored resource. The line is final: its references are resolved as far as possible.
// Only encode writes values, so data derived from a line can be stored beside it there.
type value struct {
	at      time.Time // import time
	several bool
	copied  bool
	moved   bool
	version []byte // its state according to its entry, beyond meta; see version.encode
	refs    []byte // the positions of its references, see refTable
	line    []byte
}

// size returns the length of the encoded value.
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

// cutPart splits off a part written by appendPart.
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
	if v.moved {
		h |= movedFlag
	}
	dst = binary.BigEndian.AppendUint64(dst, h)
	dst = appendPart(appendPart(dst, v.version), v.refs)
	return append(dst, v.line...)
}

// decode reads a stored value. The result shares its bytes.
func decode(b []byte) value {
	h := binary.BigEndian.Uint64(b)
	version, rest := cutPart(b[headerSize:])
	refs, line := cutPart(rest)
	return value{
		at:      time.UnixMilli(int64(h &^ (severalFlag | copyFlag | movedFlag))),
		several: h&severalFlag != 0,
		copied:  h&copyFlag != 0,
		moved:   h&movedFlag != 0,
		version: version,
		refs:    refs,
		line:    line,
	}
}

// decodeValue reads the import time and the line of a resource.
func decodeValue(b []byte) (at time.Time, line []byte) {
	v := decode(b)
	return v.at, v.line
}

// isSeveral reports whether a value has severalFlag.
func isSeveral(b []byte) bool { return b[0]&0x80 != 0 }

// isMoved reports whether a value has movedFlag.
func isMoved(b []byte) bool { return b[0]&0x20 != 0 }
