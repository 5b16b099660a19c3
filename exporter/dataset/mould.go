package dataset

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// Most lines of a file have the same structure as an earlier one: the same names, brackets and
// texts in the same order, except for some texts and numbers. So some examined lines are kept as
// moulds. If a line differs from a mould only within plain texts and numbers, it is valid JSON
// without duplicate names, like the mould, and its facts are at the same places. Comparing two
// lines is faster than a walk.

// mould is such a line.
type mould struct {
	line  []byte
	typ   string
	spots []spot  // where lines may differ from it, in order
	stops []int   // indexes of spots where lines differed, or that are facts
	found []spot  // the text at each stop in the current line
	facts []event // in order
}

// spot is the position of a text, without its quotes, or of another scalar.
type spot struct {
	start, end int
	text       bool
}

// event is a fact that a text states, or the end of an element that contains facts.
type event struct {
	kind eventKind
	spot int    // index of the spot in the mould
	path string // of a Reference
}

type eventKind byte

// The kinds up to isNarrative concern references.
const (
	isReference eventKind = iota
	isURL
	isCanonical // names a definition
	isNarrative
	isID
	isUpdated
	isVersionID
	isDefinition // its own canonical URL
	isSystem
	isValue
	endsIdentifier
)

const (
	longestMould  = 4096 // bytes; longer lines are rarely alike
	mouldsOfAType = 8
	// mostMisses is the surplus of lines that fitted no mould, over lines that fitted one, at
	// which comparing stops.
	mostMisses = 64
)

// moulds are the moulds of a type, most recently used first.
type moulds struct {
	of     []*mould
	misses int
	lines  int // lines that could have become moulds
}

// wanted reports whether to make a mould of a line that fits none: for every second line, and
// less often if that displaces another mould.
func (m *moulds) wanted() bool {
	if m.misses >= mostMisses {
		return false
	}
	m.misses++
	m.lines++
	if len(m.of) < mouldsOfAType {
		return m.lines%2 == 0
	}
	return m.lines%8 == 0
}

// fitting returns the mould that a line fits, or nil.
func (m *moulds) fitting(line []byte) *mould {
	for i, one := range m.of {
		if !one.alike(line) {
			continue
		}
		copy(m.of[1:i+1], m.of[:i])
		m.of[0] = one
		m.misses = max(0, m.misses-1)
		return one
	}
	return nil
}

// add inserts a mould at the front.
func (m *moulds) add(made *mould) {
	if len(m.of) < mouldsOfAType {
		m.of = append(m.of, nil)
	}
	copy(m.of[1:], m.of)
	m.of[0] = made
}

// mouldsFor returns the moulds of the type at the beginning of a line; nil if the line does not
// begin with a type.
func (x *examiner) mouldsFor(line []byte) *moulds {
	const before = `{"resourceType":`
	if x.moulds == nil || len(line) < len(before)+2 || string(line[:len(before)]) != before {
		return nil
	}
	typ := line[len(before):]
	if typ[0] == ' ' {
		typ = typ[1:]
	}
	if typ[0] != '"' {
		return nil
	}
	typ = typ[1:]
	end := bytes.IndexByte(typ, '"')
	if end < 0 || len(line) > longestMould {
		return nil
	}
	n := fhir.TypeNumber(typ[:end])
	if n == 0 {
		return nil
	}
	if x.moulds[n] == nil {
		x.moulds[n] = &moulds{}
	}
	return x.moulds[n]
}

// alike reports whether a line has the structure of a mould, and finds the texts at its stops.
func (m *mould) alike(line []byte) bool {
	if len(m.found) != len(m.stops) {
		m.found = make([]spot, len(m.stops))
	}
	i, j := 0, 0 // offsets in the mould and in the line
	for k, at := range m.stops {
		s := &m.spots[at]
		n := s.start - i
		if j+n > len(line) || string(m.line[i:s.start]) != string(line[j:j+n]) {
			return m.stop(i, line[j:]) && m.alike(line)
		}
		end := s.endIn(line, j+n)
		if end < 0 {
			return false
		}
		m.found[k] = spot{j + n, end, s.text}
		i, j = s.end, end
	}
	if string(m.line[i:]) != string(line[j:]) {
		return m.stop(i, line[j:]) && m.alike(line)
	}
	return true
}

// endIn returns where the scalar at at in a line ends; -1 if it is of another kind, or has
// escapes.
func (s *spot) endIn(line []byte, at int) int {
	if s.text {
		if end := fhir.PlainText(line, at); end < len(line) && line[end] == '"' {
			return end
		}
		return -1
	}
	for _, word := range []string{"true", "false", "null"} {
		if len(line)-at >= len(word) && string(line[at:at+len(word)]) == word {
			return at + len(word)
		}
	}
	return fhir.NumberEnd(line, at)
}

// stop adds a stop at the spot where a line differs. i is an offset in the mould, and rest is
// the remaining line. It reports whether the spot exists and was not a stop before.
func (m *mould) stop(i int, rest []byte) bool {
	differs := i + fhir.CommonPrefix(m.line[i:], rest)
	at, _ := slices.BinarySearchFunc(m.spots, differs, func(s spot, differs int) int {
		return s.end - differs
	})
	if at == len(m.spots) || m.spots[at].start > differs {
		return false
	}
	place, found := slices.BinarySearch(m.stops, at)
	if found {
		return false
	}
	m.stops = slices.Insert(m.stops, place, at)
	return true
}

// making is a mould under construction during a walk over its line.
type making struct {
	mould
	// unfit means that a fact is at a place that moulds do not support: in a text with escapes,
	// or in the identifier of a Reference.
	unfit bool
}

// scalar adds the scalar at the cursor. A text with escapes is not a spot, so lines must have
// the same one there.
func (m *making) scalar(c *fhir.Cursor) {
	if m == nil {
		return
	}
	start, end := c.Span()
	if c.IsString() {
		if start, end = start+1, end-1; bytes.IndexByte(m.line[start:end], '\\') >= 0 {
			return
		}
	}
	m.spots = append(m.spots, spot{start, end, c.IsString()})
}

// event adds a fact that the last scalar states.
func (m *making) event(kind eventKind, c *fhir.Cursor, path string) {
	if m == nil {
		return
	}
	last := len(m.spots) - 1
	if kind == endsIdentifier {
		m.mould.facts = append(m.mould.facts, event{kind: kind})
		return
	}
	if start, _ := c.Span(); last < 0 || !c.IsString() || m.spots[last].start != start+1 {
		m.unfit = true
		return
	}
	m.mould.facts = append(m.mould.facts, event{kind, last, path})
	if len(m.stops) == 0 || m.stops[len(m.stops)-1] != last {
		m.stops = append(m.stops, last)
	}
}

// fails marks the mould as unfit.
func (m *making) fails() {
	if m != nil {
		m.unfit = true
	}
}

// fill derives the facts of a line that is like a mould.
func (x *examiner) fill(m *mould, line []byte, f *facts) {
	f.typ = m.typ
	said := x.said(m, line)
	next := func(s spot) (text string) {
		text, said = said[:s.end-s.start], said[s.end-s.start:]
		return text
	}
	var ident identifier
	k := 0
	for _, e := range m.facts {
		if e.kind == endsIdentifier {
			if ident.value != "" {
				f.identifiers = append(f.identifiers, ident)
			}
			ident = identifier{}
			continue
		}
		at := m.stopOf(e, &k)
		switch e.kind {
		case isReference:
			x.reference(0, line[at.start:at.end], at.start-1, at.end+1, e.path)
		case isURL:
			x.reference(refURL, line[at.start:at.end], at.start-1, at.end+1, "")
		case isCanonical:
			x.canonical(line[at.start:at.end], at.start-1, at.end+1)
		case isNarrative:
			x.narrative(line[at.start:at.end], at.end+1)
		case isID:
			f.id = next(at)
		case isUpdated:
			f.updated = next(at)
		case isVersionID:
			f.versionID = next(at)
		case isDefinition:
			f.url = next(at)
		case isSystem:
			ident.system = next(at)
		case isValue:
			ident.value = next(at)
		}
	}
}

// said returns the concatenated texts of all facts except references: one string instead of
// many.
func (x *examiner) said(m *mould, line []byte) string {
	x.path = x.path[:0]
	k := 0
	for _, e := range m.facts {
		if e.kind > isNarrative && e.kind != endsIdentifier {
			at := m.stopOf(e, &k)
			x.path = append(x.path, line[at.start:at.end]...)
		}
	}
	return string(x.path)
}

// stopOf returns the position in the current line of a mould's fact. k is the stop of the
// previous fact, and is advanced to the stop of this one.
func (m *mould) stopOf(e event, k *int) spot {
	for m.stops[*k] != e.spot {
		*k++
	}
	return m.found[*k]
}
