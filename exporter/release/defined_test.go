package release_test

import (
	"strings"
	"testing"

	"ehi-server/exporter/release"
)

// EHI-9: a resource that follows a sensitive form or plan by its canonical URL, in any version,
// is withheld with it, and the URL appears nowhere. This holds for definitions in the record and
// outside it.
func TestEHI9WhatFollowsASensitiveDefinitionStays(t *testing.T) {
	definition := `{"resourceType":"Questionnaire","id":"q",` + hivLabel +
		`,"url":"http://forms.example/hiv-risk"}`
	plan := `{"resourceType":"PlanDefinition","id":"q2",` + hivLabel +
		`,"url":"https://forms.example/prep"}`
	others := []release.Other{
		{
			Line:   definition,
			Type:   "Questionnaire",
			ID:     "q",
			Values: []string{"url|http://forms.example/hiv-risk"},
		},
		{
			Line:   plan,
			Type:   "PlanDefinition",
			ID:     "q2",
			Values: []string{"url|http://forms.example/prep"},
		},
	}
	record := []string{
		`{"resourceType":"Patient","id":"p"}`,
		`{"resourceType":"QuestionnaireResponse","id":"a",` +
			`"questionnaire":"http://forms.example/hiv-risk|1.0","item":[{"text":"LEAK"}]}`,
		`{"resourceType":"QuestionnaireResponse","id":"b",` +
			`"questionnaire":"https://forms.example/HIV-risk/","item":[{"text":"LEAK"}]}`,
		`{"resourceType":"QuestionnaireResponse","id":"c",` +
			`"questionnaire":"http://forms.example/other","item":[{"text":"KEEP1"}]}`,
		`{"resourceType":"CarePlan","id":"d",` +
			`"instantiatesCanonical":["http://forms.example/prep#step"],"title":"LEAK"}`,
		`{"resourceType":"NutritionOrder","id":"e",` +
			`"instantiatesCanonical":["http://forms.example/prep"],"dateTime":"LEAK"}`,
		`{"resourceType":"Procedure","id":"f",` +
			`"instantiatesCanonical":["http://forms.example/prep"],"note":[{"text":"LEAK"}]}`,
		`{"resourceType":"Procedure","id":"g",` +
			`"instantiatesCanonical":["http://forms.example/prep","http://forms.example/other"],` +
			`"note":[{"text":"KEEP2"}]}`,
		`{"resourceType":"Condition","id":"h","extension":[{"url":"urn:e",` +
			`"valueCanonical":"http://forms.example/prep|2"}],"note":[{"text":"KEEP3"}]}`,
	}
	for name, c := range map[string]struct {
		beside []release.Other
		within []string
	}{"in the record": {nil, []string{definition, plan}}, "beside it": {others, nil}} {
		for _, resolved := range []bool{false, true} {
			lines := append(c.within, record...)
			r := release.DecidedBeside(t, policyOf(t, form(everyLine()...)), resolved, c.beside,
				lines...)
			out := strings.Join(released(t, r, lines...), "\n")
			for _, leak := range []string{"LEAK", "hiv-risk", "HIV-risk", "prep"} {
				if strings.Contains(out, leak) {
					t.Errorf("%s (resolved: %v): %s in\n%s", name, resolved, leak, out)
				}
			}
			for _, keep := range []string{"KEEP1", "KEEP2", "KEEP3"} {
				if !strings.Contains(out, keep) {
					t.Errorf("%s (resolved: %v): no %s in\n%s", name, resolved, keep, out)
				}
			}
		}
	}
}
