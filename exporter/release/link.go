package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// follow splits what names a resource, wherever it is said to be: Observation/1,
// Observation/1/_history/2, https://ehr.example/fhir/Observation/1. The server's name does not
// count: the same record may be known by several. ok is false for what names none.
func follow(ref []byte) (typ, id []byte, ok bool) {
	if typ, id, ok = fhir.Local(ref); ok || !bytes.ContainsAny(ref, ":%&") && indexWide(ref) < 0 {
		return typ, id, ok
	}
	if plain := revealed(ref); !bytes.Equal(plain, ref) {
		ref = plain
		if typ, id, ok = fhir.Local(ref); ok {
			return typ, id, ok
		}
	}
	if end := bytes.IndexAny(ref, "?#"); end >= 0 {
		ref = ref[:end]
	}
	if end := bytes.Index(ref, []byte("/_history/")); end >= 0 {
		ref = ref[:end]
	}
	ref = bytes.TrimRight(ref, "/")
	before := bytes.LastIndexByte(ref, '/')
	if before < 0 {
		return nil, nil, false
	}
	return fhir.Local(ref[bytes.LastIndexByte(ref[:before], '/')+1:])
}

// unescapedOnce is a URL without percent-encoding (RFC 3986, 2.1). What is no escape stays as it
// is.
func unescapedOnce(url []byte) []byte {
	if bytes.IndexByte(url, '%') < 0 {
		return url
	}
	out := make([]byte, 0, len(url))
	for i := 0; i < len(url); i++ {
		if c, ok := unhex(url[i:]); ok {
			out, i = append(out, c), i+2
			continue
		}
		out = append(out, url[i])
	}
	return out
}

// unhex reads %XX.
func unhex(s []byte) (c byte, ok bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	for _, digit := range s[1:3] {
		at := bytes.IndexByte([]byte("0123456789abcdef"), digit|0x20)
		if at < 0 || digit < '0' {
			return 0, false
		}
		c = c<<4 | byte(at)
	}
	return c, true
}

// hasEscapedNames reports whether a line may hold an id with percent-encoded characters.
func hasEscapedNames(line []byte) bool {
	for {
		at := bytes.IndexByte(line, '%')
		if at < 0 {
			return false
		}
		if c, ok := unhex(line[at:]); ok && c > ' ' {
			return true
		}
		line = line[at+1:]
	}
}

// identified holds the business identifiers of the withheld resources: a Reference may name its
// target by one of them. Values count in whatever system, because a system has several names. It
// keeps hashes: 16 bytes for each identifier, and 8 for its owner until Conclude.
type identified struct {
	owned []owned
	// weak are masked and decide nothing: short numbers of what is not in the record, and
	// identifiers in extensions, which may be anybody's but the Patient's.
	weak   []owned
	owners map[idHash][]resource // of owned, where somebody asks
	// of what stays; whether some of that does for more than an unticked line
	values map[idHash]bool
	// definitions are those that have a URL, which is one of their identifiers; urls is whether
	// some stay.
	definitions []resource
	urls        bool
}

// owned is an identifier of a resource that stays, or may.
type owned struct {
	value idHash
	of    resource
}

// normal is an identifier's value as it is compared: neither case nor space around it counts,
// nor that it is written as a URN.
func normal(value []byte) []byte {
	if indexWide(value) >= 0 {
		value = revealed(value)
	}
	return fhir.PlainIdentifier(value)
}

// own keeps the identifiers of a resource that stays, or may.
func (r *Review) own(self resource, values [][]byte) {
	for _, v := range values {
		r.identified.owned = append(r.identified.owned, owned{r.index.hash(v), self})
	}
}

// owners are the resources that stay, or may, and have an identifier.
func (r *Review) owners(value idHash) []resource {
	if r.identified.owners == nil {
		r.identified.owners = map[idHash][]resource{}
		for _, o := range r.identified.owned {
			r.identified.owners[o.value] = append(r.identified.owners[o.value], o.of)
		}
	}
	return r.identified.owners[value]
}

// concludeIdentifiers keeps the identifiers of what stays.
func (r *Review) concludeIdentifiers() {
	values := map[idHash]bool{}
	take := func(o owned) {
		if v, _ := r.index.at(o.of); v.kept() {
			values[o.value] = values[o.value] || v.telling(o.of)
		}
	}
	for _, o := range r.identified.owned {
		take(o)
	}
	for _, o := range r.identified.weak {
		if !slices.ContainsFunc(r.owners(o.value),
			func(of resource) bool { return of.typ == patientNumber }) {
			take(o)
		}
	}
	urls := slices.ContainsFunc(r.identified.definitions, r.isKept)
	r.identified = identified{values: values, urls: urls}
}

// names reports whether a value is an identifier of something withheld, and whether that stays
// for more than an unticked line of the form.
func (r *Review) names(value []byte) (withheld, telling bool) {
	if len(r.identified.values) == 0 {
		return false, false
	}
	value = normal(value)
	if len(value) == 0 {
		return false, false
	}
	telling, withheld = r.identified.values[r.index.hash(value)]
	return withheld, telling
}

// concludeFields notes in which fields a Reference that names no target, only a display, may
// lead to something withheld. R4 says which types each field may refer to; of fields that lead
// to more than persons, places and things it is not relied upon that records keep to that.
func (r *Review) concludeFields() {
	r.hidden = r.hiddenBy(&r.hiding)
}

// hiddenBy are the fields that may lead to something of some types.
func (r *Review) hiddenBy(types *bitmap) map[string]bool {
	hidden := map[string]bool{}
	if *types == (bitmap{}) {
		return hidden
	}
	anything := false // besides supporting resources
	for number, name := range fhir.Types() {
		anything = anything || !isThing([]byte(name)) && types.has(uint16(number+1))
	}
	for name, targets := range fhir.ReferenceFields() {
		for _, t := range targets {
			is := types.has(r.index.number([]byte(t)))
			hidden[name] = hidden[name] || t == "*" || is || anything && !actor([]byte(t))
		}
	}
	return hidden
}

// actor reports whether a type is one of those who act, or of what they act with.
func actor(typ []byte) bool {
	switch string(typ) {
	case "Patient", "RelatedPerson", "Person", "CareTeam", "Group":
		return true
	}
	return isThing(typ)
}
