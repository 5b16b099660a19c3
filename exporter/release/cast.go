package release

import (
	"bytes"

	"ehi-server/shared/fhir"
)

// The second pass also recognizes lines with the same structure, see mould. If a line was
// released quickly, nothing but its references had to be masked. In a line that differs from it
// only within texts, it is enough to check these texts; everything between them is identical.

// wholeReference is the beginning of an object that contains only a reference.
const wholeReference = `{"reference":"`

// castOf reports whether a line has the structure of a line that was released quickly, and
// gathers its edits. number is the line's type, and rest follows its type and id.
func (r *reviewed) castOf(number uint16, rest []byte) bool {
	if int(number) >= len(r.casts) {
		return false
	}
	all := &r.casts[number]
	if len(all.of) == 0 || !all.worthwhile() {
		return false
	}
	return all.fitting(rest, r, &r.latest) != nil
}

// fill implements filler, with the same result as plan.
func (r *reviewed) fill(m *mould, rest []byte) bool {
	r.edits = r.edits[:0]
	for i, at := range m.stops {
		s, f := &m.spots[at], &m.found[i]
		text := rest[f.at:f.end]
		switch s.kind {
		case referenceText:
			mask := r.maskFound(s, f, text)
			if mask == nil {
				continue
			}
			if !s.whole {
				return false
			}
			start, end := r.rest+int(f.at)-len(wholeReference), r.rest+int(f.end)+len(`"}`)
			r.edits = append(r.edits, fhir.Edit{Start: start, End: end, With: mask})
			continue
		case sourceText:
			if r.leadsToWithheld(text) {
				return false
			}
		case valueText, anyNumber:
			if withheld, _ := r.names(text); withheld {
				return false
			}
		}
		if f.marks.mayHide() && isDisguised(text) {
			return false
		}
		if r.secret(text) || f.marks&(slashMark|percentMark) != 0 && r.namesOneWithheld(text, nil) {
			return false
		}
	}
	return true
}

// maskFound is mask for a reference that a mould found.
func (r *reviewed) maskFound(s *spot, f *found, text []byte) []byte {
	if f.id == 0 || r.alone || r.called != nil {
		return r.mask(text)
	}
	if r.resolved && !r.types.has(s.number) {
		return nil
	}
	id := text[f.id-f.at:]
	known := &r.masks[slotOf(id)%uint32(len(r.masks))]
	if known.typ != s.number || string(known.id) != string(id) {
		known.typ, known.id, known.mask =
			s.number, append(known.id[:0], id...), r.maskLocal(s.number, id)
	}
	return known.mask
}

// knownMask is the replacement for References to a resource; nil means that they are not masked.
type knownMask struct {
	typ  uint16
	id   []byte
	mask []byte
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

// castSpot adds a reference to the mould that is being made.
func (x *examiner) castSpot(text, rest []byte) {
	s := x.spot(referenceText, text, rest)
	if s == nil {
		return
	}
	line := x.made.rest
	before, whole := bytes.CutSuffix(line[:s.start], []byte(wholeReference))
	s.reference = &reference{
		whole: whole && bytes.HasPrefix(line[s.end:], []byte(`"}`)) && !ofCodeable(before),
	}
	if typ, id, ok := fhir.Local(text); ok && len(typ)+1+len(id) == len(text) {
		s.typ, s.number = string(text[:len(typ)+1]), uint16(fhir.TypeNumber(typ))
	}
}
