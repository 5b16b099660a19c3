package fhir_test

import (
	"testing"

	"ehi-server/shared/fhir"
)

// R4, "Search": a time may come without its seconds and without its zone.
func TestBULK8TimesOfSearches(t *testing.T) {
	at := func(s string) fhir.Span {
		span, err := fhir.ParseSpan(s)
		if err != nil {
			t.Fatal(err)
		}
		return span
	}
	for _, c := range []struct {
		search, at string
		want       bool
	}{
		{"2024-02-29T10:30", "2024-02-29T10:30:59Z", true},
		{"2024-02-29T10:30", "2024-02-29T10:31:00Z", false},
		{"2024-02-29T12:30+02:00", "2024-02-29T10:30:10Z", true},
		{"2024-02-29T12:30 02:00", "2024-02-29T10:30:10Z", true},
		{"2024-02-29T10:30Z", "2024-02-29T10:29:59Z", false},
		{"ge2024-02-29T10:30", "2024-02-29T10:30:00Z", true},
		{"lt2024-02-29T10:30", "2024-02-29T10:29:59Z", true},
		{"gt2024-02-29T10:30", "2024-02-29T10:30:59Z", false},
		{"2024-02-29T10:30:15", "2024-02-29T10:30:15Z", true},
		{"2024-02-29t10:30:15.5", "2024-02-29T10:30:15.5Z", true},
		{"le2024-02-29T23:59:60", "2024-02-29T23:59:59Z", true},
	} {
		d, err := fhir.ParseDateSearch(c.search)
		if err != nil || d.Matches(at(c.at)) != c.want {
			t.Errorf("%s finds %s: %t, %v", c.search, c.at, !c.want, err)
		}
	}
	for _, v := range []string{
		"2024-02-29T10", "2024-02-30T10:30", "2024-02T10:30", "T10:30", "2024-02-29T25:30",
		"2024-02-29T10:61",
		"2024-02-29T10:30:", "2024-02-29T10:30.5", "2024-02-29T10:30+2", "2024-02-29T10:30ZZ", "ge",
		"ge2024-02-29T",
	} {
		if d, err := fhir.ParseDateSearch(v); err == nil {
			t.Errorf("%s is %+v", v, d)
		}
	}
}
