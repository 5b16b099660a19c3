package release

import (
	"bytes"
	"encoding/binary"
	"math/bits"

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
	return typ, id, x.plain(line[len(`{"resourceType"`):], t)
}

// plain reports whether no field named code may hold what keeps a resource, and none is named resourceType. Both names end alike.
func (x *examiner) plain(line []byte, t trait) bool {
	for {
		at := indexPair(line, 'e', '"')
		if at < 0 {
			return true
		}
		name, rest := line[:at+1], line[at+2:]
		switch {
		case bytes.HasSuffix(name, []byte(`"code`)):
			text, after, ok := textBehind(rest)
			if !ok || text != nil && (bytes.IndexByte(text, '\\') >= 0 || x.keeps(text, t)) {
				return false
			}
			rest = after
		case bytes.HasSuffix(name, []byte(resourceType)):
			return false
		}
		line = rest
	}
}

// keeps reports whether a code may keep a resource.
func (x *examiner) keeps(code []byte, t trait) bool {
	return x.policy.sensitive.mayHold(code) || t == goesUnlessLab && isLaboratory(code)
}

// textBehind reads the text that a field holds of whose name the line is what follows; nil where it is something else, or no field. ok is
// false where several texts may be there, or half of one.
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

// indexPair finds the first place where two bytes stand side by side; -1 where there is none. It looks at 16 bytes at a time.
func indexPair(b []byte, first, second byte) int {
	one, two := uint64(first)*eachByte, uint64(second)*eachByte
	at := 0
	for ; at+17 <= len(b); at += 16 {
		w := b[at : at+17]
		low := zeroByte((binary.LittleEndian.Uint64(w) ^ one) | (binary.LittleEndian.Uint64(w[1:]) ^ two))
		high := zeroByte((binary.LittleEndian.Uint64(w[8:]) ^ one) | (binary.LittleEndian.Uint64(w[9:]) ^ two))
		if low != 0 {
			return at + bits.TrailingZeros64(low)>>3
		}
		if high != 0 {
			return at + 8 + bits.TrailingZeros64(high)>>3
		}
	}
	for ; at+1 < len(b); at++ {
		if b[at] == first && b[at+1] == second {
			return at
		}
	}
	return -1
}

// zeroByte has the high bit of the first byte that is zero, and perhaps of bytes behind it.
func zeroByte(x uint64) uint64 { return (x - eachByte) &^ x & highBits }

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
