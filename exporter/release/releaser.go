package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// Releaser decides about resources one at a time. It is for one goroutine. Several Releasers may
// share a record.
type Releaser interface {
	// Release returns a resource as it may be released: the line itself if nothing changes,
	// otherwise bytes that are valid until the next call. ok is false if the resource is
	// withheld. Errors: the line is not JSON.
	Release(line []byte) (out []byte, ok bool, err error)
}

// reviewed is a Releaser that follows a Review.
type reviewed struct {
	*Review
	native   *secrets // for content that is not FHIR; else nil
	walk     walk
	isAnswer bool   // it answers a bill that loses lines
	typ      uint16 // the type number of the current line
	id       []byte
	cleaner  *cleaner  // for Patients; created on first use
	examine  *examiner // for resources inside others; created on first use
	// called are the resources beside the current one in the same Bundle, by fullUrl.
	called map[string]resource
	head   int // the length of the line's beginning that contains only its own type and id
	edits  []fhir.Edit
	open   []frame // the open containers, by depth
	out    []byte  // the last changed line
	pruner pruner
	// makes the moulds
	casts  []moulds
	caster examiner // makes the moulds
	masks  [64]knownMask
	latest latest
	// rest is the offset behind the line's type and id. It is 0 if the resource is inside
	// another one, or may change before it is checked.
	rest int
	bare bool // it has no contained resources
	// changed reports that a part of the line was removed, besides its edits. unsign is the last
	// line that lost its Signatures.
	changed bool
	unsign  []byte
}

// frame describes an open container.
type frame struct {
	mask []byte // its replacement; nil if unchanged
	// same are the spans of the fields sameAsURL, including their names; zeros if absent.
	same [3][2]int
	url  bool // its url is masked
	// part replaces the reference of a CodeableReference. concept reports whether the
	// CodeableReference also has a concept.
	part    []byte
	concept bool
	holds   traces
}

// traces are the properties of an object that tell whether it is a Reference, and what it names.
type traces uint16

const (
	holdsReference  traces = 1 << iota
	holdsDisplay           // a display
	holdsValue             // a value; the object may be an identifier
	holdsIdentifier        // an identifier with a value
	namesWithheld          // a withheld value, or an identifier with one
	namesTelling           // one withheld for a reason other than an unticked form line
	holdsCode
	holdsSystem
	holdsType     // a resourceType: it is a resource
	typedWithheld // a type of which something is withheld
)

// otherThanReference reports whether an object is a resource or a Coding. A code without a
// system does not make it a Coding.
func (t traces) otherThanReference() bool {
	const coding = holdsCode | holdsSystem
	return t&holdsType != 0 || t&coding == coding
}

// mostKept is the maximum size of a buffer that is kept for the next line. Larger ones are
// freed.
const mostKept = 1 << 20

// Releaser returns a Releaser for the second pass. It panics before Conclude.
func (r *Review) Releaser() Releaser {
	if !r.concluded {
		panic("release: Releaser before Conclude")
	}
	return &reviewed{Review: r}
}

// Release implements Releaser.
func (r *reviewed) Release(line []byte) (out []byte, ok bool, err error) {
	v, known, err := r.verdict(line)
	if err != nil || !known || v.withheld() {
		return nil, false, err
	}
	return r.release(line, v)
}

// release returns a resource with verdict v as it is released. begin was called with its name.
func (r *reviewed) release(line []byte, v verdict) (out []byte, ok bool, err error) {
	r.changed = false
	if out, ok, err = r.left(line, v); ok &&
		(r.changed || v&(stripped|partial) != 0 || altered(r.edits)) {
		out, err = r.unsigned(out)
	}
	return out, ok && err == nil, err
}

// left returns a resource as it is released, before its Signatures are removed.
func (r *reviewed) left(line []byte, v verdict) (out []byte, ok bool, err error) {
	r.pruner.fallen, r.pruner.gone = containedOut{}, nil
	if r.holding.has(r.typ) {
		if line, err = r.withInner(line, r.id); err != nil {
			return nil, false, err
		}
	}
	if r.isAnswer {
		typ, _, err := r.walk.identify(line)
		if err != nil {
			return nil, false, err
		}
		if r.pruner.gone, err = r.answers(typ, line); err != nil {
			return nil, false, err
		}
	}
	isChanged := v&(stripped|partial) != 0
	if v&stripped != 0 && r.typ == patientNumber {
		v &^= stripped
		if r.cleaner == nil {
			r.cleaner = r.policy.cleaner()
		}
		if line, r.pruner.fallen.ids, err = r.cleaner.clean(line); err != nil {
			return nil, false, err
		}
	}
	if isChanged || !r.quickly(line) {
		if err := r.plan(line, v); err != nil {
			return nil, false, err
		}
	}
	fallen := len(r.pruner.fallen.places) > 0 || len(r.pruner.gone) > 0 || v&partial != 0
	if len(r.edits) == 0 && !fallen {
		return line, true, nil
	}
	if cap(r.out) > mostKept {
		r.out = nil
	}
	r.out = fhir.Apply(r.out[:0], line, r.edits)
	if r.pruner.find(r.edits) || fallen ||
		len(r.pruner.masked) > 0 && !r.bare && mayContain(r.out) {
		out, err := r.pruned(line, v)
		r.changed = r.changed || !bytes.Equal(out, r.out)
		return out, err == nil, err
	}
	return r.out, true, nil
}

// begin prepares for a line with a type and id.
func (r *reviewed) begin(number uint16, typ, id []byte) {
	r.typ, r.id, r.head, r.rest, r.bare = number, id, 0, 0, false
	r.isAnswer = r.gone != nil && answerPaths[string(typ)] != ""
}

// verdict returns the verdict on a line.
func (r *reviewed) verdict(line []byte) (v verdict, known bool, err error) {
	typ, id, ok := identify(line)
	r.head = 0
	if ok && !r.irregular && !r.secret(typ) {
		r.head = len(`{"resourceType":"","id":"`) + len(typ) + len(id)
	}
	if !ok || r.irregular {
		if typ, id, err = r.walk.identify(line); err != nil {
			return 0, false, err
		}
	}
	n := r.index.number(typ)
	head := r.head
	r.begin(n, typ, id)
	r.head, r.called = head, nil
	if ok && !r.irregular && !r.holding.has(n) {
		r.rest = len(`{"resourceType":"","id":""`) + len(typ) + len(id)
	}
	if !r.types.has(n) {
		return 0, true, nil
	}
	if r.allStay(n) {
		return because[referenceOnlyName], true, nil
	}
	high := r.index.high(id)
	if !r.notable.has(high) {
		return 0, true, nil
	}
	v, known = r.index.at(resource{n, r.index.whole(high, id)})
	return v, known || r.resolved, nil
}

// quickly is quick, or a comparison with a line for which quick succeeded.
func (r *reviewed) quickly(line []byte) (ok bool) {
	if r.identified.urls {
		r.edits = r.edits[:0]
		return false
	}
	if r.rest == 0 {
		return r.quick(line)
	}
	if r.bare = r.castOf(r.typ, line[r.rest:]); r.bare {
		return true
	}
	if ok = r.quick(line); ok {
		r.cast(r.typ, line[r.rest:])
	}
	return ok
}

// quick gathers the edits of a released line in a fraction of the time of a walk. ok is false if
// only a walk can find them.
func (r *reviewed) quick(line []byte) (ok bool) {
	r.edits = r.edits[:0]
	if hasCodedEscapes(line) || isDisguised(line) || !r.named(line) {
		return false
	}
	if r.resolved && !r.short && !r.ambiguous && len(r.identified.values) == 0 {
		return r.maskSecrets(line)
	}
	return r.linksGo(line) && r.sourcesGo(line) && r.maskReferences(line)
}

// named reports whether each Reference of the line certainly names its target by a reference, or
// is in a field that points to nothing withheld.
func (r *reviewed) named(line []byte) bool {
	if len(r.hidden) == 0 {
		return true
	}
	if len(r.identified.values) > 0 &&
		(int(r.typ) < len(oddTypes) && oddTypes[r.typ] || identifierObject(line)) {
		return false
	}
	for at := 0; ; {
		n := displayName.index(line[at:])
		if n < 0 {
			return true
		}
		if !r.shows(line[:at+n]) {
			return false
		}
		at += n + len(displayName.text)
		if !endsWell(line[at:]) {
			return false
		}
	}
}

// endsWell reports whether nothing but a reference follows a display in its object that may name
// a Reference's target.
func endsWell(line []byte) bool {
	text, rest, ok := textBehind(line)
	if !ok || text == nil || bytes.HasPrefix(rest, []byte("}")) {
		return ok
	}
	for _, name := range []string{`,"code":`, `,"system":`, `,"reference":"`} {
		if bytes.HasPrefix(rest, []byte(name)) {
			return true
		}
	}
	return false
}

var displayName = newNeedle(`"display"`)

// shows reports whether the display that follows is certainly not alone in a Reference that may
// point to something withheld. It checks what comes before: a code and system, or a reference,
// in the same object; or the name of the field that contains the object. A code or a system
// alone does not make a Coding.
func (r *reviewed) shows(before []byte) bool {
	for code, system := false, false; ; {
		field, ok := bytes.CutSuffix(before, []byte(`{`))
		if ok {
			field = bytes.TrimSuffix(field, []byte(`[`))
			field, ok = bytes.CutSuffix(field, []byte(`":`))
			return ok && !r.hidden[string(field[bytes.LastIndexByte(field, '"')+1:])]
		}
		value, ok := bytes.CutSuffix(before, []byte(`",`))
		if !ok {
			return false
		}
		from := bytes.LastIndexByte(value, '"')
		if from < 0 || bytes.IndexByte(value[from:], '\\') >= 0 {
			return false
		}
		switch first := value[:from]; {
		case bytes.HasSuffix(first, []byte(`"reference":`)):
			return true
		case bytes.HasSuffix(first, []byte(`"code":`)):
			code, before = true, first[:len(first)-len(`"code":`)]
		case bytes.HasSuffix(first, []byte(`"system":`)):
			system, before = true, first[:len(first)-len(`"system":`)]
		case bytes.HasSuffix(first, []byte(`"version":`)):
			before = first[:len(first)-len(`"version":`)]
		default:
			return false
		}
		if code && system {
			return true
		}
	}
}

// maskSecrets masks the References of a line that contain the id of something withheld.
// Everything that must be masked contains one. ok is false if one occurs outside an object with
// only a reference.
func (r *reviewed) maskSecrets(line []byte) (ok bool) {
	for seen := r.head; ; {
		secret := r.secrets.find(line[seen:])
		if secret < 0 {
			return true
		}
		start := bytes.LastIndexByte(line[:seen+secret], '{')
		if start < seen {
			return false
		}
		text, end, ok := aReference(line, start)
		if !ok || end < seen+secret {
			return false
		}
		mask := r.mask(text)
		if mask == nil {
			return false
		}
		r.edits = append(r.edits, fhir.Edit{Start: start, End: end, With: mask})
		seen = end
	}
}

// maskReferences masks the References of a line. ok is false if a Reference that must be masked
// contains more than a reference, or if something else may have to be masked.
func (r *reviewed) maskReferences(line []byte) (ok bool) {
	seen, at := 0, 0 // how far the line was searched for secrets, and for references
	for {
		end := indexEnd(line[at:], 'c', 'c', 'e')
		if end < 0 {
			return r.secrets.find(line[seen:]) < 0
		}
		at += end + len(`ce"`)
		name, isReference := bytes.CutSuffix(line[:at], []byte(`"reference"`))
		if !isReference {
			continue
		}
		text, rest, ok := textBehind(line[at:])
		if !ok || bytes.IndexByte(text, '\\') >= 0 {
			return false
		}
		at = len(line) - len(rest)
		if text == nil {
			if bytes.HasPrefix(rest, []byte("{")) { // an Identifier, see foreignIdentifiers
				return false
			}
			continue
		}
		mask := r.mask(text)
		if mask == nil {
			continue
		}
		start := len(name) - 1
		if start < seen || r.secrets.find(line[seen:start]) >= 0 {
			return false
		}
		if _, seen, ok = aReference(line, start); !ok {
			return false
		}
		r.edits = append(r.edits, fhir.Edit{Start: start, End: seen, With: mask})
	}
}

// aReference reads the Reference that begins at start, if it is an object with only a reference.
func aReference(line []byte, start int) (text []byte, end int, ok bool) {
	const begin = `{"reference":"`
	rest, ok := bytes.CutPrefix(line[start:], []byte(begin))
	if !ok || ofCodeable(line[:start]) {
		return nil, 0, false
	}
	n := bytes.IndexByte(rest, '"')
	if n < 0 || n+1 == len(rest) || rest[n+1] != '}' || bytes.IndexByte(rest[:n], '\\') >= 0 {
		return nil, 0, false
	}
	return rest[:n], start + len(begin) + n + 2, true
}

// ofCodeable reports whether the Reference that follows is part of a CodeableReference, which
// may also have a concept.
func ofCodeable(before []byte) bool {
	before = bytes.TrimRight(bytes.TrimRight(bytes.TrimRight(before, " \t\r\n"), ":"), " \t\r\n")
	return bytes.HasSuffix(before, []byte(`"reference"`))
}

// hasCodedEscapes reports whether a line may contain \u escapes.
func hasCodedEscapes(line []byte) bool {
	for {
		at := bytes.IndexByte(line, '\\')
		if at < 0 || at+1 == len(line) {
			return false
		}
		if line[at+1] == 'u' {
			return true
		}
		line = line[at+2:]
	}
}

// linksGo reports whether no text of the line, apart from References, names a withheld resource.
func (r *reviewed) linksGo(line []byte) bool {
	if bytes.Contains(line, []byte(`\/`)) {
		return false
	}
	return !r.namesOneWithheld(line, []byte(`"reference":"`))
}

// plan walks the line and gathers its edits.
func (r *reviewed) plan(line []byte, v verdict) error {
	r.edits, r.open = r.edits[:0], r.open[:0]
	w := &r.walk
	for w.reset(line); w.next(); {
		switch {
		case w.kind == opened:
			r.open = append(r.open, frame{})
		case w.kind == closed:
			r.closeContainer(v)
		case w.content() == nil:
		case w.isText && string(w.key()) == "reference":
			top := &r.open[len(r.open)-1]
			top.holds |= holdsReference
			if m := r.mask(w.text()); m != nil && !r.losesOnlyItsReference(m) {
				top.mask = m
			}
		default:
			r.trace()
			masked := r.scrub()
			if len(r.open) == 0 {
				continue
			}
			switch top, key := &r.open[len(r.open)-1], string(w.key()); key {
			case "url":
				top.url = masked
			default:
				if at := slices.Index(sameAsURL, key); at >= 0 && !masked {
					top.same[at] = [2]int{w.fieldStart(), w.end}
				}
			}
		}
	}
	return w.err
}

// losesOnlyItsReference handles a reference that points nowhere, in an export from which nothing
// is withheld. The elements beside it say what was meant (EHI-8, IN-6: the display, an
// identifier) and are released; only the reference is marked as unknown. If the object has
// nothing else, it is replaced as a whole.
func (r *reviewed) losesOnlyItsReference(mask []byte) bool {
	if r.alone || !r.policy.everything || !bytes.Equal(mask, fhir.UnknownReference) {
		return false
	}
	e, ok := fhir.LoseReference(r.walk.src, r.walk.fieldStart(), r.walk.end)
	if ok {
		r.edits = append(r.edits, e)
	}
	return ok
}

// trace records what a text says about the object that contains it.
func (r *reviewed) trace() {
	if len(r.open) == 0 {
		return
	}
	top := &r.open[len(r.open)-1]
	switch string(r.walk.key()) {
	case "display":
		top.holds |= holdsDisplay
	case "value":
		top.holds |= holdsValue
		if withheld, telling := r.names(r.walk.content()); telling {
			top.holds |= namesWithheld | namesTelling
		} else if withheld {
			top.holds |= namesWithheld
		}
	case "code":
		top.holds |= holdsCode
	case "system":
		top.holds |= holdsSystem
	case "equivalence": // a target of a ConceptMap, whose system is elsewhere
		top.holds |= holdsCode | holdsSystem
	case resourceType:
		top.holds |= holdsType
	case "type":
		if r.hidesOf(r.walk.content()) {
			top.holds |= typedWithheld
		}
	}
}

// hidesOf reports whether something is withheld of the type that a Reference states, by name or
// by URL.
func (r *reviewed) hidesOf(typ []byte) bool {
	n := fhir.TypeNumber(typ[bytes.LastIndexByte(typ, '/')+1:])
	return n != 0 && r.hiding.has(uint16(n))
}

// closeContainer masks a Reference that ends here, or removes a presentedForm.
func (r *reviewed) closeContainer(v verdict) {
	w := &r.walk
	top := r.open[len(r.open)-1]
	r.open = r.open[:len(r.open)-1]
	r.unshow(top)
	isObject := w.fieldStart() >= 0 && w.src[w.start] == '{'
	if len(r.open) > 0 && r.isIdentifier(top.holds) {
		r.open[len(r.open)-1].holds |= holdsIdentifier | top.holds&(namesWithheld|namesTelling)
	}
	if !isTelling(top.mask) && w.src[w.start] == '{' && r.hides(top.holds, w.key()) {
		top.mask = nameMask(top.holds&holdsIdentifier == 0 || top.holds&namesTelling != 0)
	}
	if top.holds&namesWithheld != 0 && w.src[w.start] == '{' && r.namesAnother() {
		top.mask = nameMask(top.holds&namesTelling != 0)
	}
	if top.mask == nil &&
		(top.concept || top.holds&holdsDisplay != 0 && !top.holds.otherThanReference()) {
		top.mask = top.part // the elements beside it reveal the same
	}
	if len(r.open) > 0 {
		outer := &r.open[len(r.open)-1]
		switch string(w.key()) {
		case "concept":
			outer.concept = outer.concept || isObject
		case "reference": // an object, or in a list
			if top.mask == nil && w.src[w.start] == '[' {
				top.mask, top.part = top.part, nil
			}
			if top.mask != nil && !bytes.Equal(top.mask, fhir.UnknownReference) {
				outer.part = top.mask
			}
		}
	}
	switch {
	case top.mask != nil:
		r.replace(w.start, w.end, top.mask)
	// its value reveals the same as its url
	case top.url && w.src[w.start] == '{' && isExtension(w.key()):
		r.replace(w.start, w.end, maskedExtension)
	case v&stripped != 0 && w.depth == 1 && string(w.key()) == presentedForm:
		from, to := fieldSpan(w.src, w.fieldStart(), w.end)
		r.replace(from, to, nil)
	}
}

// maskedExtension replaces an extension whose url is masked.
var maskedExtension = []byte(`{"url":"` + fhir.AbsentReasonURL + `","valueCode":"masked"}`)

// isIdentifier reports whether the container that ends here is an Identifier of another resource
// with a value, or a list of these.
func (r *reviewed) isIdentifier(holds traces) bool {
	if string(r.walk.key()) != "identifier" || !r.namesAnother() {
		return false
	}
	if r.walk.src[r.walk.start] == '[' {
		return holds&holdsIdentifier != 0
	}
	return holds&holdsValue != 0
}

// namesAnother reports whether the current object is an Identifier of another resource.
func (r *reviewed) namesAnother() bool {
	return namesAnother(r.typ, r.walk.appendPath(nil), r.walk.key())
}

// hides reports whether the object in a field is a Reference that names something withheld by an
// identifier, or that names nothing and may mean something withheld. In any field, an object
// with a display beside such an identifier, or beside a type, counts as a Reference.
func (r *reviewed) hides(holds traces, field []byte) bool {
	const named, typed = holdsDisplay | holdsIdentifier | namesWithheld,
		holdsDisplay | typedWithheld
	if !r.alone && !holds.otherThanReference() &&
		(holds&named == named || holds&(typed|holdsReference|holdsIdentifier) == typed) {
		return true
	}
	_, isReference := fhir.ReferenceFields()[string(field)]
	if holds&holdsReference == 0 && !isReference {
		return false
	}
	switch {
	case holds.otherThanReference():
		return false
	case r.alone:
		return holds&(holdsReference|holdsDisplay|holdsIdentifier) != 0
	case holds&holdsIdentifier != 0:
		return holds&namesWithheld != 0
	}
	return holds&(holdsReference|holdsDisplay) == holdsDisplay && r.hidden[string(field)]
}

// replace adds an edit for a container and drops the edits inside it.
func (r *reviewed) replace(start, end int, with []byte) {
	for len(r.edits) > 0 && r.edits[len(r.edits)-1].Start >= start {
		r.edits = r.edits[:len(r.edits)-1]
	}
	r.edits = append(r.edits, fhir.Edit{Start: start, End: end, With: with})
}

// fieldSpan extends a field to one adjacent comma, across white space.
func fieldSpan(line []byte, start, end int) (int, int) {
	if after := end + spaces(line[end:]); after < len(line) && line[after] == ',' {
		return start, after + 1
	}
	if before := bytes.TrimRight(line[:start], " \t\r\n"); bytes.HasSuffix(before, []byte(",")) {
		return len(before) - 1, end
	}
	return start, end
}

// mask returns the replacement of a Reference by its reference; nil if it is not masked.
func (r *reviewed) mask(ref []byte) []byte {
	if r.alone {
		return fhir.MaskedReference
	}
	if of, is := r.called[string(ref)]; is {
		if v, _ := r.index.at(of); v.withheld() {
			return maskOf(v)
		}
		return nil
	}
	if fhir.External(ref) {
		if m := r.betrays(ref); m != nil {
			return m
		}
		return nil
	}
	typ, id, local := fhir.Local(ref)
	if !local {
		m, known := r.leads(ref)
		if m == nil && !known && !(r.resolved && leadOf(ref).exact) {
			m = fhir.UnknownReference
		}
		return m
	}
	return r.maskLocal(uint16(fhir.TypeNumber(typ)), id)
}

// maskLocal is mask for a reference by type number and id.
func (r *reviewed) maskLocal(typ uint16, id []byte) []byte {
	v, known := r.decidedOf(typ, id)
	switch {
	case !known && r.resolved:
		return nil
	case !known:
		return fhir.UnknownReference
	case v.withheld():
		return maskOf(v)
	}
	return nil
}

// maskOf returns the mask for a withheld target.
func maskOf(v verdict) []byte {
	if v.unused() {
		return unusedMask
	}
	if v.unticked() {
		return fhir.MaskedReference
	}
	return tellingMask
}

// betrays masks a URL that points outside the record, or to a contained resource, if it may name
// something withheld: by type and id, by an id anywhere in it, or by an identifier.
func (r *reviewed) betrays(url []byte) []byte {
	if url[0] == '#' {
		if r.pruner.fallen.ids[string(url[1:])] || r.secret(url[1:]) {
			return tellingMask
		}
		return nil
	}
	if typ, id, ok := follow(url); ok {
		switch v, known := r.decided(typ, id); {
		case known && v.withheld():
			return maskOf(v)
		case known:
			return nil
		}
	}
	mask, _ := r.leads(url)
	return mask
}

// outOfID reports whether a character never occurs in an id. betweenParts reports whether it
// separates parts of a URL.
func outOfID(c rune) bool { return !alphanumeric(byte(c)) && c != '-' && c != '.' || c > 0x7f }
func betweenParts(c rune) bool {
	return c < 0x80 && bytes.IndexByte([]byte("/?=&|#,"), byte(c)) >= 0
}

// scrub masks a text or number that contains the id of a withheld resource, or names one by type
// and id.
func (r *reviewed) scrub() (masked bool) {
	w := &r.walk
	text := w.content()
	if w.depth == 1 && string(w.key()) == "id" ||
		!r.betraysIn(text) && !(isSource(w) && r.leadsToWithheld(text)) {
		return false
	}
	at := w.fieldStart()
	if at < 0 {
		r.edits = append(r.edits, fhir.Edit{Start: w.start, End: w.end, With: []byte(`"masked"`)})
		return true
	}
	r.edits = append(r.edits, absent(w.src, at, w.end))
	return true
}

// isSource reports whether a walk is at a meta.source, which may point to another resource.
func isSource(w *walk) bool {
	return string(w.key()) == "source" && w.depth > 1 && string(w.keyAt(w.depth-1)) == "meta"
}

// leadsToWithheld reports whether a URL, used as a Reference, would point to something withheld.
func (r *reviewed) leadsToWithheld(url []byte) bool {
	return (r.short || len(r.identified.values) > 0) && len(url) > 0 && r.betrays(url) != nil
}

// sourcesGo reports whether no meta.source of a line points to something withheld.
func (r *reviewed) sourcesGo(line []byte) bool {
	for {
		at := sourceName.index(line)
		if at < 0 {
			return true
		}
		text, rest, ok := textBehind(line[at+len(sourceName.text):])
		if !ok || bytes.IndexByte(text, '\\') >= 0 || r.leadsToWithheld(text) {
			return false
		}
		line = rest
	}
}

var sourceName = newNeedle(`"source"`)

// betraysIn reports whether a text names something withheld, possibly disguised.
func (r *reviewed) betraysIn(text []byte) bool {
	if r.secret(text) || r.namesOneWithheld(text, nil) || r.isWithheldURL(text) {
		return true
	}
	if !isDisguised(text) {
		return false
	}
	text = revealed(text)
	return r.secret(text) || r.namesOneWithheld(text, nil) || r.isWithheldURL(text)
}

// isWithheldURL reports whether a text is the canonical URL of a withheld definition.
func (r *reviewed) isWithheldURL(text []byte) bool {
	if !r.identified.urls || bytes.IndexByte(text, ':') < 0 {
		return false
	}
	withheld, _ := r.names(canonicalName(text))
	return withheld
}

// absent masks the field of a text or number that begins at a position of a line.
func absent(line []byte, at, end int) fhir.Edit {
	name, _ := textEnd(line, at) // keeps its spelling
	with := append([]byte(`"_`), line[at+1:name]...)
	with = append(append(with, ':'), fhir.MaskedReference...)
	return fhir.Edit{Start: at, End: end, With: with}
}

// sameAsURL are the fields of an attachment that reveal the content of its url. R4 also allows
// the same content as data.
var sameAsURL = []string{"title", "data", "hash"}

// unshow masks the fields of an attachment that reveal the target of its masked url.
func (r *reviewed) unshow(f frame) {
	if !f.url {
		return
	}
	for _, field := range f.same {
		if field[1] == 0 {
			continue
		}
		at := len(r.edits)
		for at > 0 && r.edits[at-1].Start > field[0] {
			at--
		}
		r.edits = slices.Insert(r.edits, at, absent(r.walk.src, field[0], field[1]))
	}
}

// secret reports whether a text contains the id of a withheld resource, or another of its
// numbers.
func (r *reviewed) secret(text []byte) bool {
	if r.native != nil {
		return r.native.in(text)
	}
	return len(text) >= minNumber && r.secrets.in(text)
}

// namesOneWithheld reports whether a text contains the type and id of a withheld resource,
// joined by a slash, however short the id is. It skips occurrences that directly follow but.
func (r *reviewed) namesOneWithheld(text, but []byte) bool {
	if bytes.IndexByte(text, '%') >= 0 {
		text = revealed(text)
	}
	for at := 0; ; {
		n := bytes.IndexByte(text[at:], '/')
		if n < 0 {
			return false
		}
		slash := at + n
		at = slash + 1
		begin, end := slash, at
		for begin > 0 && alphanumeric(text[begin-1]) {
			begin--
		}
		typ := text[begin:slash]
		if len(typ) == 0 || typ[0] < 'A' || typ[0] > 'Z' || fhir.TypeNumber(typ) == 0 ||
			len(but) > 0 && bytes.HasSuffix(text[:begin], but) {
			continue
		}
		for end < len(text) && fhir.ValidID(text[end:end+1]) {
			end++
		}
		if r.isWithheld(typ, text[at:end]) ||
			r.isWithheld(typ, bytes.TrimRight(text[at:end], ".")) {
			return true
		}
	}
}

func (r *reviewed) isWithheld(typ, id []byte) bool {
	if r.alone {
		return len(id) > 0 && inRecords(typ)
	}
	v, _ := r.decided(typ, id)
	return v.withheld()
}

// decided looks up the verdict on a resource. If every reference resolves, resources that are
// released unconditionally may be unknown.
func (r *reviewed) decided(typ, id []byte) (v verdict, known bool) {
	return r.decidedOf(r.index.number(typ), id)
}

func (r *reviewed) decidedOf(n uint16, id []byte) (v verdict, known bool) {
	if r.resolved && !r.types.has(n) {
		return 0, false
	}
	high := r.index.high(id)
	if r.resolved && !r.notable.has(high) {
		return 0, false
	}
	return r.index.at(resource{n, r.index.whole(high, id)})
}
