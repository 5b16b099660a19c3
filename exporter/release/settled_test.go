package release

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ehi-server/shared/ehi"
)

const hivLabel = `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]}`

// EHI-9: a resource that is only about another one is withheld with it, even if an earlier line
// of that one did not withhold it and only a later line does.
func TestEHI9WhatCameOnceMoreIsDecidedAboutAnew(t *testing.T) {
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	p, err := rules.Policy(&ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{
		ehi.MedicalRecord: {},
		ehi.Visits:        {},
		ehi.Billing:       {},
	}}, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	first, again := `{"resourceType":"Condition","id":"c"}`,
		`{"resourceType":"Condition","id":"c",`+hivLabel+`}`
	about := `{"resourceType":"Provenance","id":"p","target":[{"reference":"Condition/c"}],` +
		`"recorded":"2020-01-01T00:00:00Z"}`
	of := `{"resourceType":"Provenance","id":"q","target":[{"reference":"Provenance/p"}],` +
		`"recorded":"2020-01-02T00:00:00Z"}`
	for _, lines := range [][]string{
		{first, about, of}, {first, about, of, again}, {first, about, again, of},
		{first, again, about, of}, {again, first, about, of},
		{about, of, first, again}, {about, first, of, again},
	} {
		for _, resolved := range []bool{false, true} {
			x := Decided(t, p, resolved, lines...).Releaser()
			for _, line := range lines {
				_, goes, err := x.Release([]byte(line))
				if want := len(lines) == 3; goes != want || err != nil {
					t.Errorf("of\n%s\nthis goes: %v, want %v (%v):\n%s", strings.Join(lines, "\n"),
						goes, want, err, line)
				}
			}
		}
	}
}

// EHI-9: resources that are only about the Patient are not recorded while the Patient is
// released; otherwise they are withheld.
func TestEHI9WhatIsAboutThePatientGoesWithHim(t *testing.T) {
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[ehi.Category]ehi.Choice{ehi.MedicalRecord: {}, ehi.Visits: {}, ehi.Labs: {}}
	p, err := rules.Policy(&ehi.ReleaseForm{Parameters: lines}, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	const other = "0f5a7c1e-3f0b-4a53-9d3b-2d3c7b8a9e10"
	patient := `{"resourceType":"Patient","id":"p"}`
	cleaned := `{"resourceType":"Patient","id":"p",` + hivLabel + `}`
	specimen := `{"resourceType":"Specimen","id":"s","subject":{"reference":"Patient/p"}}`
	held := `{"resourceType":"Bundle","id":"b","type":"collection",` + hivLabel +
		`,"entry":[{"resource":{"resourceType":"Patient","id":"` + other + `"}}]}`
	same := `{"resourceType":"Bundle","id":"c","type":"collection","entry":[` +
		`{"fullUrl":"urn:uuid:` + other + `","resource":{"resourceType":"Patient","id":"p"}}]}`
	for _, c := range []struct {
		lines []string
		goes  bool
	}{
		{[]string{patient, specimen}, true},
		{[]string{patient, specimen, held}, true},
		{[]string{patient, specimen, held, same}, false},
		{[]string{cleaned, specimen, held}, true},
		{[]string{cleaned, specimen, held, same}, false},
	} {
		r := p.Review()
		o := r.Observer()
		for _, line := range c.lines {
			if err := o.Observe([]byte(line)); err != nil {
				t.Fatal(err)
			}
		}
		if n := o.pointers.selves.n; c.goes && n != 0 {
			t.Errorf("%d pointers are kept of %s", n, c.lines)
		}
		_, goes, err := Decided(t, p, true, c.lines...).Releaser().Release([]byte(specimen))
		if goes != c.goes || err != nil {
			t.Errorf("of\n%s\nthe specimen goes: %v, want %v (%v)", strings.Join(c.lines, "\n"),
				goes, c.goes, err)
		}
	}
}

// EHI-9: settling targets during observation changes no decision.
func TestEHI9NothingIsSettledTooEarly(t *testing.T) {
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		p, err := rules.Policy(drawForm(t), ehi.KickOff{})
		if err != nil {
			t.Fatal(err)
		}
		lines := drawRecord(t, "ExplanationOfBenefit", "ClaimResponse", "Communication", "Goal",
			"Binary")
		for range rapid.IntRange(0, 3).Draw(t, "twice") {
			once := rapid.SampledFrom(lines).Draw(t, "once")
			again := strings.TrimSuffix(once, "}") + "," + hivLabel + "}"
			lines = slices.Insert(lines, rapid.IntRange(0, len(lines)).Draw(t, "place"), again)
		}
		resolved := rapid.Bool().Draw(t, "resolved")
		got, want := Decided(t, p, resolved, lines...), p.Review()
		want.unsure = true
		o := want.Observer()
		for _, line := range lines {
			if err := o.Observe([]byte(line)); err != nil {
				t.Fatal(err)
			}
		}
		if resolved {
			want.Resolved()
		}
		if want.Conclude() != nil {
			t.Fatal("it relied on something")
		}
		x, y := got.Releaser(), want.Releaser()
		for _, line := range lines {
			out, goes, err := x.Release([]byte(line))
			left, stands, wrong := y.Release([]byte(line))
			if goes != stands || string(out) != string(left) || (err == nil) != (wrong == nil) {
				t.Fatalf("%s\nbecame %v %s (%v)\n  want %v %s (%v)", line, goes, out, err, stands,
					left, wrong)
			}
		}
	})
}
