package files

import (
	"errors"
	"fmt"
	"hash"
	"io"
)

// objectReader implements Object.
type objectReader struct {
	f     Source
	size  int64
	at    int64
	lost  int64 // the offset up to which the disk is no longer read
	parts []part
	base  *Base
	job   string
	found []Damage
}

// part is an output within an object that is being read.
type part struct {
	Extent
	hash hash.Hash // of the bytes read so far
	err  error     // why the disk cannot read it
}

func (p *part) end() int64 { return p.Offset + p.Length }

// OpenObject opens an object. parts are the outputs, or the attachment, that it holds according
// to the records. A change to a part without a checksum cannot be detected while reading, so
// OpenObject fails if such a part cannot be read. Errors: fs.ErrNotExist, ErrDamaged, ErrName.
func (b *Base) OpenObject(job, object string, parts []Extent) (Object, error) {
	if err := Named(job, object); err != nil {
		return nil, err
	}
	f, err := b.backend.Fetch(job, object)
	if err != nil {
		return nil, err
	}
	o := &objectReader{f: f, base: b, job: job}
	if o.size, err = f.Size(); err == nil {
		err = o.prepare(parts)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return o, nil
}

// prepare sets up the parts. A part that is cut off is damaged; a part without a checksum is
// read now.
func (o *objectReader) prepare(parts []Extent) error {
	for _, e := range parts {
		p := part{Extent: e, hash: e.Sum.hash()}
		switch {
		case p.end() > o.size:
			there := max(0, o.size-p.Offset)
			o.damaged(p, Short, fmt.Errorf("%d bytes of %d are there", there, p.Length))
		case p.hash != nil:
			o.parts = append(o.parts, p)
		default:
			r := io.NewSectionReader(o.f, p.Offset, p.Length)
			if _, err := io.Copy(io.Discard, r); err != nil {
				return o.damaged(p, Unreadable, err)
			}
		}
	}
	return nil
}

// damaged records a damaged part and returns its error.
func (o *objectReader) damaged(p part, kind Kind, cause error) error {
	d := Damage{o.job, p.Object, p.Offset, kind}
	o.found = append(o.found, d)
	return o.base.report(d, cause)
}

// Size implements Object.
func (o *objectReader) Size() int64 { return o.size }

// Damaged implements Object.
func (o *objectReader) Damaged() []Damage { return o.found }

// Read implements io.Reader. It returns io.ErrUnexpectedEOF if the file has become shorter, and
// the disk's error if it fails to read bytes that no checksum covers.
func (o *objectReader) Read(b []byte) (int, error) {
	if o.at == o.size {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), o.piece()-o.at)]
	if err := o.read(b); err != nil {
		return 0, err
	}
	for i := range o.parts {
		if p := &o.parts[i]; p.Offset <= o.at && o.at < p.end() {
			_, _ = p.hash.Write(b) // never fails
		}
	}
	o.at += int64(len(b))
	o.judge(int64(len(b)))
	return len(b), nil
}

// piece returns where the next bytes stop belonging to the same parts.
func (o *objectReader) piece() int64 {
	end := o.size
	for _, p := range o.parts {
		for _, edge := range [...]int64{p.Offset, p.end()} {
			if edge > o.at {
				end = min(end, edge)
			}
		}
	}
	return end
}

// read fills b with the next bytes. If the disk fails to read a part, the rest of the part is
// zeros.
func (o *objectReader) read(b []byte) error {
	clear(b)
	if o.at < o.lost {
		return nil
	}
	n, err := o.f.ReadAt(b, o.at)
	switch {
	case n == len(b):
		return nil
	case err == nil, errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	clear(b)
	for i := range o.parts {
		if p := &o.parts[i]; p.Offset <= o.at && o.at < p.end() {
			p.err, o.lost = err, max(o.lost, p.end())
		}
	}
	if o.at >= o.lost {
		return err // no part has a checksum to detect the loss
	}
	return nil
}

// judge checks the parts that end within the last n bytes against their checksums.
func (o *objectReader) judge(n int64) {
	for i := range o.parts {
		p := &o.parts[i]
		if p.end() != o.at || n == 0 {
			continue
		}
		switch {
		case p.err != nil:
			_ = o.damaged(*p, Unreadable, p.err) // recorded in found
		case !p.Sum.fits(p.hash):
			_ = o.damaged(*p, Changed, errSum) // recorded in found
		}
	}
}

// Close releases the file.
func (o *objectReader) Close() error { return o.f.Close() }
