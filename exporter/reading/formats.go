package reading

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// richText is a step that makes plain text of rich text (RTF 1.9). Control words, groups and line
// breaks of the source are left out: "{\b 1}2" is 12.
type richText struct {
	plain   []byte
	control []byte // the control word that is being read, behind the backslash
	in      richPart
	skip    int  // characters that stand for the last one in programs without Unicode
	high    rune // the first half of a pair of surrogates
	depth   int
	groups  []int // the value of \uc in each group outside the current one, up to maxGroups
	behind  int   // \uc: how many characters are skipped behind \u
	binary  int   // bytes that follow \bin
	// visible makes it leave out also the groups that nobody sees, and optional hyphens. Then it
	// counts as another text only where it leaves one out.
	visible bool
	unseen  int  // the depth of the group that is being left out; 0 for none
	left    bool // something was left out since read began
}

type richPart int

const (
	inText richPart = iota
	inControl
	inHex
)

const (
	maxGroups  = 4 << 10
	maxControl = 64 // letters and digits of a control word
)

// read implements step.
func (r *richText) read(piece []byte, last bool) (plain []byte, changed bool) {
	if r.groups == nil {
		r.groups, r.behind = []int{}, 1
	}
	r.plain, r.left = r.plain[:0], r.unseen > 0
	for i := 0; i < len(piece); {
		if r.in == inText && r.skip == 0 && r.binary == 0 {
			from := i
			for i < len(piece) && !richMarks[piece[i]] {
				i++
			}
			if i > from {
				r.put(piece[from:i]...)
				continue
			}
		}
		if r.byte(piece[i]) {
			i++
		}
	}
	if last && r.in == inControl {
		r.word()
	}
	return r.plain, r.left || !r.visible
}

// richMarks are the bytes that do not stand for themselves.
var richMarks = [256]bool{'\\': true, '{': true, '}': true, '\r': true, '\n': true}

// byte takes the next byte. If it is no part of the control word before it, that one ends, and
// the byte is not taken.
func (r *richText) byte(c byte) (taken bool) {
	switch {
	case r.binary > 0:
		r.binary--
		r.put(c)
	case r.in == inHex:
		if r.control = append(r.control, c); len(r.control) == 2 {
			r.in = inText
			if v, err := strconv.ParseUint(string(r.control), 16, 8); err == nil {
				r.character(charmap.Windows1252.DecodeByte(byte(v)))
			}
		}
	case r.in == inControl:
		return r.controlByte(c)
	case c == '\\':
		r.in, r.control = inControl, r.control[:0]
	case c == '{':
		r.begin()
	case c == '}':
		r.end()
	case c == '\r' || c == '\n':
	case r.skip > 0:
		r.skip--
	default:
		r.put(c)
	}
	return true
}

// controlByte takes a byte behind a backslash.
func (r *richText) controlByte(c byte) (taken bool) {
	letter := 'a' <= c|0x20 && c|0x20 <= 'z'
	digit := '0' <= c && c <= '9'
	n := len(r.control)
	behindDigit := n > 0 && (r.control[n-1] < 'A')
	switch {
	case n == 0 && c == '\'':
		r.in = inHex
	case n == 0 && !letter: // a control symbol
		r.in = inText
		r.symbol(c)
	case n < maxControl && (digit || (letter || c == '-') && !behindDigit):
		r.control = append(r.control, c)
	default:
		r.in = inText
		r.word()
		return c == ' ' // it ends the word, and is no text
	}
	return true
}

// symbol takes a control symbol, which is no letter.
func (r *richText) symbol(c byte) {
	switch c {
	case '\\', '{', '}':
		r.character(rune(c))
	case '~':
		r.character(' ')
	case '_':
		r.character('-')
	case '\r', '\n':
		r.character('\n')
	case '*': // what follows may be ignored
		r.leave()
		r.skip = max(0, r.skip-1)
	case '-': // an optional hyphen is seen at the end of a line
		if !r.visible {
			r.character('-')
			return
		}
		r.left = true
		fallthrough
	default:
		r.skip = max(0, r.skip-1)
	}
}

// word ends a control word.
func (r *richText) word() {
	at := 0
	for at < len(r.control) && r.control[at] >= 'A' {
		at++
	}
	name := r.control[:at]
	value, numbered := 0, false
	if at < len(r.control) {
		var err error
		value, err = strconv.Atoi(string(r.control[at:]))
		numbered = err == nil
	}
	switch {
	case r.skip > 0 && string(name) != "bin":
		r.skip--
	case numbered && string(name) == "u":
		r.character(rune(uint16(value)))
		r.skip = r.behind
	case numbered && string(name) == "uc":
		r.behind = min(max(value, 0), maxControl)
	case numbered && string(name) == "bin":
		r.binary, r.skip = max(value, 0), 0
	case richSpace(name) != 0:
		r.character(richSpace(name))
	case string(name) == "v" && numbered && value == 0:
		if r.unseen == r.depth {
			r.unseen = 0
		}
	case isUnseenGroup(name):
		r.leave()
	}
	if string(r.control[at:]) == "-" { // it is text
		r.put('-')
	}
}

// leave begins to leave the current group out, if only what is seen counts.
func (r *richText) leave() {
	if r.visible && r.unseen == 0 {
		r.unseen, r.left = r.depth, true
	}
}

// isUnseenGroup reports whether a control word makes the rest of its group something else than text
// that a reader sees where it stands: another destination, or hidden text.
func isUnseenGroup(word []byte) bool {
	switch string(word) {
	case "annotation", "atnauthor", "atndate", "atnid", "atnref", "bkmkend", "bkmkstart",
		"colortbl", "fldinst", "fonttbl", "footer", "footnote", "header", "info", "listtable",
		"nonshppict", "objdata", "pict", "rsidtbl", "stylesheet", "tc", "tcn", "v", "xe":
		return true
	}
	return false
}

// richSpace returns the character of a control word that stands between words; 0 for any other.
func richSpace(word []byte) rune {
	switch string(word) {
	case "par", "line", "sect", "page", "row", "column":
		return '\n'
	case "cell", "tab":
		return '\t'
	case "emspace", "enspace", "qmspace":
		return ' '
	case "emdash":
		return '\u2014'
	case "endash":
		return '\u2013'
	case "bullet":
		return '\u2022'
	case "lquote":
		return '\u2018'
	case "rquote":
		return '\u2019'
	case "ldblquote":
		return '\u201c'
	case "rdblquote":
		return '\u201d'
	}
	return 0
}

// character takes a character that was written with an escape.
func (r *richText) character(c rune) {
	switch {
	case r.skip > 0:
		r.skip--
	case r.unseen > 0:
		r.high = 0
	case r.high != 0 && utf16.DecodeRune(r.high, c) != utf8.RuneError:
		r.plain = utf8.AppendRune(r.plain, utf16.DecodeRune(r.high, c))
		r.high = 0
	case utf16.IsSurrogate(c):
		r.high = c
	default:
		r.high = 0
		r.plain = utf8.AppendRune(r.plain, c)
	}
}

// put takes bytes that stand for themselves.
func (r *richText) put(text ...byte) {
	if r.high = 0; r.unseen == 0 {
		r.plain = append(r.plain, text...)
	}
}

func (r *richText) begin() {
	if r.skip = 0; r.depth < maxGroups {
		r.groups = append(r.groups, r.behind)
	}
	r.depth++
}

func (r *richText) end() {
	r.skip = 0
	if r.depth == 0 {
		return
	}
	if r.depth--; r.depth < r.unseen {
		r.unseen = 0
	}
	if r.depth < maxGroups {
		r.behind = r.groups[r.depth]
		r.groups = r.groups[:r.depth]
	}
}

// markup is a step that leaves out the tags and comments of HTML and XML. Tags that may stand
// within a word become nothing: "<b>1</b>2" is 12. Others become a space.
type markup struct {
	place
	plain  []byte
	result []byte // of the last piece
	value  []byte // of an attribute, in the pieces before
	values []byte // of the attributes that end in the last piece, see attributes
	// visible makes it leave out also what is in elements that nobody sees. Then it counts as
	// another text only where it leaves such a thing out.
	visible bool
	left    bool // something was left out since read began
	// hides tells that there was an element that nobody sees. Up to then, begun is the place
	// where the last piece begins.
	hides bool
	begun place
}

// place is where a piece of a text ends, in its markup.
type place struct {
	in     markupPart
	name   []byte // of the tag, with what ends the name; of a comment or CDATA section its end
	quote  byte
	cdata  bool   // a CDATA section is open
	empty  bool   // the tag ends with a slash, so far
	unseen string // the element that is being left out
}

// copyTo copies a place.
func (p *place) copyTo(to *place) {
	name := append(to.name[:0], p.name...)
	*to = *p
	to.name = name
}

type markupPart int

const (
	outside markupPart = iota
	inName
	inTag
	inComment
	inEnd // of a CDATA section
)

// read implements step.
func (m *markup) read(piece []byte, _ bool) (plain []byte, changed bool) {
	if !m.hides {
		m.copyTo(&m.begun)
	}
	m.values = m.values[:0]
	if m.in == outside && !m.cdata && m.unseen == "" && bytes.IndexByte(piece, '<') < 0 {
		m.result = piece
		return piece, false
	}
	m.plain, m.left = m.plain[:0], m.unseen != ""
	for len(piece) > 0 {
		switch m.in {
		case outside:
			piece = m.text(piece)
		case inName:
			piece = m.named(piece)
		case inTag:
			piece = m.tag(piece)
		case inComment:
			piece = m.comment(piece)
		case inEnd:
			piece = m.end(piece)
		}
	}
	m.result = m.plain
	return m.plain, m.left || !m.visible
}

// visibleMarkup is a step that leaves out what another one does, which reads each piece before,
// and what is in elements that nobody sees. Few texts have these.
type visibleMarkup struct {
	of  *markup
	own *markup // from the first of these elements on
}

// read implements step.
func (v *visibleMarkup) read(piece []byte, last bool) (plain []byte, changed bool) {
	if v.own == nil {
		if !v.of.hides {
			return v.of.result, false
		}
		v.own = &markup{visible: true}
		v.of.begun.copyTo(&v.own.place)
	}
	return v.own.read(piece, last)
}

// text takes what is between tags.
func (m *markup) text(piece []byte) (rest []byte) {
	at := bytes.IndexByte(piece, '<')
	if at < 0 {
		at = len(piece)
	}
	if m.cdata {
		if end := bytes.IndexByte(piece[:at], ']'); end >= 0 {
			at = end
		}
	}
	if m.unseen == "" {
		m.plain = append(m.plain, piece[:at]...)
	}
	if at == len(piece) {
		return nil
	}
	m.in, m.name = inName, m.name[:0]
	if piece[at] == ']' {
		m.in = inEnd
		return piece[at:]
	}
	return piece[at+1:]
}

// end takes the end of a CDATA section, and what may be it.
func (m *markup) end(piece []byte) (rest []byte) {
	c := piece[0]
	if c == ']' && len(m.name) < 2 {
		m.name = append(m.name, c)
		return piece[1:]
	}
	switch {
	case c == ']':
		m.put(']')
		return piece[1:]
	case c == '>' && len(m.name) == 2:
		m.in, m.cdata = outside, false
		return piece[1:]
	}
	m.put(m.name...)
	m.in = outside
	return piece
}

func (m *markup) put(text ...byte) {
	if m.unseen == "" {
		m.plain = append(m.plain, text...)
	}
}

// named takes the name of a tag, and what follows if it is none.
func (m *markup) named(piece []byte) (rest []byte) {
	c := piece[0]
	if n := len(m.name); n > 0 && m.name[0] != '!' {
		run := 0
		for run < len(piece) && n+run <= maxControl && (naming[piece[run]] || piece[run] == ':') {
			run++
		}
		if m.name = append(m.name, piece[:run]...); len(m.name) > maxControl {
			m.in = inTag
		}
		if run > 0 {
			return piece[run:]
		}
	}
	switch {
	case m.unseen != "" && len(m.name) == 0 && c != '/': // of a program, such as "a < b"
		m.in = outside
		return piece
	case len(m.name) == 0 && (isNaming(c) && c > '9' || c == '/' || c == '!'),
		len(m.name) > 0 && (isNaming(c) || c == ':' || c == '-' && m.name[0] == '!'):
		if m.name = append(m.name, c); string(m.name) == "!--" {
			m.in, m.name = inComment, append(m.name[:0], "--"...)
		} else if len(m.name) > maxControl {
			m.in = inTag
		}
		return piece[1:]
	case len(m.name) == 0 && c != '?': // "a < b"
		m.in = outside
		m.put('<')
		return piece
	case c == '[' && string(m.name) == "!": // a CDATA section has text
		m.name = append(m.name, c)
		return piece[1:]
	case c == '[':
		m.in, m.cdata = outside, string(m.name) == "![CDATA"
		return piece[1:]
	}
	m.in, m.quote, m.empty = inTag, 0, false
	return piece
}

// tag takes what is in a tag behind its name.
func (m *markup) tag(piece []byte) (rest []byte) {
	for len(piece) > 0 {
		if m.quote != 0 {
			end := bytes.IndexByte(piece, m.quote)
			if end < 0 {
				m.value = append(m.value, piece...)
				m.value = append(m.value[:0], m.value[max(0, len(m.value)-overlap):]...)
				return nil
			}
			m.valued(piece[:end])
			piece, m.quote, m.empty = piece[end+1:], 0, false
			continue
		}
		at := 0
		for at < len(piece) && !tagMarks[piece[at]] {
			at++
		}
		if at > 0 {
			m.empty = piece[at-1] == '/'
		}
		if at == len(piece) {
			return nil
		}
		c := piece[at]
		if piece = piece[at+1:]; c == '>' {
			m.in = outside
			m.tagged()
			return piece
		}
		m.quote = c
	}
	return nil
}

// valued takes the end of an attribute's value. Markup in it is not read here: attributes does.
func (m *markup) valued(end []byte) {
	if len(m.value) == 0 && bytes.IndexByte(end, '<') < 0 {
		return
	}
	value := append(m.value, end...)
	m.value = value[:0]
	for m.values = append(m.values, ' '); len(value) > 0; {
		begin := bytes.IndexByte(value, '<')
		size := bytes.IndexByte(value[max(0, begin):], '>') + 1
		if begin < 0 || size == 0 {
			m.values = append(m.values, value...)
			return
		}
		m.values, value = append(m.values, value[:begin]...), value[begin+size:]
	}
}

// attributes is a step that leaves only the values of attributes that have markup, without it. A
// step that reads each piece before finds them.
type attributes struct{ of *markup }

// read implements step.
func (a attributes) read([]byte, bool) (plain []byte, changed bool) {
	return a.of.values, len(a.of.values) > 0
}

// tagMarks are the bytes of a tag that begin or end something.
var tagMarks = [256]bool{'"': true, '\'': true, '>': true}

// tagged takes a whole tag.
func (m *markup) tagged() {
	for i, c := range m.name {
		if 'A' <= c && c <= 'Z' {
			m.name[i] = c | 0x20
		}
	}
	plain := bytes.Trim(m.name[bytes.LastIndexByte(m.name, ':')+1:], "/")
	switch {
	case m.unseen != "":
		if string(plain) == m.unseen && m.name[0] == '/' {
			m.unseen = ""
		}
	case isUnseen(plain):
		m.hides = true
		if !m.visible {
			m.plain = append(m.plain, ' ')
			return
		}
		m.left = true
		if m.name[0] != '/' && !m.empty {
			m.unseen = string(plain)
		}
	case !isWithinWords(plain):
		m.plain = append(m.plain, ' ')
	}
}

// isUnseen reports whether nobody sees the content of an element of HTML.
func isUnseen(element []byte) bool {
	switch string(element) {
	case "script", "style", "template":
		return true
	}
	return false
}

// comment takes what is in a comment.
func (m *markup) comment(piece []byte) (rest []byte) {
	for i, c := range piece {
		switch dashes := len(m.name); {
		case c == '-':
			m.name = append(m.name, c)[:min(dashes+1, 2)]
		case c == '>' && dashes == 2:
			m.in = outside
			return piece[i+1:]
		default:
			m.name = m.name[:0]
		}
	}
	return nil
}

// isWithinWords reports whether an element of HTML or of C-CDA's narratives may begin or end
// within a word.
func isWithinWords(element []byte) bool {
	switch string(element) {
	case "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "blink", "cite", "code", "content",
		"data", "del", "dfn", "em", "font", "footnoteref", "i", "img", "input", "ins", "kbd",
		"label", "linkhtml", "map", "mark", "nobr", "object", "output", "picture", "q",
		"rendermultimedia", "ruby", "s", "samp", "small", "source", "span", "strike", "strong",
		"sub", "sup", "svg", "time", "tspan", "tt", "u", "var", "wbr":
		return true
	}
	return false
}
