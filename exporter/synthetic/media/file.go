// Package media writes small files of the formats that documents of patients have: text, images
// and medical formats. Each file can be padded to any size up to MaxBytes in a way that its format
// allows, and is generated while it is read. Package native uses it; it knows no patients.
package media

import (
	"embed"
	"io"
)

// Text is the source text of this package, by which builds are told apart (shared/fingerprint).
//
//go:embed *.go
var Text embed.FS

// MaxBytes is the largest size of a file: DICOM and TIFF have lengths of 32 bits.
const MaxBytes = 4 << 30

// File is the content of a file: a head, a repeated filling and a tail. It must not be changed.
type File struct {
	ContentType string
	Extension   string // without a dot

	head, fill, tail []byte
	filled           int64 // bytes of filling
}

// Size returns the size in bytes.
func (f *File) Size() int64 { return int64(len(f.head)) + f.filled + int64(len(f.tail)) }

// Open returns a reader of the content. Closing it does nothing.
func (f *File) Open() (io.ReadCloser, error) { return &reader{of: f}, nil }

// reader reads a File.
type reader struct {
	of *File
	at int64
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		piece := r.rest()
		if len(piece) == 0 {
			break
		}
		m := copy(p[n:], piece)
		n, r.at = n+m, r.at+int64(m)
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// rest returns bytes from the position on, nil at the end.
func (r *reader) rest() []byte {
	f, at := r.of, r.at
	if at < int64(len(f.head)) {
		return f.head[at:]
	}
	at -= int64(len(f.head))
	if at < f.filled {
		piece := f.fill[at%int64(len(f.fill)):]
		return piece[:min(int64(len(piece)), f.filled-at)]
	}
	at -= f.filled
	return f.tail[min(at, int64(len(f.tail))):]
}

// Close implements io.Closer.
func (r *reader) Close() error { return nil }

// pad fills the file up to a size, byte by byte. A file that is large enough stays as it is.
func (f *File) pad(size int64, fill []byte) *File {
	f.fill, f.filled = fill, max(0, size-f.Size())
	return f
}

// padBlocks fills the file up to a size with blocks. block returns one with n bytes of payload;
// it adds frame bytes to them. A file that lacks less than a block's frame stays smaller.
func (f *File) padBlocks(size int64, frame int64, full []byte, block func(n int64) []byte) *File {
	missing := size - f.Size()
	if missing < frame {
		return f
	}
	whole := missing / int64(len(full))
	rest := missing - whole*int64(len(full))
	if rest > 0 && rest < frame && whole > 0 {
		whole--
		rest += int64(len(full))
		half := rest / 2
		f.tail = append(block(half-frame), f.tail...)
		rest -= half
	}
	if rest >= frame {
		f.tail = append(block(rest-frame), f.tail...)
	}
	f.fill, f.filled = full, whole*int64(len(full))
	return f
}

// filling returns n bytes of text.
func filling(n int64) []byte {
	const words = "This line only makes the file as large as it shall be.        \n"
	out := make([]byte, 0, n+int64(len(words)))
	for int64(len(out)) < n {
		out = append(out, words...)
	}
	return out[:n]
}

// blockBytes is the payload of a full block.
const blockBytes = 60_000

var text = filling(blockBytes)
