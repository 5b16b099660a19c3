package release

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// folded maps a code or the name of a system to the letters and digits used in the tables. It
// replaces full-width, circled and similar characters (Unicode's compatibility decomposition),
// look-alike letters of other scripts, and the digits of all scripts. It drops marks and
// invisible characters.
func folded[T string | []byte](text T) T {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return T(strings.Map(plainLetter, norm.NFKD.String(string(text))))
		}
	}
	return text
}

// plainLetter returns the ASCII letter or digit that a character is or looks like, or -1 for one
// to drop.
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

// digitOf returns the value of a decimal digit of any script. Unicode has the digits of a script
// in order, starting with zero.
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

// lookAlikes maps Cyrillic and Greek letters to the ASCII characters that Unicode's table of
// confusable characters (UTS 39, confusables.txt) lists for them. A small letter looks like its
// capital letter or has an entry of its own; case does not matter in codes.
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
