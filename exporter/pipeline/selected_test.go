package pipeline_test

import (
	"strings"
	"testing"

	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/release"
	"ehi-server/exporter/selection"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// asked is what a kick-off of a population asks for.
func asked(t *testing.T, parameters ...string) ehi.KickOff {
	t.Helper()
	a := ehi.Asked{Level: ehi.AllPatients, Operation: ehi.EHIExport}
	for _, p := range parameters {
		name, value, _ := strings.Cut(p, "=")
		a.Parameters = append(a.Parameters, fhir.Parameter{Name: name, Value: value})
	}
	k, err := ehi.ParseKickOff(a)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// EHI-6: what a resource is, and when it happened, is told by all of it, also where only some
// elements are asked for.
func TestEHI6ElementsDecideNothing(t *testing.T) {
	s := newStore(t)
	k := asked(t, "category=visits", "from=2020", "_elements=status")
	record := lines{list: []string{
		`Observation {"resourceType":"Observation","id":"lab","status":"final",` +
			`"category":[{"coding":[{"code":"laboratory"}]}]}`,
		`Encounter {"resourceType":"Encounter","id":"old","status":"finished",` +
			`"period":{"start":"2010-01-01","end":"2010-01-02"}}`,
		`Encounter {"resourceType":"Encounter","id":"new","status":"finished",` +
			`"period":{"start":"2021-01-01","end":"2021-01-02"}}`,
	}}
	work := task(t, s, record, nil)
	rules, err := release.RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	if work.Policy, err = rules.Policy(nil, k); err != nil {
		t.Fatal(err)
	}
	work.Population, work.Selector = true, selection.New(k)
	res, err := pipeline.Run(t.Context(), work)
	if err != nil {
		t.Fatal(err)
	}
	got := contents(t, s, res)
	if len(got) != 1 || strings.Count(got["Encounter"], "\n") != 1 ||
		!strings.Contains(got["Encounter"], `"new"`) ||
		strings.Contains(got["Encounter"], "period") {
		t.Errorf("went out %q", got)
	}
}

// EHI-9: what a form masks stays masked whatever elements are asked for, and no search finds it.
func TestEHI9NoSelectionGetsAtWhatIsMasked(t *testing.T) {
	record := lines{list: []string{
		`Condition {"resourceType":"Condition","id":"hiv-0123456789",` +
			`"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}]}}`,
		`Encounter {"resourceType":"Encounter","id":"e","status":"finished",` +
			`"text":{"status":"generated","div":"<div>SECRET</div>"},"class":{"code":"AMB"},` +
			`"diagnosis":[{"condition":{"reference":"Condition/hiv-0123456789"}}]}`,
		`Claim {"resourceType":"Claim","id":"c","status":"active","diagnosis":[{"sequence":1,` +
			`"diagnosisReference":` +
			`{"reference":"Condition/hiv-0123456789"}}],"item":[{"sequence":1,` +
			`"diagnosisSequence":[1],` +
			`"productOrService":{"text":"SECRET"}},{"sequence":2,` +
			`"productOrService":{"text":"plain"}}]}`,
	}}
	form := &ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{
		ehi.Visits: {}, ehi.Billing: {}, ehi.MedicalRecord: {},
	}}
	for _, c := range []struct {
		asked, types string
	}{
		{"_elements=text,item", "Claim Encounter"},
		{"_typeFilter=Encounter?diagnosis=Condition/hiv-0123456789", "Claim"},
		{"_typeFilter=Encounter?status=finished", "Claim Encounter"},
	} {
		s := newStore(t)
		work := task(t, s, record, form)
		work.Selector = selection.New(asked(t, c.asked))
		res, err := pipeline.Run(t.Context(), work)
		if err != nil {
			t.Fatal(err)
		}
		var types []string
		for _, f := range res.Files {
			types = append(types, f.Type)
		}
		if got := strings.Join(types, " "); got != c.types {
			t.Errorf("%s: %s went out, expected %s", c.asked, got, c.types)
		}
		for _, content := range contents(t, s, res) {
			if strings.Contains(content, "SECRET") || strings.Contains(content, "hiv-") {
				t.Errorf("%s: went out\n%s", c.asked, content)
			}
		}
	}
}
