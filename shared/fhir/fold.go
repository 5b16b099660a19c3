package fhir

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// undivided are letters with marks that Unicode does not take apart.
var undivided = strings.NewReplacer("ø", "o", "ł", "l", "đ", "d", "ħ", "h", "ŧ", "t", "ı", "i", "æ", "ae", "œ", "oe", "þ", "th", "ð", "d")

// Fold brings a text into the form in which R4 compares strings: without case, accents, punctuation and needless white space
// (https://hl7.org/fhir/R4/search.html#string).
func Fold(s string) string {
	var b strings.Builder
	space := false
	for _, r := range undivided.Replace(cases.Fold().String(norm.NFKD.String(s))) {
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
