package release_test

import (
	"strings"
	"testing"

	"ehi-server/shared/ehi"
)

// everyWay returns the ways in which a Reference may point to a Condition with an id and the
// identifier PROB-77 of the system urn:p.
func everyWay(id string) []string {
	return []string{
		`{"reference":"Condition/` + id + `"}`,
		`{"reference":"Condition/` + id + `/_history/2"}`,
		`{"reference":"Condition/` + id + `/"}`,
		`{"reference":"https://ehr.example/fhir/Condition/` + id + `"}`,
		`{"reference":"https://ehr.example/fhir/Condition/` + id + `.json"}`,
		`{"reference":"https://ehr.example/fhir/condition/` + id + `/$everything"}`,
		`{"reference":"https://ehr.example/#/Patient/p/Condition/` + id + `/view"}`,
		`{"reference":"https://ehr.example/fhir/Condition%2F` + id + `"}`,
		`{"reference":"https://ehr.example/fhir/Condition?_id=` + id + `"}`,
		`{"reference":"https://ehr.example/fhir/Condition|` + id + `"}`,
		`{"reference":"Condition?_id=` + id + `"}`,
		`{"reference":"Condition?identifier=urn:p|PROB-77"}`,
		`{"reference":"urn:uuid:` + id + `"}`,
		`{"reference":"URN:UUID:` + id + `","type":"Condition"}`,
		`{"reference":"urn:oid:` + id + `"}`,
		`{"reference":"` + id + `"}`,
		`{"reference":"urn:uuid:PROB-77"}`,
		`{"identifier":{"system":"urn:p","value":"PROB-77"}}`,
		`{"identifier":{"value":" prob-77"},"display":"x"}`,
		`{"identifier":{"value":"PROB-77"},"reference":"https://other.example/Condition/unknown"}`,
		`{"identifier":{"value":"PROB-77"},"reference":"urn:uuid:unknown"}`,
	}
}

// EHI-9: what a resource is about or for, and what an entry describes, decides the same way for
// every form of Reference.
func TestEHI9WhateverLeadsToTheWithheldDecidesAlike(t *testing.T) {
	for _, id := range []string{"5a0ee1a6-1111-4222-8333-123456789abc", "c9"} {
		condition := `{"resourceType":"Condition","id":"` + id +
			`","identifier":[{"system":"urn:p","value":"PROB-77"}]}`
		withheld := strings.Replace(condition, `{"resourceType"`, `{`+hivLabel+`,"resourceType"`, 1)
		for _, way := range everyWay(id) {
			for _, says := range []string{
				`{"resourceType":"Provenance","id":"x1","target":[` + way +
					`],"activity":{"text":"SAID"}}`,
				`{"resourceType":"Task","id":"x1","focus":` + way + `,"description":"SAID"}`,
				`{"resourceType":"List","id":"x1","entry":[{"item":` + way +
					`,"flag":{"text":"SAID"}},{"item":{"reference":"Patient/p"}}]}`,
				`{"resourceType":"ExplanationOfBenefit","id":"x1","claim":` + way +
					`,"disposition":"SAID"}`,
				`{"resourceType":"Procedure","id":"x1","reasonReference":[` + way +
					`],"note":[{"text":"SAID"}]}`,
				`{"resourceType":"Observation","id":"x1","focus":[` + way +
					`],"note":[{"text":"SAID"}]}`,
				`{"resourceType":"Claim","id":"x1","diagnosis":[{"sequence":1,` +
					`"diagnosisReference":` + way + `,"x":"SAID"}]}`,
				`{"resourceType":"Condition","id":"x1","contained":[{"resourceType":"Provenance",` +
					`"id":"i","target":[` + way + `],"activity":{"text":"SAID"}}]}`,
			} {
				for _, resolved := range []bool{false, true} {
					lines := []string{`{"resourceType":"Patient","id":"p"}`, withheld, says}
					got := strings.Join(released(t,
						reviewOf(t, form(everyLine()...), resolved, lines...), lines...), "\n")
					if strings.Contains(got, "SAID") {
						t.Errorf("%s (resolved: %v) became\n%s", says, resolved, got)
					}
					lines[1] = condition
					got = strings.Join(released(t,
						reviewOf(t, form(everyLine()...), resolved, lines...), lines...), "\n")
					if !strings.Contains(got, "SAID") {
						t.Errorf("%s (resolved: %v) of what goes became\n%s", says, resolved, got)
					}
				}
			}
		}
	}
}

// EHI-9: an unticked resource masks References to it in every form, but does not withhold a
// bill.
func TestEHI9WhateverLeadsToTheUntickedIsMaskedAlone(t *testing.T) {
	const id = "5a0ee1a6-1111-4222-8333-123456789abc"
	condition := `{"resourceType":"Condition","id":"` + id +
		`","identifier":[{"system":"urn:p","value":"PROB-77"}]}`
	for _, way := range everyWay(id) {
		lines := []string{
			`{"resourceType":"Patient","id":"p"}`, condition,
			`{"resourceType":"Claim","id":"x1","diagnosis":[{"sequence":1,"diagnosisReference":` +
				way + `,"x":"SAID"}]}`,
		}
		for _, resolved := range []bool{false, true} {
			got := strings.Join(
				released(t, reviewOf(t, form(ehi.Billing), resolved, lines...), lines...), "\n")
			if !strings.Contains(got, "SAID") || strings.Contains(got, id) ||
				strings.Contains(strings.ToLower(got), "prob-77") {
				t.Errorf("%s (resolved: %v) became\n%s", way, resolved, got)
			}
		}
	}
}

// EHI-9: a person, place or thing is released with released references to it, and withheld with
// withheld ones, in every form.
func TestEHI9WhateverLeadsToAThingTakesItAlong(t *testing.T) {
	clinic := `{"resourceType":"Organization","id":"o1","identifier":[{"system":"urn:o",` +
		`"value":"ORG-77"}],"name":"NAMED"}`
	for _, way := range []string{
		`{"reference":"Organization/o1"}`,
		`{"reference":"https://ehr.example/fhir/Organization/o1"}`,
		`{"reference":"urn:uuid:o1"}`,
		`{"reference":"Organization?_id=o1"}`,
		`{"reference":"Organization?identifier=urn:o|ORG-77"}`,
		`{"reference":"o1"}`,
		`{"identifier":{"system":"urn:o","value":"ORG-77"}}`,
	} {
		for _, visit := range []string{
			`{"resourceType":"Encounter","id":"e1","serviceProvider":` + way + `}`,
			`{"resourceType":"Claim","id":"e1","item":[{"sequence":1,"locationReference":` + way +
				`}]}`,
			`{"resourceType":"List","id":"e1","entry":[{"item":` + way + `}]}`,
		} {
			stays := strings.Replace(strings.Replace(visit, "e1", "e2", 1), `{"resourceType"`,
				`{`+hivLabel+`,"resourceType"`, 1)
			tells := strings.Contains(visit, "List")
			for _, resolved := range []bool{false, true} {
				goes := func(lines ...string) bool {
					lines = append(lines, clinic)
					return strings.Contains(strings.Join(released(t,
						reviewOf(t, form(everyLine()...), resolved, lines...), lines...), "\n"),
						"NAMED")
				}
				list := strings.Replace(`{"resourceType":"List","id":"l1","entry":[{"item":`+way+
					`}]}`, `"l1"`, `"l2"`, 1)
				if !goes(visit) || goes(stays) || goes(stays, list) || goes(visit, stays) == tells {
					t.Errorf("%s: with what goes %v, with what stays %v, as a List tells %v, "+
						"with both %v", visit,
						goes(visit), goes(stays), goes(stays, list), goes(visit, stays))
				}
			}
		}
	}
}
