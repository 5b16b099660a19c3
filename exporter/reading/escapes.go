package reading

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"html"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// escapes is a step that resolves escapes which begin with a mark.
type escapes struct {
	mark    byte
	resolve resolve
	begun   []byte // an escape that a piece does not end
	plain   []byte
}

// resolve appends the characters that an escape at the beginning of text stands for. n is the
// length of the escape: 0 if there is none, and open if the end of the text may be missing.
type resolve func(plain, text []byte) (_ []byte, n int)

const open = -1

func newEscapes(mark byte, r resolve) *escapes { return &escapes{mark: mark, resolve: r} }

// read implements step.
func (e *escapes) read(piece []byte, last bool) (plain []byte, changed bool) {
	if len(e.begun) == 0 && bytes.IndexByte(piece, e.mark) < 0 {
		return piece, false
	}
	text := piece
	if len(e.begun) > 0 {
		text = append(e.begun, piece...)
		e.begun = e.begun[:0]
	}
	plain = e.plain[:0]
	for len(text) > 0 {
		at := bytes.IndexByte(text, e.mark)
		if at < 0 {
			plain = append(plain, text...)
			break
		}
		plain, text = append(plain, text[:at]...), text[at:]
		var n int
		plain, n = e.resolve(plain, text)
		switch {
		case n > 0:
			changed = true
		case n == open && !last && len(text) < overlap:
			e.begun = append([]byte(nil), text...)
			e.plain = plain
			return plain, changed
		default:
			plain, n = append(plain, text[0]), 1
		}
		text = text[n:]
	}
	e.plain = plain
	return plain, changed
}

// jsonEscape resolves an escape of JSON (RFC 8259 7).
func jsonEscape(plain, text []byte) (_ []byte, n int) {
	if len(text) < 2 {
		return plain, open
	}
	if to, ok := shortEscapes[text[1]]; ok {
		return append(plain, to), 2
	}
	first, n := unit(text)
	if n <= 0 {
		return plain, n
	}
	if !utf16.IsSurrogate(first) {
		return utf8.AppendRune(plain, first), n
	}
	second, more := unit(text[n:])
	pair := utf16.DecodeRune(first, second)
	switch {
	case more == open:
		return plain, open
	case pair != utf8.RuneError:
		n += more
	}
	return utf8.AppendRune(plain, pair), n
}

var shortEscapes = map[byte]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// unit returns the code unit of UTF-16 that \uXXXX stands for.
func unit(text []byte) (r rune, n int) {
	switch {
	case len(text) > 0 && text[0] != '\\', len(text) > 1 && text[1] != 'u':
		return 0, 0
	case len(text) < 6:
		return 0, open
	}
	v, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return 0, 0
	}
	return rune(v), 6
}

// quotedPrintable resolves an escape of quoted-printable, or a soft line break (RFC 2045 6.7).
func quotedPrintable(plain, text []byte) (_ []byte, n int) {
	if plain, n = hexadecimal(plain, text, 1); n > 0 {
		return plain, n
	}
	end := 1
	for end < len(text) && (text[end] == ' ' || text[end] == '\t' || text[end] == '\r') {
		end++
	}
	switch {
	case end == len(text):
		return plain, open
	case text[end] == '\n':
		return plain, end + 1
	}
	return plain, n
}

// doubled is a step that makes one quote of two, as in a quoted cell of CSV (RFC 4180 2). Few texts
// have two.
type doubled struct{ *escapes }

func newDoubled() doubled { return doubled{newEscapes('"', doubledQuote)} }

// read implements step.
func (d doubled) read(piece []byte, last bool) (plain []byte, changed bool) {
	if len(d.begun) == 0 && !bytes.Contains(piece, []byte(`""`)) &&
		!bytes.HasSuffix(piece, []byte(`"`)) {
		return piece, false
	}
	return d.escapes.read(piece, last)
}

// doubledQuote resolves two quotes.
func doubledQuote(plain, text []byte) (_ []byte, n int) {
	switch {
	case len(text) < 2:
		return plain, open
	case text[1] == '"':
		return append(plain, '"'), 2
	}
	return plain, 0
}

// percentEncoded resolves an escape of URLs (RFC 3986 2.1).
func percentEncoded(plain, text []byte) (_ []byte, n int) { return hexadecimal(plain, text, 1) }

// hexadecimal resolves an escape that has two digits behind a prefix of some bytes.
func hexadecimal(plain, text []byte, prefix int) (_ []byte, n int) {
	if len(text) < prefix+2 {
		if len(text) > prefix && !isHex(text[prefix]) {
			return plain, 0
		}
		return plain, open
	}
	var c [1]byte
	if _, err := hex.Decode(c[:], text[prefix:prefix+2]); err != nil {
		return plain, 0
	}
	return append(plain, c[0]), prefix + 2
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

// utf7 resolves characters of UTF-7 (RFC 2152).
func utf7(plain, text []byte) (_ []byte, n int) {
	n = 1
	for n < len(text) && (naming[text[n]] || text[n] == '+' || text[n] == '/') {
		n++
	}
	switch {
	case n == len(text):
		return plain, open
	case n == 1 && text[n] == '-':
		return append(plain, '+'), 2
	}
	units, err := base64.RawStdEncoding.DecodeString(string(text[1:n]))
	if err != nil || len(units) < 2 {
		return plain, 0
	}
	var chars []uint16
	for at := 0; at+1 < len(units); at += 2 {
		chars = append(chars, binary.BigEndian.Uint16(units[at:]))
	}
	for _, c := range utf16.Decode(chars) {
		plain = utf8.AppendRune(plain, c)
	}
	if text[n] == '-' {
		n++
	}
	return plain, n
}

// maxHidden is the length of the longest escape of UTF-7 in a text that does not declare it.
const maxHidden = 64

// hiddenUTF7 resolves characters of UTF-7 that stand for ASCII: what is Base64 hardly does.
func hiddenUTF7(plain, text []byte) (_ []byte, n int) {
	before := len(plain)
	plain, n = utf7(plain, text[:min(len(text), maxHidden)])
	if n == open && len(text) >= maxHidden {
		return plain, 0
	}
	if slices.ContainsFunc(plain[before:], func(c byte) bool { return c < ' ' || c > '~' }) {
		return plain[:before], 0
	}
	return plain, n
}

// characterReference resolves a character reference of XML or HTML, unless it stands for a
// character of their syntax: elements remain what they are.
func characterReference(plain, text []byte) (_ []byte, n int) {
	before := len(plain)
	if plain, n = anyReference(plain, text); n > 0 && bytes.ContainsAny(plain[before:], "<>\"'") {
		return plain[:before], 0
	}
	return plain, n
}

// anyReference resolves a character reference of XML or HTML, whatever it stands for.
func anyReference(plain, text []byte) (_ []byte, n int) {
	n = 1
	if n < len(text) && text[n] == '#' {
		n++
	}
	for n < len(text) && isNaming(text[n]) {
		n++
	}
	switch {
	case n == len(text):
		return plain, open
	case text[n] == ';':
		n++
	}
	if c := syntaxReference(text[:n]); c != 0 {
		return append(plain, c), n
	}
	to := html.UnescapeString(string(text[:n]))
	if to == string(text[:n]) {
		return plain, 0
	}
	return append(plain, to...), n
}

// syntaxReference returns the character for which one of the references of XML stands that are
// most frequent in documents; 0 for any other reference.
func syntaxReference(reference []byte) (c byte) {
	switch string(reference) {
	case "&amp;":
		return '&'
	case "&lt;":
		return '<'
	case "&gt;":
		return '>'
	case "&quot;":
		return '"'
	}
	return 0
}

func isNaming(c byte) bool { return naming[c] }

// naming are the letters and digits of ASCII, and spaces its white space.
var naming, spaces = bytesThat(func(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}), bytesThat(func(c byte) bool {
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f'
})

// bytesThat returns a table of the bytes that something holds for.
func bytesThat(holds func(c byte) bool) (table [256]bool) {
	for c := range table {
		table[c] = holds(byte(c))
	}
	return table
}
