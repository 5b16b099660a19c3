package release_test

import (
	"fmt"
	"strings"
	"testing"

	"ehi-server/shared/ehi"
)

// EHI-9: a question is removed with its answer if that refers to something withheld, including
// its text and number, anywhere in the form. A group is removed with its last question. Other
// answers, and unticked targets, do not remove it.
func TestEHI9AQuestionGoesWithItsAnswer(t *testing.T) {
	withheld := `{"resourceType":"Condition","id":"w",` + hivLabel + `}`
	goes := `{"resourceType":"Condition","id":"g"}`
	unticked := `{"resourceType":"Encounter","id":"e"}`
	const w, g = `{"valueReference":{"reference":"Condition/w"}}`,
		`{"valueReference":{"reference":"Condition/g"}}`
	const kept = `{"linkId":"1","text":"KEPT","answer":[{"valueString":"x"}]}`
	asked := func(answers string) string {
		return `{"linkId":"TOLD","text":"TOLD","answer":[` + answers + `]}`
	}
	for items, want := range map[string]string{
		asked(w):                  ``,
		asked(w) + `,` + kept:     kept,
		kept + `,` + asked(w):     kept,
		asked(g) + `,` + asked(w): asked(g),
		asked(w + `,` + g):        asked(g),
		asked(`{"valueBoolean":true,"item":[` + asked(w) +
			`]}`): asked(`{"valueBoolean":true}`),
		asked(`{"valueReference":{"reference":"Condition/w"},"item":[` + kept +
			`]}`): ``,
		`{"linkId":"TOLD","text":"TOLD","item":[` + asked(w) +
			`]}`: ``,
		`{"linkId":"2","text":"GROUP","item":[` + asked(w) + `,` + kept +
			`]}`: `{"linkId":"2","text":"GROUP","item":[` + kept + `]}`,
		`{"linkId":"2","item":[{"linkId":"3","item":[` + asked(w) + `]},` + kept +
			`]}`: `{"linkId":"2","item":[` + kept + `]}`,
		`{"linkId":"2","item":[{"linkId":"3","answer":[{"valueCode":"y","item":[` + kept + `,` +
			asked(w) +
			`]}]}]}`: `{"linkId":"2","item":[{"linkId":"3","answer":[{"valueCode":"y","item":[` +
			kept + `]}]}]}`,
		`{"linkId":"TOLD","extension":[{"url":"u","valueReference":{"reference":"Condition/w"}}],` +
			`"item":[` + kept + `]}`: ``,
		asked(`{"valueReference":{"reference":"Encounter/e"}}`): asked(`{"valueReference":` +
			masked + `}`),
	} {
		line := `{"resourceType":"QuestionnaireResponse","id":"o","item":[%s],"status":"completed"}`
		expected := fmt.Sprintf(line, want)
		if want == "" {
			expected = `{"resourceType":"QuestionnaireResponse","id":"o","status":"completed"}`
		}
		line = fmt.Sprintf(line, items)
		for _, record := range [][]string{
			{withheld, goes, unticked, line}, {line, unticked, goes, withheld},
		} {
			for _, resolved := range []bool{false, true} {
				got := released(t, reviewOf(t, form(ehi.MedicalRecord), resolved, record...), line)
				if strings.Join(got, "") != expected {
					t.Errorf("%s became %v, want %s", line, got, expected)
				}
			}
		}
	}
}
