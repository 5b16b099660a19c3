package files

import (
	"errors"
	"fmt"
	"hash"
	"io"
)

// reader implements Reader over the bytes of an object.
type reader struct {
	section *io.SectionReader
	f       Source
	sum     Sum
	// of all bytes from the start; nil if they were not all read, or without a checksum
	hash   hash.Hash
	at     int64
	err    error // the damage found
	report func(Kind, error) error
}

func newReader(f Source, e Extent, report func(Kind, error) error) *reader {
	return &reader{
		section: io.NewSectionReader(f, e.Offset, e.Length),
		f:       f,
		sum:     e.Sum,
		hash:    e.Sum.hash(),
		report:  report,
	}
}

// Size implements Reader.
func (r *reader) Size() int64 { return r.section.Size() }

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.section.Read(p)
	r.at += int64(n)
	if r.hash != nil {
		_, _ = r.hash.Write(p[:n]) // never fails
	}
	switch end := r.at == r.Size(); {
	case err != nil && !errors.Is(err, io.EOF):
		r.err = r.report(Unreadable, err)
	case err != nil && !end:
		r.err = r.report(Short, io.ErrUnexpectedEOF)
	case end && n > 0 && r.hash != nil && !r.sum.fits(r.hash):
		r.err = r.report(Changed, errSum)
	default:
		return n, err
	}
	return 0, r.err
}

var errSum = errors.New("the bytes do not have the sum that was taken when they were written")

// Seek implements io.Seeker.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	at, err := r.section.Seek(offset, whence)
	if err != nil {
		return at, err
	}
	r.at, r.hash = at, nil
	if at == 0 {
		r.hash = r.sum.hash()
	}
	return at, nil
}

// Close implements io.Closer.
func (r *reader) Close() error { return r.f.Close() }

// open opens an extent. Errors: fs.ErrNotExist, ErrDamaged.
func (b *Base) open(job string, e Extent) (Reader, error) {
	f, err := b.backend.Fetch(job, e.Object)
	if err != nil {
		return nil, err
	}
	report := func(kind Kind, cause error) error {
		return b.report(Damage{job, e.Object, e.Offset, kind}, cause)
	}
	size, err := f.Size()
	if end := e.Offset + e.Length; err == nil && size < end {
		err = report(Short, fmt.Errorf("%s.%s is %d bytes long, %d expected: %w",
			job, e.Object, size, end, io.ErrUnexpectedEOF))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return newReader(f, e, report), nil
}
