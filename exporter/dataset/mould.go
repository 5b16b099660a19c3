package dataset

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// Most lines of a file are spelled like one before: the same names, brackets and texts in the same
// order, but for some texts and numbers. So some lines that were examined are kept as moulds. A
// line that differs from a mould within plain texts and numbers alone is valid JSON as that is, has
// no name twice as that has none, and its facts stand where that one's do. Finding so takes a
// comparison of both, in place of a walk.

// mould is such a line.
type mould struct {
	line  []byte
	typ   string
	spots []spot  // where others may differ from it, in their order
	stops []int   // of those, where others did, and those that are facts
	found []spot  // what stands there in the line at hand
	facts []event // in their order
}

// spot is where a text, without its quotes, or another scalar stands.
type spot struct {
	start, end int
	text       bool
}

// event is a fact of a resource that a text of it says, or the end of what says one.
type event struct {
	kind eventKind
	spot int    // of the mould
	path string // of a Reference
}

type eventKind byte

// Up to isNarrative, they are of what is referred to.
const (
	isReference eventKind = iota
	isURL
	isCanonical // names a definition
	isNarrative
	isID
	isUpdated
	isVersionID
	isDefinition // its canonical URL
	isSystem
	isValue
	endsIdentifier
)

const (
	longestMould  = 4096 // bytes; of longer lines few are alike
	mouldsOfAType = 8
	// mostMisses is how many lines more than those that fitted a mould may have fitted none before
	// no line is compared any more.
	mostMisses = 64
)

// moulds are those of a type, the last one that fitted first.
type moulds struct {
	of     []*mould
	misses int
	lines  int // that one could have been made of
}

// wanted reports whether a mould is to be made of a line that fitted none: of each second one, and
// of fewer where others would have to go for it.
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

// fitting is the mould that a line fits; nil for none.
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

// add makes a mould the first one.
func (m *moulds) add(made *mould) {
	if len(m.of) < mouldsOfAType {
		m.of = append(m.of, nil)
	}
	copy(m.of[1:], m.of)
	m.of[0] = made
}

// mouldsFor are those of the type that a line begins with; nil where it begins with none.
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

// alike reports whether a line is spelled like a mould, and finds what stands in its stops.
func (m *mould) alike(line []byte) bool {
	if len(m.found) != len(m.stops) {
		m.found = make([]spot, len(m.stops))
	}
	i, j := 0, 0 // in the mould, and in the line
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

// endIn is where what stands at at in a line ends; -1 where that is no such scalar, or has escapes.
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

// stop makes a stop of the spot, from i on, in which a line differs, of which rest is what is left.
// It reports whether there is one that was no stop before.
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

// making is a mould that is being made while its line is walked over.
type making struct {
	mould
	// unfit says that a fact stands where no mould has it: in a text with escapes, or in a
	// Reference's identifier.
	unfit bool
}

// scalar takes in the scalar at which a walk stands. Texts with escapes are no spots: lines have to
// have the same ones.
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

// event takes in a fact that the last scalar says.
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

// fails says that no mould can be made.
func (m *making) fails() {
	if m != nil {
		m.unfit = true
	}
}

// fill finds the facts of a line that is like a mould.
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

// said is the texts of all facts that are no references, one behind the other: one string in place
// of many.
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

// stopOf is what stands in the line at hand where the mould has a fact; k is the stop of the one
// before, and of this one then.
func (m *mould) stopOf(e event, k *int) spot {
	for m.stops[*k] != e.spot {
		*k++
	}
	return m.found[*k]
}
