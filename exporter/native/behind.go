package native

import (
	"crypto/sha1"
	"hash"
	"io"
)

const (
	// behindBytes is the size of the buffers of a behind, in bytes.
	behindBytes = 256 << 10
	// behindBuffers is how many of them there are: one is filled while others are written.
	behindBuffers = 4
)

// buffers are those of writers that have ended.
var buffers = make(spare[[]byte], 2*behindBuffers)

func newBuffer() []byte { return make([]byte, 0, behindBytes) }

// behind hashes and writes what it takes in a goroutine of its own, while the next bytes are read
// or generated. It begins the goroutine when the first buffer is full. One goroutine uses it.
type behind struct {
	to   io.Writer
	sha1 hash.Hash
	size int64 // of what it took, in bytes

	buf     []byte
	buffers int           // that exist
	full    chan []byte   // nil without a goroutine
	free    chan []byte   // buffers that are written
	failed  chan struct{} // closed after err is set
	ended   chan struct{}
	err     error
}

func newBehind(to io.Writer) *behind {
	return &behind{to: to, sha1: sha1.New(), buf: buffers.take(newBuffer), buffers: 1}
}

// Write implements io.Writer. An error may be that of bytes of an earlier call.
func (b *behind) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), cap(b.buf)-len(b.buf))
		b.buf = append(b.buf, p[:k]...)
		b.size += int64(k)
		n, p = n+k, p[k:]
		if len(b.buf) == cap(b.buf) {
			if err := b.next(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// next passes the full buffer on and takes an empty one.
func (b *behind) next() error {
	if b.full == nil {
		b.full = make(chan []byte, behindBuffers)
		b.free = make(chan []byte, behindBuffers)
		b.failed, b.ended = make(chan struct{}), make(chan struct{})
		go b.run()
	}
	b.full <- b.buf
	if b.buf = nil; b.buffers < behindBuffers {
		select {
		case b.buf = <-b.free:
		default:
			b.buf = buffers.take(newBuffer)
			b.buffers++
		}
	} else {
		b.buf = <-b.free
	}
	select {
	case <-b.failed:
		return b.err
	default:
		return nil
	}
}

// run writes full buffers until there are no more. After an error, it only returns them.
func (b *behind) run() {
	defer close(b.ended)
	failed := false
	for p := range b.full {
		if !failed {
			if err := b.put(p); err != nil {
				failed, b.err = true, err
				close(b.failed)
			}
		}
		b.free <- p[:0]
	}
}

func (b *behind) put(p []byte) error {
	_, _ = b.sha1.Write(p) // hashes never fail
	_, err := b.to.Write(p)
	return err
}

// Close ends the goroutine and writes what is left. It returns the first error of a write. A second
// call does nothing.
func (b *behind) Close() error {
	b.stop()
	if b.err == nil && len(b.buf) > 0 {
		b.err = b.put(b.buf)
	}
	if b.buf != nil {
		buffers.give(b.buf[:0])
		b.buf = nil
	}
	return b.err
}

// stop ends the goroutine, and leaves what the last buffer holds.
func (b *behind) stop() {
	if b.full != nil {
		close(b.full)
		<-b.ended
		for range len(b.free) {
			buffers.give(<-b.free)
		}
		b.full, b.free = nil, nil
	}
}

// digest returns the SHA-1 of everything, after Close.
func (b *behind) digest() []byte { return b.sha1.Sum(nil) }
