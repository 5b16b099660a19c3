package native

import (
	"crypto/sha1"
	"hash"
	"io"

	"ehi-server/shared/files"
)

// measured counts and hashes what is written through it.
type measured struct {
	to   io.Writer
	size int64
	sha1 hash.Hash // nil for none
	sum  hash.Hash // nil where the store takes its own
}

// hashed returns a writer that takes the SHA-1.
func hashed(to io.Writer) *measured { return &measured{to: to, sha1: sha1.New()} }

// summed returns a writer that takes the SHA-1 and the checksum of the store.
func summed(to io.Writer) *measured {
	return &measured{to: to, sha1: sha1.New(), sum: files.NewHash()}
}

// digest returns the SHA-1; nil if none was taken.
func (m *measured) digest() []byte {
	if m.sha1 == nil {
		return nil
	}
	return m.sha1.Sum(nil)
}

// Write implements io.Writer.
func (m *measured) Write(p []byte) (int, error) {
	n, err := m.to.Write(p)
	for _, h := range [...]hash.Hash{m.sha1, m.sum} {
		if h != nil {
			_, _ = h.Write(p[:n]) // hashes never fail
		}
	}
	m.size += int64(n)
	return n, err
}

// copied copies content in pieces of a slab.
func copied(to io.Writer, from io.Reader) (int64, error) {
	buf := make([]byte, copyBytes)
	// only Read and Write are visible, so that the pieces have this size
	return io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buf)
}

// copyBytes is the size of the pieces of a copy.
const copyBytes = 256 << 10
