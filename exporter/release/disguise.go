package release

import (
	"bytes"
	"encoding/binary"
	"html"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// An id, number or code may be disguised: by HTML character references in a narrative (&#110;),
// by percent-encoding (B%32%30), by invisible characters (a zero-width space), or by characters
// that look like ASCII to a reader (full-width letters). Few texts contain any of these, so the
// decoded text is checked in addition to the text itself.

// isDisguised reports whether a text, or a line, contains encoded or look-alike characters.
func isDisguised(text []byte) bool {
	return hasEscapedNames(text) || holdsCharacterReference(text) || holdsHidingRune(text)
}

// mayHide reports whether a text with these marks may be disguised.
func (m marks) mayHide() bool { return m&(percentMark|disguiseMark) != 0 }

// revealed returns a text without disguises, including nested ones. Invalid escapes remain.
func revealed(text []byte) []byte {
	for range 4 {
		plain := unescapedOnce(text)
		if holdsCharacterReference(plain) {
			plain = []byte(html.UnescapeString(string(plain)))
		}
		if holdsHidingRune(plain) {
			plain = []byte(strings.Map(seenRune, norm.NFKC.String(string(plain))))
		}
		if bytes.Equal(plain, text) {
			break
		}
		text = plain
	}
	return text
}

// undisguised decodes the character references and percent-encoding of a code. The tables handle
// look-alike letters. is reports whether there was anything to decode.
func undisguised(code []byte) (plain []byte, is bool) {
	if bytes.IndexByte(code, '%') < 0 && bytes.IndexByte(code, '&') < 0 {
		return nil, false
	}
	plain = revealed(code)
	return plain, !bytes.Equal(plain, code)
}

// holdsCharacterReference reports whether a text may contain an HTML character reference other
// than those common in narratives.
func holdsCharacterReference(text []byte) bool {
	for {
		at := bytes.IndexByte(text, '&')
		if at < 0 {
			return false
		}
		text = text[at+1:]
		name, after, ended := bytes.Cut(text[:min(len(text), longestReference)], []byte(";"))
		switch {
		case len(name) > 1 && name[0] == '#' && (isDigit(name[1]) || name[1]|0x20 == 'x'):
			return true
		case !ended:
		case string(name) == "amp":
			if len(after) > 0 && (after[0] == '#' || alphanumeric(after[0])) &&
				bytes.IndexByte(after, ';') >= 0 {
				return true
			}
		case !plainReferences[string(name)] && bytes.IndexFunc(name, outOfID) < 0 && len(name) > 0:
			return true
		}
	}
}

// longestReference is the maximum length of a character reference's name, including the
// semicolon.
const longestReference = 33

// plainReferences are names of characters that never occur in an id.
var plainReferences = map[string]bool{
	"lt":   true,
	"gt":   true,
	"quot": true,
	"apos": true,
	"nbsp": true,
}

// holdsHidingRune reports whether a text contains a character that is invisible or looks like an
// ASCII character.
func holdsHidingRune(text []byte) bool {
	for {
		at := indexWide(text)
		if at < 0 {
			return false
		}
		r, n := utf8.DecodeRune(text[at:])
		if hides(r) {
			return true
		}
		text = text[at+n:]
	}
}

// indexWide returns the index of the first non-ASCII byte, or -1.
func indexWide(text []byte) int {
	at := 0
	for ; at+16 <= len(text); at += 16 {
		if (binary.LittleEndian.Uint64(text[at:])|binary.LittleEndian.Uint64(text[at+8:]))&
			highBits != 0 {
			break
		}
	}
	for ; at < len(text); at++ {
		if text[at] >= utf8.RuneSelf {
			return at
		}
	}
	return -1
}

// hides reports whether a character is invisible or stands for an ASCII character by Unicode's
// compatibility mapping.
func hides(r rune) bool {
	switch {
	case r == utf8.RuneError:
		return false
	case r <= 0xffff:
		return hiding().has(uint16(r))
	}
	return isUnseen(r) || seen(r) != r
}

// hiding is the set of such characters up to U+FFFF.
var hiding = sync.OnceValue(func() *bitmap {
	b := &bitmap{}
	for r := rune(utf8.RuneSelf); r <= 0xffff; r++ {
		if isUnseen(r) || seen(r) != r {
			b.add(uint16(r))
		}
	}
	return b
})

// seen returns the ASCII letter, digit or id character that a character stands for, or the
// character itself if there is none.
func seen(r rune) rune {
	if r == '\u2010' || r == '\u2011' {
		return '-'
	}
	for _, c := range norm.NFKC.String(string(r)) {
		if c < utf8.RuneSelf && (alphanumeric(byte(c)) || c == '-' || c == '/') {
			return c
		}
	}
	return r
}

// seenRune returns the replacement of a character in a text; -1 removes it.
func seenRune(r rune) rune {
	switch {
	case r < utf8.RuneSelf:
		return r
	case isUnseen(r):
		return -1
	case r == '\u2010':
		return '-'
	}
	return r
}

// isUnseen reports whether a character is invisible and takes no visible space.
func isUnseen(r rune) bool {
	switch r {
	case 0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x180b, 0x180c, 0x180d, 0x180f, 0x2800, 0x3164,
		0xffa0:
		return true
	}
	return r >= 0xfe00 && r <= 0xfe0f || r >= 0xe0100 && r <= 0xe01ef || unicode.Is(unicode.Cf, r)
}
