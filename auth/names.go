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

// Names are compared as people and browsers perceive them, not byte by byte. This file alone
// decides which names are equal: folded for accounts, alike for what people tell apart by
// looking.

// folded returns the form in which names of accounts are compared: without differences of case,
// width and composition (RFC 8265 3.3). For an invalid name it only converts to lower case, as
// earlier builds did.
func folded(name string) string {
	if out, err := precis.UsernameCaseMapped.String(name); err == nil {
		return out
	}
	return strings.ToLower(name)
}

// isUsername reports whether a name is valid for an account: letters, digits and the rest of
// ASCII (RFC 8265 3.3), displayed as it is. Names of dots alone are invalid: browsers and
// proxies remove such path segments (RFC 3986 5.2.4), even escaped ones, so that no route would
// reach the account, not even to remove it.
func isUsername(name string) bool {
	_, err := precis.UsernameCasePreserved.String(name)
	return err == nil && printable(name) && name != "." && name != ".."
}

// look is the visual appearance of a name. It ignores case, accents, spaces and punctuation, and
// the script of letters that look alike (Unicode Technical Standard 39, section 4).
type look []rune

// looks returns the looks of a name. There may be several: a capital letter can look like
// another letter than its small form, and a letter unlike its normalized form (the lunate sigma
// looks like c).
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

// drawn returns the looks of a name with characters that are shaped like Latin letters and read
// as such only among them ("Яecord"). They are compared with looks only, because readers of
// another script can tell two of its names apart.
func drawn(name string) []look {
	if other := shaped.Replace(name); other != name {
		return looks(other)
	}
	return nil
}

// near merges characters that look nearly the same, beyond UTS 39: i, l and 1 differ by a dot or
// a stroke, and vv equals w in many fonts.
var near = strings.NewReplacer("i", "l", "1", "l", "|", "l", "ı", "l", "vv", "w", "ĸ", "k", "ə",
	"e")

// shaped maps characters that are used in place of Latin letters for their shape, whatever they
// mean.
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

// stands maps a digit or symbol to the letters that it may replace. A digit replaces no other
// digit, so that names with different numbers stay distinct. A symbol may also count as nothing.
var stands = map[rune]string{
	'0': "o", '2': "zs", '3': "e", '4': "a", '5': "s", '6': "bg", '7': "t", '8': "b", '9': "gq",
	'$': "s", '§': "s", '@': "a", '£': "l", '¢': "c", '©': "c", '(': "c", '¥': "y", '₩': "w",
	'®': "r", '+': "t", '†': "t",
	'!': "l", '¡': "l", '×': "x", '*': "x", '°': "o", '&': "e",
}

// isSymbol reports whether a rune counts only in place of a letter.
func isSymbol(r rune) bool { return stands[r] != "" && !unicode.IsDigit(r) }

// like reports whether two looks may be confused: rune by rune, each of which may replace the
// other.
func (a look) like(b look) bool {
	if !slices.ContainsFunc(a, isCounted) || !slices.ContainsFunc(b, isCounted) {
		return slices.Equal(a, b)
	}
	// reached holds the lengths of prefixes of b that match the current prefix of a.
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

// skipped adds the prefixes of a look that are longer by symbols only.
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

// latinName matches the Unicode names of variants of Latin letters: small capital, turned,
// reversed, long, with hook, circled.
var latinName = regexp.MustCompile(
	`^(?:[A-Z]+ )*?(?:LATIN|REGIONAL INDICATOR SYMBOL)(?: CAPITAL| SMALL)? LETTER(?: [A-Z-]+)*? ` +
		`([A-Z])(?: WITH .*)?$`)

// latinised replaces each variant of a Latin letter by the letter.
func latinised(text string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf || r == 'ʌ' || r == 'Ʌ' { // they look like A, and are in shaped
			return r
		}
		name := latinName.FindStringSubmatch(runenames.Name(r))
		if name == nil {
			return r
		}
		return rune(name[1][0]) | 0x20 // in lower case
	}, text)
}

// plain removes differences of case and of compatibility forms.
func plain(text string) string {
	return norm.NFKC.String(cases.Fold().String(norm.NFKC.String(text)))
}

// bare removes accents, spaces and punctuation. If nothing is left, it returns the text without
// spaces.
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

// SameName reports whether two names denote the same account.
func SameName(a, b string) bool { return folded(a) == folded(b) }

// alike reports whether two names are easily confused.
func alike(a, b string) bool { return seenAs(a).like(seenAs(b)) }

// seen holds the looks by which a name is compared.
type seen struct{ looks, drawn []look }

func seenAs(name string) seen { return seen{looks(name), drawn(name)} }

func (a seen) like(b seen) bool {
	return anyLike(a.looks, b.looks) || anyLike(a.drawn, b.looks) || anyLike(a.looks, b.drawn)
}

func anyLike(a, b []look) bool {
	return slices.ContainsFunc(a, func(one look) bool { return slices.ContainsFunc(b, one.like) })
}
