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
	lost  int64 // up to where the disk is not asked any more
	parts []part
	base  *Base
	job   string
	found []Damage
}

// part is an output in an object that is being read.
type part struct {
	Extent
	hash hash.Hash // of what was read of it
	err  error     // why the disk does not give it
}

func (p *part) end() int64 { return p.Offset + p.Length }

// OpenObject opens an object. parts are the outputs, or the attachment, that records say lie in it.
// One without a sum cannot show that it was changed, so an object of which such a part cannot be
// read is not opened. Errors: fs.ErrNotExist, ErrDamaged, ErrName.
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

// prepare notes the parts. One that is not there to its end is damaged; one without a sum is read
// now.
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

// damaged takes note of a damaged part, and gives the error of it.
func (o *objectReader) damaged(p part, kind Kind, cause error) error {
	d := Damage{o.job, p.Object, p.Offset, kind}
	o.found = append(o.found, d)
	return o.base.report(d, cause)
}

// Size implements Object.
func (o *objectReader) Size() int64 { return o.size }

// Damaged implements Object.
func (o *objectReader) Damaged() []Damage { return o.found }

// Read implements io.Reader. Errors: io.ErrUnexpectedEOF where the file has become shorter; the
// disk's, where it gives no more of what has no sum.
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

// piece is where the bytes end that lie in the same parts as those at hand.
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

// read fills b with what comes next: zeros for the rest of a part that the disk does not give.
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
		return err // of no part that could show it
	}
	return nil
}

// judge holds the parts to their sums that the last n bytes ended.
func (o *objectReader) judge(n int64) {
	for i := range o.parts {
		p := &o.parts[i]
		if p.end() != o.at || n == 0 {
			continue
		}
		switch {
		case p.err != nil:
			_ = o.damaged(*p, Unreadable, p.err) // it is in found
		case !p.Sum.fits(p.hash):
			_ = o.damaged(*p, Changed, errSum) // it is in found
		}
	}
}

// Close releases the file.
func (o *objectReader) Close() error { return o.f.Close() }
