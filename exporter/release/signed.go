package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// A Signature covers the original resource, or what it refers to, and an enveloping one contains
// it. If any part of a resource is removed or masked, its Signatures are removed too: they would
// not match, and may contain withheld data. Masks of references that are unused or point nowhere
// hide no secret, so they do not matter.

// altered reports whether the edits of a line remove or mask something withheld.
func altered(edits []fhir.Edit) bool {
	return slices.ContainsFunc(edits, func(e fhir.Edit) bool {
		return !isUnused(e.With) && !bytes.Equal(e.With, fhir.UnknownReference)
	})
}

var signedName = newNeedle("ignature")

// unsigned returns a resource without its Signatures at any depth, except those of inner
// resources, which were handled with these resources.
func (r *reviewed) unsigned(line []byte) ([]byte, error) {
	if !signedName.in(line) && !hasCodedEscapes(line) {
		return line, nil
	}
	within, err := innerResources(&r.walk, line)
	if err != nil {
		return nil, err
	}
	p := &r.pruner
	p.cutSignatures(line, within)
	p.join(line)
	if cap(r.unsign) > mostKept {
		r.unsign = nil
	}
	r.unsign = fhir.Apply(r.unsign[:0], line, p.edits)
	return r.unsign, p.walk.err
}

// cutSignatures removes the elements that R4 names as Signatures, except in inner resources.
func (p *pruner) cutSignatures(line []byte, within []innerResource) {
	p.edits = p.edits[:0]
	w := &p.walk
	for w.reset(line); w.next(); {
		start := w.fieldStart()
		if start < 0 || w.kind == opened || !isSignature(w.key()) {
			continue
		}
		holds := func(in innerResource) bool { return in.start < start && w.end < in.end }
		if slices.ContainsFunc(within, holds) {
			continue
		}
		p.edits = slices.DeleteFunc(p.edits, func(e fhir.Edit) bool {
			return start <= e.Start && e.End <= w.end
		})
		p.edits = append(p.edits, fhir.Edit{Start: start, End: w.end})
	}
}

// isSignature reports whether a field is a Signature: signature, valueSignature,
// sourceSignature.
func isSignature(name []byte) bool {
	name = bytes.TrimPrefix(name, []byte("_"))
	return string(name) == "signature" || bytes.HasSuffix(name, []byte("Signature"))
}
