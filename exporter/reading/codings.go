package reading

import (
	"bytes"
	"strings"
)

// codesOf returns the steps that find the codes of a text with a media type that begins with head:
// of FHIR, other JSON and messages of HL7 v2, also behind something else, such as lines of a log.
// The codes of CDA have a view of their own.
func codesOf(contentType string, head []byte, o entities) (all []step) {
	if bytes.IndexByte(head, 0) >= 0 {
		head = bytes.ReplaceAll(head, []byte{0}, nil)
	}
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\ufeff")), " \t\r\n\x0b")
	is := func(part string) bool { return strings.Contains(contentType, part) }
	whole := BeginsJSON(head)
	shown := head // names may have escapes
	if !whole {
		shown = withoutEscapes(head)
	}
	has := func(part string) bool { return bytes.Contains(shown, []byte(part)) }
	if whole || is("json") || has(`"code"`) && (has(`"system"`) || has(`"codeSystem"`)) {
		all = append(all, &jsonCodes{lines: !whole})
	}
	if !whole && (is("fhir") && !is("json") || has("hl7.org/fhir")) {
		all = append(all, &xmlCodes{of: o})
	}
	if !whole && (isMessage(head) || is("hl7") && !is("xml") || has(header)) {
		all = append(all, newMessageCodes())
	}
	return all
}

// writing is the way in which a text is written that a form of it resolves.
type writing int

const (
	inAnother writing = iota // none of the following
	inJSON                   // escapes, which jsonCodes resolves itself
	inMarkup                 // markup and references, which xmlCodes resolves itself
)

// codeSearch decides whether a form of a text may have codes. It is cheap, because few forms do.
type codeSearch struct {
	of                  origin
	in                  writing
	json, xml, messages bool // their codes are read
}

// begin returns the steps for codes that a form has from a piece on, which was written as before.
func (c *codeSearch) begin(before, piece []byte) (all []step) {
	if !c.json && c.mayBeJSON(before, piece) {
		c.json = true
		all = append(all, &jsonCodes{lines: true})
	}
	if !c.xml && c.mayBeXML(before, piece) {
		c.xml = true
		all = append(all, &xmlCodes{of: c.of.entities})
	}
	if !c.messages && bytes.Contains(piece, []byte(header)) &&
		(c.in != inJSON || shows(header, before, piece)) {
		c.messages = true
		all = append(all, newMessageCodes())
	}
	return all
}

// mayBeJSON reports whether a form may have codes of JSON. Where jsonCodes reads the text before
// without the same escapes, more members have to show: of an object that begins before an escape,
// or between quotes that were references.
func (c *codeSearch) mayBeJSON(before, piece []byte) bool {
	switch {
	case bytes.IndexByte(piece, '{') < 0:
		return false
	case c.in == inJSON:
		if !bytes.Contains(before, []byte(`{\`)) && !bytes.Contains(before, []byte(`{ \`)) {
			return false
		}
		return shows(`code"`, before, piece) || shows(`ystem"`, before, piece)
	case c.in == inMarkup && c.of.json && !shows(`"`, before, piece):
		return false
	}
	return bytes.Contains(piece, []byte(`code"`)) && bytes.Contains(piece, []byte(`ystem"`))
}

// mayBeXML reports whether a form may have codes of FHIR in XML. Where xmlCodes reads the text
// before without the same references, more tags or values have to show; narratives in JSON are
// tags without values.
func (c *codeSearch) mayBeXML(before, piece []byte) bool {
	switch {
	case bytes.IndexByte(piece, '<') < 0:
		return false
	case c.in == inAnother:
	case !bytes.Contains(piece, []byte("value=")),
		!shows("<", before, piece) && !shows(`="`, before, piece):
		return false
	}
	return bytes.Contains(piece, []byte("hl7.org/fhir"))
}

// shows reports whether a form of a text has something more often than the text before.
func shows(what string, before, piece []byte) bool {
	n := bytes.Count(piece, []byte(what))
	return n > 0 && n > bytes.Count(before, []byte(what))
}

// header begins a message of HL7 v2 with the usual separators.
const header = `MSH|^~\&`

// codings collects the codes of a text. An element, or an object, has a code and its system.
type codings struct {
	plain  []byte
	within []coding // the current element, and those that it is part of
	depth  int
}

type coding struct{ system, code []byte }

// maxDepth is how many elements within each other are told apart.
const maxDepth = 128

// add appends a code and its system, as an element of CDA.
func (c *codings) add(system, code []byte) {
	if len(code) > maxCode || len(system) > maxCode {
		return
	}
	c.plain = append(append(c.plain, `< code="`...), code...)
	c.plain = append(append(append(c.plain, `" codeSystemName="`...), system...), '"')
}

func (c *codings) current() *coding {
	at := min(c.depth, maxDepth-1)
	for len(c.within) <= at {
		c.within = append(c.within, coding{})
	}
	return &c.within[at]
}

// set notes a value of the current element.
func (c *codings) set(name string, value []byte) {
	in := c.current()
	if name == "code" {
		in.code = appendValue(in.code[:0], value)
	} else {
		in.system = appendValue(in.system[:0], value)
	}
	if len(in.code) > 0 && len(in.system) > 0 {
		c.add(in.system, in.code)
	}
}

// appendValue appends a value without the characters that end one in an element of CDA.
func appendValue(to, value []byte) []byte {
	from := len(to)
	to = append(to, value...)
	for i, c := range to[from:] {
		if c == '"' || c == '<' {
			to[from+i] = ' '
		}
	}
	return to
}

func (c *codings) begin() {
	c.depth++
	in := c.current()
	in.code, in.system = in.code[:0], in.system[:0]
}

func (c *codings) end() { c.depth = max(0, c.depth-1) }

// codingNames are the names of what a coding has, in FHIR and in other JSON.
var codingNames = map[string]string{"code": "code", "system": "system", "codeSystem": "system"}

// jsonCodes is a step that leaves only the codes of the objects of JSON, with their systems.
type jsonCodes struct {
	codings
	text    []byte // of the last string; or of a number, if it is the value of a name
	open    bool   // the string goes on
	escaped bool   // a backslash is before the next byte of it
	name    string // of the value that follows, see codingNames
	// lines tells that JSON is only a part of the text: no string goes on in the next line, and
	// a quote before a letter begins one, because no string of JSON ends there.
	lines  bool
	closed bool // the byte before was a quote that ended a string
	// special tells that the string may be a document, or is one.
	special bool
	// inner finds the codes of the string, if that is a document; the escapes of raw are resolved
	// before.
	inner  step
	raw    []byte
	escape step
	level  int // of strings within strings
}

// read implements step.
func (j *jsonCodes) read(piece []byte, _ bool) (plain []byte, changed bool) {
	j.plain = j.plain[:0]
	for len(piece) > 0 {
		if j.open {
			piece = j.string(piece)
		} else {
			piece = j.between(piece)
		}
	}
	if j.inner != nil {
		j.feed(false)
	}
	return j.plain, len(j.plain) > 0
}

// maxLevel is how deep documents in strings are read in each other.
const maxLevel = 3

// mayBegin reports whether a string that begins with text may be a document.
func mayBegin(text []byte) bool {
	if len(text) < len(`\u003c`) {
		return true
	}
	switch text[0] {
	case '{', '[', '<', 'M':
		return true
	case '\\':
		return text[5]|0x20 == 'b' || text[5]|0x20 == 'c'
	}
	return false
}

// begun decides by the first bytes of a string whether it is a document.
func (j *jsonCodes) begun() {
	start, escaped := j.text, ""
	if start[0] == '\\' {
		if len(start) < len(`\u003c`) {
			return
		}
		escaped = string(start[len(`\u00`):len(`\u003c`)])
		j.special = string(start[:len(`\u00`)]) == `\u00`
	}
	if len(start) < len("MSH|") || !j.special {
		return
	}
	switch first := start[0]; {
	case j.level == maxLevel, string(start[:len("<div")]) == "<div": // a narrative
	case first == '{', first == '[', strings.EqualFold(escaped, "7b"),
		strings.EqualFold(escaped, "5b"):
		j.inner = &jsonCodes{level: j.level + 1}
	case first == '<', strings.EqualFold(escaped, "3c"):
		j.inner = &xmlCodes{}
	case string(start[:len("MSH|")]) == "MSH|":
		j.inner = newMessageCodes()
	}
	if j.special = j.inner != nil; j.special {
		j.escape = newEscapes('\\', jsonEscape)
	}
}

// feed reads what is new of a string that is a document.
func (j *jsonCodes) feed(last bool) {
	text, _ := j.escape.read(j.raw, last)
	codes, _ := j.inner.read(text, last)
	j.plain, j.raw = append(j.plain, codes...), j.raw[:0]
	if last {
		j.inner = nil
	}
}

// between takes what is not part of a string.
func (j *jsonCodes) between(piece []byte) (rest []byte) {
	if j.closed && j.lines && naming[piece[0]] {
		j.opened()
		return piece
	}
	j.closed = false
	for i, c := range piece {
		switch c {
		case '"':
			j.open, j.text = true, j.text[:0]
			j.special = mayBegin(piece[i+1:])
			return piece[i+1:]
		case ':':
			j.name, j.text = codingNames[string(j.plainText())], j.text[:0]
		case ',', '}', ']':
			j.valued()
			if c == '}' {
				j.end()
			}
		case '{':
			j.name = ""
			j.begin()
		default:
			if j.name != "" && naming[c] {
				j.keep(piece[i : i+1])
			}
		}
	}
	return nil
}

// opened begins a string with the quote that seemed to end one: that was text before JSON, such as
// the quote of an attribute of HTML.
func (j *jsonCodes) opened() {
	if bytes.HasSuffix(bytes.TrimRight(j.text, " \t"), []byte("{")) {
		j.begin()
	}
	j.name = ""
	j.open, j.closed, j.special, j.text = true, false, false, j.text[:0]
}

// string takes what is part of a string.
func (j *jsonCodes) string(piece []byte) (rest []byte) {
	if j.escaped {
		j.escaped = false
		j.put(piece[:1])
		return piece[1:]
	}
	some := piece[:min(len(piece), 256)] // a string of escapes is not searched again and again
	end := bytes.IndexByte(some, '"')
	if end < 0 {
		end = len(some)
	}
	if at := bytes.IndexByte(some[:end], '\\'); at >= 0 {
		end = at
	}
	if j.lines {
		if at := bytes.IndexByte(some[:end], '\n'); at >= 0 {
			end = at
		}
	}
	j.put(piece[:end])
	switch {
	case end == len(some):
		return piece[end:]
	case piece[end] == '\\':
		j.escaped = true
		j.put(piece[end : end+1])
	default:
		j.open, j.closed = false, piece[end] == '"'
		if j.inner != nil {
			j.feed(true)
		}
	}
	return piece[end+1:]
}

// put takes a part of a string.
func (j *jsonCodes) put(part []byte) {
	if j.special {
		j.take(part)
		return
	}
	j.keep(part)
}

// take takes a part of a string that may be a document, or is one.
func (j *jsonCodes) take(part []byte) {
	if j.inner != nil {
		j.raw = append(j.raw, part...)
		return
	}
	j.raw = append(append(j.raw[:0], j.text...), part...)
	if j.keep(part); len(j.text) > 0 {
		j.begun()
	}
}

// keep keeps a part of a string, unless that is too long.
func (j *jsonCodes) keep(part []byte) {
	j.text = append(j.text, part[:min(len(part), maxCode+1-len(j.text))]...)
}

// valued ends the value of a name, if there is one.
func (j *jsonCodes) valued() {
	if j.name != "" && len(j.text) > 0 {
		value := j.plainText()
		j.set(j.name, value)
		if bytes.IndexByte(value, '&') >= 0 {
			value, _ = newEscapes('&', anyReference).read(value, true)
			j.set(j.name, value)
		}
	}
	j.text = j.text[:0]
}

// plainText returns the last string, or number, without escapes.
func (j *jsonCodes) plainText() []byte { return withoutEscapes(j.text) }

// withoutEscapes returns a text without escapes of JSON.
func withoutEscapes(text []byte) []byte {
	if bytes.IndexByte(text, '\\') < 0 {
		return text
	}
	plain, _ := newEscapes('\\', jsonEscape).read(text, true)
	return plain
}

// xmlCodes is a step that leaves only the codes of FHIR in XML, with their systems.
type xmlCodes struct {
	codings
	of    entities
	tag   []byte // its begin, up to overlap
	open  bool   // the tag goes on
	quote byte   // of the value of an attribute that goes on
	until string // the end of what is skipped: a comment
	// section is the depth of what is in a CDATA section, which is read as a document of its own;
	// 0 outside. ends counts the brackets that may end it.
	section, ends int
}

// read implements step.
func (x *xmlCodes) read(piece []byte, _ bool) (plain []byte, changed bool) {
	x.plain = x.plain[:0]
	for len(piece) > 0 {
		switch {
		case x.until != "":
			piece = x.skip(piece)
		case x.open:
			piece = x.inside(piece)
		case x.section > 0:
			piece = x.between(piece)
		default:
			at := bytes.IndexByte(piece, '<')
			if at < 0 {
				return x.plain, len(x.plain) > 0
			}
			x.open, x.tag, x.quote, piece = true, x.tag[:0], 0, piece[at+1:]
		}
	}
	return x.plain, len(x.plain) > 0
}

// between takes what is between the tags of a CDATA section.
func (x *xmlCodes) between(piece []byte) (rest []byte) {
	for i, c := range piece {
		if x.ended(c) {
			return piece[i+1:]
		}
		if c == '<' {
			x.open, x.tag, x.quote = true, x.tag[:0], 0
			return piece[i+1:]
		}
	}
	return nil
}

// ended takes a byte of a CDATA section, and reports whether the section ends with it.
func (x *xmlCodes) ended(c byte) bool {
	switch {
	case c == ']':
		x.ends++
	case c == '>' && x.ends >= 2:
		x.depth, x.section, x.ends = x.section-1, 0, 0
		x.open, x.tag = false, x.tag[:0]
		return true
	default:
		x.ends = 0
	}
	return false
}

// skip takes what is skipped. The tag has the bytes before a piece.
func (x *xmlCodes) skip(piece []byte) (rest []byte) {
	before := len(x.tag)
	x.tag = append(x.tag, piece...)
	at := bytes.Index(x.tag, []byte(x.until))
	if at < 0 {
		x.tag = append(x.tag[:0], x.tag[max(0, len(x.tag)-len(x.until)+1):]...)
		return nil
	}
	rest = piece[at+len(x.until)-before:]
	x.until, x.tag = "", x.tag[:0]
	return rest
}

// inside takes what is part of a tag.
func (x *xmlCodes) inside(piece []byte) (rest []byte) {
	for i, c := range piece {
		if x.section > 0 && x.ended(c) {
			return piece[i+1:]
		}
		if x.quote == 0 && c == '>' {
			x.open = false
			x.tagged()
			return piece[i+1:]
		}
		switch {
		case c == x.quote:
			x.quote = 0
		case x.quote == 0 && (c == '"' || c == '\''):
			x.quote = c
		}
		if len(x.tag) < overlap {
			x.tag = append(x.tag, c)
		}
		switch {
		case x.section > 0: // what is in it ends with it
			continue
		case c == '-' && string(x.tag) == "!--":
			x.until = "-->"
		case c == '[' && string(x.tag) == "![CDATA[":
			x.begin()
			x.section = x.depth
		default:
			continue
		}
		x.open, x.tag = false, x.tag[:0]
		return piece[i+1:]
	}
	return nil
}

// tagged takes a whole tag.
func (x *xmlCodes) tagged() {
	if len(x.tag) == 0 || x.tag[0] == '!' || x.tag[0] == '?' {
		return
	}
	if x.tag[0] == '/' {
		if x.depth > x.section {
			x.end()
		}
		return
	}
	end := bytes.IndexAny(x.tag, " \t\r\n/")
	if end < 0 {
		end = len(x.tag)
	}
	name := x.tag[bytes.LastIndexByte(x.tag[:end], ':')+1 : end]
	if name := codingNames[string(name)]; name != "" {
		value, _ := newEscapes('&', x.of.resolve(anyReference, true)).read(valueOf(x.tag), true)
		x.set(name, value)
	}
	if x.tag[len(x.tag)-1] != '/' {
		x.begin()
	}
}

// valueOf returns the attribute value of a tag; nil if it has none.
func valueOf(tag []byte) []byte {
	name := []byte("value")
	for rest := tag; ; {
		at := bytes.Index(rest, name)
		if at < 0 {
			return nil
		}
		isName := at > 0 && spaces[rest[at-1]]
		rest = rest[at+len(name):]
		value := bytes.TrimLeftFunc(rest, func(c rune) bool { return c <= ' ' || c == '=' })
		if !isName || len(value) == 0 || value[0] != '"' && value[0] != '\'' {
			continue
		}
		if end := bytes.IndexByte(value[1:], value[0]); end >= 0 {
			return value[1 : 1+end]
		}
	}
}
