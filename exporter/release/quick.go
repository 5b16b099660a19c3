package release

import (
	"bytes"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// trait is what a policy says of all resources of a type.
type trait uint8

const (
	notAsked      trait = iota
	mustWalk            // it depends on more than codes, or the resource stays
	goes                // unless a code is sensitive
	goesUnlessLab       // or is a laboratory's
)

// trait finds what can be said of a type: it goes without limits, and nothing but its codes could keep it.
func (p *Policy) trait(typ []byte) trait {
	f := facts{typ: typ}
	switch {
	case !fhir.KnownType(string(typ)), contentPaths[string(typ)] != "", documentTypes[string(typ)], string(typ) == "Binary",
		!p.unlimited(category(&f)):
		return mustWalk
	case string(typ) == "Observation" && !p.unlimited(ehi.Labs):
		return goesUnlessLab
	}
	return goes
}

// unlimited reports whether all of a line of the form goes, whenever it happened.
func (p *Policy) unlimited(key ehi.Category) bool {
	for _, c := range p.narrow {
		if l, on := c[key]; key != "" && (!on || !l.from.IsZero() || !l.to.IsZero()) {
			return false
		}
	}
	return true
}

// quick tells without a walk that a resource goes, in a fraction of the time. What it is not sure of it leaves to the walk: lines with \u
// escapes, with another resource inside or a type that stands there twice, whatever may be a sensitive code anywhere, and what may have to
// do with a Binary.
func (x *examiner) quick(line []byte) (typ, id []byte, ok bool) {
	typ, id, ok = identify(line)
	if !ok {
		return nil, nil, false
	}
	t := x.traits[string(typ)]
	if t == notAsked {
		t = x.policy.trait(typ)
		if len(x.traits) < 1000 { // there are 148 types
			x.traits[string(typ)] = t
		}
	}
	if t == mustWalk || hasCodedEscapes(line) || bytes.Contains(line, []byte("Binary")) {
		return nil, nil, false
	}
	rest := line[len(`{"resourceType"`):]
	return typ, id, onlyOneType(rest) && x.plainCodes(rest, t)
}

// The names that quick looks for, by their ends: those begin with letters that are rare in a line.
var typeEnd, codeEnd = []byte(`Type"`), []byte(`code"`)

// onlyOneType reports whether no field is named resourceType.
func onlyOneType(line []byte) bool {
	for {
		at := bytes.Index(line, typeEnd)
		if at < 0 {
			return true
		}
		if bytes.HasSuffix(line[:at+len("Type")], []byte(resourceType)) {
			return false
		}
		line = line[at+len(typeEnd):]
	}
}

// plainCodes reports whether no field named code may hold what keeps a resource.
func (x *examiner) plainCodes(line []byte, t trait) bool {
	for {
		at := bytes.Index(line, codeEnd)
		if at < 0 {
			return true
		}
		named := at > 0 && line[at-1] == '"'
		line = line[at+len(codeEnd):]
		if !named {
			continue
		}
		rest := bytes.TrimLeft(line, ": \t\r\n")
		switch {
		case len(rest) > 0 && rest[0] == '[':
			return false
		case len(rest) == 0 || rest[0] != '"':
			continue
		}
		end, escaped := textEnd(rest, 0)
		if end < 0 || escaped {
			return false
		}
		code := rest[1 : end-1]
		if x.policy.sensitive.mayHold(code) || t == goesUnlessLab && isLaboratory(code) {
			return false
		}
		line = rest[end:]
	}
}

// identify reads type and id of a resource that begins with them, as most do.
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
	return typ, id, bytes.IndexByte(typ, '\\') < 0 && bytes.IndexByte(id, '\\') < 0
}
