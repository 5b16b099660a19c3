package native

import "io"

// listing is the list of an archive, which follows everything that it names. Its chunks are shared
// by all exports: lists that each grow by themselves would be copied again and again.
type listing struct {
	chunks []*chunk
	used   int // bytes of the last chunk
}

// chunk is a part of a listing.
type chunk [64 << 10]byte

var chunks = make(spare[*chunk], 64)

func newChunk() *chunk { return new(chunk) }

// add appends a line.
func (l *listing) add(line []byte) {
	for len(line) > 0 {
		if len(l.chunks) == 0 || l.used == len(chunk{}) {
			l.chunks, l.used = append(l.chunks, chunks.take(newChunk)), 0
		}
		n := copy(l.chunks[len(l.chunks)-1][l.used:], line)
		l.used, line = l.used+n, line[n:]
	}
}

// moveTo writes the lines and gives the chunks back, also after an error.
func (l *listing) moveTo(w io.Writer) (err error) {
	for i, c := range l.chunks {
		n := len(c)
		if i == len(l.chunks)-1 {
			n = l.used
		}
		if err == nil {
			_, err = w.Write(c[:n])
		}
		chunks.give(c)
	}
	l.chunks = nil
	return err
}
