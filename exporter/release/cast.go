package release

import (
	"bytes"

	"ehi-server/shared/fhir"
)

// The second pass knows lines that are spelled alike, too, see mould. Where a line was released quickly,
// no text of it but a reference had to be masked. Of one that differs from it within texts alone those
// are looked at; what is between them is what it was.

// wholeReference is how an object begins that has a reference alone.
const wholeReference = `{"reference":"`

// castOf reports whether a line is spelled like one that was released quickly, and gathers its edits.
// rest is what follows its type, of that number, and id.
func (r *reviewed) castOf(number uint16, rest []byte) bool {
	if int(number) >= len(r.casts) {
		return false
	}
	all := &r.casts[number]
	if len(all.of) == 0 || !all.worthwhile() {
		return false
	}
	return all.fitting(rest, r) != nil
}

// begins implements filler.
func (r *reviewed) begins(*mould) { r.edits = r.edits[:0] }

// fill implements filler, as plan does it.
func (r *reviewed) fill(m *mould, s *spot, text []byte, at int) bool {
	switch s.kind {
	case referenceText:
		mask := r.mask(text)
		if mask == nil {
			return true
		}
		start, end := r.rest+at-len(wholeReference), r.rest+at+len(text)+len(`"}`)
		r.edits = append(r.edits, fhir.Edit{Start: start, End: end, With: mask})
		return m.isWhole(s)
	case valueText, anyNumber:
		if withheld, _ := r.names(text); withheld {
			return false
		}
	}
	return !r.secret(text) && !r.namesOneWithheld(text, nil)
}

// isWhole reports whether a reference is all of its object.
func (m *mould) isWhole(s *spot) bool {
	return bytes.HasSuffix(m.rest[:s.start], []byte(wholeReference)) && bytes.HasPrefix(m.rest[s.end:], []byte(`"}`))
}

// cast makes a mould of a line that was released quickly.
func (r *reviewed) cast(number uint16, rest []byte) {
	if r.casts == nil {
		r.casts = make([]moulds, len(fhir.Types())+1)
		r.caster = r.policy.examiner()
		r.caster.casts = true
	}
	if int(number) >= len(r.casts) {
		return
	}
	all := &r.casts[number]
	all.misses += 2
	if !all.wanted() || len(rest) > longestMould || containedName.in(rest) {
		return
	}
	x := &r.caster
	x.begin(nil, number, nil)
	made := &mould{rest: bytes.Clone(rest)}
	x.made = made
	ok := x.skim(made.rest, goes)
	x.made = nil
	if !ok {
		return
	}
	for at := range made.spots {
		s := &made.spots[at]
		if s.kind == referenceText && r.mask(made.rest[s.start:s.end]) != nil {
			made.stops = append(made.stops, at)
		}
	}
	all.add(made)
}
