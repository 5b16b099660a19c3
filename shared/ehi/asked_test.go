package ehi_test

import (
	"testing"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// BULK-1: a bare + in an instant is a plus, in each parameter that says a time.
func TestBULK1ABarePlusIsAPlus(t *testing.T) {
	at := time.Date(2024, 1, 1, 10, 0, 0, 0, time.UTC)
	const bare = "2024-01-01t12:00:00 02:00"
	k, err := ehi.ParseKickOff(ehi.Asked{Level: ehi.OnePatient, Operation: ehi.EHIExport, Parameters: []fhir.Parameter{
		{Name: "_since", Value: bare}, {Name: "_until", Value: "2024-06-01T12:00:00 02:00"}, {Name: "from", Value: bare},
	}})
	if err != nil || !k.Since.Equal(at) || k.Until.IsZero() {
		t.Fatalf("%+v, %v", k, err)
	}
	if from, _, err := (ehi.Choice{From: k.From}).Span(); err != nil || !from.Equal(at) {
		t.Errorf("from is %s, %v", from, err)
	}
	k, err = ehi.ParseKickOff(ehi.Asked{Level: ehi.AllPatients, Operation: ehi.BulkExport, Parameters: []fhir.Parameter{
		{Name: "_typeFilter", Value: "Observation?date=ge2024-01-01T12:00:00 02:00"},
	}})
	if err != nil || len(k.TypeFilters) != 1 {
		t.Errorf("%+v, %v", k, err)
	}
}
