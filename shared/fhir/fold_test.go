package fhir_test

import (
	"testing"

	"ehi-server/shared/fhir"
)

// R4, search.html#string: case, accents, punctuation and needless white space do not count.
func TestFold(t *testing.T) {
	for text, want := range map[string]string{
		"Müller": "muller", "MU\u0308LLER": "muller", "Straße": "strasse", "O'Brien-Lee": "obrienlee", "  Ana \t María ": "ana maria", "Łukasz Øst": "lukasz ost", "ΣΊΣΥΦΟΣ": "σισυφοσ",
		"Nguyễn": "nguyen", "ﬁn": "fin", "山田": "山田", "...": "", "Иван": "иван",
	} {
		if got := fhir.Fold(text); got != want {
			t.Errorf("Fold(%q) = %q, want %q", text, got, want)
		}
		if again := fhir.Fold(want); again != want {
			t.Errorf("Fold(%q) = %q", want, again)
		}
	}
}
