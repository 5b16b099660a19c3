package release

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// trait is what a policy decides about all resources of a type.
type trait struct {
	kind    traitKind
	verdict verdict          // of resources that are withheld
	about   map[string]place // of aboutPlaces
	names   []needle         // of the fields with those places
	fields  []string         // of entryPaths, see quickEntries
	entries []needle         // for the names of fields
}

type traitKind uint8

const (
	notAsked      traitKind = iota
	mustWalk                // the decision depends on more than codes
	goes                    // released unless a code is sensitive
	goesUnlessLab           // or unless it comes from a laboratory
	stays                   // withheld for the verdict's reason, unless a code is sensitive
	follows                 // depends on what it is about, unless a code is sensitive
)

// trait returns the trait of a type. alone means that only the resources themselves matter, not
// their references.
func (p *Policy) trait(typ []byte, alone bool) trait {
	name, f := string(typ), facts{typ: typ}
	key := category(&f)
	switch {
	case !alone &&
		(name == "Binary" || name == "Patient" || roles[fhir.TypeNumber(typ)] == definition),
		// it has a code in a field with another name
		documentTypes[name] && !p.allDocuments(), name == "Composition":
		return trait{kind: mustWalk}
	case p.closed(key):
		return trait{kind: stays, verdict: because[categoryReason+string(key)]}
	case !p.unlimited(key):
		return trait{kind: mustWalk}
	case !alone && (isSupporting(typ) || aboutPlaces[name] != nil && !sums[fhir.TypeNumber(typ)]):
		return trait{kind: follows}
	case (name == "Observation" || name == "DiagnosticReport") && !p.unlimited(ehi.Labs):
		return trait{kind: goesUnlessLab}
	}
	return trait{kind: goes}
}

// unlimited reports whether a form line is fully released, without date limits.
func (p *Policy) unlimited(key ehi.Category) bool {
	for _, c := range p.narrow {
		if l, on := c[key]; key != "" && (!on || !l.from.IsZero() || !l.to.IsZero()) {
			return false
		}
	}
	return true
}

// closed reports whether nothing of a form line is released.
func (p *Policy) closed(key ehi.Category) bool {
	for _, c := range p.narrow {
		if _, on := c[key]; key != "" && !on {
			return true
		}
	}
	return false
}

// allDocuments reports whether all document groups are fully released.
func (p *Policy) allDocuments() bool {
	for _, c := range ehi.Categories() {
		if c.OfDocuments() && !p.unlimited(c.Key) {
			return false
		}
	}
	return true
}

// told is the result of quick.
type told struct {
	number  uint16 // of the type
	verdict verdict
	// facts are the facts that a review needs in addition; valid until the next line. They are
	// nil if only the resource itself matters.
	facts *facts
}

// quick decides about a resource without a walk, in a fraction of the time. It leaves uncertain
// cases to the walk: lines with \u escapes, with an inner resource, with a repeated type, with a
// possibly sensitive code anywhere, or with a possible reference to a Binary.
func (x *examiner) quick(line []byte) (q told, ok bool) {
	typ, id, ok := identify(line)
	if !ok {
		return q, false
	}
	n := fhir.TypeNumber(typ)
	if n == 0 {
		return q, false
	}
	t := &x.traits[n]
	if t.kind == notAsked {
		*t = x.policy.trait(typ, x.alone)
		t.about = aboutPlaces[string(typ)]
		t.names = lastNames(t.about)
		t.fields = quickEntries(typ)
		for _, field := range t.fields {
			t.entries = append(t.entries, newNeedle(`"`+field+`"`))
		}
	}
	if t.kind == mustWalk {
		return q, false
	}
	rest := line[len(`{"resourceType":"","id":""`)+len(typ)+len(id):]
	q.number, q.verdict = uint16(n), t.verdict
	if !x.alone {
		q.facts = &x.facts
	}
	if x.fits(typ, id, n, rest, t) {
		return q, true
	}
	if ok = x.look(typ, id, n, line, rest, t); ok {
		x.moulds[n].misses += 2
	}
	return q, ok
}

// look is quick for a line that fits no mould.
func (x *examiner) look(typ, id []byte, n int, line, rest []byte, t *trait) (ok bool) {
	var coded bool
	if x.escaped, coded = escapes(line); coded ||
		!x.alone && (mayNameBinary(line) || mayCall(n, line)) {
		return false
	}
	if oneIn(line, unusualNames) { // labels depend on more than codes
		return false
	}
	if x.showsCode(line) {
		return false
	}
	if t.kind == goesUnlessLab && holdsLab(line) { // a category may say so in its text only
		return false
	}
	if !x.alone &&
		(n == int(reportNumber) && presentedName.in(line) ||
			namesTeam[n] && bytes.Contains(line, teamName)) {
		return false
	}
	if !x.alone && n == int(imagingNumber) && bytes.Contains(rest, uidName) {
		return false // the uid is one of its names
	}
	if !x.alone &&
		(t.kind == stays && mentionsBinary(rest) || attaches[n] && bytes.Contains(rest, urlName)) {
		return false // it may point to a Binary other than by type and id
	}
	named := supporting[n] && identifierName.in(rest) // others may refer to it by this name
	if (x.alone || !named) && x.learn(typ, id, n, rest, t) {
		return true
	}
	if x.alone {
		// If there are two ids, the last one counts.
		return x.plain(rest, t.kind, nil) && (t.kind != stays || !idName.in(rest))
	}
	x.begin(typ, uint16(n), t.about).id = id
	return !named && x.related(rest, t)
}

// quickEntries returns entryPaths without careTeam. A line that names a careTeam entry needs a
// walk.
func quickEntries(typ []byte) []string {
	return slices.DeleteFunc(slices.Clone(entryPaths[string(typ)]), func(field string) bool {
		return field == careTeam
	})
}

// lastNames returns the last names of some paths.
func lastNames(paths map[string]place) (names []needle) {
	for path := range paths {
		// an object with that name needs a walk, see plain
		if strings.HasSuffix(path, ".reference") {
			continue
		}
		names = append(names, newNeedle(`"`+path[strings.LastIndexByte(path, '.')+1:]+`"`))
	}
	return names
}

var (
	unusualNames   = []needle{newNeedle("ecurity"), newNeedle("ECURITY"), newNeedle(`CODE"`)}
	idName         = newNeedle(`"id"`)
	identifierName = newNeedle(`dentifier"`)
	presentedName  = newNeedle(`"` + presentedForm + `"`)
	teamName       = []byte(`"careTeamSequence"`)
	namesTeam      = typeSet("Claim", "ExplanationOfBenefit")
)

// mayNameBinary reports whether a line may be a Binary, or point to one.
func mayNameBinary(line []byte) bool {
	return bytes.Contains(line, []byte(binaryType)) || hasEscapedNames(line)
}

// related derives the names and references of a resource that a review needs, and checks its
// codes. rest follows its id.
func (x *examiner) related(rest []byte, t *trait) (ok bool) {
	f := &x.facts
	switch {
	case t.kind == stays && bytes.Contains(rest, urlName), // it may point to a Binary
		t.kind == stays &&
			(idName.in(rest) || oneIn(rest, ownNames[f.number]) ||
				bytes.Contains(rest, []byte("Device"))),
		// otherwise it is about nothing
		t.kind == follows && (supporting[f.number] || oneIn(rest, t.names)),
		f.number == reportNumber && t.kind != stays && resultName.in(rest),
		f.number == documentNumber && relatedName.in(rest),
		// the names of a released resource are not secret
		t.kind != stays && oneIn(rest, ownNames[f.number]),
		isBill[f.number] && t.kind != stays: // for its lines
		return x.skim(rest, t.kind)
	case t.kind == stays: // it releases nothing, so only its parts need a distinction
		again := hasParts[f.number] && oneIn(rest, t.names) || containedName.in(rest)
		return x.plain(rest, t.kind, f) && (!f.leads && !again || x.again(rest, t.kind))
	case !x.plainEntries(rest, t):
		return false
	case f.members && oneIn(rest, t.names),
		(f.members || len(f.supports) > 0) && containedName.in(rest): // it may have parts
		return x.again(rest, t.kind)
	}
	return true
}

// again starts over with a skim.
func (x *examiner) again(rest []byte, t traitKind) (ok bool) {
	id := x.facts.id
	x.begin(x.facts.typ, x.facts.number, x.about).id = id
	return x.skim(rest, t)
}

var (
	reportNumber   = uint16(fhir.TypeNumber([]byte("DiagnosticReport")))
	documentNumber = uint16(fhir.TypeNumber([]byte("DocumentReference")))
	imagingNumber  = uint16(fhir.TypeNumber([]byte("ImagingStudy")))
	uidName        = []byte(`"uid"`)
	resultName     = newNeedle(`"result"`)
	relatedName    = newNeedle(`"related"`)
	urlName        = []byte(`"url"`)
)

// plainEntries is plain for a line that may have entries. If one refers to a supporting
// resource, only a walk can decide.
func (x *examiner) plainEntries(line []byte, t *trait) bool {
	return x.plain(line, t.kind, &x.facts) && !oneIn(line[:x.supportsEnd], t.entries)
}

// plain reports whether no code field may withhold the resource and no field is named
// resourceType. It adds the supporting resources that the line refers to, unless f is nil. All
// these names have similar endings, so one search finds them.
func (x *examiner) plain(line []byte, t traitKind, f *facts) bool {
	size := len(line)
	x.supportsEnd = 0
	if !x.concepts(line, t) {
		return false
	}
	for {
		at := indexQuoted(line, 'e', 'g')
		if at < 0 {
			return true
		}
		name, rest := line[:at+len("e")], line[at+len(`e"`):]
		before := byte(0)
		if at > 0 {
			before = line[at-1]
		}
		switch {
		case before == 'n' && bytes.HasSuffix(name, []byte(`oding`)),
			before == 'd' &&
				(bytes.HasSuffix(name, []byte(`code`)) || bytes.HasSuffix(name, []byte(`Code`))):
			after, ok := x.codeBehind(rest, t)
			if !ok {
				return false
			}
			rest = after
		case before == 'c' && f != nil && bytes.HasSuffix(name, []byte(`"reference`)):
			text, after, ok := textBehind(rest)
			if !ok || x.holdsEscape(text) || text == nil && bytes.HasPrefix(after, []byte("{")) {
				return false
			}
			if f.support(text) {
				x.supportsEnd = size - len(after)
			}
			rest = after
		case before == 'p' && bytes.HasSuffix(name, []byte(resourceType)):
			return false
		}
		line = rest
	}
}

// codeBehind checks the code, Coding or CodeableConcept of a field; line follows the field's
// name. ok is false if it has another shape, or may withhold the resource.
func (x *examiner) codeBehind(line []byte, t traitKind) (rest []byte, ok bool) {
	line = afterSpace(line)
	if len(line) == 0 || line[0] != ':' {
		return line, true // the end of a text
	}
	line = afterSpace(line[1:])
	if len(line) == 0 || line[0] != '"' {
		return x.concept(line, t)
	}
	end, escaped := textEnd(line, 0)
	if end < 0 || escaped || x.keeps(line[1:end-1], t) {
		return nil, false
	}
	x.spot(codeText, line[1:end-1], line[end:])
	return line[end:], true
}

// holdsEscape reports whether a text of the line has escapes.
func (x *examiner) holdsEscape(text []byte) bool {
	return x.escaped && bytes.IndexByte(text, '\\') >= 0
}

// escapes reports whether a line has escapes, and whether some are \u escapes.
func escapes(line []byte) (some, coded bool) {
	at := bytes.IndexByte(line, '\\')
	return at >= 0, at >= 0 && hasCodedEscapes(line[at:])
}

// support records the target of a reference if it is, or may be, a supporting resource, and
// reports whether it is.
func (f *facts) support(ref []byte) bool {
	end := bytes.IndexByte(ref, '/')
	if end > 0 && fhir.ValidID(ref[end+1:]) && !hasEnding(ref[end+1:]) &&
		fhir.TypeNumber(ref[:end]) != 0 {
		if !isSupporting(ref[:end]) { // true for most references
			f.members = f.members || !isOccasion(ref[:end])
			return false
		}
	}
	to, ok := resolve(ref)
	if to.typ == nil {
		return false
	}
	if !ok || leadsOut(ref, to) {
		f.stray(to)
	}
	if ok && !to.supports() || !ok && !to.exactly() {
		f.members = f.members || !isOccasion(to.typ)
		if !ok {
			f.leads, f.binaries = true, append(f.binaries, attachmentTo(to, false, false))
		}
		return !ok
	}
	if !ok {
		f.members, f.leads = true, true
		f.binaries = append(f.binaries, attachmentTo(to, false, false))
	}
	f.supports = append(f.supports, to)
	return true
}

// keeps reports whether a code may withhold a resource.
func (x *examiner) keeps(code []byte, t traitKind) bool {
	if x.casts {
		return false
	}
	if t == goesUnlessLab && isLaboratory(code) {
		return true
	}
	if len(code) == 0 || len(code) > len(shortCode{}.bytes) {
		return x.policy.sensitive.mayHold(code)
	}
	known := &x.harmless[(int(code[len(code)-1])*31+int(code[len(code)/2])*7+int(code[0])+
		len(code))%len(x.harmless)]
	if string(known.bytes[:known.n]) == string(code) {
		return false
	}
	if x.policy.sensitive.mayHold(code) {
		return true
	}
	known.n = uint8(copy(known.bytes[:], code))
	return false
}

// shortCode is a code of few bytes.
type shortCode struct {
	n     uint8
	bytes [23]byte
}

// textBehind reads the text of a field; line follows the field's name. It is nil if the value is
// something else, or if there is no field. ok is false for a list or an incomplete text.
func textBehind(line []byte) (text, rest []byte, ok bool) {
	for len(line) > 0 && (line[0] == ':' || line[0] <= ' ') {
		line = line[1:]
	}
	switch {
	case len(line) == 0:
		return nil, line, true
	case line[0] == '[':
		return nil, line, false
	case line[0] != '"':
		return nil, line, true
	}
	end, _ := textEnd(line, 0)
	if end < 0 {
		return nil, line, false
	}
	return line[1 : end-1], line[end:], true
}

// indexEnd returns the index of the first text or name that ends in letter or other, followed by
// last; -1 if there is none. It may match further letters that combine the bits of both. It
// reads 16 bytes at a time.
func indexEnd(b []byte, letter, other, last byte) int {
	want, either, end :=
		eachByte*uint64(letter), eachByte*uint64(letter^other), eachByte*uint64(last)
	at := 0
	for ; at+18 <= len(b); at += 16 {
		w := b[at : at+18]
		if low := endsAt(w, want, either, end); low != 0 {
			return at + bits.TrailingZeros64(low)>>3
		}
		if high := endsAt(w[8:], want, either, end); high != 0 {
			return at + 8 + bits.TrailingZeros64(high)>>3
		}
	}
	for ; at+2 < len(b); at++ {
		if (b[at]^letter)&^(letter^other) == 0 && b[at+1] == last && b[at+2] == '"' {
			return at
		}
	}
	return -1
}

// endsAt returns a word whose lowest high bit marks the first of eight positions at which such
// an end begins.
func endsAt(b []byte, want, either, last uint64) uint64 {
	first := (binary.LittleEndian.Uint64(b) ^ want) &^ either
	second := binary.LittleEndian.Uint64(b[1:]) ^ last
	third := binary.LittleEndian.Uint64(b[2:]) ^ '"'*eachByte
	return zeroByte(first | second | third)
}

// indexQuoted returns the index of the first text or name that ends in one of two letters that
// differ in one bit; -1 if there is none. It reads 16 bytes at a time.
func indexQuoted(b []byte, letter, other byte) int {
	want, either, at := eachByte*uint64(letter), eachByte*uint64(letter^other), 0
	for ; at+17 <= len(b); at += 16 {
		w := b[at : at+17]
		if low := quotedAt(w, want, either); low != 0 {
			return at + bits.TrailingZeros64(low)>>3
		}
		if high := quotedAt(w[8:], want, either); high != 0 {
			return at + 8 + bits.TrailingZeros64(high)>>3
		}
	}
	for ; at+1 < len(b); at++ {
		if (b[at]^letter)&^(letter^other) == 0 && b[at+1] == '"' {
			return at
		}
	}
	return -1
}

// quotedAt returns a word whose lowest high bit marks the first of eight bytes that is such a
// letter before a quote.
func quotedAt(b []byte, letter, either uint64) uint64 {
	return zeroByte((binary.LittleEndian.Uint64(b)^letter)&^either |
		binary.LittleEndian.Uint64(b[1:]) ^ '"'*eachByte)
}

// zeroByte returns a word whose lowest high bit marks the first zero byte. Higher bits may be
// wrong.
func zeroByte(x uint64) uint64 { return (x - eachByte) &^ x & highBits }

// identify reads the type and id of a resource that begins with them, as most do.
func identify(line []byte) (typ, id []byte, ok bool) {
	const first, second = `{"` + resourceType + `":"`, `","id":"`
	if !bytes.HasPrefix(line, []byte(first)) {
		return nil, nil, false
	}
	rest := line[len(first):]
	end := bytes.IndexByte(rest, '"')
	if end < 0 || !bytes.HasPrefix(rest[end:], []byte(second)) {
		return nil, nil, false
	}
	typ, rest = rest[:end], rest[end+len(second):]
	if end = bytes.IndexByte(rest, '"'); end < 0 {
		return nil, nil, false
	}
	id = rest[:end]
	return typ, id, bytes.IndexByte(line[len(first):len(first)+len(typ)+len(second)+end], '\\') < 0
}
