package fhir_test

import (
	"testing"

	"ehi-server/shared/fhir"
)

func TestTypesAreNumberedInTheirOrder(t *testing.T) {
	for i, name := range fhir.Types() {
		if got := fhir.TypeNumber([]byte(name)); got != i+1 {
			t.Errorf("%s is %d, want %d", name, got, i+1)
		}
		if n := fhir.TypeNumber([]byte(name + "s")); n != 0 {
			t.Errorf("%ss is %d", name, n)
		}
	}
	for _, name := range []string{"", "P", "patient", "Resource", "DomainResource"} {
		if n := fhir.TypeNumber([]byte(name)); n != 0 {
			t.Errorf("%q is %d", name, n)
		}
	}
}
