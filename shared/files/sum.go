package files

import (
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strings"

	"github.com/zeebo/xxh3"
)

// Sum is the checksum of a file as it is stored: an algorithm, a colon, and the digest in
// lower-case hex. "" is one that nobody has taken: outputs of older builds have none. It tells
// damage, not intent: who changes a file on purpose can make another one fit.
type Sum string

// Algorithm is "xxh3", "sha1", or "" where there is no sum.
func (s Sum) Algorithm() string {
	algorithm, _, _ := strings.Cut(string(s), ":")
	return algorithm
}

// Hex is the digest.
func (s Sum) Hex() string {
	_, digest, _ := strings.Cut(string(s), ":")
	return digest
}

// Outputs have XXH3 (64 bits, no seed; the digest is big-endian): SHA-256 takes a quarter of a
// population export's processor time (docs/benchmarks.md). Attachments have the SHA-1 that FHIR
// prescribes for them.
const (
	xxh3Sum = "xxh3"
	sha1Sum = "sha1"
)

func sum(algorithm string, digest []byte) Sum {
	return Sum(algorithm + ":" + hex.EncodeToString(digest))
}

// SHA1Sum is the sum of a digest that a record holds; "" where it holds none.
func SHA1Sum(digest []byte) Sum {
	if len(digest) == 0 {
		return ""
	}
	return sum(sha1Sum, digest)
}

// SumOf is the sum of an output that is in memory.
func SumOf(p []byte) Sum {
	return sum(xxh3Sum, binary.BigEndian.AppendUint64(nil, xxh3.Hash(p)))
}

// NewHash begins the sum of an output that is being written; SumBy ends it.
func NewHash() hash.Hash { return xxh3.New() }

// SumBy is the sum of all that was written to a hash of NewHash.
func SumBy(h hash.Hash) Sum { return sum(xxh3Sum, h.Sum(nil)) }

// hash begins to take the sum again; nil where there is none, or one of an algorithm that this
// build does not know.
func (s Sum) hash() hash.Hash {
	switch s.Algorithm() {
	case xxh3Sum:
		return xxh3.New()
	case sha1Sum:
		return sha1.New()
	}
	return nil
}

// fits reports whether h, which s.hash began, has come to s.
func (s Sum) fits(h hash.Hash) bool { return s.Hex() == hex.EncodeToString(h.Sum(nil)) }
