package release_test

import (
	"strings"
	"testing"
)

// EHI-9: a clinic that the answer to a bill names beside a line is released only if that line of
// the bill is.
func TestEHI9AnAnswerTakesNothingAlongForALineThatItsBillLoses(t *testing.T) {
	withheld := `{"resourceType":"Condition","id":"w-0123456789ab",` + hivLabel + `}`
	bill := `{"resourceType":"Claim","id":"c","diagnosis":[{"sequence":1,` +
		`"diagnosisReference":{"reference":"Condition/w-0123456789ab"}}],` +
		`"item":[{"sequence":1,"diagnosisSequence":[1]},{"sequence":2}]}`
	other := `{"resourceType":"Claim","id":"c2","item":[{"sequence":1}]}`
	clinic := func(id string) string {
		return `{"resourceType":"Location","id":"` + id + `","name":"NAME-` + id + `"}`
	}
	answer := func(to, id, number string) string {
		return `{"resourceType":"ClaimResponse","id":"r-` + id + `","request":` + to +
			`,"addItem":[{"itemSequence":[` + number +
			`],"locationReference":{"reference":"Location/` + id + `"}}]}`
	}
	for _, resolved := range []bool{false, true} {
		lines := []string{
			withheld, bill, other, clinic("lost"), clinic("goes"), clinic("other"), clinic("any"),
			answer(`{"reference":"Claim/c"}`, "lost", "1"),
			answer(`{"reference":"Claim/c"}`, "goes", "2"),
			answer(`{"reference":"Claim/c2"}`, "other", "1"),
			answer(`{"identifier":{"value":"x-9"}}`, "any", "1"),
		}
		for range 2 {
			out := strings.Join(
				released(t, reviewOf(t, form(everyLine()...), resolved, lines...), lines...), "\n")
			for id, want := range map[string]bool{
				"lost":  false,
				"goes":  true,
				"other": true,
				"any":   false,
			} {
				if strings.Contains(out, "NAME-"+id) != want {
					t.Errorf("%s (resolved: %v) went: %v\n%s", id, resolved, !want, out)
				}
			}
			lines = append(lines[7:], lines[:7]...)
		}
	}
}
