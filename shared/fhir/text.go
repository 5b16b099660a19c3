package fhir

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// BOM is the byte order mark that some systems write before UTF-8. It is not part of the text.
var BOM = []byte("\ufeff")

// CheckText returns the first offset at which a JSON document is not valid Unicode text: bytes
// that are not UTF-8 (RFC 8259, 8.1), or an unpaired surrogate escape, which is no character
// (8.2) and which readers reject or replace. why is "" if the whole document is valid. Escaped
// control characters such as \u0000 are valid: FHIR R4 only says that strings SHOULD NOT contain
// them.
func CheckText(doc []byte) (at int, why string) {
	if !utf8.Valid(doc) {
		at := invalidAt(doc)
		return at, fmt.Sprintf("invalid UTF-8 at byte %d (0x%02x)", at+1, doc[at])
	}
	for from := 0; ; {
		n := bytes.IndexByte(doc[from:], '\\')
		if n < 0 {
			return 0, ""
		}
		at, from = from+n, from+n+2 // after the escaped character
		switch unit := utf16Unit(doc[at:]); {
		case unit < 0xd800 || unit > 0xdfff:
		case unit < 0xdc00 && isLow(doc, at+6):
			from = at + 12
		default:
			return at, fmt.Sprintf(`half a surrogate pair at byte %d (\u%04x)`, at+1, unit)
		}
		from = min(from, len(doc))
	}
}

// invalidAt returns the offset of the first byte that is not part of a character.
func invalidAt(doc []byte) int {
	for at := 0; at < len(doc); {
		r, n := utf8.DecodeRune(doc[at:])
		if r == utf8.RuneError && n == 1 {
			return at
		}
		at += n
	}
	return len(doc)
}

// isLow reports whether the low half of a surrogate pair is escaped at an offset.
func isLow(doc []byte, at int) bool {
	if at >= len(doc) {
		return false
	}
	unit := utf16Unit(doc[at:])
	return unit >= 0xdc00 && unit <= 0xdfff
}

// utf16Unit parses \uXXXX at the start of p, and returns -1 for anything else.
func utf16Unit(p []byte) int {
	if len(p) < 6 || p[0] != '\\' || p[1] != 'u' {
		return -1
	}
	unit := 0
	for _, b := range p[2:6] {
		digit := bytes.IndexByte([]byte("0123456789abcdef"), b|0x20)
		if b < '0' || digit < 0 {
			return -1
		}
		unit = unit<<4 | digit
	}
	return unit
}
