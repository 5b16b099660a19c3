package release_test

import (
	"testing"

	"ehi-server/shared/ehi"
)

// EHI-9: what describes a resource, as a document of a report does, stays if the resource has a
// part that stays for more than an unticked line, however the resource names it.
func TestEHI9WhatDescribesAResourceStaysWithEachOfItsParts(t *testing.T) {
	hidden := `{"resourceType":"Observation","id":"o1",` + hivLabel +
		`,"identifier":[{"system":"urn:lab","value":"LAB-777"}],"code":{"text":"x"}}`
	lab := `{"resourceType":"Observation","id":"o2","category":[{"coding":[{"system":` +
		`"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}]}`
	other := `{"resourceType":"Observation","id":"o3"}`
	for i, parts := range []string{
		`"result":[{"reference":"Observation/o3"},{"reference":"Observation/o1"}]`,
		`"result":[{"reference":"Observation/o3"},{"identifier":{"value":"LAB-777"}}]`,
		`"result":[{"reference":"https://ehr.example.org/x?identifier=urn:lab|LAB-777"}]`,
		`"media":[{"link":{"reference":"Observation/o1"}}],"presentedForm":[{"title":"x"}]`,
		`"result":[{"reference":"Observation/o2"},{"reference":"Observation/o3"}]`,
		`"result":[{"reference":"Observation/absent"},{"identifier":{"value":"LAB-778"}}]`,
	} {
		stays := i < 4
		report := `{"resourceType":"DiagnosticReport","id":"r",` + parts + `}`
		for name, form := range map[string]*ehi.ReleaseForm{
			"every line": everything(ehi.HIV), "no laboratory": allBut(ehi.Labs),
		} {
			r := review(t, form, hidden, lab, other, report)
			reason, err := r.Native().Describes([]byte(report))
			if err != nil || (reason != "") != stays {
				t.Errorf("%s, %s: %q, %v", name, parts, reason, err)
			}
		}
	}
}
