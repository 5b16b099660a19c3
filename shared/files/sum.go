package files

import (
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strings"

	"github.com/zeebo/xxh3"
)

// Sum is the checksum of a file as it is stored: algorithm, colon, digest in lower-case hex. It
// is "" if there is none: outputs of older builds have no checksum. It detects damage, not
// tampering: whoever changes a file on purpose can compute a new checksum.
type Sum string

// Algorithm returns "xxh3" or "sha1", or "" if there is no checksum.
func (s Sum) Algorithm() string {
	algorithm, _, _ := strings.Cut(string(s), ":")
	return algorithm
}

// Hex returns the digest in hex.
func (s Sum) Hex() string {
	_, digest, _ := strings.Cut(string(s), ":")
	return digest
}

// Outputs use XXH3 (64 bits, no seed, big-endian digest), because SHA-256 takes a quarter of the
// processor time of a population's export (docs/benchmarks.md). Attachments use SHA-1, which
// FHIR prescribes for them.
const (
	xxh3Sum = "xxh3"
	sha1Sum = "sha1"
)

func sum(algorithm string, digest []byte) Sum {
	return Sum(algorithm + ":" + hex.EncodeToString(digest))
}

// SHA1Sum returns the checksum for the digest in a record, or "" if digest is empty.
func SHA1Sum(digest []byte) Sum {
	if len(digest) == 0 {
		return ""
	}
	return sum(sha1Sum, digest)
}

// SumOf returns the checksum of an output in memory.
func SumOf(p []byte) Sum {
	return sum(xxh3Sum, binary.BigEndian.AppendUint64(nil, xxh3.Hash(p)))
}

// NewHash returns a hash for an output that is being written. SumBy returns its checksum.
func NewHash() hash.Hash { return xxh3.New() }

// SumBy returns the checksum of all bytes written to a hash of NewHash.
func SumBy(h hash.Hash) Sum { return sum(xxh3Sum, h.Sum(nil)) }

// hash returns a new hash of the checksum's algorithm, or nil if there is no checksum or this
// build does not know the algorithm.
func (s Sum) hash() hash.Hash {
	switch s.Algorithm() {
	case xxh3Sum:
		return xxh3.New()
	case sha1Sum:
		return sha1.New()
	}
	return nil
}

// fits reports whether the result of h, which s.hash returned, equals s.
func (s Sum) fits(h hash.Hash) bool { return s.Hex() == hex.EncodeToString(h.Sum(nil)) }
