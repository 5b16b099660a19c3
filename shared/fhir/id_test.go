package fhir_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ehi-server/shared/fhir"
)

// EHI-11: an id that is made of internal names is a FHIR id, always the same, and another one for
// other names.
func TestEHI11MadeIDsAreFHIRIDs(t *testing.T) {
	if got := fhir.MakeID("a-job", "7"); got != "a-job.7" {
		t.Errorf("%q", got)
	}
	made := map[string]string{}
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(rapid.StringMatching(`[A-Za-z0-9_/ é-]{0,40}`), 1, 3).Draw(t,
			"names")
		id, key := fhir.MakeID(names...), strings.Join(names, "\x00")
		if !fhir.ValidID(id) || id != fhir.MakeID(names...) {
			t.Fatalf("%q gives %q", names, id)
		}
		if other, known := made[id]; known && other != key {
			t.Fatalf("%q and %q give %q", other, key, id)
		}
		made[id] = key
	})
}
