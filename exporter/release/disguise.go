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

// An id, a number or a code may be disguised: by character references of a narrative (&#110;), by
// percent-encoding (B%32%30), by what cannot be seen within it (a space of no width), by forms of
// letters that are ASCII's to who reads them (full-width ones). Few texts hold any of that: what it
// stands for is looked at beside the text itself.

// isDisguised reports whether something of a text, or of a line, stands for other characters.
func isDisguised(text []byte) bool {
	return hasEscapedNames(text) || holdsCharacterReference(text) || holdsHidingRune(text)
}

// mayHide reports whether that may be so of a text with certain marks.
func (m marks) mayHide() bool { return m&(percentMark|disguiseMark) != 0 }

// revealed is a text without disguise, as often as it was disguised. What is no escape stays as it
// is.
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

// undisguised is a code without character references and percent-encoding: the tables take care of
// the letters themselves. is reports whether it had some.
func undisguised(code []byte) (plain []byte, is bool) {
	if bytes.IndexByte(code, '%') < 0 && bytes.IndexByte(code, '&') < 0 {
		return nil, false
	}
	plain = revealed(code)
	return plain, !bytes.Equal(plain, code)
}

// holdsCharacterReference reports whether a text may hold a character reference of HTML besides
// those that every narrative has.
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

// longestReference is how long the names of character references are at most, with what ends them.
const longestReference = 33

// plainReferences are names of characters that stand in no id.
var plainReferences = map[string]bool{
	"lt":   true,
	"gt":   true,
	"quot": true,
	"apos": true,
	"nbsp": true,
}

// holdsHidingRune reports whether a text holds a character that cannot be seen, or that stands for
// one of ASCII.
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

// indexWide is where the first byte stands that is not ASCII's; -1 where there is none.
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

// hides reports whether a character cannot be seen, or stands for one of ASCII (Unicode's
// compatibility mapping).
func hides(r rune) bool {
	switch {
	case r == utf8.RuneError:
		return false
	case r <= 0xffff:
		return hiding().has(uint16(r))
	}
	return isUnseen(r) || seen(r) != r
}

// hiding are those of 16 bits.
var hiding = sync.OnceValue(func() *bitmap {
	b := &bitmap{}
	for r := rune(utf8.RuneSelf); r <= 0xffff; r++ {
		if isUnseen(r) || seen(r) != r {
			b.add(uint16(r))
		}
	}
	return b
})

// seen is the first letter or digit of ASCII, or sign of an id, that a character stands for; itself
// where it stands for none.
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

// seenRune is what is left of a character in a text; -1 for nothing.
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

// isUnseen reports whether a character shows nothing and takes no space that is seen as one.
func isUnseen(r rune) bool {
	switch r {
	case 0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x180b, 0x180c, 0x180d, 0x180f, 0x2800, 0x3164,
		0xffa0:
		return true
	}
	return r >= 0xfe00 && r <= 0xfe0f || r >= 0xe0100 && r <= 0xe01ef || unicode.Is(unicode.Cf, r)
}
