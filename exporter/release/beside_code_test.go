package release_test

import (
	"strings"
	"testing"

	"ehi-server/exporter/release"
	"ehi-server/shared/ehi"
)

// EHI-9: a code or a system alone does not make a Coding of a Reference, at any place before the
// display.
func TestEHI9AStrayCodeHidesNoDisplay(t *testing.T) {
	for _, beside := range []string{
		`"version":"1","code":"c",`, `"version":"1","system":"s",`, `"code":"c","version":"1",`,
		`"id":"1","code":"c",`,
	} {
		r := review(t, form(ehi.MedicalRecord, ehi.Visits, ehi.Labs),
			`{"resourceType":"Condition","id":"hiv-0123456789",`+
				`"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}]}}`)
		got := released(t, r, `{"resourceType":"Procedure","id":"p","status":"completed",`+
			`"reasonReference":[{`+beside+`"display":"SECRET"}]}`)
		if s := strings.Join(got, "\n"); strings.Contains(s, "SECRET") {
			t.Errorf("%s: went out %s", beside, s)
		}
	}
}

// EHI-9: a code that a text or display shows as a number counts like one in a text.
func TestEHI9ANumberMayShowACode(t *testing.T) {
	for _, field := range []string{
		`"type":[{"text":86406008}]`,
		`"type":[{"text": 86406008 }]`,
		`"type":[{"coding":[{"display":86406008}]}]`,
	} {
		line := `{"resourceType":"Encounter","id":"e","status":"finished",` + field + `}`
		plain := strings.Replace(line, "86406008", "null", 1)
		r := review(t, form(ehi.MedicalRecord, ehi.Visits), plain, plain, plain, line)
		if got := released(t, r, line); len(got) > 0 {
			t.Errorf("%s: went out %s", field, got)
		}
	}
}

// EHI-8: a date counts in any spelling.
func TestEHI8ADateWithEscapesIsADate(t *testing.T) {
	rules, err := release.RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	f := form(ehi.Labs)
	f.Parameters[ehi.Labs] = ehi.Choice{From: "2015"}
	p, err := rules.Policy(f, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	for date, goes := range map[string]bool{
		`2010-01-01`:                false,
		`\u00320\u0031\u0030-01-01`: false,
		`2016\u002d01-01`:           true,
		`\u0032016`:                 true,
	} {
		line := `{"resourceType":"Observation","id":"o",` +
			`"category":[{"coding":[{"code":"laboratory"}]}],` +
			`"effectiveDateTime":"` + date + `","issued":"2017-01-01T00:00:00Z"}`
		if _, ok, err := p.Filter().Releaser().Release([]byte(line)); err != nil || ok != goes {
			t.Errorf("%s: goes %v, %v", date, ok, err)
		}
	}
}
