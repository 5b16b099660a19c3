package native

import (
	"bytes"
	"strconv"
	"strings"
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
	r.plain = r.plain[:0]
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
	return r.plain, true
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
	default: // such as an optional hyphen, which nobody sees
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
	case richSpaces[string(name)] != 0:
		r.character(richSpaces[string(name)])
	}
	if string(r.control[at:]) == "-" { // it is text
		r.put('-')
	}
}

// richSpaces are control words that stand between words.
var richSpaces = map[string]rune{
	"par": '\n', "line": '\n', "sect": '\n', "page": '\n', "row": '\n', "column": '\n',
	"cell": '\t', "tab": '\t', "emspace": ' ', "enspace": ' ', "qmspace": ' ',
	"emdash": '\u2014', "endash": '\u2013', "bullet": '\u2022',
	"lquote": '\u2018', "rquote": '\u2019', "ldblquote": '\u201c', "rdblquote": '\u201d',
}

// character takes a character that was written with an escape.
func (r *richText) character(c rune) {
	switch {
	case r.skip > 0:
		r.skip--
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
func (r *richText) put(text ...byte) { r.plain, r.high = append(r.plain, text...), 0 }

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
	if r.depth--; r.depth < maxGroups {
		r.behind = r.groups[r.depth]
		r.groups = r.groups[:r.depth]
	}
}

// markup is a step that leaves out the tags and comments of HTML and XML. Tags that may stand
// within a word become nothing: "<b>1</b>2" is 12. Others become a space.
type markup struct {
	plain []byte
	in    markupPart
	name  []byte // of the tag, with what ends the name; of a comment its end
	quote byte
}

type markupPart int

const (
	outside markupPart = iota
	inName
	inTag
	inComment
)

// read implements step.
func (m *markup) read(piece []byte, _ bool) (plain []byte, changed bool) {
	if m.in == outside && bytes.IndexByte(piece, '<') < 0 {
		return piece, false
	}
	m.plain = m.plain[:0]
	for len(piece) > 0 {
		switch m.in {
		case outside:
			text, _, tag := bytes.Cut(piece, []byte("<"))
			m.plain, piece = append(m.plain, text...), piece[len(text):]
			if tag {
				m.in, m.name, piece = inName, m.name[:0], piece[1:]
			}
		case inName:
			piece = m.named(piece)
		case inTag:
			piece = m.tag(piece)
		case inComment:
			piece = m.comment(piece)
		}
	}
	return m.plain, true
}

// named takes the name of a tag, and what follows if it is none.
func (m *markup) named(piece []byte) (rest []byte) {
	c := piece[0]
	switch {
	case len(m.name) == 0 && (isNaming(c) && c > '9' || c == '/' || c == '!'),
		len(m.name) > 0 && (isNaming(c) || c == ':' || c == '-' && m.name[0] == '!'):
		if m.name = append(m.name, c); string(m.name) == "!--" {
			m.in, m.name = inComment, append(m.name[:0], "--"...)
		} else if len(m.name) > maxControl {
			m.in = inTag
		}
		return piece[1:]
	case len(m.name) == 0 && c != '?': // "a < b"
		m.in, m.plain = outside, append(m.plain, '<')
		return piece
	case c == '[' && string(m.name) == "!": // a CDATA section has text
		m.name = append(m.name, c)
		return piece[1:]
	case c == '[':
		m.in = outside
		return piece[1:]
	}
	m.in, m.quote = inTag, 0
	return piece
}

// tag takes what is in a tag behind its name.
func (m *markup) tag(piece []byte) (rest []byte) {
	for i, c := range piece {
		switch {
		case m.quote != 0 && c == m.quote:
			m.quote = 0
		case m.quote != 0:
		case c == '"' || c == '\'':
			m.quote = c
		case c == '>':
			if m.in = outside; !withinWords[strings.ToLower(strings.Trim(string(m.name), "/"))] {
				m.plain = append(m.plain, ' ')
			}
			return piece[i+1:]
		}
	}
	return nil
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

// withinWords are the elements of HTML and of C-CDA's narratives that may begin or end within a
// word.
var withinWords = map[string]bool{
	"a": true, "b": true, "big": true, "content": true, "em": true, "font": true, "i": true,
	"ins": true, "mark": true, "s": true, "small": true, "span": true, "strong": true,
	"sub": true, "sup": true, "tt": true, "u": true, "wbr": true,
}
