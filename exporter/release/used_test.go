package release_test

import (
	"strings"
	"testing"

	"ehi-server/shared/ehi"
)

// everyLine returns all form lines, without authorizations.
func everyLine() (all []ehi.Category) {
	for _, c := range ehi.Categories() {
		all = append(all, c.Key)
	}
	return all
}

const clinic = `{"resourceType":"Location","id":"l1","name":"KEEP"}`

// EHI-9: if nothing is withheld, nothing is missing: an entry with a Reference that has only a
// display is released unchanged, with its targets, and a resource that describes a thing
// releases it.
func TestEHI9NothingIsMissingWhereNothingIsWithheld(t *testing.T) {
	doctor := `{"resourceType":"Practitioner","id":"d1","name":[{"text":"KEEP"}]}`
	drug := `{"resourceType":"Medication","id":"m1","code":{"text":"KEEP"}}`
	device := `{"resourceType":"Device","id":"v1","patient":{"reference":"Patient/p1"},` +
		`"note":[{"text":"KEEP"}]}`
	const who, where, what = `{"reference":"Practitioner/d1"}`, `{"reference":"Location/l1"}`,
		`{"reference":"Medication/m1"}`
	for _, record := range [][]string{
		{
			`{"resourceType":"Claim","id":"x1","item":[{"sequence":1,"locationReference":` + where +
				`,"encounter":[{"display":"Visit"}]}]}`,
			clinic,
		},
		{
			`{"resourceType":"Claim","id":"x1","item":[{"sequence":1,"locationReference":` + where +
				`,"encounter":[{"reference":"urn:uuid:1"}]}]}`,
			clinic,
		},
		{
			`{"resourceType":"Claim","id":"x1","item":[{"sequence":1,"locationReference":` + where +
				`,"encounter":[{"reference":"https://e.example/x"}]}]}`,
			clinic,
		},
		{
			`{"resourceType":"Claim","id":"x1","item":[{"sequence":1,"locationReference":` + where +
				`,"encounter":[{"identifier":{"value":"7"}}]}]}`,
			clinic,
		},
		{
			`{"resourceType":"Claim","id":"x1","procedure":[{"sequence":1,` +
				`"procedureReference":{"display":"a"},"udi":[{"reference":"Device/v1"}]}]}`,
			device,
		},
		{
			`{"resourceType":"Composition","id":"x1","section":[{"author":[` + who +
				`],"entry":[{"display":"Aspirin"}]}]}`,
			doctor,
		},
		{
			`{"resourceType":"CarePlan","id":"x1","activity":[{"detail":{"performer":[` + who +
				`],"goal":[{"display":"a"}]}}]}`,
			doctor,
		},
		{
			`{"resourceType":"Provenance","id":"x1","entity":[{"what":{"display":"a"},` +
				`"agent":[{"who":` + who + `}]}]}`,
			doctor,
		},
		{`{"resourceType":"List","id":"x1","entry":[{"item":` + what + `}]}`, drug},
		{
			`{"resourceType":"List","id":"x1","entry":[{"item":` + what +
				`,"extension":[{"url":"u","valueReference":{"display":"a"}}]}]}`,
			drug,
		},
		{`{"resourceType":"Provenance","id":"x1","target":[` + what + `]}`, drug},
		{
			`{"resourceType":"Observation","id":"x1","performer":[{"display":"a"}]}`,
			`{"resourceType":"Observation","id":"x2"}`,
		},
	} {
		record = append([]string{`{"resourceType":"Patient","id":"p1"}`}, record...)
		unused := `{"resourceType":"Practitioner","id":"unused","identifier":[{"value":"7"}]}`
		for _, resolved := range []bool{false, true} {
			all := append(record, unused)
			got := released(t, reviewOf(t, form(everyLine()...), resolved, all...), all...)
			want := strings.Join(record, "\n")
			if !resolved {
				want = strings.ReplaceAll(want, aURN, notKnown)
			}
			if strings.Join(got, "\n") != want {
				t.Errorf("%s became\n%s", want, strings.Join(got, "\n"))
			}
		}
	}
}

const aURN, notKnown = `{"reference":"urn:uuid:1"}`,
	`{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason",` +
		`"valueCode":"unknown"}]}`

// EHI-9: a List or a Provenance that describes a drug does not release it if something withheld
// refers to it. An entry that may mean something withheld does not release its clinic.
func TestEHI9WhatTellsOfAThingTakesNothingWithheldAlong(t *testing.T) {
	drug := `{"resourceType":"Medication","id":"m1","code":{"text":"LEAK"}}`
	place := strings.Replace(clinic, "KEEP", "LEAK", 1)
	tells := `{"resourceType":"List","id":"x1","entry":[{"item":{"reference":"Medication/m1"},` +
		`"flag":{"text":"LEAK"}}]}`
	for _, record := range [][]string{
		{
			drug,
			tells,
			`{"resourceType":"MedicationRequest","id":"w1",` + hivLabel +
				`,"medicationReference":{"reference":"Medication/m1"}}`,
		},
		{
			drug,
			tells,
			`{"resourceType":"List","id":"w1",` + hivLabel +
				`,"entry":[{"item":{"reference":"Medication/m1"}}]}`,
		},
		{
			drug,
			strings.Replace(tells, `"List"`, `"List","title":"LEAK"`, 1),
			`{"resourceType":"Encounter","id":"w1",` + hivLabel +
				`,"extension":[{"url":"u","valueReference":{"reference":"Medication/m1"}}]}`,
		},
		{
			drug,
			tells,
			`{"resourceType":"Encounter","id":"w1","extension":[{"url":"u",` +
				`"valueReference":{"reference":"Medication/m1"}}]}`,
		},
		{place, `{"resourceType":"Condition","id":"w1",` + hivLabel + `}`,
			`{"resourceType":"Claim","id":"x1",` +
				`"item":[{"locationReference":{"reference":"Location/l1"},"note":"LEAK",` +
				`"encounter":[{"display":"LEAK"}]}]}`},
		{place, `{"resourceType":"Condition","id":"w1",` + hivLabel + `}`,
			`{"resourceType":"Claim","id":"x1",` +
				`"item":[{"locationReference":{"reference":"Location/l1"},"note":"LEAK",` +
				`"encounter":[{"reference":"https://e.example/x?of=w1"}]}]}`},
	} {
		got := released(t, reviewOf(t, form(ehi.MedicalRecord, ehi.Billing), true, record...),
			record...)
		if strings.Contains(strings.Join(got, ""), "LEAK") {
			t.Errorf("%s became\n%s", strings.Join(record, "\n"), strings.Join(got, "\n"))
		}
	}
}
