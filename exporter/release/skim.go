package release

import (
	"bytes"
	"slices"
)

// skim finds the references and identifiers of a line in a fraction of the time of a walk: it
// looks only at texts, names and brackets. It leaves uncertain cases to the walk: relevant names
// and texts with escapes, several texts under one name, and deeper nesting than any resource
// has.
type skim struct {
	line  []byte
	at    int
	depth int
	names [skimDepth][]byte // the names of the open containers, by depth; nil in an array
	path  []byte
}

// skimDepth is the maximum depth of a skim.
const skimDepth = 32

// skim derives the facts of a line that concern its references and identifiers, and checks its
// codes. rest follows its type and id. ok is false if only a walk can decide: a code may
// withhold the resource, or id or resourceType is repeated.
func (x *examiner) skim(rest []byte, t traitKind) (ok bool) {
	s := &x.skimmed
	s.line, s.at, s.depth, s.names[1] = rest, 0, 1, nil
	x.insides, x.bill = x.insides[:0], isBill[x.facts.number] && !x.alone
	x.entryFields = x.traits[x.facts.number].fields
	for s.at < len(rest) {
		switch rest[s.at] {
		case '"':
			if !x.skimText(t) {
				return false
			}
		case '{', '[':
			if !s.open(nil) {
				return false
			}
			if x.bill && s.depth == 3 {
				x.beginLine()
			}
		case '}', ']':
			if s.depth--; s.depth < 0 {
				return false
			}
			s.at++
		default:
			s.at++
		}
	}
	return s.depth == 0
}

func (s *skim) open(name []byte) (ok bool) {
	s.at++
	if s.depth++; s.depth == skimDepth {
		return false
	}
	s.names[s.depth] = name
	return true
}

// skimText handles a text, or a name with the text or bracket after it.
func (x *examiner) skimText(t traitKind) (ok bool) {
	s := &x.skimmed
	end, escaped := textEnd(s.line, s.at)
	if end < 0 || end == len(s.line) {
		return false
	}
	name := s.line[s.at+1 : end-1]
	s.at = end
	switch s.line[end] {
	case ',', '}', ']': // a text of an array
		if !escaped {
			x.plainSpot(anyText, s.names[s.depth], name, s.line[end:])
		}
		return true
	case ':':
	default:
		return false
	}
	if escaped || end+1 == len(s.line) {
		return false
	}
	s.at++
	first := s.line[s.at]
	switch first {
	case ' ', '\t', '\r', '\n':
		return false
	}
	if holdsCodes(name) {
		rest, ok := x.codeBehind(s.line[end:], t)
		s.at = len(s.line) - len(rest)
		return ok
	}
	switch first {
	case '"':
		if x.bill && bytes.HasSuffix(name, []byte("equence")) {
			return false
		}
		return x.skimField(name, t)
	case '[':
		return !interesting(name) && (!x.bill || x.lineNumbers(name)) && s.open(name)
	case '{':
		switch {
		// an entry that is not in a list needs a walk
		case s.depth == 2 && slices.Contains(x.entryFields, string(name)),
			string(name) == "reference": // an Identifier, see foreignIdentifiers
			return false
		}
		return s.open(name)
	}
	if x.bill && !x.lineNumbers(name) {
		return false
	}
	x.numberSpot(name)
	return string(name) != "value" || !x.identifies()
}

// interesting reports whether a skim examines the texts in fields of that name.
func interesting(name []byte) bool {
	switch string(name) {
	case "reference", "value", "url", "id", resourceType:
		return true
	}
	return false
}

// skimField handles the text of a field.
func (x *examiner) skimField(name []byte, t traitKind) (ok bool) {
	s := &x.skimmed
	from := s.at
	end, escaped := textEnd(s.line, from)
	if end < 0 {
		return false
	}
	s.at = end
	text, after := s.line[from+1:end-1], s.line[end:]
	if !interesting(name) {
		// perhaps a Reference with only a display
		if x.bill && string(name) == "display" && !x.casts && x.line() != nil {
			return false
		}
		if !escaped {
			x.plainSpot(anyText, name, text, after)
		}
		return true
	}
	switch {
	case escaped:
		return false
	case len(name) == len("id"): // if there are two ids, the last one counts
		x.plainSpot(anyText, name, text, after)
		return s.depth > 1
	case len(name) == len("value"):
		x.skimValue(text, after)
	case len(name) == len("url"):
		x.plainSpot(anyText, name, text, after)
		return x.skimURL()
	case len(name) == len("reference") && x.casts:
		x.castSpot(text, after)
	case len(name) == len("reference") && x.alone:
		x.plainSpot(anyText, name, text, after)
	case len(name) == len("reference"):
		to, ok := resolve(text)
		x.referenceSpot(text, after, to, ok)
		if !ok || leadsOut(text, to) {
			x.facts.stray(to)
		}
		f := &x.facts
		before := len(f.supports) + len(f.tells) + len(f.binaries)
		x.refers(f, s.here(), to, ok)
		if x.bill {
			x.lineRefers(to)
		}
		return len(f.supports)+len(f.tells)+len(f.binaries) == before || !x.inEntry()
	case len(name) == len(resourceType):
		return false
	}
	return true
}

// skimValue records the current value if it identifies the resource.
func (x *examiner) skimValue(text, after []byte) {
	kind := identifierAt(x.facts.number, x.skimmed.here())
	switch {
	case x.casts:
	case kind == ownIdentifier:
		x.facts.addIdentifier(kind, text)
		x.spot(identifierText, text, after)
		return
	case kind == sharedIdentifier:
		x.facts.addIdentifier(kind, text)
		x.spot(sharedText, text, after)
		return
	}
	x.plainSpot(anyText, []byte("value"), text, after)
}

// skimURL reports whether the current url is not a link. One outside extensions may point to a
// Binary.
func (x *examiner) skimURL() (ok bool) {
	s := &x.skimmed
	field := s.names[s.depth]
	if field == nil {
		field = s.names[s.depth-1]
	}
	return x.alone || x.casts || s.depth < 2 || isExtension(field)
}

// inEntry reports whether a skim is in an entry, whose references need a walk.
func (x *examiner) inEntry() bool {
	return x.skimmed.depth >= 3 && slices.Contains(x.entryFields, string(x.skimmed.names[2]))
}

// here returns the path of the open object, in the form of walk.appendPath.
func (s *skim) here() []byte {
	s.path = s.path[:0]
	for _, name := range s.names[1 : s.depth+1] {
		if name == nil {
			continue
		}
		if len(s.path) > 0 {
			s.path = append(s.path, '.')
		}
		s.path = append(s.path, name...)
	}
	return s.path
}

// refers adds a reference in an object at a path. ok is false if it names no resource by type
// and id, see resolve.
func (x *examiner) refers(f *facts, at []byte, to target, ok bool) {
	where, isAbout := x.about[string(at)]
	if !isAbout && to.typ != nil && namesDeeperPart(f.typ, at) {
		f.deeper = append(f.deeper, to)
	}
	x.refersAt(f, at, where, isAbout, to, ok)
}

// refersAt is refers for a path whose place in aboutPaths, if any, is known.
func (x *examiner) refersAt(f *facts, at []byte, where place, isAbout bool, to target, ok bool) {
	isPart := isAbout && where.part && f.number == documentNumber // which is of any type
	isAbout = isAbout && !(sums[f.number] && ok && isOccasion(to.typ))
	if isPart && !isAbout {
		f.deeper = append(f.deeper, to)
	}
	if isAbout {
		f.content = append(f.content, pointing{where, to})
	}
	tells := isAbout && onlyTells(f.number, where, at)
	if x.in != nil {
		if to.typ != nil {
			x.mentions(at, mention{to: to})
		}
		x.refersInside(at, to, ok, tells)
		return
	}
	switch top, _, _ := bytes.Cut(at, []byte(".")); {
	case to.typ == nil:
	case !ok:
		f.binaries = append(f.binaries, attachmentsTo(to, f.presented(top), tells)...)
	case string(to.typ) == binaryType:
		f.binaries = append(f.binaries, attachment{
			target:    to,
			presented: f.presented(top),
			tells:     tells,
		})
	}
	switch {
	case !ok && !to.exactly():
	case string(to.typ) == binaryType:
	case to.supports() && tells:
		f.tells = append(f.tells, to)
	case to.supports():
		f.supports = append(f.supports, to)
	}
	f.owned = f.owned || string(f.typ) == "Device" && string(at) == "patient"
}

// identifies reports whether the value at a skim's position identifies the resource, or
// something it contains.
func (x *examiner) identifies() bool {
	kind := identifierAt(x.facts.number, x.skimmed.here())
	return kind == ownIdentifier || kind == sharedIdentifier
}

// addIdentifier records the value of an identifier that identifies the resource.
func (f *facts) addIdentifier(kind identifierKind, value []byte) {
	switch value = normal(value); {
	case len(value) == 0:
	case kind == ownIdentifier:
		f.identifiers = append(f.identifiers, value)
	case kind == sharedIdentifier:
		f.shared = append(f.shared, value)
	}
}
