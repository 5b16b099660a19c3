package native

import (
	"bytes"
	"html"
	"regexp"
)

// elements is a step that leaves only the codes of XML elements, with their systems: what is
// between these may be long.
type elements struct {
	plain []byte
	in    attributePart
	name  []byte // of an attribute
	value []byte
	quote byte
	coded bool // an attribute of this element was left
}

type attributePart int

const (
	inElement attributePart = iota
	behindName
	behindEquals
	inValue
)

// read implements step.
func (e *elements) read(piece []byte, _ bool) (plain []byte, changed bool) {
	e.plain = e.plain[:0]
	for len(piece) > 0 {
		end := bytes.IndexByte(piece, '<')
		if end < 0 {
			end = len(piece)
		}
		region := piece[:end]
		if e.in == inElement && len(e.name) == 0 && !bytes.Contains(region, []byte("code")) {
			region = region[max(0, end-len("codeSystemName")):]
		}
		for _, c := range region {
			e.take(c)
		}
		if piece = piece[end:]; len(piece) > 0 {
			e.in, e.name, piece, e.coded = inElement, e.name[:0], piece[1:], false
		}
	}
	return e.plain, bytes.IndexByte(e.plain, '=') >= 0
}

// take takes the next byte of an element.
func (e *elements) take(c byte) {
	space := c == ' ' || c == '\t' || c == '\r' || c == '\n'
	switch e.in {
	case behindName, inElement:
		switch {
		case c == '=' && codeAttributes[string(e.name)]:
			e.in = behindEquals
		case space:
			e.in = behindName
		default:
			if e.in == behindName || !isNaming(c) {
				e.in, e.name = inElement, e.name[:0]
			}
			if isNaming(c) && len(e.name) <= maxControl {
				e.name = append(e.name, c)
			}
		}
	case behindEquals:
		switch {
		case c == '"' || c == '\'':
			e.in, e.quote, e.value = inValue, c, e.value[:0]
		case !space:
			e.in, e.name = inElement, e.name[:0]
		}
	case inValue:
		switch {
		case c != e.quote && len(e.value) <= maxCode:
			e.value = append(e.value, c)
		case c == e.quote:
			if len(e.value) <= maxCode {
				if !e.coded {
					e.plain, e.coded = append(e.plain, '<'), true
				}
				e.plain = append(append(append(e.plain, ' '), e.name...), '=', c)
				e.plain = append(append(e.plain, e.value...), c)
			}
			e.in, e.name = inElement, e.name[:0]
		}
	}
}

// maxCode is the length of the longest code or system of an element.
const maxCode = 512

// codeAttributes are the attributes of HL7 V3 that have a code or its system.
var codeAttributes = map[string]bool{"code": true, "codeSystem": true, "codeSystemName": true}

// entities are the general entities that a document type declares, by name.
type entities map[string][]byte

const (
	maxEntities = 256
	entityDepth = 4
)

var entityDeclaration = regexp.MustCompile(
	`<!ENTITY\s+([\w.:-]+)\s+(?:"([^"]*)"|'([^']*)')`)

// entitiesOf returns the entities that the beginning of a text declares. They may refer to each
// other.
func entitiesOf(head []byte) entities {
	head = bytes.ReplaceAll(head, []byte{0}, nil)
	if !bytes.Contains(head, []byte("<!ENTITY")) {
		return nil
	}
	all := entities{}
	for _, m := range entityDeclaration.FindAllSubmatch(head, maxEntities) {
		if name := string(m[1]); all[name] == nil { // the first one counts (XML 1.0 4.2)
			all[name] = cut([]byte(html.UnescapeString(string(m[2]) + string(m[3]))))
		}
	}
	for range entityDepth {
		for name, value := range all {
			all[name], _ = newEscapes('&', all.resolve(noReference, true)).read(cut(value), true)
			all[name] = cut(all[name])
		}
	}
	return all
}

// cut returns a copy of a value, which is not longer than what is compared between pieces.
func cut(value []byte) []byte { return bytes.Clone(value[:min(len(value), overlap/2)]) }

func noReference(plain, _ []byte) (_ []byte, n int) { return plain, 0 }

// resolve returns how references are resolved that may be to these entities. syntax tells whether
// they may stand for characters of the syntax, too.
func (o entities) resolve(otherwise resolve, syntax bool) resolve {
	if len(o) == 0 {
		return otherwise
	}
	return func(plain, text []byte) (_ []byte, n int) {
		n = 1
		for n < len(text) && (isNaming(text[n]) || bytes.IndexByte([]byte("._:-"), text[n]) >= 0) {
			n++
		}
		if n == len(text) {
			return plain, open
		}
		value, declared := o[string(text[1:n])]
		if declared && text[n] == ';' && (syntax || !bytes.ContainsAny(value, "<>\"'")) {
			return append(plain, value...), n + 1
		}
		return otherwise(plain, text)
	}
}
