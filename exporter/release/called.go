package release

import (
	"bytes"
	"slices"
	"strings"

	"ehi-server/shared/fhir"
)

// A Reference may name its target only by a business identifier, and a canonical URL names a
// definition. The review treats such a name as a resource of its own: references by name point
// to it, and it points to the supporting resources that have the name.
//
// Here an identifier counts with its system, because several systems may use the same value. If
// one side lacks a system, the value alone counts unless it is a short number. Masking is
// stricter: a value counts in any system, see identified.

// nameType is the type number of the resources that stand for names. No FHIR type has this
// number.
const nameType uint16 = takerType + 1

// nameTyp is the type in targets that are names.
var nameTyp = []byte("|")

// Prefixes of names that match across identifiers with and without a system.
var (
	withoutOne  = []byte("-|")
	whateverOne = []byte("*|")
)

// sameSystems maps object identifiers of identifier systems to their URLs, by R4's registry
// (https://hl7.org/fhir/R4/identifier-registry.html).
var sameSystems = map[string]string{
	"urn:oid:2.16.840.1.113883.4.6":   "http://hl7.org/fhir/sid/us-npi",
	"urn:oid:2.16.840.1.113883.4.1":   "http://hl7.org/fhir/sid/us-ssn",
	"urn:oid:2.16.840.1.113883.4.572": "http://hl7.org/fhir/sid/us-medicare",
	"urn:oid:2.16.840.1.113883.4.927": "http://hl7.org/fhir/sid/us-mbi",
}

// identifierNames returns the names that an identifier gives: to a resource that has it (own),
// or to one that refers by it.
func identifierNames(system, value []byte, own bool) (names [][]byte) {
	if value = normal(value); len(value) == 0 {
		return nil
	}
	lacks, has := withoutOne, whateverOne
	if !own {
		lacks, has = has, lacks
	}
	switch system = normalSystem(system); {
	case len(system) == 0:
		if names = append(names, slices.Concat([]byte("|"), value)); telling(value) {
			names = append(names, slices.Concat(lacks, value))
		}
	default:
		if names = append(names, slices.Concat(system, []byte("|"), value)); telling(value) {
			names = append(names, slices.Concat(has, value))
		}
	}
	return names
}

// normalSystem returns an identifier's system in its compared form. The system that only says
// that a value is a URI counts as none.
func normalSystem(system []byte) []byte {
	s := fhir.PlainURL(system)
	if known := sameSystems[string(s)]; known != "" {
		return []byte(known)
	}
	if len(s) > 2 && isDigit(s[0]) && s[1] == '.' {
		return normalSystem(append([]byte("urn:oid:"), s...))
	}
	if string(s) == "urn:ietf:rfc:3986" {
		return nil
	}
	return s
}

// canonicalName returns the name for a definition's URL, without its version.
func canonicalName(url []byte) []byte {
	if end := bytes.IndexAny(url, "|#"); end >= 0 {
		url = url[:end]
	}
	return fhir.PlainCanonical(url)
}

// namingFields are the Reference fields of R4 and whether they may point to supporting
// resources.
var namingFields = func() map[string]bool {
	m := map[string]bool{}
	for field, targets := range fhir.ReferenceFields() {
		m[field] = slices.Contains(targets, "*") ||
			slices.ContainsFunc(targets, func(t string) bool { return isSupporting([]byte(t)) })
	}
	return m
}()

// canonicals are the paths, by type number, at which resources name definitions.
var canonicals = func() (of [256]map[string]bool) {
	for _, typ := range fhir.Types() {
		for _, path := range fhir.CanonicalPaths(typ) {
			n := fhir.TypeNumber([]byte(typ))
			if of[n] == nil {
				of[n] = map[string]bool{}
			}
			of[n][path] = true
		}
	}
	return of
}()

// canonicalEnds are the last parts of those field names with their closing quote, starting at a
// rare letter.
var canonicalEnds = func() (of [256][][]byte) {
	for n, paths := range canonicals {
		for path := range paths {
			end := path[strings.LastIndexByte(path, '.')+1:] + `"`
			if at := strings.Index(end, "Canonical"); at >= 0 {
				end = end[at:]
			}
			if !slices.ContainsFunc(of[n],
				func(other []byte) bool { return string(other) == end }) {
				of[n] = append(of[n], []byte(end))
			}
		}
	}
	return of
}()

// mayCall reports whether a line of a type may name a supporting resource other than by type and
// id: by an identifier, which is an object in a Reference and a list in a resource, or by a
// canonical URL.
func mayCall(typ int, line []byte) bool {
	for _, end := range canonicalEnds[typ] {
		if bytes.Contains(line, end) {
			return true
		}
	}
	return oddTypes[typ] || identifierObject(line)
}

// identifierObject reports whether a line may contain an identifier that is an object, or that
// is the first field of an object. A resource's own identifier is a list and follows its type
// and id.
func identifierObject(line []byte) bool {
	for {
		at := bytes.IndexByte(line, 'f') // a rare letter
		if at < 0 {
			return false
		}
		capital := at >= len("Identi") && line[at-len("Identi")] == 'I'
		const first = `{"identi`
		begins := at >= len(first) && line[at-len(first)] == '{'
		line = line[at+1:]
		rest, found := bytes.CutPrefix(line, []byte(`ier"`))
		if rest = afterSpace(rest); !found || len(rest) == 0 || rest[0] != ':' {
			continue
		}
		isList := bytes.HasPrefix(afterSpace(rest[1:]), []byte("["))
		if !isList || capital || begins { // of another resource, see foreignIdentifiers
			return true
		}
	}
}

// identifier is the content of an Identifier.
type identifier struct{ system, value []byte }

// called handles an Identifier that ends here. It belongs to the resource or to the enclosing
// object, which may be a Reference.
func (x *examiner) called(f *facts, c *coding) {
	w := &x.walk
	switch {
	case len(c.value) == 0 || !mayBeIdentifier(w.key()) && !oddTypes[f.number]:
	case string(w.key()) != "identifier":
		x.namesForeign(f, c)
	case w.fieldStart() >= 0 && w.depth > 1 && !x.isOwn(f):
		x.codings[w.depth-1].called = identifier{c.system, c.value}
	case supporting[f.number] && string(w.keyAt(1)) == "identifier":
		f.names = append(f.names, identifierNames(c.system, c.value, true)...)
	}
}

// isOwn reports whether the current Identifier names the resource itself, or something in it.
func (x *examiner) isOwn(f *facts) bool {
	x.path = x.walk.appendPath(x.path[:0])
	kind := identifierAt(f.number, x.path)
	return kind == ownIdentifier || kind == sharedIdentifier
}

// namesForeign handles an Identifier that stands for a Reference: it points to everything that
// has the identifier.
func (x *examiner) namesForeign(f *facts, c *coding) {
	if x.path = x.walk.appendPath(x.path[:0]); namesAnother(f.number, x.path, x.walk.key()) {
		f.stray(leadTo(nil, c.value))
		if value := normal(c.value); inExtension(x.path) && len(value) > 0 {
			f.extended = append(f.extended, value)
		}
		x.refers(f, x.path, leadTo(nil, c.value), false)
	}
}

// inExtension reports whether a path is inside the value of an extension.
func inExtension(path []byte) bool {
	return bytes.HasPrefix(path, []byte("extension.")) ||
		bytes.Contains(path, []byte(".extension.")) ||
		bytes.Contains(path, []byte("modifierExtension."))
}

// refersByName handles a Reference that ends here and names its target by something other than,
// or in addition to, a type and id.
func (x *examiner) refersByName(f *facts, c *coding) {
	supports, isReference := namingFields[string(x.walk.key())]
	if c.ref == nil && !isReference {
		return
	}
	x.path = x.walk.appendPath(x.path[:0])
	to := leadTo(c.ref, c.called.value)
	f.stray(to)
	if len(c.ref) > 0 && c.ref[0] == '#' && to.typ == nil {
		x.mentions(x.path, mention{local: string(c.ref[1:])})
	}
	switch {
	case !c.leads:
		x.refers(f, x.path, to, false)
	case x.in != nil:
		x.in.targets = append(x.in.targets, to)
	}
	where, isAbout := x.about[string(x.path)]
	if n := len(f.content); c.leads && isAbout && n > 0 && f.content[n-1].at == where {
		f.content[n-1].to = to
	}
	if c.leads || !supports {
		return
	}
	tells := isAbout && onlyTells(f.number, where, x.path)
	for _, name := range identifierNames(c.called.system, c.called.value, false) {
		x.leadsTo(f, target{nameTyp, name}, tells)
	}
}

// leadsTo records a supporting resource that the current resource, or entry, refers to or only
// describes.
func (x *examiner) leadsTo(f *facts, to target, tells bool) {
	switch {
	case tells && x.in != nil:
		x.in.tells = append(x.in.tells, to)
	case tells:
		f.tells = append(f.tells, to)
	case x.in != nil:
		x.in.supports = append(x.in.supports, to)
	default:
		f.supports = append(f.supports, to)
	}
	if x.in != nil {
		x.in.at = x.in.placed(x.in.at, len(x.in.supports), x.path)
	}
}

// definition handles a text that is a canonical URL: of a named definition, or of the current
// resource.
func (x *examiner) definition(f *facts) {
	w := &x.walk
	if w.depth == 1 && roles[f.number] == definition && string(w.key()) == "url" {
		if name := canonicalName(w.text()); name != nil {
			f.names = append(f.names, name)
			f.identifiers, f.url = append(f.identifiers, name), true
		}
		return
	}
	x.path = w.appendPath(x.path[:0])
	is := canonicals[f.number]
	if !is[string(x.path)] &&
		(roles[f.number] != definition || !is[fhir.PlainPath(string(x.path))]) {
		return
	}
	var to target
	if name := canonicalName(w.text()); name != nil {
		x.leadsTo(f, target{nameTyp, name}, false)
		to = leadTo(nil, name)
		f.stray(to)
	}
	if typ, id, ok := follow(w.text()); ok && isSupporting(typ) {
		x.leadsTo(f, target{typ, id}, false)
		if _, _, local := fhir.Local(w.text()); local {
			to = target{typ, id}
		}
	}
	if where, is := x.about[string(x.path)]; is && x.in == nil {
		f.content = append(f.content, pointing{where, to})
	}
}
