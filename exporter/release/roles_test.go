package release

import (
	"slices"
	"strings"
	"testing"

	"ehi-server/shared/fhir"
)

// EHI-8, EHI-9: each type of R4 has one role, which says whether its resources are released by
// themselves or with those that refer to them. Types of the patient compartment are statements,
// except those listed here.
func TestEHI9EveryTypeOfR4HasARole(t *testing.T) {
	named := map[string]int{}
	for _, names := range roleTable {
		for _, name := range strings.Fields(names) {
			named[name]++
		}
	}
	for _, typ := range fhir.Types() {
		if named[typ] != 1 {
			t.Errorf("%s has %d roles", typ, named[typ])
		}
		delete(named, typ)
		r := roles[fhir.TypeNumber([]byte(typ))]
		hasPatient := fhir.CompartmentPaths(typ) != nil
		partsOfPatients := []string{
			"BodyStructure", "Device", "Goal", "Person", "RelatedPerson", "Schedule", "Specimen",
		}
		if hasPatient && (r == statement) == slices.Contains(partsOfPatients, typ) {
			t.Errorf("%s has a patient, and the role %d", typ, r)
		}
	}
	for typ := range named {
		t.Errorf("%s is no type of R4", typ)
	}
}
