package ehi_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// BULK-1: a bare + in an instant is a plus, in each parameter that says a time.
func TestBULK1ABarePlusIsAPlus(t *testing.T) {
	at := time.Date(2024, 1, 1, 10, 0, 0, 0, time.UTC)
	const bare = "2024-01-01t12:00:00 02:00"
	k, err := ehi.ParseKickOff(ehi.Asked{
		Level:     ehi.OnePatient,
		Operation: ehi.EHIExport,
		Parameters: []fhir.Parameter{
			{Name: "_since", Value: bare},
			{Name: "_until", Value: "2024-06-01T12:00:00 02:00"},
			{Name: "from", Value: bare},
		},
	})
	if err != nil || !k.Since.Equal(at) || k.Until.IsZero() {
		t.Fatalf("%+v, %v", k, err)
	}
	if from, _, err := (ehi.Choice{From: k.From}).Span(); err != nil || !from.Equal(at) {
		t.Errorf("from is %s, %v", from, err)
	}
	k, err = ehi.ParseKickOff(ehi.Asked{
		Level:     ehi.AllPatients,
		Operation: ehi.BulkExport,
		Parameters: []fhir.Parameter{
			{Name: "_typeFilter", Value: "Observation?date=ge2024-01-01T12:00:00 02:00"},
		},
	})
	if err != nil || len(k.TypeFilters) != 1 {
		t.Errorf("%+v, %v", k, err)
	}
}

// EHI-7, EHI-10: the reference's own form is taken, with false for dates that a line does not
// take and numbers of groups; the job's JSON has notes and group of each line, also empty ones.
func TestEHI7TheReferencesFormIsTaken(t *testing.T) {
	form, err := ehi.ParseReleaseForm([]byte(`{"parameters":{
		"visits":{"group":1,"enabled":true,"name":"Clinic Visits","from":"2020-01-01","to":null},
		"medicalRecord":{"group":1,"enabled":true,"name":"Other Records","from":false,"to":false,"notes":"a note"},
		"other":{"group":"2","enabled":true,"name":"Other"}},
		"authorizations":{"hiv":{"value":false,"name":"HIV test results"},"genetic":{"value":"","name":"Genetic Screening"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	parameters, _ := form.MarshalWire()
	data, err := json.Marshal(parameters)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"from":"2020-01-01","notes":"","group":1}`,
		`"notes":"a note","group":1}`,
		`"enabled":true,"notes":"","group":2}`,
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s is not in %s", want, data)
		}
	}
	_, err = ehi.ParseReleaseForm([]byte(`{"parameters":{"visits":{"enabled":true,"from":true}}}`))
	if err == nil {
		t.Error("from: true was taken")
	}
}
