package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// Most lines of a record have the same structure as an earlier one: the same names, brackets and
// texts in the same order, except for some texts and numbers. So some lines that were examined
// quickly are kept as moulds. A line that differs from a mould only within texts and numbers has
// its structure, so only these texts and numbers can change the decision, and the mould says
// what each of them decides. Comparing two lines is faster than looking at each name.

// mould is such a line, starting behind its id.
type mould struct {
	rest    []byte
	spots   []spot   // where lines may differ from it, in order
	stops   []int    // indexes of spots where lines differed, or whose text is recorded
	found   []found  // the text at each stop in the current line
	insides []inside // of a bill; their targets are those of the current line
	usable  bool     // all its references are by type and id
}

// spot is a text, without its quotes, or a number in a mould.
type spot struct {
	start, end int
	kind       spotKind
	*reference // of a referenceText
}

type spotKind uint8

const (
	anyText   spotKind = iota
	anyNumber          // or true, false, null
	codeText           // must not be sensitive
	urlText            // must not point to a Binary
	referenceText
	identifierText
	sharedText // an identifier shared with other resources
	valueText  // may be an identifier
	shownText  // must not show a sensitive code
	sourceText // may be a meta.source
)

// reference describes the Reference of a spot.
type reference struct {
	path    []byte // of the Reference
	where   place  // in aboutPaths, if isAbout
	isAbout bool
	inEntry bool
	line    int    // the index of its bill line; -1 if it is in none
	typ     string // including the slash; "" if it is not by type and id
	number  uint16 // of the type
	kept    bool   // references to that type are recorded
	whole   bool   // it is the only field of its object, see aReference
}

// found is the text at a stop in a line.
type found struct {
	at, end int32
	// id is where the id begins, if the text is the spot's type and an id; else 0.
	id    int32
	marks marks // of the text; of a reference with an id, of the id only
}

// latest are the last ids found in references, by type number. Most lines refer to the same
// resources as the line before.
type latest [256]struct {
	id    []byte // including the closing quote
	marks marks
}

const (
	longestMould  = 4096 // bytes; longer lines are rarely alike
	mouldsOfAType = 8
	mostMisses    = 32
	retries       = 4
	untilRetried  = 64 // lines
)

// moulds are the moulds of a type, most recently used first.
type moulds struct {
	of []*mould
	// misses grows by two for each quickly examined line that fits no mould, and shrinks by one
	// for each line that fits.
	misses int
	idle   int // lines since misses reached mostMisses
	lines  int // lines that could have become moulds
}

// worthwhile reports whether comparing a line with the moulds is worth the time. Some records
// have no two lines alike.
func (m *moulds) worthwhile() bool {
	if m.misses < mostMisses {
		return true
	}
	if m.idle++; m.idle == untilRetried {
		m.idle, m.misses = 0, mostMisses-retries
	}
	return false
}

// wanted reports whether to make a mould of a line that fits none: for every second line, and
// less often if that displaces another mould.
func (m *moulds) wanted() bool {
	if m.misses >= mostMisses {
		return false
	}
	m.lines++
	if len(m.of) < mouldsOfAType {
		return m.lines%2 == 0
	}
	return m.lines%8 == 0
}

// add inserts a mould at the front.
func (m *moulds) add(made *mould) {
	if len(m.of) < mouldsOfAType {
		m.of = append(m.of, nil)
	}
	copy(m.of[1:], m.of)
	m.of[0] = made
}

// fits reports whether a line fits a mould of its type, and derives its facts as skim does. rest
// follows its type and id.
func (x *examiner) fits(typ, id []byte, number int, rest []byte, t *trait) bool {
	all := &x.moulds[number]
	if len(all.of) == 0 || !all.worthwhile() {
		return false
	}
	x.facts.typ, x.facts.id, x.facts.number = typ, id, uint16(number)
	x.about, x.kind = t.about, t.kind
	m := all.fitting(rest, x, &x.latest)
	if m != nil && (len(m.insides) > 0 || len(x.insides) > 0) {
		x.insides = append(x.insides[:0], m.insides...)
	}
	return m != nil
}

// fitting returns the mould that a line fits, or nil.
func (m *moulds) fitting(rest []byte, by filler, known *latest) *mould {
	for i, one := range m.of {
		if !one.alike(rest, known) || !by.fill(one, rest) {
			continue
		}
		copy(m.of[1:i+1], m.of[:i])
		m.of[0] = one
		m.misses = max(0, m.misses-1)
		return one
	}
	return nil
}

// filler handles the texts at the stops of a mould.
type filler interface {
	// fill reports whether these texts allow a certain decision.
	fill(m *mould, rest []byte) bool
}

// alike reports whether a line has the structure of a mould, and finds the texts at its stops.
func (m *mould) alike(rest []byte, known *latest) bool {
	if len(m.found) != len(m.stops) {
		m.found = make([]found, len(m.stops))
	}
	i, j := 0, 0 // offsets in the mould and in the line
	for k, at := range m.stops {
		s := &m.spots[at]
		n := s.start - i
		if j+n > len(rest) || string(m.rest[i:s.start]) != string(rest[j:j+n]) {
			return m.stop(i, rest[j:]) && m.alike(rest, known)
		}
		f := &m.found[k]
		if !s.find(rest, j+n, f, known) {
			return false
		}
		i, j = s.end, int(f.end)
	}
	if string(m.rest[i:]) != string(rest[j:]) {
		return m.stop(i, rest[j:]) && m.alike(rest, known)
	}
	return true
}

// stop adds a stop at the spot where a line differs. i is an offset in the mould, and rest is
// the remaining line. It reports whether the spot exists and was not a stop before.
func (m *mould) stop(i int, rest []byte) bool {
	differs := i + fhir.CommonPrefix(m.rest[i:], rest)
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

// find reads the text or number of a spot that begins at at in a line. It returns false for a
// text with escapes, and for anything else.
func (s *spot) find(line []byte, at int, f *found, known *latest) bool {
	end, all := at, marks(0)
	switch {
	case s.kind == anyNumber:
		for end < len(line) && isLiteral(line[end]) {
			end++
		}
		*f = found{int32(at), int32(end), 0, 0}
		return end > at
	case s.kind == referenceText && s.typ != "" && len(line)-at > len(s.typ) &&
		string(line[at:at+len(s.typ)]) == s.typ:
		id := at + len(s.typ)
		last := &known[s.number]
		n := len(last.id)
		if n > 0 && n <= len(line)-id && string(line[id:id+n]) == string(last.id) {
			*f = found{int32(at), int32(id + n - 1), int32(id), last.marks}
			return true
		}
		end, all = readText(line, id)
		if n := end - id; all&(outOfIDMark|pointMark) == 0 && n > 0 && n <= longestID {
			*f = found{int32(at), int32(end), int32(id), all}
			last.id, last.marks = append(last.id[:0], line[id:end+1]...), all
			return true
		}
	}
	end, all = readText(line, at)
	*f = found{int32(at), int32(end), 0, all}
	return end >= 0
}

// longestID is the maximum length of a FHIR id.
const longestID = 64

// fill implements filler.
func (x *examiner) fill(m *mould, rest []byte) bool {
	id := x.facts.id
	x.begin(x.facts.typ, x.facts.number, x.about).id = id
	for i := range m.insides {
		m.insides[i].targets = m.insides[i].targets[:0]
	}
	for i, at := range m.stops {
		s, f := &m.spots[at], &m.found[i]
		text := rest[f.at:f.end]
		if s.kind == referenceText {
			if !x.fillReference(m, s, f, text) {
				return false
			}
			continue
		}
		if f.marks&binaryMark != 0 && !x.alone && mentionsBinary(text) {
			return false
		}
		switch s.kind {
		case codeText:
			if x.keeps(text, x.kind) {
				return false
			}
		case shownText:
			if x.mayShow(text, f.marks) {
				return false
			}
		case urlText:
			if f.marks&(binaryMark|percentMark) != 0 && mayBeBinary(text) {
				return false
			}
		case identifierText:
			x.facts.addIdentifier(ownIdentifier, text)
		case sharedText:
			x.facts.addIdentifier(sharedIdentifier, text)
		}
	}
	return true
}

// mayBeBinary is mayNameBinary for a URL.
func mayBeBinary(url []byte) bool {
	return bytes.IndexByte(url, binaryType[0]) >= 0 && bytes.Contains(url, []byte(binaryType)) ||
		hasEscapedNames(url)
}

// fillReference is fill for a reference. It returns false for a lead, see resolve, because a
// lead needs a look at the whole line.
func (x *examiner) fillReference(m *mould, s *spot, f *found, text []byte) bool {
	var to target
	if f.id > 0 {
		if !s.kept && f.marks&binaryMark == 0 {
			return true
		}
		to = target{text[:f.id-f.at-1], text[f.id-f.at:]}
	}
	switch other, ok := to, true; {
	case f.marks&(binaryMark|percentMark) != 0 && mayBeBinary(text):
		return false
	case f.id == 0:
		if other, ok = resolve(text); !ok {
			return false
		}
		if to = other; leadsOut(text, to) {
			x.facts.stray(to)
		}
	case !s.kept:
		return true
	}
	g := &x.facts
	before := len(g.supports) + len(g.tells) + len(g.binaries)
	x.refersAt(g, s.path, s.where, s.isAbout, to, true)
	if s.line >= 0 {
		m.insides[s.line].targets = append(m.insides[s.line].targets, to)
	}
	return len(g.supports)+len(g.tells)+len(g.binaries) == before || !s.inEntry
}

// learn makes a mould of a line whose decision depends only on its codes, and derives its facts
// as fits does. It reports whether it could.
func (x *examiner) learn(typ, id []byte, number int, rest []byte, t *trait) bool {
	all := &x.moulds[number]
	if !all.wanted() || len(rest) > longestMould || containedName.in(rest) {
		return false
	}
	x.begin(typ, uint16(number), t.about).id = id
	x.made = &mould{rest: bytes.Clone(rest), usable: true}
	x.showsLab = t.kind == goesUnlessLab
	made := x.made
	ok := x.skim(made.rest, t.kind)
	x.made = nil
	if !ok {
		return false
	}
	if !made.usable {
		return true
	}
	for _, e := range x.insides {
		e.targets = nil
		made.insides = append(made.insides, e)
	}
	for at, s := range made.spots {
		if s.kind == identifierText || s.kind == sharedText || s.kind == referenceText && s.kept {
			made.stops = append(made.stops, at)
		}
	}
	all.add(made)
	return true
}

// spot adds a spot to the mould that is being made. rest follows the text or number.
func (x *examiner) spot(kind spotKind, text, rest []byte) *spot {
	if x.made == nil || (kind < codeText || kind == shownText) && x.mayShowLab() {
		return nil
	}
	end := len(x.made.rest) - len(rest)
	if kind != anyNumber {
		end-- // without the quote
	}
	if x.casts && kind != anyNumber && kind != referenceText && kind != valueText &&
		kind != sourceText {
		kind = anyText
	}
	x.made.spots = append(x.made.spots, spot{kind: kind, start: end - len(text), end: end})
	return &x.made.spots[len(x.made.spots)-1]
}

// mayShowLab reports whether the text at a skim's position may say that the resource comes from
// a laboratory.
func (x *examiner) mayShowLab() bool {
	s := &x.skimmed
	return x.showsLab && s.depth > 1 && string(s.names[2]) == "category"
}

// plainSpot adds a spot for a text or number in a named field, or in a list of it.
func (x *examiner) plainSpot(kind spotKind, name, text, rest []byte) {
	switch {
	case x.made == nil || name == nil || bytes.HasSuffix(name, []byte("equence")):
	case x.casts && string(name) == "source" && kind == anyText:
		x.spot(sourceText, text, rest)
	case x.casts && string(name) == "value" && kind == anyText:
		x.spot(valueText, text, rest)
	case kind == anyText && showing(name):
		x.spot(shownText, text, rest)
	case leads(name) && !x.alone && kind == anyText:
		x.spot(urlText, text, rest)
	default:
		x.spot(kind, text, rest)
	}
}

// numberSpot adds a spot for the number at a skim's position.
func (x *examiner) numberSpot(name []byte) {
	if x.made == nil {
		return
	}
	s := &x.skimmed
	end := s.at
	for end < len(s.line) && isLiteral(s.line[end]) {
		end++
	}
	if end > s.at {
		x.plainSpot(anyNumber, name, s.line[s.at:end], s.line[end:])
	}
}

// referenceSpot adds a spot for the current reference, whose target is to.
func (x *examiner) referenceSpot(text, rest []byte, to target, ok bool) {
	if x.made == nil {
		return
	}
	n := len(to.typ)
	if !ok || n+1+len(to.id) != len(text) || n == 0 || text[n] != '/' ||
		string(to.typ) == binaryType {
		x.made.usable = false
		return
	}
	spot := x.spot(referenceText, text, rest)
	at := x.skimmed.here()
	where, isAbout := x.about[string(at)]
	r := &reference{
		path:    bytes.Clone(at),
		where:   where,
		isAbout: isAbout,
		line:    -1,
		inEntry: x.inEntry(),
	}
	if x.bill && x.line() != nil {
		r.line = len(x.insides) - 1
	}
	r.typ, r.number = string(text[:n+1]), uint16(fhir.TypeNumber(to.typ))
	r.kept = isAbout || isSupporting(to.typ) || r.line >= 0 || string(x.facts.typ) == "Device"
	spot.reference = r
}
