package dataset

import (
	"bytes"
	"cmp"
	"encoding/binary"

	"ehi-server/shared/fhir"
)

// refKind is the kind of a reference, as far as the text tells.
type refKind byte

const (
	refLocal   refKind = iota // type/id
	refName                   // a name of some resource in the store: urn: or Type?identifier=
	refStrange                // it never resolves
	// refLogical is a Reference with an identifier only. It is positioned after that Reference
	// and is not text of the line: its original is the name.
	refLogical
	// refURL is added for an attachment's url and similar fields, which need no repair if they
	// lead nowhere.
	refURL refKind = 4
	// refCanonical is the canonical URL of a definition, which stays unchanged. Its original is
	// the type/id that it refers to if no definition has that URL; "" for none.
	refCanonical refKind = 8
	// refShown is an address in the text of a narrative, which stays unchanged. It is positioned
	// after the narrative, and its original is the type/id.
	refShown refKind = 9
)

func (k refKind) url() bool     { return k&refURL != 0 }
func (k refKind) base() refKind { return k &^ refURL }

// named reports whether the reference has an original.
func (k refKind) named() bool { return k.base() == refName || k == refLogical || k >= refCanonical }

// ref is a string in a resource that refers to another one. Absolute URLs of other servers and
// fragments do not count.
type ref struct {
	start, end int // bounds of the quoted string in the line
	kind       refKind
	// original is the imported JSON string of a refName that has been resolved since.
	original []byte
}

// resolved reports whether the text differs from the imported one.
func (r *ref) resolved() bool { return r.kind.base() == refName && len(r.original) > 0 }

// refTable encodes the references of a line in order. Each has, as varints, its distance from
// the previous one and its length, then a byte for its kind and, if it is named, the length of
// its original and the original.
type refTable []byte

// append adds a reference that follows one ending at last.
func (t refTable) append(last int, r ref) refTable {
	t = binary.AppendUvarint(t, uint64(r.start-last))
	t = binary.AppendUvarint(t, uint64(r.end-r.start))
	t = append(t, byte(r.kind))
	if r.kind.named() {
		t = binary.AppendUvarint(t, uint64(len(r.original)))
		t = append(t, r.original...)
	}
	return t
}

// each visits the references.
func (t refTable) each(visit func(ref)) {
	last := 0
	number := func() int {
		n, used := binary.Uvarint(t)
		t = t[used:]
		return int(n)
	}
	for len(t) > 0 {
		var r ref
		r.start = last + number()
		r.end = r.start + number()
		r.kind = refKind(t[0])
		t = t[1:]
		if r.kind.named() {
			n := number()
			r.original, t = t[:n], t[n:]
		}
		last = r.end
		visit(r)
	}
}

// original returns the line before its references were resolved.
func (v *value) original() []byte {
	var edits []fhir.Edit
	refTable(v.refs).each(func(r ref) {
		if r.resolved() {
			edits = append(edits, fhir.Edit{Start: r.start, End: r.end, With: r.original})
		}
	})
	if edits == nil {
		return v.line
	}
	return fhir.Apply(nil, v.line, edits)
}

// says reports whether a line equals the stored one before its references were resolved, apart
// from white space.
func (v *value) says(line []byte) bool {
	return v.cameAs(line) || bytes.Equal(squeeze(line), squeeze(v.original()))
}

// longer reports whether an equal line has less white space. The shortest one is kept, so that
// the order of the import does not matter.
func (v *value) longer(line []byte) bool {
	mine := v.original()
	return cmp.Or(cmp.Compare(len(mine), len(line)), bytes.Compare(mine, line)) > 0
}

// cameAs reports whether a line is the stored one before its references were resolved.
func (v *value) cameAs(line []byte) bool {
	same, at, from := true, 0, 0 // at is in line, from in v.line
	refTable(v.refs).each(func(r ref) {
		if !same || !r.resolved() {
			return
		}
		before := v.line[from:r.start]
		same = bytes.HasPrefix(line[at:], before) &&
			bytes.HasPrefix(line[at+len(before):], r.original)
		at, from = at+len(before)+len(r.original), r.end
	})
	return same && bytes.Equal(line[at:], v.line[from:])
}
