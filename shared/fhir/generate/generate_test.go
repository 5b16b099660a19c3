package main

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// IN-2: the tables are those of the published definitions.
func TestTheTablesAreGeneratedFromThePublishedDefinitions(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches packages from their registries")
	}
	p, err := fetch(t.TempDir())
	if errors.Is(err, errUnreachable) {
		t.Skipf("the published definitions cannot be fetched: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := load(p)
	if err != nil {
		t.Fatal(err)
	}
	want, err := d.source()
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../tables.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, have) {
		t.Errorf("tables.go is not what go generate writes:\n%s",
			cmp.Diff(string(want), string(have)))
	}
}

func TestExpressionsAreReadAsPathsAndLimits(t *testing.T) {
	for expression, want := range map[string]selection{
		"SupplyRequest.deliverTo": {typ: "SupplyRequest", path: "deliverTo"},
		"Flag.subject.where(resolve() is Patient)": {
			typ:    "Flag",
			path:   "subject",
			target: "Patient",
		},
		"Condition.onset.as(dateTime)": {typ: "Condition", path: "onset", as: "dateTime"},
		"(Observation.value as CodeableConcept)": {
			typ:  "Observation",
			path: "value",
			as:   "CodeableConcept",
		},
		"Patient.telecom.where(system='phone')": {typ: "Patient", path: "telecom", system: "phone"},
		"RequestGroup.action.participant":       {typ: "RequestGroup", path: "action.participant"},
	} {
		found, rest := parse(expression + " | Bundle.entry[0].resource")
		if len(found) != 1 || found[0] != want || len(rest) != 1 {
			t.Errorf("%s is %+v and %q, want %+v", expression, found, rest, want)
		}
	}
}
