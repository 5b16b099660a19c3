package release_test

import (
	"strings"
	"testing"

	"ehi-server/shared/ehi"
)

// EHI-9: a resource that consists only of sensitive ones describes them in its own words, so it
// is withheld. If one of them is released, or if they are only unticked, it is released.
func TestEHI9WhatIsMadeOfTheWithheldAloneStays(t *testing.T) {
	const withheld = `{"resourceType":"Observation","id":"withheld-0123456789",` + hivLabel + `}`
	const goes = `{"resourceType":"Observation","id":"goes-0123456789"}`
	const visit = `{"resourceType":"Encounter","id":"visit-0123456789"}`
	const person = `{"resourceType":"Practitioner","id":"person-0123456789"}`
	const w, g, v = `{"reference":"Observation/withheld-0123456789"}`,
		`{"reference":"Observation/goes-0123456789"}`,
		`{"reference":"Encounter/visit-0123456789"}`
	const telling = `,"code":{"text":"LEAK"},"conclusion":"LEAK"}`
	for _, c := range []struct{ head, open, end string }{
		{`{"resourceType":"DiagnosticReport","id":"x"`, `,"result":[`, `]`},
		{
			`{"resourceType":"DiagnosticReport","id":"x",` +
				`"basedOn":[{"reference":"ServiceRequest/1"}]`,
			`,"imagingStudy":[`,
			`]`,
		},
		{`{"resourceType":"DiagnosticReport","id":"x"`, `,"media":[{"link":`, `}]`},
		{`{"resourceType":"Observation","id":"x"`, `,"hasMember":[`, `]`},
		{
			`{"resourceType":"Observation","id":"x",` +
				`"performer":[{"reference":"Practitioner/person-0123456789"}]`,
			`,"derivedFrom":[`,
			`]`,
		},
		{`{"resourceType":"Observation","id":"x"`, `,"focus":[`, `]`},
		{
			`{"resourceType":"DocumentReference","id":"x"`,
			`,"relatesTo":[{"code":"appends","target":`,
			`}]`,
		},
		{`{"resourceType":"Composition","id":"x"`, `,"event":[{"detail":[`, `]}]`},
		{`{"resourceType":"Composition","id":"x"`, `,"relatesTo":[{"targetReference":`, `}]`},
		{`{"resourceType":"Specimen","id":"x"`, `,"parent":[`, `]`},
		{`{"resourceType":"ImagingStudy","id":"x"`, `,"procedureReference":`, ``},
		{`{"resourceType":"Consent","id":"x"`, `,"sourceReference":`, ``},
	} {
		lines := map[string]bool{
			c.head + c.open + w + c.end + telling: false,
			c.head + c.open +
				strings.Replace(w, `Observation/`, `https:\/\/e.example\/Observation\/`, 1) +
				c.end + telling: false,
			c.head + c.open + g + c.end + telling: true,
			c.head + c.open + v + c.end + telling: true,
		}
		if strings.HasSuffix(c.open, "[") {
			lines[c.head+c.open+w+","+g+c.end+telling] = true
			lines[c.head+c.open+w+","+w+c.end+telling] = false
		}
		categories := []ehi.Category{}
		for _, info := range ehi.Categories() {
			if info.Key != ehi.Visits {
				categories = append(categories, info.Key)
			}
		}
		for line, want := range lines {
			for _, resolved := range []bool{false, true} {
				record := []string{withheld, goes, visit, person, line}
				got := strings.Contains(strings.Join(released(t,
					reviewOf(t, form(categories...), resolved, record...), record...), ""),
					`"id":"x"`)
				if got != want {
					t.Errorf("%s went: %v", line, got)
				}
			}
		}
	}
}
