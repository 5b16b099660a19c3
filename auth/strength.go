package auth

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go"
	"golang.org/x/text/unicode/norm"

	"ehi-server/shared/ehi"
)

// leastScore is the lowest score of zxcvbn, from 0 to 4, that a password may have: more than
// 10^8 guesses by who knows how people choose them.
const leastScore = 3

// scoredLength is how much of a password is scored, in bytes: what is longer is no weaker, and
// scoring takes more than twice as long for twice as much.
const scoredLength = 64

// leastDistinct is how many different characters a password has at least.
const leastDistinct = 6

// CheckPassword says what is wrong with a new password of an account, if anything: ehi.Invalid.
// It scores it as guessers would work: lists of common passwords, words and names, also of the
// account itself and the given known words, dates, keyboard patterns, repetitions and sequences.
// The lists are of Latin letters without marks: what is written otherwise is scored as it would
// be in these, too.
func CheckPassword(password, account string, known ...string) error {
	text := norm.NFKC.String(strings.ToValidUTF8(password, ""))
	if utf8.RuneCountInString(text) < MinPassword || len(password) > MaxPassword {
		return ehi.Errorf(ehi.Invalid,
			"A password has at least %d characters, and at most %d bytes", MinPassword, MaxPassword)
	}
	inputs := append(append(wordsOf(account), account, "ehi", "export", "server"), known...)
	spellings := []string{text, withoutMarks(text), onLatinKeys(text)}
	for _, spelling := range spellings {
		spelling = onceOf(withoutRepetition(spelling))
		if distinct(spelling) < leastDistinct ||
			zxcvbn.PasswordStrength(start(spelling), inputs).Score < leastScore {
			return ehi.Errorf(ehi.Invalid,
				"This password is easy to guess. Use several unrelated words, or a password "+
					"manager")
		}
	}
	return nil
}

// start is as much of a password as is scored, whole characters.
func start(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), scoredLength)], "")
}

// wordsOf are the parts of a name, of letters and digits.
func wordsOf(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

// withoutMarks leaves out accents and the like: contraseña becomes contrasena.
func withoutMarks(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFKD.String(text))
}

// The keys of the Russian layout, and what they are in the American one.
var latinKeys = func() map[rune]rune {
	out := map[rune]rune{}
	latin := []rune("qwertyuiop[]asdfghjkl;'zxcvbnm,.`")
	for i, r := range []rune("йцукенгшщзхъфывапролджэячсмитьбюё") {
		out[r] = latin[i]
	}
	return out
}()

// onLatinKeys is what the same keys type in the American layout: lists of common passwords have
// Russian words so.
func onLatinKeys(text string) string {
	return strings.Map(func(r rune) rune {
		if latin, found := latinKeys[unicode.ToLower(r)]; found {
			return latin
		}
		return r
	}, text)
}

// onceOf is what a text is a repetition of, and the text itself where it is of nothing.
func onceOf(text string) string {
	if at := strings.Index((text + text)[min(1, len(text)):], text) + 1; at > 0 && at < len(text) {
		return text[:at]
	}
	return text
}

// withoutRepetition is the word that a text repeats with anything between that is no letter or
// digit, and the text itself where it does not.
func withoutRepetition(text string) string {
	words := wordsOf(text)
	for _, w := range words {
		if w != words[0] {
			return text
		}
	}
	if len(words) < 2 {
		return text
	}
	return words[0]
}

func distinct(text string) int {
	seen := map[rune]bool{}
	for _, r := range text {
		seen[r] = true
	}
	return len(seen)
}
