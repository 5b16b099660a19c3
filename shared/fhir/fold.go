package fhir

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// undivided are letters with marks that Unicode does not take apart, and characters that are
// written for an apostrophe and are no punctuation.
var undivided = strings.NewReplacer(
	"ø", "o", "ł", "l", "đ", "d", "ħ", "h", "ŧ", "t", "ı", "i", "æ", "ae", "œ", "oe", "þ", "th",
	"ð", "d",
	"`", "", "ʼ", "", "ʻ", "",
)

// Fold brings a text into the form in which R4 compares strings: without case, accents,
// punctuation and needless white space (https://hl7.org/fhir/R4/search.html#string).
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
