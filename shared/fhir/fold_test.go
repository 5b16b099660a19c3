package fhir_test

import (
	"testing"

	"ehi-server/shared/fhir"
)

// R4, search.html#string: case, accents, punctuation and needless white space do not count.
func TestFold(t *testing.T) {
	for text, want := range map[string]string{
		"Müller":          "muller",
		"MU\u0308LLER":    "muller",
		"Straße":          "strasse",
		"O'Brien-Lee":     "obrienlee",
		"  Ana \t María ": "ana maria",
		"Łukasz Øst":      "lukasz ost",
		"ΣΊΣΥΦΟΣ":         "σισυφοσ",
		"Nguyễn":          "nguyen", "ﬁn": "fin", "山田": "山田", "...": "", "Иван": "иван",
		"Pat O’Brien": "pat obrien",
		"O`Neil":      "oneil",
		"Oʼahu":       "oahu",
		"İzmir":       "izmir",
		"Groß":        "gross",
		"ŉ":           "n",
		"\xff":        "\ufffd",
	} {
		if got := fhir.Fold(text); got != want {
			t.Errorf("Fold(%q) = %q, want %q", text, got, want)
		}
		if again := fhir.Fold(want); again != want {
			t.Errorf("Fold(%q) = %q", want, again)
		}
	}
}

// Any text is folded, and a folded text is its own form: what is stored folded is found by it.
func FuzzFold(f *testing.F) {
	for _, text := range []string{
		"Núñez, Ana", "ß", "\xff", "İ", "ﬁ", "O’Brien", "ŉ", "ΐ", "ẞ", "K",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if once := fhir.Fold(text); fhir.Fold(once) != once {
			t.Errorf("%q is %q, and again %q", text, once, fhir.Fold(once))
		}
	})
}
