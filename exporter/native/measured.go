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
	sha1 hash.Hash
	sum  hash.Hash // nil where the store takes its own
}

func newMeasured(to io.Writer, sum bool) *measured {
	m := &measured{to: to, sha1: sha1.New()}
	if sum {
		m.sum = files.NewHash()
	}
	return m
}

// Write implements io.Writer.
func (m *measured) Write(p []byte) (int, error) {
	n, err := m.to.Write(p)
	_, _ = m.sha1.Write(p[:n]) // hashes never fail
	if m.sum != nil {
		_, _ = m.sum.Write(p[:n])
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
