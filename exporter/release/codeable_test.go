package release_test

import (
	"fmt"
	"strings"
	"testing"

	"ehi-server/exporter/release"
)

// EHI-9: a CodeableReference of R5 decides like the Reference that it was in R4, and its concept
// counts as a code. If its reference is masked, its concept is masked too.
func TestEHI9ACodeableReferenceIsAReferenceAndAConcept(t *testing.T) {
	const (
		patient = `{"resourceType":"Patient","id":"p"}`
		target  = `{"resourceType":%q,"id":"w-0123456789ab",%s%s}`
		user    = `{"resourceType":"Condition","id":"u%d","extension":[` +
			`{"url":"urn:u","valueReference":{"reference":"Medication/x%d"}}]}`
		icd10 = `"system":"http://hl7.org/fhir/sid/icd-10"`
	)
	label := func(sensitive bool) string {
		if sensitive {
			return hivLabel
		}
		return `"implicitRules":"urn:r"`
	}
	type way struct{ name, reference string }
	ways := []way{
		{"type and id", `"reference":"%s/w-0123456789ab"`},
		{"an id", `"reference":"urn:uuid:w-0123456789ab"`},
		{"URL", `"reference":"https://h/fhir/%s/w-0123456789ab"`},
		{"identifier", `"identifier":{"value":"N-77"}`},
		{"more", `"type":"X","reference":"%s/w-0123456789ab","display":"SAID"`},
	}
	for _, c := range []struct {
		to, line string
		whole    bool // it is withheld with its target
	}{
		{"Medication", `{"resourceType":"MedicationRequest","id":"x1","medication":%s}`, true},
		{
			"Medication",
			`{"resourceType":"MedicationAdministration","id":"x1","medication":%s}`,
			true,
		},
		{"Procedure", `{"resourceType":"MedicationStatement","id":"x1","reason":[%s]}`, true},
		{"Condition", `{"resourceType":"Procedure","id":"x1","reason":[%s]}`, true},
		{"Condition", `{"resourceType":"ServiceRequest","id":"x1","reason":[%s]}`, true},
		{"Device", `{"resourceType":"DeviceRequest","id":"x1","code":%s}`, true},
		{"Condition", `{"resourceType":"CarePlan","id":"x1","addresses":[%s]}`, true},
		{
			"Condition",
			`{"resourceType":"EpisodeOfCare","id":"x1","diagnosis":[{"condition":%s}]}`,
			true,
		},
		{"Substance", `{"resourceType":"Medication","id":"x1","ingredient":[{"item":%s}]}`, true},
		{"Observation", `{"resourceType":"Condition","id":"x1","evidence":[%s]}`, false},
		{"Device", `{"resourceType":"Procedure","id":"x1","used":[%s]}`, false},
	} {
		for _, w := range ways {
			ref := strings.Replace(w.reference, "%s", c.to, 1)
			for _, form5 := range []string{
				`{"reference":{` + ref + `}}`,
				`{"reference":{` + ref + `},"concept":{"text":"SAID"}}`,
				`{"concept":{"text":"SAID"},"reference" : {` + ref + `}}`,
			} {
				for _, sensitive := range []bool{true, false} {
					for _, many := range []int{1, 20} {
						called := "" // without an identifier it is only found by its id
						if w.name == "identifier" {
							called = `,"identifier":[{"value":"N-77"}]`
						}
						lines := []string{
							patient,
							fmt.Sprintf(target, c.to, label(sensitive), called),
						}
						for i := range many {
							line := strings.Replace(c.line, `"x1"`, fmt.Sprintf(`"x%d"`, i), 1)
							lines = append(lines, fmt.Sprintf(line, form5))
							// it is released with what uses it
							if strings.Contains(c.line, `"Medication"`) {
								lines = append(lines, fmt.Sprintf(user, i, i))
							}
						}
						for _, resolved := range []bool{true, false} {
							r := release.DecidedBeside(t, policyOf(t, form(everyLine()...)),
								resolved, nil, lines...)
							got := strings.Join(released(t, r, lines...), "\n")
							goes := strings.Contains(got, `"id":"x0"`)
							if goes != !(sensitive && c.whole) {
								t.Errorf("%s, sensitive: %v: %s went: %v", w.name, sensitive,
									lines[2], goes)
							}
							for _, secret := range []string{"SAID", "0123456789ab", "N-77"} {
								if sensitive && strings.Contains(got, secret) {
									t.Errorf("%s: of %s went\n%s", w.name, lines[2], got)
								}
							}
							said := many * strings.Count(form5, "SAID")
							if !sensitive && strings.Count(got, "SAID") != said {
								t.Errorf("%s: of %s went\n%s", w.name, lines[2], got)
							}
						}
					}
				}
			}
		}
	}
	for concept, sensitive := range map[string]bool{
		`{"coding":[{` + icd10 + `,"code":"B20"}]}`: true, `{"text":"B20 - HIV disease"}`: true,
		`{"coding":[{` + icd10 + `,"code":"I10"}]}`: false, `{"text":"I10"}`: false,
	} {
		line := `{"resourceType":"Procedure","id":"x1","reason":[{"concept":` + concept + `}]}`
		got := released(t, review(t, form(everyLine()...), line), line)
		if (len(got) == 0) != sensitive {
			t.Errorf("%s is sensitive: %v", line, len(got) == 0)
		}
	}
}
