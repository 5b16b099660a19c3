package fhir_test

import (
	"strings"
	"testing"
	"time"

	"ehi-server/shared/fhir"
)

// What a request says of time is read by R4's grammar, with a bare + and lower case forgiven.
func TestAskedInstants(t *testing.T) {
	at := time.Date(2024, 2, 29, 10, 30, 0, 0, time.UTC)
	for _, s := range []string{
		"2024-02-29T10:30:00Z", "2024-02-29t10:30:00z", "2024-02-29T12:30:00+02:00",
		"2024-02-29T12:30:00 02:00",
		"2024-02-29T00:30:00-10:00", "2024-03-01T00:30:00+14:00", "2024-02-29T10:30:00.000Z",
		"2024-02-29T10:30:00.0000000Z",
	} {
		if got, err := fhir.ParseAsked(s); err != nil || !got.Start.Equal(at) {
			t.Errorf("%q is %s, %v", s, got.Start, err)
		}
	}
	for _, s := range []string{"2024", "2024-02", "2024-02-29", "2016-12-31T23:59:60Z"} {
		if _, err := fhir.ParseAsked(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{
		"", " ", "+", "0000", "24", "2024-13", "2024-02-30", "2023-02-29", "2024-2-9",
		"2024-02-29T10:30Z", "2024-02-29T10:30:00",
		"2024-02-29T24:00:00Z", "2024-02-29T10:30:00,5Z", "2024-02-29T1:30:00Z",
		"2024-02-29T10:30:00+15:00", "2024-02-29T10:30:00+14:30",
		"2024-02-29T10:30:00+0200", "2024-02-29T10:30:00+02", "2024-02-29 10:30:00Z",
		"2024-02-29T10:30:00.Z", "2024-02-29T10:30:00Z ",
		" 2024-02-29", "2024-02-29T10:30:00ZZ", "2024-02-29T10:30:61Z", "20240229T103000Z", "now",
		"2024-02-29T10:30:00Z\n",
	} {
		if got, err := fhir.ParseAsked(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
}

// Whatever a request says of time, it is read or refused; what is read is a span, and says the same
// with its + escaped or not.
func FuzzAskedInstants(f *testing.F) {
	for _, s := range []string{"2024-02-29T12:30:00 02:00", "2016-12-31t23:59:60z", "2024-02"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := fhir.ParseAsked(s)
		if err != nil {
			return
		}
		if !got.Start.Before(got.End) {
			t.Fatalf("%q is %v", s, got)
		}
		again, err := fhir.ParseAsked(strings.ReplaceAll(s, "+", " "))
		if err != nil || !again.Start.Equal(got.Start) {
			t.Fatalf("%q is %v, then %v, %v", s, got, again, err)
		}
	})
}
