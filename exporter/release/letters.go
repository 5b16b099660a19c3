package release

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// folded is a code or the name of a system in the letters and digits that stand in tables:
// full-width, circled and the like are those (Unicode's compatibility decomposition), and so are
// letters of other scripts that look like them, and the digits of all scripts. Marks and what
// cannot be seen count for nothing.
func folded[T string | []byte](text T) T {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return T(strings.Map(plainLetter, norm.NFKD.String(string(text))))
		}
	}
	return text
}

// plainLetter is the letter or digit of ASCII that one looks like, or is; -1 for what does not
// count.
func plainLetter(r rune) rune {
	if r < 0x80 {
		return r
	}
	if plain, is := lookAlikes[r]; is {
		return plain
	}
	if plain, is := lookAlikes[unicode.ToUpper(r)]; is {
		return plain
	}
	switch {
	case unicode.Is(unicode.Mn, r), isUnseen(r):
		return -1
	case unicode.Is(unicode.Nd, r):
		return digitOf(r)
	}
	return r
}

// digitOf is a decimal digit of some script: Unicode has those of each together, from zero on.
func digitOf(r rune) rune {
	for _, in := range unicode.Nd.R16 {
		if r >= rune(in.Lo) && r <= rune(in.Hi) {
			return '0' + (r-rune(in.Lo))%10
		}
	}
	for _, in := range unicode.Nd.R32 {
		if r >= rune(in.Lo) && r <= rune(in.Hi) {
			return '0' + (r-rune(in.Lo))%10
		}
	}
	return r
}

// lookAlikes are letters of Cyrillic and Greek by what Unicode's table of confusable characters
// (UTS 39, confusables.txt) says that they look like. A small letter looks like its capital one
// or has a place of its own: codes count in any case.
var lookAlikes = func() map[rune]rune {
	m := map[rune]rune{}
	for _, script := range [][2]string{
		{"АВСЕНІЈКМОРЅТХҮУԌԚԜҺӀӏԁѴгЗӠбЬѡҽ", "ABCEHIJKMOPSTXYYGQWHIIDVR336BWE"},
		{"ΑΒΕΖΗΙͿΚΜϺΝΟσΡϱΤΥϒΧϜϹϲνγϨ", "ABEZHIJKMMNOOPPTYYXFCCVY2"},
	} {
		plain := []rune(script[1])
		for i, r := range []rune(script[0]) {
			m[r] = plain[i]
		}
	}
	return m
}()
