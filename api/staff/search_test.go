package staff

import "testing"

// Administrators find people however a name is written: family name first, without accents, in any
// order; and exports by the beginning of an id.
func TestNamesAreFoundHoweverTheyAreWritten(t *testing.T) {
	for _, c := range []struct {
		looked, name string
		found        bool
	}{
		{"Núñez, Ana", "Ana María Núñez", true},
		{"nunez ana", "Ana María Núñez", true},
		{"NUÑEZ,ANA", "Ana María Núñez", true},
		{"maria nu", "Ana María Núñez", true},
		{"Núñez, Eva", "Ana María Núñez", false},
		{"groß", "Grete Gross", true},
		{"Gross", "Grete Groß", true},
		{"soren", "Søren Kierkegaard", true},
		{"lodz", "Jan Łódź", true},
		{"o'brien", "Pat O’Brien", true},
		{"obrien", "Pat O'Brien", true},
		{"smith jones", "Al Smith-Jones", true},
		{"smith-jones", "Al Smith Jones", true},
		{"Nun\u0303ez", "Ana N\u00fañez", true},
		{"smithjones", "Al Smith-Jones", true},
		{"müller", "MU\u0308LLER, Eva", true},
		{"Al (Smith)", "Al Smith", true},
		{"山田", "山田 太郎", true},
		{"山田, 太郎", "山田太郎", true},
		{",", "Ana", false},
		{"'", "Ana", false},
	} {
		if got := newSearch(c.looked).name(c.name); got != c.found {
			t.Errorf("%q in %q: %v", c.looked, c.name, got)
		}
	}
	for _, c := range []struct {
		looked, id string
		found      bool
	}{
		{"pat-1", "pat-123", true},
		{"PAT-123", "pat-123", true},
		{" pat ", "pat-123", true},
		{"123", "pat-123", false},
		{"pat-1234", "pat-123", false},
		{"", "x", false},
	} {
		if got := newSearch(c.looked).id(c.id); got != c.found {
			t.Errorf("id %q in %q: %v", c.looked, c.id, got)
		}
	}
	if !newSearch("  ").none() || newSearch(",").none() {
		t.Error("blanks look for something, or a comma for nothing")
	}
}
