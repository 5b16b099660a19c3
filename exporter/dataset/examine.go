package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	stdjson "encoding/json"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

// facts is the result of one walk over a resource.
type facts struct {
	typ, id string
	refs    refTable
	owners  []string // patients whose compartment contains it
	// about is what it is about, apart from patients by ID. It belongs to the owners of those.
	about       []about
	stranger    bool // it names a patient who is unknown here
	identifiers []identifier
	updated     string // meta.lastUpdated
	versionID   string // meta.versionId
	url         string // of a definition
}

// about is a reference that decides the owner: to a resource, or by name.
type about struct {
	typ, id string // of a resource; empty for a name
	name    string
}

// maybePatient reports whether the name may be a patient's.
func (a about) maybePatient() bool {
	n, ok := parseName(a.name)
	return ok && (n.urn != "" || n.typ == "Patient")
}

// version returns what meta says about the resource's version.
func (f *facts) version() version {
	return version{updated: parseUpdated(f.updated), id: f.versionID}
}

func (a about) digest() digest {
	if a.name == "" {
		return literalDigest(a.typ, a.id)
	}
	n, _ := parseName(a.name) // it was one
	return n.digest()
}

// errResource is an error of one resource; the rest of its file is valid.
type errResource struct{ why string }

func (e errResource) Error() string { return e.why }

// scope defines what references mean in one place.
type scope struct {
	// own are the base URLs of this server and of the systems of origin, each with a trailing
	// slash.
	own []string
	// names maps the names of a bundle's entries: fullUrl -> type/id.
	names map[string]string
	// base is the base of the entry's fullUrl, with a trailing slash; "" if it is not a URL of a
	// server.
	base string
	// elsewhere holds the type/id of the bundle's entries if they come from several servers.
	elsewhere map[string]bool
}

// incoming returns an examiner for the import. It rejects a resource with a repeated field,
// because importer, release filter and client might read different values.
func incoming(s scope) examiner {
	return examiner{
		scope:  s,
		cursor: fhir.Cursor{Unique: true},
		moulds: make([]*moulds, len(fhir.Types())+1),
	}
}

// examiner examines resources. It is not safe for concurrent use.
type examiner struct {
	scope
	cursor fhir.Cursor
	// moveFrom is ImportOptions.MoveFrom for what an import brings; 0 for what is in the store.
	moveFrom int64
	// files, if not nil, has the data of attachments that URLs name, and maxResource is the
	// longest resource with them, in bytes. defers means that another examiner has them.
	files       *dataFiles
	maxResource int64
	defers      bool
	path        []byte
	words       map[string]string // interned types and paths
	moulds      []*moulds         // by type number; nil if none are made
	walked      bool              // the current resource was walked

	// The current resource.
	refs     refTable
	edits    []fhir.Edit
	shift    int // how much the edits so far lengthen the line
	last     int // where the last reference then ends
	subjects []subject
	owners   []string
	abouts   []about
	called   logical
	// canonicals are the fields of its type that name definitions, if its type is known.
	canonicals []canonicalField

	before []string    // the owners of the last resource with owners
	ids    [256]string // recent IDs, interned
	slab   []byte      // memory for tables of references
}

// id interns an ID. Most resources name the same patient as the previous one, and a recent
// encounter.
func (x *examiner) id(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	known := &x.ids[maphash.Bytes(idSeed, b)%uint64(len(x.ids))]
	if *known != string(b) {
		*known = string(b)
	}
	return *known
}

var idSeed = maphash.MakeSeed()

// keep copies a table of references.
func (x *examiner) keep(t refTable) refTable {
	if len(t) == 0 {
		return nil
	}
	if len(t) > cap(x.slab)-len(x.slab) {
		x.slab = make([]byte, 0, max(slabBytes, len(t)))
	}
	from := len(x.slab)
	x.slab = append(x.slab, t...)
	return x.slab[from:len(x.slab):len(x.slab)]
}

// slabBytes is the allocation unit for tables of references.
const slabBytes = 16 << 10

// logical is the identifier of a Reference being read
// (https://hl7.org/fhir/R4/references.html#logical).
type logical struct {
	identifier
	depth int // of the Reference
}

// wordsKept bounds the interned strings of an examiner.
const wordsKept = 10_000

func (x *examiner) word(b []byte) string {
	if w, ok := x.words[string(b)]; ok {
		return w
	}
	if x.words == nil || len(x.words) >= wordsKept {
		x.words = map[string]string{}
	}
	w := string(b)
	x.words[w] = w
	return w
}

// compact returns a resource as one line of JSON, with the references resolved that depend on
// the place, and the facts about it. It returns the argument itself if it is one line already;
// otherwise it removes the space between tokens.
func (x *examiner) compact(resource []byte) ([]byte, facts, error) {
	line := resource
	if len(line) > 1 && (line[1] == '\n' || line[1] == '\r') {
		line = squeeze(line)
	}
	f, err := x.examine(line)
	if x.walked && x.cursor.Err() == nil && x.cursor.Broken() {
		line = squeeze(line)
		f, err = x.examine(line)
	}
	if why := x.cursor.Err(); x.walked && why != nil {
		return nil, f, unfit(resource, why)
	}
	if len(x.edits) > 0 {
		line = fhir.Apply(make([]byte, 0, len(line)+x.shift), line, x.edits)
	}
	return line, f, err
}

// squeeze removes the space between the tokens of JSON.
func squeeze(doc []byte) []byte {
	out := make([]byte, 0, len(doc))
	for at := 0; at < len(doc); {
		switch c := doc[at]; c {
		case ' ', '\t', '\r', '\n':
			at++
		case '"':
			n := endOfString(doc[at+1:])
			if n < 0 {
				return append(out, doc[at:]...) // a syntax error, which the walk reports
			}
			out = append(out, doc[at:at+1+n]...)
			at += 1 + n
		default:
			out = append(out, c)
			at++
		}
	}
	return out
}

// unfit returns why a walk over a resource ended early.
func unfit(resource []byte, why error) error {
	if repeated, ok := errors.AsType[fhir.ErrRepeated](why); ok {
		return errResource{repeated.Error()}
	}
	return notJSON(resource, why)
}

// notJSON describes a syntax error in the words of the standard library, which give the offset.
func notJSON(resource []byte, err error) error {
	var any stdjson.RawMessage
	if e := stdjson.Unmarshal(resource, &any); e != nil {
		err = e
	}
	return errResource{fmt.Sprintf("not valid JSON: %v", err)}
}

// endOfString returns the distance from the opening to the closing quote of a string, or -1.
func endOfString(s []byte) int {
	for at := 0; ; {
		n := bytes.IndexByte(s[at:], '"')
		if n < 0 {
			return -1
		}
		at += n
		escapes := 0
		for at-escapes > 0 && s[at-escapes-1] == '\\' {
			escapes++
		}
		if at++; escapes%2 == 0 {
			return at
		}
	}
}

// examine returns the facts of a resource. The positions of references are those after the
// edits. A line like an earlier one is not walked.
func (x *examiner) examine(line []byte) (f facts, err error) {
	x.begin()
	x.walked = true
	if all := x.mouldsFor(line); all == nil {
		x.walk(line, &f, nil)
	} else if m := all.fitting(line); m != nil {
		x.fill(m, line, &f)
		x.walked = false
	} else if all.wanted() {
		made := making{mould: mould{line: bytes.Clone(line)}}
		x.walk(line, &f, &made)
		if !made.unfit && x.cursor.Err() == nil && !x.cursor.Broken() {
			made.typ = f.typ
			all.add(&made.mould)
		}
	} else {
		x.walk(line, &f, nil)
	}
	if len(line) > 0 && line[0] != '{' {
		return f, errResource{"no resource, which is a JSON object"}
	}
	if !fhir.KnownType(f.typ) {
		return f, errResource{fmt.Sprintf("resourceType %q is no type of FHIR R4", f.typ)}
	}
	if why := aside(&f, line); why != nil {
		return f, why
	}
	if !fhir.ValidID(f.id) {
		return f, errResource{fmt.Sprintf("%s has no valid id: %q", f.typ, f.id)}
	}
	if f.id == "." || f.id == ".." {
		const why = "no URL leads to that, as programs leave it out of paths"
		return f, errResource{fmt.Sprintf("%s has the id %q: %s", f.typ, f.id, why)}
	}
	f.refs = x.keep(x.refs)
	x.place(&f)
	return f, nil
}

// begin resets the examiner for a new resource.
func (x *examiner) begin() {
	x.refs, x.edits, x.subjects, x.shift, x.last = x.refs[:0], x.edits[:0], x.subjects[:0], 0, 0
	x.called = logical{}
}

// walk examines a resource, and makes a mould of it unless made is nil.
func (x *examiner) walk(line []byte, f *facts, made *making) {
	if x.walkAs(f.typ, line, f, made) {
		return
	}
	typ := f.typ
	*f = facts{}
	x.begin()
	x.walkAs(typ, line, f, made)
}

// walkAs walks over a resource of a type, "" if unknown. It reports whether the type was known
// early enough.
func (x *examiner) walkAs(typ string, line []byte, f *facts, made *making) bool {
	var ident identifier
	x.canonicals = canonicalFields[fhir.TypeNumber([]byte(typ))]
	known, scalars := typ != "", 0
	c := &x.cursor
	for c.Reset(line); c.Next(); {
		if c.Kind == fhir.Close && x.called.value != "" && c.Depth == x.called.depth {
			x.byIdentifier()
		}
		if c.Kind == fhir.Close && c.Depth <= 2 && c.Depth > 0 &&
			string(c.KeyAt(1)) == "identifier" {
			if ident.value != "" {
				f.identifiers = append(f.identifiers, ident)
			}
			ident = identifier{}
			made.event(endsIdentifier, c, "")
		}
		if c.Kind != fhir.Scalar {
			continue
		}
		made.scalar(c)
		k := c.Key()
		scalars++
		if len(x.canonicals) > 0 {
			x.canonicalAt(k, made)
		}
		switch string(k) {
		case "reference":
			x.referenceAt(0, made)
		case "url":
			if c.Depth == 1 && c.IsString() {
				f.url = string(c.Text())
				made.event(isDefinition, c, "")
			}
			if fhir.AttachmentField(string(c.KeyAt(c.Depth - 1))) {
				x.referenceAt(refURL, made)
			}
		case "div":
			if c.IsString() && c.Depth > 1 && string(c.KeyAt(c.Depth-1)) == "text" {
				x.narrativeAt(made)
			}
		case "valueUrl", "valueUri":
			x.referenceAt(refURL, made)
		case "resourceType":
			if c.Depth == 1 {
				f.typ = x.word(c.Text())
				x.canonicals = canonicalFields[fhir.TypeNumber(c.Text())]
				known = known || scalars == 1 || len(x.canonicals) == 0
			}
		case "id":
			if c.Depth == 1 {
				f.id = string(c.Text())
				made.event(isID, c, "")
			}
		case "lastUpdated":
			if c.Depth == 2 && string(c.KeyAt(1)) == "meta" {
				f.updated = string(c.Text())
				made.event(isUpdated, c, "")
			}
		case "versionId":
			if c.Depth == 2 && string(c.KeyAt(1)) == "meta" {
				f.versionID = strings.Trim(string(c.Raw()), `"`)
				made.event(isVersionID, c, "")
			}
		case "system":
			if x.ofIdentifier() {
				ident.system = string(c.Text())
				made.event(isSystem, c, "")
			} else if x.ofReference() {
				x.called.system = string(c.Text())
				made.fails()
			}
		case "value":
			if x.ofIdentifier() {
				ident.value = string(c.Text())
				made.event(isValue, c, "")
			} else if x.ofReference() {
				x.called.value = string(c.Text())
				made.fails()
			}
		}
	}
	return known || f.typ == "" || c.Err() != nil
}

// ofIdentifier reports whether the current value is a field of the resource's identifier or
// identifiers.
func (x *examiner) ofIdentifier() bool {
	c := &x.cursor
	return (c.Depth == 2 || c.Depth == 3) && string(c.KeyAt(1)) == "identifier" && c.IsString()
}

// ofReference reports whether the current value is a field of a Reference's identifier. It
// excludes those within the resource's own identifiers and within listed elements, which place
// does not use.
func (x *examiner) ofReference() bool {
	c := &x.cursor
	if c.Depth < 3 || !c.IsString() || string(c.KeyAt(c.Depth-1)) != "identifier" ||
		string(c.KeyAt(1)) == "identifier" || string(c.KeyAt(c.Depth-2)) == "assigner" {
		return false
	}
	if x.called.depth != c.Depth-2 {
		x.called = logical{depth: c.Depth - 2}
	}
	return true
}

// byIdentifier processes the end of a Reference with an identifier, which counts if its
// reference leads to nothing here.
func (x *examiner) byIdentifier() {
	c, called := &x.cursor, x.called
	x.called = logical{}
	var r struct {
		Type      string          `json:"type"`
		Reference json.RawMessage `json:"reference"`
	}
	if _, err := json.Parse(c.Raw(), &r, json.DontMatchCaseInsensitiveStructFields); err != nil {
		return
	}
	m := x.scope.read(fhir.Unquote(r.Reference))
	if len(r.Reference) > 0 && !m.external && m.kind != refStrange {
		return
	}
	x.path = c.AppendPath(x.path[:0])
	path := x.word(x.path)
	types := []string{r.Type}
	if r.Type == "" {
		types = fhir.ReferenceFields()[string(c.Key())]
		r.Type = "Patient"
		if path == "context" || strings.HasSuffix(path, "encounter") {
			r.Type = "Encounter"
		}
	}
	if !fhir.KnownType(r.Type) {
		return
	}
	x.subjects = append(x.subjects, subject{
		path,
		about{name: searchFor(r.Type, called.identifier)},
	})
	for _, t := range types {
		x.goesAlong(t, called.identifier)
	}
}

// goesAlong processes the end of a Reference that names, by identifier, a resource of a type
// without a patient: the record includes it.
func (x *examiner) goesAlong(typ string, by identifier) {
	if !fhir.KnownType(typ) || typ == "Patient" || fhir.CompartmentPaths(typ) != nil {
		return
	}
	_, end := x.cursor.Span()
	at := end + x.shift
	name := []byte(searchFor(typ, by))
	x.refs = x.refs.append(x.last, ref{start: at, end: at, kind: refLogical, original: name})
	x.last = at
}

// referenceAt processes the current string, which is a reference.
func (x *examiner) referenceAt(flag refKind, made *making) {
	c := &x.cursor
	if !c.IsString() {
		return
	}
	kind, path := isURL, ""
	if flag == 0 {
		x.path = c.AppendPath(x.path[:0])
		kind, path = isReference, x.word(bytes.TrimSuffix(x.path, []byte(".reference")))
	}
	made.event(kind, c, path)
	start, end := c.Span()
	x.reference(flag, c.Text(), start, end, path)
}

// reference processes the text of a reference. start and end are its bounds in the line; path is
// that of a Reference.
func (x *examiner) reference(flag refKind, text []byte, start, end int, path string) {
	m := x.scope.read(text)
	if flag == refURL && (m.kind == refStrange || m.external && m.text == "") {
		return
	}
	r := ref{start: start + x.shift, end: end + x.shift, kind: m.kind | flag}
	if m.text != "" {
		with := quote(m.text)
		x.edits = append(x.edits, fhir.Edit{Start: start, End: end, With: with})
		x.shift += len(with) - (end - start)
		r.end = r.start + len(with)
		text = []byte(m.text)
	}
	if flag == 0 {
		x.subject(m, text, path)
	}
	if m.external {
		return
	}
	x.refs = x.refs.append(x.last, r)
	x.last = r.end
}

// quote returns a text as a JSON string.
func quote(text string) []byte {
	plain := func(r rune) bool { return r >= ' ' && r != '"' && r != '\\' }
	if strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return []byte(`"` + text + `"`)
	}
	out, _ := stdjson.Marshal(text) // strings always can be encoded
	return out
}

// subject is a Reference that may decide the owner, with the path of its field.
type subject struct {
	path string
	about
}

func (x *examiner) subject(m meaning, text []byte, path string) {
	var a about
	switch typ, id, ok := fhir.Local(text); {
	case ok:
		a.typ, a.id = x.word(typ), x.id(id)
	case m.kind == refName && !m.external:
		a.name = string(text)
	case len(text) == 0 || text[0] == '#' || m.external && !bytes.Contains(text, []byte("Patient")):
		return
	}
	x.subjects = append(x.subjects, subject{path, a})
}

// aboutPaths returns the paths that say whom a resource is about.
func aboutPaths(typ string) []string {
	if paths := fhir.CompartmentPaths(typ); paths != nil {
		return paths
	}
	return besideCompartment[typ]
}

// besideCompartment extends fhir.CompartmentPaths: it has the paths by which resources outside
// of R4's patient compartment say what they are about. If that is a patient's, they are part of
// the record too, because an export must be complete. PaymentReconciliation, which lists the
// claims of many patients, is excluded.
var besideCompartment = map[string][]string{
	"Binary":                     {"securityContext"},
	"BiologicallyDerivedProduct": {"collection.source"},
	"DeviceMetric":               {"source"},
	"EnrollmentResponse":         {"request"},
	"Linkage":                    {"item.resource"},
	"MessageHeader":              {"focus"},
	"PaymentNotice":              {"request", "response"},
	"VerificationResult":         {"target"},
}

// errParameters is why a Parameters is rejected: it may contain resources, which would be in no
// record.
var errParameters = errResource{"a Parameters cannot be imported: take the resources out of it"}

// aside returns why a resource is not part of the record but belongs to its transport, or nil.
func aside(f *facts, line []byte) error {
	switch {
	case f.typ == "OperationOutcome" && f.id == "":
		return errIgnored{
			"OperationOutcomes without an id: what a server had to say about an export",
		}
	case f.typ == "Parameters" && isHeader(line):
		return errIgnored{"headers of the blocks of an export (organizeOutputBy)"}
	case f.typ == "Parameters":
		return errParameters
	}
	return nil
}

// isHeader reports whether a Parameters is the header of a block in a bulk export, which names
// the subject of the block and holds nothing else (Bulk Data Access 3.0.0, "Bulk Data Output
// File Organization").
func isHeader(line []byte) bool {
	var p struct {
		Parameter []struct {
			Name     string          `json:"name"`
			Resource json.RawMessage `json:"resource"`
			Part     json.RawMessage `json:"part"`
		} `json:"parameter"`
	}
	_, err := json.Parse(line, &p, json.DontMatchCaseInsensitiveStructFields)
	for _, one := range p.Parameter {
		if one.Name != "header" || one.Resource != nil || one.Part != nil {
			return false
		}
	}
	return err == nil && len(p.Parameter) > 0
}

// place determines what decides the owner among a resource's references.
func (x *examiner) place(f *facts) {
	if f.typ == "Patient" {
		f.owners = []string{f.id}
		return
	}
	paths := aboutPaths(f.typ)
	if paths == nil {
		return
	}
	x.owners, x.abouts = x.owners[:0], x.abouts[:0]
	for _, s := range x.subjects {
		named := slices.Contains(paths, s.path)
		switch {
		case named && s.typ == "Patient":
			if !slices.Contains(x.owners, s.id) {
				x.owners = append(x.owners, s.id)
			}
		case s.typ == "" && s.name == "":
			f.stranger = f.stranger || named
		case named || s.path == "encounter" || s.path == "context" || s.path == "context.encounter":
			x.abouts = append(x.abouts, s.about)
		}
	}
	slices.Sort(x.owners)
	// Other references decide nothing, unless they may refer to another patient.
	if len(x.owners) > 0 {
		f.owners = x.ownedBy(x.owners)
		x.abouts = slices.DeleteFunc(x.abouts, func(a about) bool { return !a.maybePatient() })
	}
	if len(x.abouts) > 0 {
		f.about = slices.Clone(x.abouts)
	}
	f.stranger = f.stranger ||
		slices.ContainsFunc(f.about, func(a about) bool { return a.typ == "" })
}

// ownedBy returns the owners as a list of their own, or that of the previous resource if it is
// equal, as it usually is. Nobody changes it.
func (x *examiner) ownedBy(owners []string) []string {
	if !slices.Equal(x.before, owners) {
		x.before = slices.Clip(slices.Clone(owners))
	}
	return x.before
}
