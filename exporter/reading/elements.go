package reading

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
	// odd tells that the text that was read last has an element with attributes that this step
	// leaves out, as codedAttributes does not: it is not well-formed, or a value is too long.
	odd bool
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
	e.plain, e.odd = e.plain[:0], false
	for len(piece) > 0 {
		end := bytes.IndexByte(piece, '<')
		if end < 0 {
			e.region(piece, false)
			e.unended()
			break
		}
		e.region(piece[:end], true)
		e.unended()
		e.in, e.name, e.coded, piece = inElement, e.name[:0], false, piece[end+1:]
	}
	return e.plain, len(e.plain) > 0
}

// region takes bytes up to the next '<'. ended tells that it follows.
func (e *elements) region(text []byte, ended bool) {
	for len(text) > 0 {
		switch e.in {
		case inElement:
			text = e.equals(text, ended)
		case inValue:
			end := bytes.IndexByte(text, e.quote)
			if end < 0 {
				e.keep(text)
				return
			}
			e.keep(text[:end])
			e.valued()
			text = text[end+1:]
		default:
			e.take(text[0])
			text = text[1:]
		}
	}
}

// unended notes an element that ends in a value, which may contain another attribute.
func (e *elements) unended() {
	if e.in == inValue && (len(e.value) > maxCode || bytes.IndexByte(e.value, '=') >= 0) {
		e.odd = true
	}
}

// equals takes what is up to the next '=', and skips all but the name before it.
func (e *elements) equals(text []byte, ended bool) (rest []byte) {
	end := bytes.IndexByte(text, '=')
	switch {
	case end < 0 && ended:
		return nil
	case end < 0:
		end = len(text)
	}
	behind := end
	for behind > 0 && spaces[text[behind-1]] {
		behind--
	}
	if behind > 0 && end < len(text) && text[behind-1] != 'e' && text[behind-1] != 'm' {
		e.name = e.name[:0] // no code attribute ends so
		return text[end+1:]
	}
	begin := behind
	for begin > 0 && naming[text[begin-1]] {
		begin--
	}
	if begin > 0 && end < len(text) { // nothing before it is a part of the name
		e.name = append(e.name[:0], text[begin:min(behind, begin+maxControl)]...)
		e.take('=')
		return text[end+1:]
	}
	if begin > 0 {
		e.name = e.name[:0]
	}
	for _, c := range text[begin:end] {
		e.take(c)
	}
	if end < len(text) {
		e.take('=')
		end++
	}
	return text[end:]
}

// take takes the next byte of an element, outside values.
func (e *elements) take(c byte) {
	switch e.in {
	case behindEquals:
		switch {
		case c == '"' || c == '\'':
			e.in, e.quote, e.value = inValue, c, e.value[:0]
		case !spaces[c]:
			e.in, e.name = inElement, e.name[:0]
			e.take(c)
		}
	default:
		switch {
		case c == '=' && isCodeAttribute(e.name):
			e.in = behindEquals
		case spaces[c]:
			e.in = behindName
		default:
			if e.in == behindName || !naming[c] {
				e.in, e.name = inElement, e.name[:0]
			}
			if naming[c] && len(e.name) <= maxControl {
				e.name = append(e.name, c)
			}
		}
	}
}

// keep keeps a part of a value, unless it is too long.
func (e *elements) keep(part []byte) {
	e.value = append(e.value, part[:min(len(part), maxCode+1-len(e.value))]...)
}

// valued ends a value.
func (e *elements) valued() {
	if e.odd = e.odd || len(e.value) > maxCode; len(e.value) <= maxCode {
		if !e.coded {
			e.plain, e.coded = append(e.plain, '<'), true
		}
		e.plain = append(append(append(e.plain, ' '), e.name...), '=', e.quote)
		e.plain = append(append(e.plain, e.value...), e.quote)
	}
	e.in, e.name = inElement, e.name[:0]
}

// maxCode is the length of the longest code or system of an element.
const maxCode = 512

// isCodeAttribute reports whether an attribute of HL7 V3 has a code or its system.
func isCodeAttribute(name []byte) bool {
	switch string(name) {
	case "code", "codeSystem", "codeSystemName":
		return true
	}
	return false
}

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
