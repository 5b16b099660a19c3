package auth

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mtibben/confusables"
	"golang.org/x/text/cases"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

// Names are compared as people and browsers mean them, not by their bytes. This file alone decides which
// names are one: folded for accounts, and alike for what people tell apart by looking.

// folded is the form in which names of accounts are one: without difference of case, of width, and of
// composed and decomposed letters (RFC 8265 3.3). A name that no account may have is merely in lower
// case, as accounts of earlier builds were kept.
func folded(name string) string {
	if out, err := precis.UsernameCaseMapped.String(name); err == nil {
		return out
	}
	return strings.ToLower(name)
}

// isUsername reports whether an account may have a name: letters, digits and what ASCII has besides
// (RFC 8265 3.3), as it is shown.
func isUsername(name string) bool {
	_, err := precis.UsernameCasePreserved.String(name)
	return err == nil && printable(name)
}

// looks are what a name is to somebody who looks at it: two names with a look in common are easily taken
// for each other. Case, accents, spaces and punctuation do not count, nor of which script a letter is
// that looks like another one (Unicode Technical Standard 39, section 4). A capital can look like a letter
// that its small form does not, and a letter like none that it stands for (the lunate sigma is a c to look
// at, and a sigma in a normalized text), so that there are several looks.
func looks(name string) (out []string) {
	for _, form := range []string{plain(name), norm.NFKC.String(name), name} {
		out = append(out, strings.Map(near, bare(plain(confusables.Skeleton(strings.Map(small, form))))))
	}
	return out
}

// small is the small letter that a small capital, a letter of its own to Unicode, looks like.
func small(r rune) rune {
	if at := strings.IndexRune(smallCapitals, r); at >= 0 {
		return rune(smallLetters[utf8.RuneCountInString(smallCapitals[:at])])
	}
	return r
}

// near is the letter that stands for all that are nearly of its form, beside those of UTS 39: i, l and 1
// differ by a dot or a stroke.
func near(r rune) rune {
	switch r {
	case 'i', '1', '|', 'ı':
		return 'l'
	}
	return r
}

const (
	smallCapitals = "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ"
	smallLetters  = "abcdefghijklmnopqrstuvwyz"
)

// plain is a text without differences of case, and of forms of a letter for old character sets.
func plain(text string) string {
	return norm.NFKC.String(cases.Fold().String(norm.NFKC.String(text)))
}

// bare is a text without accents, spaces and punctuation; the text itself, without its spaces, where that
// leaves nothing.
func bare(text string) string {
	text = strings.Join(strings.Fields(norm.NFKD.String(text)), "")
	letters := strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
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
func alike(a, b string) bool {
	of := looks(b)
	return slices.ContainsFunc(looks(a), func(look string) bool { return slices.Contains(of, look) })
}
