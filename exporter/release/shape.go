package release

import (
	"bytes"
	"strconv"
)

// A code is classified in any shape: as a number, alone instead of in a Coding, in a list, or in
// an object of another kind. R4 allows none of these, but a source may contain them. A code that
// is not in a valid Coding counts as a code of every system.

// holdsCodes reports whether fields of a name contain codes, Codings or CodeableConcepts.
func holdsCodes(name []byte) bool {
	if len(name) < len("code") {
		return false
	}
	switch last := name[len(name)-1]; {
	// most names
	case last|0x20 != 'e' && last|0x20 != 'g' && last|0x20 != 't' && name[0]|0x20 != 's' &&
		name[0] != '_':
		return false
	case bytes.HasSuffix(name, []byte("ode")), bytes.HasSuffix(name, []byte("oding")):
		last := name[:bytes.LastIndexByte(name, 'o')]
		return bytes.HasSuffix(last, []byte("c")) ||
			bytes.HasSuffix(last, []byte("C")) && string(name) != "postalCode"
	case bytes.HasSuffix(name, []byte("CodeableConcept")):
		return true
	}
	if bytes.HasSuffix(name, []byte("CODE")) {
		return true
	}
	return isSecurity(name) && string(name) != "securityContext"
}

// isSecurity reports whether a field contains security labels, in any case, or extensions of one
// without a value (a leading underscore).
func isSecurity(name []byte) bool {
	const security = "security"
	name = bytes.TrimLeft(name, "_")
	return len(name) >= len(security) && bytes.EqualFold(name[:len(security)], []byte(security))
}

// besidesCodes are the scalars that may be beside the codes of an object.
func besidesCodes(name []byte) bool {
	switch string(name) {
	case "id", "system", "version", "display", "text", "userSelected", resourceType,
		"comment", "status", "statusDate": // of SubstanceSpecification.code
		return true
	}
	return false
}

// shape records whether the container that opens contains codes.
func (x *examiner) shape(depth int) {
	w := &x.walk
	name := w.keyAt(depth)
	c := &x.codings[depth]
	switch string(name) {
	case "system":
		if depth > 0 {
			x.codings[depth-1].odd = true
		}
	case "extension", "modifierExtension", "contained":
	default:
		c.codes = holdsCodes(name) || depth > 0 && x.codings[depth-1].codes
	}
}

// scalarCode handles a scalar that is a code or a system, or is in the place of one.
func (x *examiner) scalarCode(f *facts) {
	w := &x.walk
	if w.depth == 0 {
		return
	}
	name, in := w.key(), &x.codings[w.depth-1]
	inList := w.levels[w.depth-1].array
	switch {
	case string(name) == "code" && !inList:
		if in.code != nil { // a second one
			in.odd = true
			x.anywhere(f, in.code)
		}
		in.code = w.content()
		if !w.isText {
			in.number = plainNumber(in.code)
		}
	case string(name) == "system" && !inList:
		in.odd = in.odd || in.system != nil || !w.isText
		in.system = w.content()
	case string(name) == "display" && !inList:
		in.shown = w.content()
	case string(name) == "text" && !inList:
		in.told = w.content()
	case holdsCodes(name) && !inList &&
		(bytes.HasSuffix(name, []byte("ode")) || bytes.HasSuffix(name, []byte("ODE"))):
		x.policy.sensitive.lookup(nil, w.content(), x.isLabel(w.depth), f.addSensitive)
	case holdsCodes(name), in.codes && !besidesCodes(name):
		x.anywhere(f, w.content())
	}
}

// anywhere looks up a code in every system.
func (x *examiner) anywhere(f *facts, code []byte) {
	x.policy.sensitive.lookupAnywhere(code, f.addSensitive)
	if n := plainNumber(code); n != nil {
		x.policy.sensitive.lookupAnywhere(n, f.addSensitive)
	}
}

// plainNumber returns a number in decimal notation without exponent or trailing zeros: 86406008
// for 8.6406008e7. It is nil if the code is not a number, or has neither a fraction nor an
// exponent.
func plainNumber(code []byte) []byte {
	if len(code) == 0 || len(code) > 40 || !bytes.ContainsAny(code, ".eE") ||
		code[0] != '-' && (code[0] < '0' || code[0] > '9') {
		return nil
	}
	n, err := strconv.ParseFloat(string(code), 64)
	if err != nil {
		return nil
	}
	return strconv.AppendFloat(nil, n, 'f', -1, 64)
}

// lookupAnywhere is lookup for a code that may be of any system.
func (t *Table) lookupAnywhere(code []byte, add func(category string)) {
	if !t.mayHold(code) {
		return
	}
	if plain, is := undisguised(code); is {
		t.lookupAnywhere(plain, add)
	}
	code = folded(code)
	t.lookupRanges(icd10, code, add)
	t.lookupRanges(icd11, code, add)
	anywhere := []string{anySystem, codesWithoutSystem, labelsWithoutSystem}
	for _, spelling := range candidates(code) {
		t.lookupSpelling("", anywhere, spelling, add)
		t.lookupD("", spelling, add)
		if right, is := slipped("", spelling); is {
			t.lookupSpelling("", anywhere, right, add)
		}
	}
}

// content returns a scalar as text: a text without quotes and escapes, another value as it is
// spelled, and nil for null.
func (w *walk) content() []byte {
	switch raw := w.src[w.start:w.end]; {
	case w.isText:
		return w.text()
	case string(raw) == "null":
		return nil
	default:
		return raw
	}
}

// concepts reports whether every field named CodeableConcept contains one, see concept.
func (x *examiner) concepts(line []byte, t traitKind) bool {
	for {
		at := bytes.Index(line, []byte(`CodeableConcept"`))
		if at < 0 {
			return true
		}
		rest, ok := x.codeBehind(line[at+len(`CodeableConcept"`):], t)
		if !ok {
			return false
		}
		line = rest
	}
}

// concept checks a CodeableConcept, a Coding, or a list of them. ok is false if it is something
// else, or if a code may withhold the resource.
func (x *examiner) concept(line []byte, t traitKind) (rest []byte, ok bool) {
	line = afterSpace(line)
	if len(line) == 0 {
		return nil, false
	}
	end := byte('}')
	switch line[0] {
	case '{':
	case '[':
		end = ']'
	default:
		return nil, false
	}
	var holds conceptFields
	for line = line[1:]; ; line = line[1:] {
		line = afterSpace(line)
		if len(line) > 0 && line[0] == end {
			return line[1:], true // possibly empty
		}
		if end == ']' {
			line, ok = x.concept(line, t)
		} else {
			line, ok = x.conceptField(line, t, &holds)
		}
		line = afterSpace(line)
		switch {
		case !ok || len(line) == 0:
			return nil, false
		case line[0] == end:
			return line[1:], x.casts || !holds.system || holds.code
		case line[0] != ',':
			return nil, false
		}
	}
}

// conceptFields records the fields of a Coding. One with a system but no code needs a walk.
type conceptFields struct{ system, code bool }

// conceptField checks a field of a CodeableConcept or Coding.
func (x *examiner) conceptField(
	line []byte, t traitKind, holds *conceptFields,
) (rest []byte, ok bool) {
	if len(line) == 0 || line[0] != '"' {
		return nil, false
	}
	if at := codingText(line); at > 0 {
		holds.code, holds.system = holds.code || line[1] == 'c', holds.system || line[1] == 's'
		return x.conceptText(line[at:], line[1], t)
	}
	end, _ := textEnd(line, 0)
	if end < 0 {
		return nil, false
	}
	name, line := line[1:end-1], afterSpace(line[end:])
	if len(line) == 0 || line[0] != ':' {
		return nil, false
	}
	line = afterSpace(line[1:])
	if string(name) == "coding" {
		return x.concept(line, t)
	}
	isCode := string(name) == "code"
	holds.code, holds.system = holds.code || isCode, holds.system || string(name) == "system"
	switch {
	case !isCode && !besidesCodes(name) || string(name) == resourceType:
		return nil, false
	case string(name) == "userSelected":
		for len(line) > 0 && isLiteral(line[0]) {
			line = line[1:]
		}
		return line, true
	case len(line) == 0 || line[0] != '"':
		return nil, false
	}
	first := byte(0)
	switch {
	case isCode:
		first = 'c'
	case showing(name):
		first = 'd'
	}
	return x.conceptText(line, first, t)
}

// codingText returns where the text of a common field of a Coding begins; 0 for other fields and
// spellings.
func codingText(line []byte) int {
	const code, system, display = `"code":"`, `"system":"`, `"display":"`
	switch {
	case len(line) < len(display):
	case string(line[:len(code)]) == code:
		return len(code) - 1
	case string(line[:len(system)]) == system:
		return len(system) - 1
	case string(line[:len(display)]) == display:
		return len(display) - 1
	}
	return 0
}

// conceptText checks the text of a field. first is 'c' for a code and 'd' for a displayed text.
func (x *examiner) conceptText(line []byte, first byte, t traitKind) (rest []byte, ok bool) {
	isCode := first == 'c'
	end, escaped := textEnd(line, 0)
	if end < 0 || isCode && (escaped || x.keeps(line[1:end-1], t)) {
		return nil, false
	}
	if x.made != nil && !escaped {
		kind := anyText
		switch first {
		case 'c':
			kind = codeText
		case 'd':
			kind = shownText
		}
		x.spot(kind, line[1:end-1], line[end:])
	}
	return line[end:], true
}

func afterSpace(line []byte) []byte {
	for len(line) > 0 && line[0] <= ' ' {
		line = line[1:]
	}
	return line
}
