package auth

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go"
	"golang.org/x/text/unicode/norm"

	"ehi-server/shared/ehi"
)

// leastScore is the lowest zxcvbn score of a valid password, from 0 to 4: more than 10^8 guesses
// by somebody who knows how people choose passwords.
const leastScore = 3

// scoredLength is how many bytes of a password are scored. A longer password is not weaker, and
// scoring takes more than linear time.
const scoredLength = 64

// leastDistinct is how many different characters a password must have.
const leastDistinct = 6

// CheckPassword returns ehi.Invalid with the reason if a new password is too weak. It estimates
// guesses from lists of common passwords, words and names, including those of the account and
// the words in known, and from dates, keyboard patterns, repetitions and sequences. The lists
// contain unaccented Latin letters; other passwords are also scored in a transcription.
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

// start returns the scored part of a password, in whole characters.
func start(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), scoredLength)], "")
}

// wordsOf splits a name into parts of letters and digits.
func wordsOf(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

// withoutMarks removes accents: contraseña becomes contrasena.
func withoutMarks(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFKD.String(text))
}

// The keys of the Russian layout, and their characters in the American layout.
var latinKeys = func() map[rune]rune {
	out := map[rune]rune{}
	latin := []rune("qwertyuiop[]asdfghjkl;'zxcvbnm,.`")
	for i, r := range []rune("йцукенгшщзхъфывапролджэячсмитьбюё") {
		out[r] = latin[i]
	}
	return out
}()

// onLatinKeys returns what the same keys type in the American layout: lists of common passwords
// contain Russian words in this form.
func onLatinKeys(text string) string {
	return strings.Map(func(r rune) rune {
		if latin, found := latinKeys[unicode.ToLower(r)]; found {
			return latin
		}
		return r
	}, text)
}

// onceOf returns the unit that a text repeats, or the text itself.
func onceOf(text string) string {
	if at := strings.Index((text + text)[min(1, len(text)):], text) + 1; at > 0 && at < len(text) {
		return text[:at]
	}
	return text
}

// withoutRepetition returns the word that a text repeats with separators other than letters and
// digits, or the text itself.
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
