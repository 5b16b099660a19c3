package dataset

import (
	"bytes"
	"cmp"
	"encoding/binary"

	"ehi-server/shared/fhir"
)

// refKind says what a reference is, as far as that can be told without the store.
type refKind byte

const (
	refLocal   refKind = iota // type/id
	refName                   // what some resource of the store may be called: urn: or Type?identifier=
	refStrange                // leads nowhere, and never will
	// refLogical is a Reference that names a resource by an identifier alone. It stands behind
	// that Reference and is no text of the line: its original is the name.
	refLogical
	// refURL is added for an attachment's url and its like: one that leads nowhere is no
	// Reference that must be repaired.
	refURL refKind = 4
	// refCanonical is the canonical URL of a definition, which stays as it is. Its original is the
	// type/id that it leads to where no definition has that URL; "" for none.
	refCanonical refKind = 8
	// refShown is what a narrative shows or links, in its text, which stays as it is: it stands
	// behind that, and its original is the type/id.
	refShown refKind = 9
)

func (k refKind) url() bool     { return k&refURL != 0 }
func (k refKind) base() refKind { return k &^ refURL }

// named reports whether it has an original.
func (k refKind) named() bool { return k.base() == refName || k == refLogical || k >= refCanonical }

// ref is a string of a resource that refers to another one; absolute URLs of other servers and
// fragments are none.
type ref struct {
	start, end int // of the string in the line, with its quotes
	kind       refKind
	// original is the JSON string that stood there when the resource came, where a refName was
	// resolved since.
	original []byte
}

// resolved reports whether another text stands there than the one that came.
func (r *ref) resolved() bool { return r.kind.base() == refName && len(r.original) > 0 }

// refTable is the references of a line in their order. Each is, as varints: its distance from
// the one before it, its length; then a byte for its kind, and for one that is named the length
// of its original and that.
type refTable []byte

// append adds a reference that follows one that ended at last.
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

// original is the line before its references were resolved.
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

// says reports whether a line says what the stored one did before its references were resolved,
// with whatever space between its tokens.
func (v *value) says(line []byte) bool {
	return v.cameAs(line) || bytes.Equal(squeeze(line), squeeze(v.original()))
}

// longer reports whether a line that says the same says it with less space, so that it is kept in
// whatever order both come.
func (v *value) longer(line []byte) bool {
	mine := v.original()
	return cmp.Or(cmp.Compare(len(mine), len(line)), bytes.Compare(mine, line)) > 0
}

// cameAs reports whether a line is what the stored one was before its references were resolved.
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
