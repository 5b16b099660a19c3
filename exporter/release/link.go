package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// follow parses a reference by type and id in any form: Observation/1, Observation/1/_history/2,
// https://ehr.example/fhir/Observation/1. It ignores the server's name, because a record may be
// reachable under several. ok is false for any other reference.
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

// unescapedOnce decodes percent-encoding (RFC 3986, 2.1). Invalid escapes remain.
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

// unhex decodes %XX.
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

// hasEscapedNames reports whether a line may contain an id with percent-encoded characters.
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

// identified holds the business identifiers of withheld resources, because a Reference may name
// its target by one. Values count in any system, because a system has several names. It stores
// hashes: 16 bytes for each identifier, and 8 for its owner until Conclude.
type identified struct {
	owned []owned
	// weak are masked but withhold nothing: short numbers of resources outside the record, and
	// identifiers in extensions, which may belong to anything except the Patient.
	weak   []owned
	owners map[idHash][]resource // of owned; built on first use
	// of withheld resources; true if one of these is withheld for a reason other than an
	// unticked form line
	values  map[idHash]bool
	partial map[idHash]bool // of partial resources
	// definitions are the definitions that have a URL, which counts as an identifier. urls
	// reports whether any of them is withheld.
	definitions []resource
	urls        bool
}

// owned is an identifier of a resource that is, or may be, withheld.
type owned struct {
	value idHash
	of    resource
}

// normal returns an identifier's value in its compared form, which ignores case, surrounding
// white space and a URN prefix.
func normal(value []byte) []byte {
	if indexWide(value) >= 0 {
		value = revealed(value)
	}
	return fhir.PlainIdentifier(value)
}

// own records the identifiers of a resource that is, or may be, withheld.
func (r *Review) own(self resource, values [][]byte) {
	for _, v := range values {
		r.identified.owned = append(r.identified.owned, owned{r.index.hash(v), self})
	}
}

// owners returns the resources of owned that have an identifier.
func (r *Review) owners(value idHash) []resource {
	if r.identified.owners == nil {
		r.identified.owners = map[idHash][]resource{}
		for _, o := range r.identified.owned {
			r.identified.owners[o.value] = append(r.identified.owners[o.value], o.of)
		}
	}
	return r.identified.owners[value]
}

// concludeIdentifiers keeps only the identifiers of withheld resources.
func (r *Review) concludeIdentifiers() {
	values, partials := map[idHash]bool{}, map[idHash]bool{}
	take := func(o owned) {
		v, _ := r.index.at(o.of)
		if v.kept() {
			values[o.value] = values[o.value] || v.telling(o.of)
		}
		if v&partial != 0 {
			partials[o.value] = true
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
	r.identified = identified{values: values, partial: partials, urls: urls}
}

// names reports whether a value is an identifier of something withheld, and whether that is for
// a reason other than an unticked form line.
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

// concludeFields determines in which fields a Reference with only a display may point to
// something withheld. R4 restricts the target types of each field. Records may violate these
// restrictions in fields that can refer to more than persons, places and things, so any type
// counts there.
func (r *Review) concludeFields() {
	r.hidden = r.hiddenBy(&r.hiding)
}

// hiddenBy returns the fields that may point to resources of the given types.
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

// actor reports whether a type is a person, a group, or a thing that acts or is used.
func actor(typ []byte) bool {
	switch string(typ) {
	case "Patient", "RelatedPerson", "Person", "CareTeam", "Group":
		return true
	}
	return isThing(typ)
}
