package pipeline

import (
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"ehi-server/shared/ehi"
)

// encode returns a writer that stores what is written in compressed form. It compresses slab by
// slab without buffering, because a task may have dozens of open files.
func encode(c ehi.Compression, out io.Writer) io.WriteCloser {
	switch c {
	case ehi.Gzip:
		w, err := gzip.NewWriterLevel(out, gzip.StatelessCompression)
		if err != nil { // cannot fail: the level is a constant
			panic(err)
		}
		return w
	case ehi.Zstd:
		return frames{out}
	}
	return plain{out}
}

type plain struct{ io.Writer }

// Close does nothing.
func (plain) Close() error { return nil }

// frames writes each slab as a separate Zstandard frame. A file of several frames is valid (RFC
// 8878 3).
type frames struct{ out io.Writer }

var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)),
		zstd.WithWindowSize(SlabBytes), zstd.WithLowerEncoderMem(true))
	if err != nil { // cannot fail: the options are constants
		panic(err)
	}
	return e
})

var frameBuffers = sync.Pool{New: func() any { return new([]byte) }}

// Write writes one frame.
func (f frames) Write(p []byte) (int, error) {
	buf := frameBuffers.Get().(*[]byte)
	defer frameBuffers.Put(buf)
	*buf = zstdEncoder().EncodeAll(p, (*buf)[:0])
	if _, err := f.out.Write(*buf); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close does nothing.
func (frames) Close() error { return nil }
