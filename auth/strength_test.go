package auth

import (
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A password is rejected if guessers try it early: from lists, words, keyboard patterns, dates,
// or the name of its account. Otherwise it is accepted, whatever its characters are.
func TestPasswordsThatAreEasyToGuessAreRefused(t *testing.T) {
	for _, weak := range []string{
		"password1234",
		"Password1234!",
		"123456789012",
		"qwertyuiop12",
		"admin-password",
		"aaaaaaaaaaaa",
		"abcdefghijkl",
		"iloveyouiloveyou",
		"letmeinletmein",
		"1q2w3e4r5t6y",
		"P@ssw0rdP@ssw0rd",
		"barbara.miller",
		"barbara.miller1",
		"пароль",
		"парольпароль",
		"пароль-пароль",
		"пароль пароль.пароль",
		"привет",
		"密码密码",
		"😀😀😀",
		"😀😀😀😀😀😀😀😀😀😀😀😀",
		"éééééé",
		"éééééééééééé",
		"königkönig",
		"contraseña12",
		"ContraseñaContraseña",
		"barbaramiller1", "Localhost18443!",
		"short", strings.Repeat("a", MaxPassword), strings.Repeat("x", MaxPassword+1),
	} {
		if CheckPassword(weak, "barbara.miller", "localhost", "18443") == nil {
			t.Errorf("%q is taken", weak)
		}
	}
	for _, strong := range []string{
		"four plain words here",
		"correct horse battery staple",
		"kT7#vq!9Lw2x",
		"zwölf Boxkämpfer jagen",
		"雪が降る静かな夜の道を歩く",
		"синий трактор едет в горы",
		strings.Repeat("kT7#vq!9Lw2x ", 70),
	} {
		if err := CheckPassword(strong, "barbara.miller"); err != nil {
			t.Errorf("%q: %v", strong, err)
		}
	}
}

// Every sequence of bytes gets an answer.
func FuzzCheckPassword(f *testing.F) {
	for _, seed := range []string{
		"", "four plain words here", "2001-02-29 qwertz", "\xff\xfe12345678901", "雪が降る静かな夜の道",
	} {
		f.Add(seed, "ann")
	}
	f.Fuzz(func(t *testing.T, password, account string) {
		err := CheckPassword(password, account)
		if (utf8.RuneCountInString(norm.NFKC.String(password)) < MinPassword ||
			len(password) > MaxPassword) && err == nil {
			t.Errorf("%q is taken", password)
		}
	})
}
