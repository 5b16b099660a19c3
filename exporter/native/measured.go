package native

import (
	"context"
	"crypto/sha1"
	"hash"
	"io"
	"sync/atomic"

	"ehi-server/shared/files"
)

// measured counts and hashes what is written through it.
type measured struct {
	to   io.Writer
	pace *pace
	size int64
	sha1 hash.Hash // nil for none
	sum  hash.Hash // nil where the store takes its own
}

// plain returns a writer that takes no hash.
func (p *pace) plain(to io.Writer) *measured { return &measured{to: to, pace: p} }

// hashed returns a writer that takes the SHA-1.
func (p *pace) hashed(to io.Writer) *measured {
	return &measured{to: to, pace: p, sha1: sha1.New()}
}

// again begins to measure other content.
func (m *measured) again(to io.Writer) {
	m.to, m.size = to, 0
	for _, h := range [...]hash.Hash{m.sha1, m.sum} {
		if h != nil {
			h.Reset()
		}
	}
}

// summed returns a writer that takes the SHA-1 and the checksum of the store.
func (p *pace) summed(to io.Writer) *measured {
	return &measured{to: to, pace: p, sha1: sha1.New(), sum: files.NewHash()}
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
	if err := m.pace.pass(len(p)); err != nil {
		return 0, err
	}
	n, err := m.to.Write(p)
	for _, h := range [...]hash.Hash{m.sha1, m.sum} {
		if h != nil {
			_, _ = h.Write(p[:n]) // hashes never fail
		}
	}
	m.size += int64(n)
	return n, err
}

// pace lets other work go first, and ends with its context, once for each copyBytes written. One
// goroutine uses it.
type pace struct {
	ctx   context.Context
	yield func(ctx context.Context) error
	moved *atomic.Int64 // bytes so far; nil if nobody looks
	left  int
	buf   []byte // of copied
}

// pass is called before n bytes are written.
func (p *pace) pass(n int) error {
	if p.moved != nil {
		p.moved.Add(int64(n))
	}
	if p.left -= n; p.left > 0 {
		return nil
	}
	p.left = copyBytes
	if err := p.ctx.Err(); err != nil || p.yield == nil {
		return err
	}
	return p.yield(p.ctx)
}

// copied copies content in pieces of a slab, through a buffer that all copies share.
func (p *pace) copied(to io.Writer, from io.Reader) (int64, error) {
	if p.buf == nil {
		p.buf = make([]byte, copyBytes)
	}
	// only Read and Write are visible, so that the pieces have this size
	return io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, p.buf)
}

// copyBytes is the size of the pieces of a copy.
const copyBytes = 256 << 10
