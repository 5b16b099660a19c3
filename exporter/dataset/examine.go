package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	stdjson "encoding/json"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

// facts is what one walk over a resource finds out.
type facts struct {
	typ, id     string
	refs        refTable
	owners      []string // patients whose compartment it is in
	about       []about  // what it is about, where that is no patient's id: whoever's that is, its owners are theirs
	stranger    bool     // it names a patient whom nothing here is called
	identifiers []identifier
	updated     string // meta.lastUpdated
	versionID   string // meta.versionId
}

// about is a reference to what decides about the owner: a resource, or a name.
type about struct {
	typ, id string // of a resource; empty for a name
	name    string
}

// maybePatient reports whether it is a name that a patient may have.
func (a about) maybePatient() bool {
	n, ok := parseName(a.name)
	return ok && (n.urn != "" || n.typ == "Patient")
}

// version is what meta says about the resource's state.
func (f *facts) version() version { return version{updated: parseUpdated(f.updated), id: f.versionID} }

func (a about) digest() digest {
	if a.name == "" {
		return literalDigest(a.typ, a.id)
	}
	n, _ := parseName(a.name) // it was one
	return n.digest()
}

// errResource says what is wrong with a resource; the rest of its file is fine.
type errResource struct{ why string }

func (e errResource) Error() string { return e.why }

// scope says what references mean by the place where they stand.
type scope struct {
	// own are the bases of this server and of the systems that the records came from, each with a final slash.
	own []string
	// names are what a bundle calls its entries: fullUrl -> type/id.
	names map[string]string
	// base is that of the entry's fullUrl, with a final slash; "" where that is no URL of a server.
	base string
	// elsewhere is type/id of the bundle's entries, where those come from several servers.
	elsewhere map[string]bool
}

// incoming is an examiner of what comes in: one object with two fields of a name makes a resource unfit, since importer, release filter
// and client could each read another one.
func incoming(s scope) examiner { return examiner{scope: s, cursor: fhir.Cursor{Unique: true}} }

// examiner reads resources. It is for one goroutine.
type examiner struct {
	scope
	cursor fhir.Cursor
	path   []byte
	words  map[string]string // types and paths, each made a string once

	// of the resource at hand
	refs     refTable
	edits    []fhir.Edit
	shift    int // how much longer the line gets by the edits so far
	last     int // where the last reference ends then
	subjects []subject
	called   logical
}

// logical is the identifier of a Reference, while it is read
// (https://hl7.org/fhir/R4/references.html#logical).
type logical struct {
	identifier
	depth int // of the Reference
}

// wordsKept bounds what an examiner remembers.
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

// compact gives a resource as one line of JSON without needless space and with the references resolved that its place decides
// about, and what is found out about that. The line is the argument where it is that already.
func (x *examiner) compact(resource []byte) ([]byte, facts, error) {
	line := resource
	if len(line) > 1 && (line[1] == '\n' || line[1] == ' ' || line[1] == '\r') {
		line = squeeze(line)
	}
	f, err := x.examine(line)
	if x.cursor.Err() == nil && x.cursor.Spaced() {
		line = squeeze(line)
		f, err = x.examine(line)
	}
	if why := x.cursor.Err(); why != nil {
		return nil, f, unfit(resource, why)
	}
	if len(x.edits) > 0 {
		line = fhir.Apply(make([]byte, 0, len(line)+x.shift), line, x.edits)
	}
	return line, f, err
}

// squeeze leaves out the space between the tokens of JSON.
func squeeze(doc []byte) []byte {
	out := make([]byte, 0, len(doc))
	for at := 0; at < len(doc); {
		switch c := doc[at]; c {
		case ' ', '\t', '\r', '\n':
			at++
		case '"':
			n := endOfString(doc[at+1:])
			if n < 0 {
				return append(out, doc[at:]...) // a syntax error, which the walk over it finds
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

// unfit says why a walk over a resource ended early.
func unfit(resource []byte, why error) error {
	if repeated, ok := errors.AsType[fhir.ErrRepeated](why); ok {
		return errResource{repeated.Error()}
	}
	return notJSON(resource, why)
}

// notJSON tells what is wrong in the words of the standard library, which name the place.
func notJSON(resource []byte, err error) error {
	var any stdjson.RawMessage
	if e := stdjson.Unmarshal(resource, &any); e != nil {
		err = e
	}
	return errResource{fmt.Sprintf("not valid JSON: %v", err)}
}

// endOfString finds how far behind its opening quote a string's closing quote stands, counted from the opening one; -1 where there
// is none.
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

// examine walks a resource once. The places of references are those in the line with the edits made.
func (x *examiner) examine(line []byte) (facts, error) {
	var f facts
	var ident identifier
	x.refs, x.edits, x.subjects, x.shift, x.last = x.refs[:0], x.edits[:0], x.subjects[:0], 0, 0
	x.called = logical{}
	c := &x.cursor
	for c.Reset(line); c.Next(); {
		if c.Kind == fhir.Close && x.called.value != "" && c.Depth == x.called.depth {
			x.byIdentifier()
		}
		if c.Kind == fhir.Close && c.Depth <= 2 && c.Depth > 0 && string(c.KeyAt(1)) == "identifier" {
			if ident.value != "" {
				f.identifiers = append(f.identifiers, ident)
			}
			ident = identifier{}
		}
		if c.Kind != fhir.Scalar {
			continue
		}
		switch k := c.Key(); string(k) {
		case "reference":
			x.reference(0)
		case "url":
			if fhir.AttachmentField(string(c.KeyAt(c.Depth - 1))) {
				x.reference(refURL)
			}
		case "valueUrl", "valueUri":
			x.reference(refURL)
		case "resourceType":
			if c.Depth == 1 {
				f.typ = x.word(c.Text())
			}
		case "id":
			if c.Depth == 1 {
				f.id = string(c.Text())
			}
		case "lastUpdated":
			if c.Depth == 2 && string(c.KeyAt(1)) == "meta" {
				f.updated = string(c.Text())
			}
		case "versionId":
			if c.Depth == 2 && string(c.KeyAt(1)) == "meta" {
				f.versionID = strings.Trim(string(c.Raw()), `"`)
			}
		case "system":
			if x.ofIdentifier() {
				ident.system = string(c.Text())
			} else if x.ofReference() {
				x.called.system = string(c.Text())
			}
		case "value":
			if x.ofIdentifier() {
				ident.value = string(c.Text())
			} else if x.ofReference() {
				x.called.value = string(c.Text())
			}
		}
	}
	if len(line) > 0 && line[0] != '{' {
		return f, errResource{"no resource, which is a JSON object"}
	}
	if !fhir.KnownType(f.typ) {
		return f, errResource{fmt.Sprintf("resourceType %q is no type of FHIR R4", f.typ)}
	}
	if f.typ == "Parameters" {
		return f, errParameters
	}
	if !fhir.ValidID(f.id) {
		return f, errResource{fmt.Sprintf("%s has no valid id: %q", f.typ, f.id)}
	}
	f.refs = slices.Clone(x.refs)
	x.place(&f)
	return f, nil
}

// ofIdentifier reports whether the current value is a field of the resource's identifier, of which there may be one or a list.
func (x *examiner) ofIdentifier() bool {
	c := &x.cursor
	return (c.Depth == 2 || c.Depth == 3) && string(c.KeyAt(1)) == "identifier" && c.IsString()
}

// ofReference reports whether the current value is a field of a Reference's identifier. Those within
// the resource's own identifiers, and of elements in lists that have one, mean nothing to place.
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

// byIdentifier takes in a Reference that ends, and has an identifier. That is what it means where it
// has no reference that leads to something here.
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
	x.subjects = append(x.subjects, subject{path, about{name: searchFor(r.Type, called.identifier)}})
	for _, t := range types {
		x.goesAlong(t, called.identifier)
	}
}

// goesAlong takes in what a Reference that ends names by an identifier, where it is of a type that no
// record is about: it goes out with this resource.
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

// reference takes a string in that refers to something.
func (x *examiner) reference(flag refKind) {
	c := &x.cursor
	if !c.IsString() {
		return
	}
	text := c.Text()
	m := x.scope.read(text)
	if flag == refURL && (m.kind == refStrange || m.external && m.text == "") {
		return
	}
	start, end := c.Span()
	r := ref{start: start + x.shift, end: end + x.shift, kind: m.kind | flag}
	if m.text != "" {
		with := quote(m.text)
		x.edits = append(x.edits, fhir.Edit{Start: start, End: end, With: with})
		x.shift += len(with) - (end - start)
		r.end = r.start + len(with)
		text = []byte(m.text)
	}
	if flag == 0 {
		x.subject(m, text)
	}
	if m.external {
		return
	}
	x.refs = x.refs.append(x.last, r)
	x.last = r.end
}

// quote makes a JSON string of a text.
func quote(text string) []byte {
	plain := func(r rune) bool { return r >= ' ' && r != '"' && r != '\\' }
	if strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return []byte(`"` + text + `"`)
	}
	out, _ := stdjson.Marshal(text) // a string can always be
	return out
}

// subject is a Reference that may decide about the owner, and the path of its field.
type subject struct {
	path string
	about
}

func (x *examiner) subject(m meaning, text []byte) {
	var a about
	switch typ, id, ok := fhir.Local(text); {
	case ok:
		a.typ, a.id = x.word(typ), string(id)
	case m.kind == refName && !m.external:
		a.name = string(text)
	case len(text) == 0 || text[0] == '#' || m.external && !bytes.Contains(text, []byte("Patient")):
		return
	}
	x.path = x.cursor.AppendPath(x.path[:0])
	x.subjects = append(x.subjects, subject{x.word(bytes.TrimSuffix(x.path, []byte(".reference"))), a})
}

// aboutPaths is where a resource says whose it is.
func aboutPaths(typ string) []string {
	if paths := fhir.CompartmentPaths(typ); paths != nil {
		return paths
	}
	return besideCompartment[typ]
}

// besideCompartment is where resources that R4's patient compartment leaves out say what they are about. Where that is a patient's, they
// are part of the record, too: an export is all of it. PaymentReconciliation, which lists the claims of many patients, is none of them.
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

// errParameters is why a Parameters is not stored: resources may be in it, which would be in nobody's record.
var errParameters = errResource{"a Parameters cannot be imported: take the resources out of it"}

// place finds what decides about the owner among a resource's references.
func (x *examiner) place(f *facts) {
	if f.typ == "Patient" {
		f.owners = []string{f.id}
		return
	}
	paths := aboutPaths(f.typ)
	if paths == nil {
		return
	}
	for _, s := range x.subjects {
		named := slices.Contains(paths, s.path)
		switch {
		case named && s.typ == "Patient":
			if !slices.Contains(f.owners, s.id) {
				f.owners = append(f.owners, s.id)
			}
		case s.typ == "" && s.name == "":
			f.stranger = f.stranger || named
		case named || s.path == "encounter" || s.path == "context" || s.path == "context.encounter":
			f.about = append(f.about, s.about)
		}
	}
	slices.Sort(f.owners)
	if len(f.owners) > 0 { // what else it is about decides nothing, unless that may be another patient
		f.about = slices.DeleteFunc(f.about, func(a about) bool { return !a.maybePatient() })
	}
	f.stranger = f.stranger || slices.ContainsFunc(f.about, func(a about) bool { return a.typ == "" })
}
