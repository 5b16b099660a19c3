package auth

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mtibben/confusables"
	"golang.org/x/text/cases"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/unicode/runenames"
)

// Names are compared as people and browsers mean them, not by their bytes. This file alone
// decides which names are one: folded for accounts, and alike for what people tell apart by
// looking.

// folded is the form in which names of accounts are one: without difference of case, of width,
// and of composed and decomposed letters (RFC 8265 3.3). A name that no account may have is
// merely in lower case, as accounts of earlier builds were kept.
func folded(name string) string {
	if out, err := precis.UsernameCaseMapped.String(name); err == nil {
		return out
	}
	return strings.ToLower(name)
}

// isUsername reports whether an account may have a name: letters, digits and what ASCII has
// besides (RFC 8265 3.3), as it is shown. Dots alone are a part of a path that browsers, proxies
// and programs leave out (RFC 3986 5.2.4), however it is escaped: no route would lead to such an
// account, not even to remove it.
func isUsername(name string) bool {
	_, err := precis.UsernameCasePreserved.String(name)
	return err == nil && printable(name) && name != "." && name != ".."
}

// look is what a name is to somebody who looks at it. Case, accents, spaces and punctuation do
// not count, nor of which script a letter is that looks like another one (Unicode Technical
// Standard 39, section 4).
type look []rune

// looks are those of a name. A capital can look like a letter that its small form does not, and
// a letter like none that it stands for (the lunate sigma is a c to look at, and a sigma in a
// normalized text), so that there are several.
func looks(name string) (out []look) {
	for _, form := range []string{plain(name), norm.NFKC.String(name), name} {
		shape := confusables.Skeleton(latinised(form))
		one := look(near.Replace(bare(plain(latinised(shape)))))
		if !slices.ContainsFunc(out, func(l look) bool { return slices.Equal(l, one) }) {
			out = append(out, one)
		}
	}
	return out
}

// drawn are the looks of a name with letters and signs that are shaped like Latin ones, and read
// as them only among them ("Яecord"). They are compared with looks alone: two names of another
// script are told apart by those who read it.
func drawn(name string) []look {
	if other := shaped.Replace(name); other != name {
		return looks(other)
	}
	return nil
}

// near makes one of what is nearly of one form, beside UTS 39: i, l and 1 differ by a dot or a
// stroke, vv and w by nothing in many fonts.
var near = strings.NewReplacer("i", "l", "1", "l", "|", "l", "ı", "l", "vv", "w", "ĸ", "k", "ə",
	"e")

// shaped are letters and signs that are put in place of Latin ones for their shape, whatever
// they stand for.
var shaped = strings.NewReplacer(
	"Я", "R", "я", "r", "И", "N", "и", "n", "Э", "E", "э", "e", "Є", "E", "є", "e", "Ш", "W", "ш",
	"w", "Щ", "W", "щ", "w",
	"Ц", "U", "ц", "u", "Џ", "U", "џ", "u", "Д", "A", "д", "a", "Ч", "Y", "ч", "y", "Б", "B", "Ъ",
	"B", "ъ", "b", "З", "E", "з", "e",
	"Λ", "A", "λ", "a", "Δ", "A", "δ", "d", "Σ", "E", "σ", "o", "Ξ", "E", "ξ", "e", "Π", "N", "π",
	"n", "Ω", "O", "ω", "w", "Φ", "O", "φ", "o",
	"Ψ", "Y", "ψ", "y", "ε", "e", "μ", "u", "β", "b", "χ", "x", "τ", "t", "η", "n", "θ", "o", "ʌ",
	"A", "Ʌ", "A", "ß", "B",
	"Ƨ", "S", "ƨ", "s", "ɔ", "c", "Ɔ", "C", "∆", "A", "∑", "E", "∩", "n", "∪", "u", "∂", "d", "€",
	"E",
)

// stands are the letters that a digit or a symbol is put in place of. A digit stands for no
// other digit, so that names that differ by a number are told apart. A symbol may also stand for
// nothing.
var stands = map[rune]string{
	'0': "o", '2': "zs", '3': "e", '4': "a", '5': "s", '6': "bg", '7': "t", '8': "b", '9': "gq",
	'$': "s", '§': "s", '@': "a", '£': "l", '¢': "c", '©': "c", '(': "c", '¥': "y", '₩': "w",
	'®': "r", '+': "t", '†': "t",
	'!': "l", '¡': "l", '×': "x", '*': "x", '°': "o", '&': "e",
}

// isSymbol reports whether a rune counts only where it stands for a letter.
func isSymbol(r rune) bool { return stands[r] != "" && !unicode.IsDigit(r) }

// like reports whether two looks are taken for each other: rune by rune, each of which may stand
// for the other.
func (a look) like(b look) bool {
	if !slices.ContainsFunc(a, isCounted) || !slices.ContainsFunc(b, isCounted) {
		return slices.Equal(a, b)
	}
	// reached are the beginnings of b that the beginning of a up to here is like.
	reached := skipped(b, map[int]bool{0: true})
	for _, r := range a {
		next := map[int]bool{}
		for at := range reached {
			if isSymbol(r) {
				next[at] = true
			}
			if at < len(b) && sameShape(r, b[at]) {
				next[at+1] = true
			}
		}
		if reached = skipped(b, next); len(reached) == 0 {
			return false
		}
	}
	return reached[len(b)]
}

// skipped adds to beginnings of a look those that are longer by symbols.
func skipped(b look, reached map[int]bool) map[int]bool {
	for at := range b {
		if reached[at] && isSymbol(b[at]) {
			reached[at+1] = true
		}
	}
	return reached
}

func isCounted(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

func sameShape(a, b rune) bool {
	return a == b || strings.ContainsRune(stands[a], b) || strings.ContainsRune(stands[b], a)
}

// latinName is what Unicode calls a variety of a Latin letter: small capitals, turned, reversed,
// long, with a hook, in a circle.
var latinName = regexp.MustCompile(
	`^(?:[A-Z]+ )*?(?:LATIN|REGIONAL INDICATOR SYMBOL)(?: CAPITAL| SMALL)? LETTER(?: [A-Z-]+)*? ` +
		`([A-Z])(?: WITH .*)?$`)

// latinised is a text with each variety of a Latin letter as the letter itself.
func latinised(text string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf || r == 'ʌ' || r == 'Ʌ' { // which look like an A, and are shaped
			return r
		}
		name := latinName.FindStringSubmatch(runenames.Name(r))
		if name == nil {
			return r
		}
		return rune(name[1][0]) | 0x20 // in lower case
	}, text)
}

// plain is a text without differences of case, and of forms of a letter for old character sets.
func plain(text string) string {
	return norm.NFKC.String(cases.Fold().String(norm.NFKC.String(text)))
}

// bare is a text without accents, spaces and punctuation; the text itself, without its spaces,
// where that leaves nothing.
func bare(text string) string {
	text = strings.Join(strings.Fields(norm.NFKD.String(text)), "")
	letters := strings.Map(func(r rune) rune {
		if !isCounted(r) && !isSymbol(r) {
			return -1
		}
		return r
	}, text)
	if letters == "" {
		return text
	}
	return letters
}

// SameName reports whether two names are one to accounts.
func SameName(a, b string) bool { return folded(a) == folded(b) }

// alike reports whether two names are easily taken for each other.
func alike(a, b string) bool { return seenAs(a).like(seenAs(b)) }

// seen is what a name is compared by.
type seen struct{ looks, drawn []look }

func seenAs(name string) seen { return seen{looks(name), drawn(name)} }

func (a seen) like(b seen) bool {
	return anyLike(a.looks, b.looks) || anyLike(a.drawn, b.looks) || anyLike(a.looks, b.drawn)
}

func anyLike(a, b []look) bool {
	return slices.ContainsFunc(a, func(one look) bool { return slices.ContainsFunc(b, one.like) })
}
