package release_test

import (
	"strings"
	"testing"
)

// EHI-9: what stands beside something masked and tells of it stays, too: the title of an attachment, a
// visit's diagnosis with its use and rank, the words of an appointment.
func TestEHI9WhatTellsOfTheMaskedStaysWithIt(t *testing.T) {
	lines := []string{
		`{"resourceType":"Patient","id":"p"}`,
		`{"resourceType":"Condition","id":"cc-0123456789ab",` + hivLabel + `}`,
		`{"resourceType":"Condition","id":"goes"}`,
		`{"resourceType":"Binary","id":"bb-0123456789","data":"xx",` + hivLabel + `}`,
		`{"resourceType":"HealthcareService","id":"hs",` + hivLabel + `}`,
		`{"resourceType":"HealthcareService","id":"other"}`,
		`{"resourceType":"DocumentReference","id":"d1","content":[{"attachment":{"title":"LEAK","contentType":"KEEP1","url":"Binary/bb-0123456789"}}]}`,
		`{"resourceType":"DocumentReference","id":"d2","content":[{"attachment":{"url":"Binary/bb-0123456789","title":"LEAK"}},{"attachment":{"url":"https://h/else","title":"KEEP2"}}]}`,
		`{"resourceType":"Encounter","id":"e","diagnosis":[{"condition":{"reference":"Condition/cc-0123456789ab"},"use":{"text":"LEAK"},"rank":1},{"condition":{"reference":"Condition/goes"},"use":{"text":"KEEP3"}}]}`,
		`{"resourceType":"Appointment","id":"a","status":"KEEP4","description":"LEAK","comment":"LEAK","patientInstruction":"LEAK","participant":[{"actor":{"reference":"HealthcareService/hs"}}]}`,
		`{"resourceType":"Appointment","id":"b","description":"KEEP5","participant":[{"actor":{"reference":"HealthcareService/other"}}]}`,
	}
	out := strings.Join(released(t, review(t, form(everyLine()...), lines...), lines...), "\n")
	for _, keep := range []string{"KEEP1", "KEEP2", "KEEP3", "KEEP4", "KEEP5"} {
		if !strings.Contains(out, keep) {
			t.Errorf("%s is missing", keep)
		}
	}
	if strings.Contains(out, "LEAK") {
		t.Errorf("%s", out)
	}
}
