package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// A Signature is made over a resource as it was, or over what that refers to, and may hold it
// (an enveloping one). Where anything is left out of a resource, or masked in it, none goes with
// it: it would not fit what is left, and may hold what is not. What nothing uses, or leads
// nowhere, is no secret that one could hold.

// altered reports whether the edits of a line leave out or mask what is withheld.
func altered(edits []fhir.Edit) bool {
	return slices.ContainsFunc(edits, func(e fhir.Edit) bool {
		return !isUnused(e.With) && !bytes.Equal(e.With, fhir.UnknownReference)
	})
}

var signedName = newNeedle("ignature")

// unsigned is a resource without its Signatures, wherever they stand. Those of resources within
// it went with these, or stayed.
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

// cutSignatures cuts what R4 calls elements of that type. Resources within are not looked at.
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

// isSignature reports whether a field is a Signature: signature, valueSignature, sourceSignature.
func isSignature(name []byte) bool {
	name = bytes.TrimPrefix(name, []byte("_"))
	return string(name) == "signature" || bytes.HasSuffix(name, []byte("Signature"))
}
