package release_test

import (
	"strings"
	"testing"

	"ehi-server/shared/ehi"
)

// EHI-9: the answer to a bill loses everything about removed lines of the bill, wherever both
// are in the record, and however the bill is spelled. If it is unknown which bill it answers, it
// may be any.
func TestEHI9AnAnswerGoesWithoutTheLinesThatItsBillLoses(t *testing.T) {
	const withheld, goes = `{"resourceType":"Condition","id":"withheld-0123456789",` + hivLabel +
		`}`, `{"resourceType":"Condition","id":"goes"}`
	const bill = `{"resourceType":"Claim","id":"bill","diagnosis":[{"sequence":1,` +
		`"diagnosisReference":` + withheldRef + `},{"sequence":2,"diagnosisReference":` +
		goesRef +
		`}],"item":[{"sequence":1,"diagnosisSequence":[2,1]},{"sequence":2,` +
		`"diagnosisSequence":[2]},{"sequence":3,"encounter":[` + withheldRef + `]}]}`
	const other = `{"resourceType":"Claim","id":"other","item":[{"sequence":1},{"sequence":4,` +
		`"detail":[{"sequence":1,"udi":[` + withheldRef + `]}]}]}`
	answer := func(request string) string {
		return `{"resourceType":"ClaimResponse","id":"x","text":{"div":"LEAK"},` + request +
			`"disposition":"LEAK","item":[{"itemSequence":1,"noteNumber":[1]},{"itemSequence":2},` +
			`{"itemSequence":3},{"itemSequence":4}],"addItem":[{"itemSequence":[2,3]},` +
			`{"itemSequence":[2]}],"error":[{"itemSequence":3},{"itemSequence":2}],` +
			`"processNote":[{"number":1,"text":"of line 1"}]}`
	}
	left := func(request string, items ...string) string {
		return `{"resourceType":"ClaimResponse","id":"x",` + request + `"item":[` +
			strings.Join(items, ",") +
			`],"addItem":[{"itemSequence":[2]}],"error":[{"itemSequence":2}]}`
	}
	const one, two, four = `{"itemSequence":1,"noteNumber":[1]}`, `{"itemSequence":2}`,
		`{"itemSequence":4}`
	const asked = `{"resourceType":"CoverageEligibilityRequest","id":"asked",` +
		`"item":[{"diagnosis":[{"diagnosisReference":` + withheldRef +
		`}]},{"category":{"text":"x"}}]}`
	const whole = `{"resourceType":"CoverageEligibilityRequest","id":"whole",` +
		`"item":[{"category":{"text":"x"}}]}`
	about := func(request, says string) string { // a statement about a coverage
		return strings.TrimSuffix(`{"resourceType":"CoverageEligibilityResponse","id":"x",`+
			`"contained":[{"resourceType":"Organization","id":"o"}],`+
			`"insurer":{"reference":"#o"},"request":{"reference":"CoverageEligibilityRequest/`+
			request+`"},`+
			says, ",") + "}"
	}
	const telling = `"disposition":"KEEP","insurance":[{"item":[{"name":"KEEP"}]}],` +
		`"error":[{"code":{"text":"KEEP"}}]`
	toBill, toOther :=
		`"request":{"reference":"Claim/bill"},`, `"request":{"reference":"Claim/other/_history/1"},`
	byName, elsewhere := `"request":{"identifier":{"value":"7"}},`,
		`"request":{"reference":"https://e.example/Claim/unknown"},`
	for line, want := range map[string]string{
		answer(toBill): left(toBill, two, four),
		answer(toOther): `{"resourceType":"ClaimResponse","id":"x",` + toOther + `"item":[` + one +
			`,` + two +
			`,{"itemSequence":3}],"addItem":[{"itemSequence":[2,3]},{"itemSequence":[2]}],` +
			`"error":[{"itemSequence":3},{"itemSequence":2}],"processNote":[{"number":1,` +
			`"text":"of line 1"}]}`,
		answer(byName): left(byName, two),
		answer(""):     left("", two),
		about("asked", strings.ReplaceAll(telling, "KEEP", "LEAK")): about("asked", ""),
		about("whole", telling): about("whole", telling),
		about("whole",
			`"disposition":"LEAK","insurance":[{"item":[{"category":{"text":"LEAK"},"provider":`+
				withheldRef+
				`}]},{"item":[{"name":"KEEP"}]}],"error":[{"code":{"text":"LEAK",`+
				`"extension":[{"url":"u","valueReference":`+
				withheldRef+`}]}},{"code":{"text":"KEEP"}}]`): about("whole",
			strings.Replace(telling, `"disposition":"KEEP",`, "", 1)),
	} {
		testAnswer(t, []string{line, withheld, goes, bill, other, asked, whole}, want)
		escaped := strings.ReplaceAll(bill, `"sequence"`, `"sequenc\u0065"`)
		testAnswer(t, []string{withheld, goes, escaped, other, asked, whole, line}, want)
	}
	testAnswer(t, []string{withheld, goes, bill, other, answer(elsewhere)}, left(elsewhere, two))
}

// testAnswer checks that the resource x of a record is released as want.
func testAnswer(t *testing.T, record []string, want string) {
	t.Helper()
	var categories []ehi.Category
	for _, c := range ehi.Categories() {
		categories = append(categories, c.Key)
	}
	for _, resolved := range []bool{false, true} {
		if resolved && strings.Contains(strings.Join(record, ""), "unknown") {
			continue
		}
		for _, line := range released(t, reviewOf(t, form(categories...), resolved, record...),
			record...) {
			if strings.Contains(line, `"id":"x"`) && line != want {
				t.Errorf("resolved %v:\n%s, want\n%s", resolved, line, want)
			}
		}
	}
}
