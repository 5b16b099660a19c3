package release

import (
	"bytes"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// facts are the properties of a resource that decisions depend on. This file derives them from a
// line; policy.go and review.go decide. They are valid until the next line is examined.
type facts struct {
	typ, id    []byte
	number     uint16 // of the type; 0 for a type unknown to R4
	laboratory bool   // by a category code
	// document is the first document group by the codes of type, category, code and modality; ""
	// if there is none.
	document  ehi.Category
	radiology bool           // one of those groups is radiology
	sensitive authorizations // the ones it needs
	// happened is when it happened; empty if it does not say, or if no limit depends on it.
	happened fhir.Spans
	content  []pointing   // what it is about, see aboutPaths
	deeper   []target     // parts that content lacks, see consistsOf
	targets  []target     // a buffer of abouts
	supports []target     // the supporting resources that it uses
	tells    []target     // supporting resources that it only describes
	inner    bool         // it contains other resources, see innerResource
	copies   bool         // it is inside another resource
	members  bool         // it refers to something that may be a part of it, see sums
	leads    bool         // quick found a reference that is a lead
	owned    bool         // it is a Device that belongs to a patient
	presents bool         // it has a presentedForm
	binaries []attachment // the Binaries that it refers to
	// entries that refer to Binaries or supporting resources and to something else
	taking []taking
	// identifiers are the values that identify only this resource, and the resources it
	// contains; normal.
	identifiers [][]byte
	shared      [][]byte // values that it shares with others, see sharedIdentifiers
	extended    [][]byte // values in extensions, which may belong to anything
	names       [][]byte // the names of a supporting resource
	context     target   // the target of a Binary's securityContext
	strays      []target // references that may point outside the record, see Beside
	url         bool     // it is a definition with a URL
}

// authorizations is a set: bit i stands for number i of ehi.Authorizations.
type authorizations uint16

// authorizationBits is the bit of each authorization.
var authorizationBits = func() map[string]authorizations {
	m := map[string]authorizations{}
	for i, a := range ehi.Authorizations() {
		m[string(a.Key)] = 1 << i
	}
	return m
}()

// first returns the first member in the order of the form; "" if the set is empty.
func (a authorizations) first() ehi.Authorization {
	for i, info := range ehi.Authorizations() {
		if a&(1<<i) != 0 {
			return info.Key
		}
	}
	return ""
}

// list returns the members in the order of the form.
func (a authorizations) list() (keys []ehi.Authorization) {
	for i, info := range ehi.Authorizations() {
		if a&(1<<i) != 0 {
			keys = append(keys, info.Key)
		}
	}
	return keys
}

// target is the resource that a local reference points to.
type target struct{ typ, id []byte }

var patientNumber = uint16(fhir.TypeNumber([]byte("Patient")))

// examiner walks resources and derives facts. It is for one goroutine.
type examiner struct {
	policy   *Policy
	walk     walk
	skimmed  skim
	codings  []coding // of the open objects, by depth
	path     []byte
	dates    fhir.Dates
	escaped  bool           // the line that is examined quickly has escapes
	harmless [256]shortCode // recent codes that are in no table; most codes recur
	// harmlessShown are recent texts that show no code of the tables.
	harmlessShown [64]shownBefore
	dated         bool // facts.happened is needed
	alone         bool // references do not matter
	// supportsEnd is where the last reference to a supporting resource ends in the line that
	// plain examined.
	supportsEnd int
	traits      []trait   // by type number
	moulds      []moulds  // by type number
	latest      latest    // for the moulds
	made        *mould    // the mould that is being made, or nil
	showsLab    bool      // the resource is withheld if a text says that it comes from a laboratory
	casts       bool      // it serves the second pass, see cast
	kind        traitKind // of the current line, while it is compared with moulds
	facts       facts

	// The following fields describe the current type.
	about       map[string]place
	document    bool
	defined     bool     // it is a definition, or may name one
	entryFields []string // entryPaths
	insides     []inside // the entries so far
	locals      []localRef
	bill        bool    // it is a bill: a skim gathers its lines, see lines
	in          *inside // the open one, or nil
}

// coding holds the fields of an open object that decisions depend on.
type coding struct {
	system, code  []byte
	number        []byte // the code in plain decimal notation
	refers, named bool   // see names
	codes         bool   // it contains codes, see shape
	odd           bool   // its code may be of another system, or is one of several
	shown         []byte // its display
	told          []byte // its text
	sure          bool   // it contains a Coding of a known system, see shows
	value         []byte
	called        identifier // the Identifier in it
	ref           []byte     // its reference
	leads         bool       // ref names a resource by type and id
}

// examine derives the facts of a line. They are valid until the next call. Errors: the line is
// not JSON.
func (x *examiner) examine(line []byte) (*facts, error) {
	typ := x.typeOf(line)
	last, err := x.examineAs(typ, line)
	if err == nil && !bytes.Equal(typ, last) { // resourceType occurs twice: the last one counts
		_, err = x.examineAs(last, line)
	}
	return &x.facts, err
}

// examineAs derives the facts of a resource as if it had the given type, and returns its actual
// type.
func (x *examiner) examineAs(typ, line []byte) (last []byte, err error) {
	f, w := x.begin(typ, uint16(fhir.TypeNumber(typ)), aboutPlaces[string(typ)]), &x.walk
	x.document = documentTypes[string(typ)]
	x.defined = !x.alone && (roles[f.number] == definition || canonicals[f.number] != nil)
	x.insides, x.locals, x.entryFields = x.insides[:0], x.locals[:0], nil
	if !x.alone {
		x.entryFields = entryPaths[string(typ)]
	}
	if x.dated {
		x.dates.Begin(typ)
	}
	for w.reset(line); w.next(); {
		switch w.kind {
		case opened:
			x.open(w.depth)
		case closed:
			x.close(f, &x.codings[w.depth])
		case scalar:
			if x.in != nil && x.in.field != contained {
				x.in.note(w)
			}
			if w.isText && w.depth > 0 && string(w.key()) == resourceType {
				if w.depth == 1 {
					last = w.text()
					continue
				}
				f.inner = f.inner || string(w.keyAt(1)) != contained
			}
			x.scalarCode(f)
			switch {
			case w.isText:
				x.text(f)
			case string(w.key()) == "value" && w.depth > 1:
				x.identifier(f)
			}
		}
	}
	if x.dated {
		f.happened = x.dates.Spans()
	}
	x.settle(f)
	x.bill = isBill[f.number]
	return last, w.err
}

// begin resets the facts for a resource of a type. number and about belong to the type.
func (x *examiner) begin(typ []byte, number uint16, about map[string]place) *facts {
	f := &x.facts
	content, targets, supports, binaries := f.content[:0], f.targets, f.supports[:0], f.binaries[:0]
	identifiers, shared, taking, names, tells :=
		f.identifiers[:0], f.shared[:0], f.taking[:0], f.names[:0], f.tells[:0]
	strays, extended, deeper := f.strays[:0], f.extended[:0], f.deeper[:0]
	*f = facts{} // a literal with all fields would cost one more copy
	f.content, f.targets, f.supports, f.binaries = content, targets, supports, binaries
	f.identifiers, f.shared, f.taking, f.names, f.tells = identifiers, shared, taking, names, tells
	f.typ, f.number, f.strays, f.extended, f.deeper = typ, number, strays, extended, deeper
	x.about, x.in = about, nil
	return f
}

const resourceType = "resourceType"

// typeOf returns the type of a resource, which decides the meaning of the other fields. It is
// usually the first field.
func (x *examiner) typeOf(line []byte) (typ []byte) {
	const first = `{"resourceType":"`
	if bytes.HasPrefix(line, []byte(first)) {
		rest := line[len(first):]
		if end := bytes.IndexByte(rest, '"'); end >= 0 && bytes.IndexByte(rest[:end], '\\') < 0 {
			return rest[:end]
		}
	}
	w := &x.walk
	for w.reset(line); w.next(); {
		if w.depth == 1 && w.isText && string(w.key()) == resourceType {
			return w.text()
		}
	}
	return nil
}

func (x *examiner) open(depth int) {
	if depth == len(x.codings) {
		x.codings = append(x.codings, coding{})
	}
	x.codings[depth] = coding{}
	x.shape(depth)
	if depth == 1 {
		x.facts.presents = x.facts.presents || string(x.walk.key()) == presentedForm
	}
	if x.walk.src[x.walk.start] == '{' {
		x.enter()
	}
}

// close handles an object that ends here.
func (x *examiner) close(f *facts, c *coding) {
	x.shows(f, c)
	switch {
	case len(c.code) > 0:
		x.coding(f, c)
	case len(c.system) > 0:
		x.codeless(f, c)
	}
	if !x.alone {
		x.called(f, c)
		if c.called.value != nil || c.ref != nil && !c.leads {
			x.refersByName(f, c)
		}
	}
	if x.in == nil {
		return
	}
	if field := string(x.walk.key()); c.anonymous() {
		x.in.shown = append(x.in.shown, field)
		x.path = x.walk.appendPath(x.path[:0])
		x.mentions(x.path, mention{shown: field})
	}
	if string(x.walk.key()) == "identifier" {
		x.codings[x.walk.depth-1].named = true
	}
	x.leave()
}

// coding classifies the codes of an object that ends here, wherever it is.
func (x *examiner) coding(f *facts, c *coding) {
	x.policy.sensitive.lookup(c.system, c.code, x.isLabel(x.walk.depth), f.addSensitive)
	if len(c.number) > 0 {
		x.policy.sensitive.lookup(c.system, c.number, x.isLabel(x.walk.depth), f.addSensitive)
	}
	if c.odd {
		x.anywhere(f, c.code)
	}
	switch string(x.walk.keyAt(1)) {
	case "category":
		f.laboratory = f.laboratory || isLaboratory(c.code)
		fallthrough
	case "type", "code", "modality", "series":
		if x.document {
			x.policy.documents.lookup(c.system, c.code, false, f.addDocument)
		}
	}
}

// isLabel reports whether the object at a depth is at a place of FHIR security labels:
// meta.security, securityLabel, and security.label of other elements.
func (x *examiner) isLabel(at int) bool {
	w := &x.walk
	for depth := at; depth > 0 && depth > at-4; depth-- {
		if isSecurity(w.keyAt(depth)) {
			return true
		}
	}
	return false
}

func (f *facts) addSensitive(category string) { f.sensitive |= authorizationBits[category] }

// documentTypes are the types that have a document group.
var documentTypes = map[string]bool{
	"DocumentReference": true,
	"Media":             true,
	"ImagingStudy":      true,
	"DiagnosticReport":  true,
}

func (f *facts) addDocument(category string) {
	if f.document == "" {
		f.document = ehi.Category(category)
	}
	f.radiology = f.radiology || category == string(ehi.Radiology)
}

func (x *examiner) text(f *facts) {
	w := &x.walk
	if x.in != nil {
		x.codings[w.depth-1].names(w.key())
		x.calls()
	}
	if text := w.text(); len(text) > 1 && text[0] == '#' && !x.alone {
		x.local(text[1:])
	}
	if x.defined {
		x.definition(f)
	}
	x.link(f)
	if f.number == imagingNumber && string(w.key()) == "uid" { // of a series or an image
		f.addIdentifier(ownIdentifier, w.text())
	}
	switch k := w.key(); len(k) {
	case len("url"), len("valueUrl"), len("valueCanonical"):
		x.binary(f)
	case len("value"):
		if w.depth > 1 && string(k) == "value" {
			x.identifier(f)
		}
	case len("id"):
		if w.depth == 1 && string(k) == "id" {
			f.id = w.text()
			return
		}
	case len("code"):
		if string(k) == "code" {
			return
		}
		if string(k) == "text" {
			x.label(f)
		}
	case len("display"):
		if string(k) == "display" {
			x.label(f)
		}
	case len("system"):
		if string(k) == "system" {
			return
		}
	case len("confidentiality"):
		if string(k) == "confidentiality" { // of a Composition: a code without a system
			x.policy.sensitive.lookup(nil, w.text(), true, f.addSensitive)
		}
	case len("reference"):
		if string(k) == "reference" {
			x.reference(f)
			return
		}
	}
	if c := w.src[w.start+1]; x.dated && (c >= '0' && c <= '9' || w.escaped) {
		x.date()
	}
}

// label classifies the text of a security label or category, which may have no code, or an
// unknown one.
func (x *examiner) label(f *facts) {
	if string(x.walk.keyAt(1)) == "category" {
		f.laboratory = f.laboratory || showsLaboratory(x.walk.text())
	}
	if x.isLabel(x.walk.depth - 1) {
		x.policy.sensitive.lookupLabel(x.walk.text(), f.addSensitive)
	}
}

// date handles a text that may say when the resource happened.
func (x *examiner) date() {
	w := &x.walk
	x.path = w.appendPath(x.path[:0])
	object := 0
	if w.depth > 1 {
		object = w.levels[w.depth-1].start
	}
	raw := w.src[w.start:w.end]
	if w.escaped {
		text := w.text()
		if bytes.ContainsAny(text, `"\\`) { // not a date
			return
		}
		raw = append(append([]byte{'"'}, text...), '"')
	}
	x.dates.Take(x.path, raw, object)
}

const binaryType, binaryPrefix = "Binary", binaryType + "/"

// binary records the Binaries that a URL names. refers records those that a reference names.
func (x *examiner) binary(f *facts) {
	w := &x.walk
	if x.alone || !leads(w.key()) {
		return
	}
	url := w.text()
	if bytes.IndexByte(url, '%') < 0 && !bytes.Contains(url, []byte(binaryType)) {
		return
	}
	binaryNames(url, func(id []byte, exact bool) {
		a := attachment{
			target:    target{[]byte(binaryType), id},
			presented: x.presented(f),
			tells:     !exact,
		}
		if x.in != nil {
			x.in.targets = append(x.in.targets, a.target)
		}
		x.attach(f, a)
	})
}

// attach records that the current resource, or entry, points to a Binary.
func (x *examiner) attach(f *facts, a attachment) {
	if x.in == nil {
		f.binaries = append(f.binaries, a)
		return
	}
	a.presented = a.presented && x.in.field == contained
	x.in.binaries = append(x.in.binaries, a)
	x.in.bound = x.in.placed(x.in.bound, len(x.in.binaries), nil)
}

// link records the target of a url that is not by type and id, or a text that may mention a
// Binary.
func (x *examiner) link(f *facts) {
	w := &x.walk
	isLink := string(w.key()) == "url" && w.depth > 1 && !isExtension(w.keyAt(w.depth-1))
	if x.alone || string(w.key()) == "reference" || w.depth == 1 && string(w.key()) == "id" ||
		!isLink && !mentionsBinary(w.text()) {
		return
	}
	to, ok := resolve(w.text())
	if ok && isLink && (string(to.typ) != binaryType || bytes.Equal(bytes.ToLower(to.id), to.id)) {
		return
	}
	a := attachmentTo(hintTo(w.text(), nil), x.presented(f), false)
	if a.target.typ == nil {
		return
	}
	a.hint, a.link = a.hint || !isLink, isLink
	x.attach(f, a)
}

// isExtension reports whether a field contains extensions, whose url is not a link.
func isExtension(field []byte) bool {
	return string(field) == "extension" || string(field) == "modifierExtension"
}

// mentionsBinary reports whether a text may mention a Binary, or contain a link to one.
func mentionsBinary(text []byte) bool {
	return bytes.IndexByte(text, 'y') >= 0 && bytes.Contains(text, []byte("inary")) ||
		bytes.IndexByte(text, 'Y') >= 0 && bytes.Contains(text, []byte("INARY")) ||
		bytes.IndexByte(text, '=') >= 0 &&
			(bytes.Contains(text, []byte("src=")) || bytes.Contains(text, []byte("href=")))
}

const presentedForm = "presentedForm"

// presented reports whether a field is a report's presentedForm, which may be removed when the
// report is released.
func (f *facts) presented(field []byte) bool {
	return f.number == reportNumber && string(field) == presentedForm
}

// presented reports whether a walk is in a presentedForm, of the resource or of a contained one.
func (x *examiner) presented(f *facts) bool {
	if x.in != nil && x.in.field == contained {
		return string(x.walk.keyAt(3)) == presentedForm
	}
	return f.presented(x.walk.keyAt(1))
}

func (x *examiner) reference(f *facts) {
	if string(f.typ) == "Binary" && string(x.walk.keyAt(1)) == "securityContext" {
		f.context, _ = resolve(x.walk.text())
	}
	if x.alone {
		return
	}
	text := x.walk.text()
	to, ok := resolve(text)
	c := &x.codings[x.walk.depth-1]
	if c.ref, c.leads = text, ok; !ok { // close resolves it
		return
	}
	if leadsOut(text, to) {
		f.stray(to)
	}
	if x.in == nil && x.about == nil && string(to.typ) != binaryType && !isSupporting(to.typ) &&
		!supporting[f.number] {
		return
	}
	x.path = x.walk.appendPath(x.path[:0])
	x.refers(f, bytes.TrimSuffix(x.path, []byte(".reference")), to, true)
}

// identifier records a value that identifies the resource itself, or something it contains.
func (x *examiner) identifier(f *facts) {
	x.codings[x.walk.depth-1].value = x.walk.content()
	x.path = x.walk.appendPath(x.path[:0])
	if at, found := bytes.CutSuffix(x.path, []byte(".value")); found {
		f.addIdentifier(identifierAt(f.number, at), x.walk.content())
	}
}

// isLaboratory recognizes the category of laboratory Observations and the laboratory sections of
// v2-0074, in any case.
func isLaboratory(code []byte) bool {
	code = bytes.TrimSpace(folded(code))
	if len(code) > len("laboratory") {
		return false
	}
	return laboratories[string(bytes.ToUpper(code))]
}

var laboratories = map[string]bool{
	"LABORATORY": true, "LABS": true,
	"LAB": true, "CH": true, "HM": true, "MB": true, "BLB": true, "BG": true, "IMM": true,
	"MCB": true, "MYC": true, "SR": true,
	"TX": true, "VR": true,
}

// showsLaboratory reports whether a word of a text is such a category.
func showsLaboratory(text []byte) bool {
	for _, word := range bytes.FieldsFunc(text,
		func(c rune) bool { return c >= 0x80 || !alphanumeric(byte(c)) }) {
		if holdsLab(word) && isLaboratory(word) {
			return true
		}
	}
	return false
}

// holdsLab reports whether a text contains the letters lab, in any case.
func holdsLab(text []byte) bool {
	for i := 2; i < len(text); i += 3 { // any occurrence covers one of these positions
		from := i
		switch text[i] | 0x20 {
		case 'l':
		case 'a':
			from--
		case 'b':
			from -= 2
		default:
			continue
		}
		if from+3 <= len(text) && bytes.EqualFold(text[from:from+3], []byte("lab")) {
			return true
		}
	}
	return false
}

// documentGroup returns the document group, which is a category of the form.
func (f *facts) documentGroup() ehi.Category {
	switch {
	case f.radiology: // a modality is more specific than "image"
		return ehi.Radiology
	case f.document != "":
		return f.document
	case string(f.typ) == "ImagingStudy":
		return ehi.Radiology
	}
	return ehi.OtherDocuments
}
