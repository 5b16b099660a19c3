package fhir

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// undivided maps letters with marks that Unicode does not decompose, and apostrophe-like
// characters that are not punctuation.
var undivided = strings.NewReplacer(
	"ø", "o", "ł", "l", "đ", "d", "ħ", "h", "ŧ", "t", "ı", "i", "æ", "ae", "œ", "oe", "þ", "th",
	"ð", "d",
	"`", "", "ʼ", "", "ʻ", "",
)

// Fold converts a text to the form in which R4 compares strings: without case, accents,
// punctuation and redundant white space (https://hl7.org/fhir/R4/search.html#string).
func Fold(s string) string {
	s = strings.ToLower(s)
	if strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf || r == '`' }) {
		s = undivided.Replace(norm.NFKD.String(cases.Fold().String(norm.NFKD.String(s))))
	}
	var b strings.Builder
	b.Grow(len(s))
	space := false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
		case unicode.Is(unicode.Mn, r), unicode.IsPunct(r), unicode.IsControl(r):
		default:
			if space {
				b.WriteByte(' ')
			}
			space = false
			b.WriteRune(r)
		}
	}
	return b.String()
}
