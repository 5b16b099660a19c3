package fhir_test

import (
	"testing"

	"ehi-server/shared/fhir"
)

func TestIdentifiersAreComparedAsTheyAreRead(t *testing.T) {
	for value, want := range map[string]string{
		"A-77": "a-77", " a-77\t": "a-77", "urn:uuid:A-77": "a-77", "URN:OID:1.2": "1.2",
		"ＡＢ７": "ab7", "Ä1": "ä1", "": "",
	} {
		if got := string(fhir.PlainIdentifier([]byte(value))); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}
