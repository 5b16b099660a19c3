package release_test

import (
	"slices"
	"strings"
	"testing"

	"ehi-server/shared/ehi"
)

// allBut returns a form with every line ticked except some, and nothing authorized.
func allBut(off ...ehi.Category) *ehi.ReleaseForm {
	var on []ehi.Category
	for _, c := range ehi.Categories() {
		if !slices.Contains(off, c.Key) {
			on = append(on, c.Key)
		}
	}
	return form(on...)
}

// EHI-9: a copy is recognized by the identifier of a withheld resource, even if another withheld
// holder has a copy without it.
func TestEHI9ACopyStaysThoughAnotherHolderHasOneToo(t *testing.T) {
	withheld := `{"resourceType":"ClaimResponse","id":"w","identifier":[{"value":"CR-7",` +
		`"system":"urn:x"}],` + hivLabel + `}`
	parameters := func(id, label, inner string) string {
		return `{"resourceType":"Parameters","id":"` + id + `",` + label +
			`"parameter":[{"resource":` + inner + `}]}`
	}
	stays := parameters("q", hivLabel+",",
		`{"resourceType":"ClaimResponse","note":[{"text":"LEAK"}],"id":"w"}`)
	copied := parameters("o", "",
		`{"resourceType":"ClaimResponse","note":[{"text":"LEAK"}],`+
			`"identifier":[{"value":"CR-7"}],"id":"same"}`)
	for _, lines := range [][]string{
		{withheld, copied}, {withheld, stays, copied}, {copied, stays, withheld},
		{stays, withheld, copied},
	} {
		for _, resolved := range []bool{true, false} {
			x := reviewOf(t, allBut(), resolved, lines...).Releaser()
			for _, line := range lines {
				left, _, err := x.Release([]byte(line))
				if err != nil || strings.Contains(string(left), "LEAK") {
					t.Errorf("of %v %s goes, %v", lines, left, err)
				}
			}
		}
	}
}

// EHI-8, EHI-9: a resource inside a Bundle or a Parameters is released if it would be released
// on a line of its own, together with its entry.
func TestEHI9AResourceWithinAnotherGoesWhereItWouldGoByItself(t *testing.T) {
	const b20 = `"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}],` +
		`"text":"LEAK"}`
	const withheld = `{"resourceType":"Condition","id":"withheld-0123456789",` +
		`"identifier":[{"system":"urn:x","value":"PROB-7"}],` + b20 + `}`
	const goes = `{"resourceType":"Condition","id":"goes"}`
	const visit, bill = `{"resourceType":"Encounter","id":"v","reasonCode":[{"text":"LEAK"}]}`,
		`{"resourceType":"Claim","id":"b","item":[{"note":"LEAK"}]}`
	const problem = `{"resourceType":"Condition","id":"a","code":{"text":"cold"}}`
	const uuid = "5a0ee1a6-1111-4222-8333-123456789abc"
	bundle := func(entries ...string) string {
		return `{"resourceType":"Bundle","id":"x","type":"collection","entry":[` +
			strings.Join(entries, ",") + `]}`
	}
	parameters := func(entries ...string) string {
		return `{"resourceType":"Parameters","id":"x","parameter":[` + strings.Join(entries, ",") +
			`]}`
	}
	entry := func(resource string, others ...string) string {
		return `{` + strings.Join(append([]string{`"resource":` + resource}, others...), ",") + `}`
	}
	const noEntry, noParameter = `{"resourceType":"Bundle","id":"x","type":"collection"}`,
		`{"resourceType":"Parameters","id":"x"}`
	for _, c := range []struct {
		off        ehi.Category
		line, want string
	}{
		// By form line.
		{
			ehi.Visits,
			bundle(entry(visit, `"fullUrl":"https://e.example/Encounter/v"`), entry(problem)),
			bundle(entry(problem)),
		},
		{
			ehi.Labs,
			bundle(entry(visit, `"fullUrl":"https://e.example/Encounter/v"`), entry(problem)),
			bundle(entry(visit, `"fullUrl":"https://e.example/Encounter/v"`), entry(problem)),
		},
		{ehi.Billing, bundle(entry(bill)), noEntry},
		{
			ehi.Visits,
			parameters(entry(visit, `"name":"LEAK"`), `{"name":"a","valueString":"b"}`),
			parameters(`{"name":"a","valueString":"b"}`),
		},
		{
			ehi.Visits,
			parameters(`{"name":"LEAK","part":[{"name":"LEAK","valueString":"LEAK"},` +
				entry(visit) + `]}`),
			noParameter,
		},
		{
			ehi.Visits,
			parameters(`{"name":"a","part":[{"name":"LEAK"},{"part":[` + entry(visit) + `]},` +
				entry(problem) + `]}`),
			parameters(`{"name":"a","part":[` + entry(problem) + `]}`),
		},
		// A Bundle inside a Bundle, inside a Parameters.
		{
			ehi.Visits,
			parameters(
				entry(strings.Replace(bundle(entry(visit), entry(problem)), `"x"`, `"y"`, 1))),
			parameters(entry(strings.Replace(bundle(entry(problem)), `"x"`, `"y"`, 1))),
		},
		{
			"",
			bundle(entry(goes),
				`{"response":{"outcome":{"resourceType":"OperationOutcome",`+
					`"issue":[{"details":{"coding":[{"code":"F11.20"}],"text":"LEAK"}}]},`+
					`"status":"200"}}`),
			bundle(entry(goes)),
		},
		// Sensitive resources at any place.
		{
			"",
			bundle(entry(`{"resourceType":"Observation",`+hivLabel+`}`,
				`"fullUrl":"urn:uuid:`+uuid+`"`), entry(problem)),
			bundle(entry(problem)),
		},
		{
			"",
			bundle(`{"link":[{"url":"LEAK"}],"a":{"b":{"resourceType":"Observation",`+hivLabel+
				`}}}`, entry(problem)),
			bundle(entry(problem)),
		},
		{
			"",
			`{"resourceType":"Bundle","id":"x","signature":{"data":"LEAK"},"entry":[` +
				entry(problem) + `,` + entry(strings.Replace(withheld, "withheld", "another", 1)) +
				`]}`,
			`{"resourceType":"Bundle","id":"x","entry":[` + entry(problem) + `]}`,
		},
		{
			"",
			`{"resourceType":"Bundle","id":"x","signature":{"data":"goes"},"entry":[` +
				entry(problem) + `]}`,
			`{"resourceType":"Bundle","id":"x","signature":{"data":"goes"},"entry":[` +
				entry(problem) + `]}`,
		},
		{
			"",
			bundle(entry(`{"resourceType":"Patient","id":"p",` +
				`"extension":[{"valueCoding":{"code":"F11.20","display":"LEAK"}}],"active":true}`)),
			bundle(entry(`{"resourceType":"Patient","id":"p","active":true}`)),
		},
		// Resources about something withheld, which is on a line of its own, or in the same
		// Bundle.
		{
			"",
			bundle(entry(`{"resourceType":"Provenance","id":"a","target":[`+withheldRef+
				`],"activity":{"text":"LEAK"}}`), entry(problem)),
			bundle(entry(problem)),
		},
		{
			"",
			bundle(entry(`{"resourceType":"Provenance","target":[{"reference":"urn:uuid:`+uuid+
				`"}],"activity":{"text":"LEAK"}}`),
				entry(`{"resourceType":"Condition",`+b20+`}`, `"fullUrl":"urn:uuid:`+uuid+`"`),
				entry(problem)),
			bundle(entry(problem)),
		},
		{
			"",
			bundle(entry(`{"resourceType":"Provenance","target":[{"reference":"urn:uuid:`+uuid+
				`"}],"activity":{"text":"LEAK"}}`),
				entry(`{"resourceType":"Condition","id":"other",`+b20+`}`,
					`"fullUrl":"urn:uuid:`+uuid+`"`), entry(problem)),
			bundle(entry(problem)),
		},
		{
			ehi.Visits,
			bundle(entry(`{"resourceType":"Claim","id":"b","item":[{"sequence":1,`+
				`"encounter":[{"reference":"urn:uuid:`+uuid+`"}],"note":"goes"}]}`),
				entry(visit, `"fullUrl":"urn:uuid:`+uuid+`"`)),
			bundle(entry(`{"resourceType":"Claim","id":"b","item":[{"sequence":1,"encounter":[` +
				masked + `],"note":"goes"}]}`)),
		},
		{
			"",
			parameters(`{"name":"LEAK","valueReference":`+withheldRef+`}`,
				`{"name":"a","valueReference":`+goesRef+`}`),
			parameters(`{"name":"a","valueReference":` + goesRef + `}`),
		},
		{
			"",
			bundle(
				entry(`{"resourceType":"List","id":"l","entry":[{"flag":{"text":"LEAK"},"item":` +
					withheldRef + `},{"item":` + goesRef + `}]}`)),
			bundle(entry(`{"resourceType":"List","id":"l","entry":[{"item":` + goesRef + `}]}`)),
		},
		// Copies, by type and id, fullUrl or identifier.
		{
			"",
			bundle(entry(`{"resourceType":"Condition","id":"withheld-0123456789","note":"LEAK"}`),
				entry(problem)),
			bundle(entry(problem)),
		},
		{
			"",
			bundle(entry(`{"resourceType":"Condition","id":"copy","note":"LEAK"}`,
				`"fullUrl":"https://e.example/Condition/withheld-0123456789"`), entry(problem)),
			bundle(entry(problem)),
		},
		{
			"",
			bundle(entry(`{"resourceType":"Condition","note":"LEAK"}`,
				`"fullUrl":"https://e.example/Condition/withheld-0123456789"`), entry(problem)),
			bundle(entry(problem)),
		},
		{
			"",
			bundle(entry(`{"resourceType":"Condition","id":"copy","note":"LEAK"}`,
				`"fullUrl":"urn:uuid:withheld-0123456789"`), entry(problem)),
			bundle(entry(problem)),
		},
		{
			"",
			bundle(entry(`{"resourceType":"Condition","id":"copy",`+
				`"identifier":[{"value":"prob-7"}],"note":"LEAK"}`), entry(problem)),
			bundle(entry(problem)),
		},
		{
			"",
			bundle(entry(`{"resourceType":"Observation","id":"copy","note":"goes"}`,
				`"fullUrl":"https://e.example/Condition/goes"`), entry(problem)),
			bundle(entry(`{"resourceType":"Observation","id":"copy","note":"goes"}`,
				`"fullUrl":"https://e.example/Condition/goes"`), entry(problem)),
		},
		{
			"",
			bundle(`{"request":{"method":"DELETE","url":"Condition/withheld-0123456789"}}`),
			bundle(`{"request":{"method":"DELETE","_url":` + masked + `}}`),
		},
		// A holder of only withheld resources is withheld, even if it also holds a Patient.
		{
			"",
			bundle(entry(`{"resourceType":"Patient","id":"p"}`),
				entry(`{"resourceType":"Condition","id":"z",`+b20+`}`)),
			"",
		},
		{
			"",
			bundle(entry(`{"resourceType":"Patient","id":"p"}`)),
			bundle(entry(`{"resourceType":"Patient","id":"p"}`)),
		},
		{"", bundle(), bundle()},
		// Any resource that contains another one counts as its holder.
		{
			ehi.Visits,
			`{"resourceType":"Observation","id":"x","component":[{"valueResource":` + visit +
				`},{"valueString":"a"}]}`,
			`{"resourceType":"Observation","id":"x","component":[{"valueString":"a"}]}`,
		},
	} {
		record := []string{withheld, goes, c.line}
		for _, line := range []string{
			c.line,
			strings.ReplaceAll(c.line, `"resource"`, `"r\u0065source"`),
			strings.ReplaceAll(c.line, `resourceType`, `resourc\u0065Type`),
		} {
			for _, resolved := range []bool{false, true} {
				record[2] = line
				r := reviewOf(t, allBut(c.off), resolved, record...)
				got := slices.DeleteFunc(released(t, r, record...), func(s string) bool {
					return s == goes
				})
				if line != c.line {
					for i := range got {
						got[i] = strings.NewReplacer(`r\u0065source`, `resource`,
							`resourc\u0065Type`, `resourceType`).Replace(got[i])
					}
				}
				if strings.Join(got, "") != c.want {
					t.Errorf("without %q %s became\n%s, want\n%s", c.off, line, got, c.want)
				}
			}
		}
	}
}

// EHI-8, EHI-9: persons, places and things inside a Bundle are released with it, unless a
// withheld resource refers to them, and no released one does.
func TestEHI9WhatABundleHoldsItTellsOf(t *testing.T) {
	const clinic = `{"resourceType":"Organization","id":"clinic-0123456789"}`
	const ref = `{"reference":"Organization/clinic-0123456789"}`
	const bundle = `{"resourceType":"Bundle","id":"x","entry":[{"resource":` + clinic +
		`},{"resource":{"resourceType":"Observation","id":"o"}}]}`
	const bare = `{"resourceType":"Bundle","id":"x",` +
		`"entry":[{"resource":{"resourceType":"Observation","id":"o"}}]}`
	const stays = `{"resourceType":"Condition","id":"c",` + hivLabel + `,"recorder":` + ref + `}`
	const uses = `{"resourceType":"Condition","id":"d","recorder":` + ref + `}`
	for i, c := range []struct {
		record []string
		want   string
	}{
		{[]string{bundle}, bundle},
		{[]string{bundle, stays}, bare},
		{[]string{bundle, stays, uses}, bundle + uses},
		{[]string{bundle, stays, clinic}, bare},
		{[]string{bundle, clinic}, bundle + clinic},
		{
			[]string{
				strings.Replace(bundle, `"id":"o"`, `"id":"o","performer":[`+ref+`]`, 1),
				stays,
			},
			strings.Replace(bundle, `"id":"o"`, `"id":"o","performer":[`+ref+`]`, 1),
		},
		{[]string{strings.Replace(bundle, `"id":"x"`, `"id":"x",`+hivLabel, 1), clinic}, ""},
	} {
		for _, resolved := range []bool{false, true} {
			got := strings.Join(
				released(t, reviewOf(t, allBut(), resolved, c.record...), c.record...), "")
			if got != c.want {
				t.Errorf("%d: %s became\n%s, want\n%s", i, c.record, got, c.want)
			}
		}
	}
}

// EHI-8: an unticked copy, or one without a date, is withheld there; its original is released.
func TestEHI8AnUntickedCopyKeepsNothing(t *testing.T) {
	const original = `{"resourceType":"Encounter","id":"v","period":{"start":"2020-01-01",` +
		`"end":"2020-01-01"}}`
	const bundle = `{"resourceType":"Bundle","id":"x",` +
		`"entry":[{"resource":{"resourceType":"Encounter","id":"v","note":"LEAK"}},` +
		`{"resource":{"resourceType":"Observation","id":"o"}}]}`
	const want = `{"resourceType":"Bundle","id":"x",` +
		`"entry":[{"resource":{"resourceType":"Observation","id":"o"}}]}`
	f := form(ehi.MedicalRecord)
	f.Parameters[ehi.Visits] = ehi.Choice{From: "2019", To: "2021"}
	for _, resolved := range []bool{false, true} {
		for _, record := range [][]string{{original, bundle}, {bundle, original}} {
			got := released(t, reviewOf(t, f, resolved, record...), record...)
			slices.Sort(got)
			if len(got) != 2 || got[0] != want || got[1] != original {
				t.Errorf("%s became %s", record, got)
			}
		}
	}
}

// EHI-8: the preview counts a Bundle by its own form line, and by its content if all of that is
// withheld.
func TestEHI8APreviewCountsABundleAsItGoes(t *testing.T) {
	const b20 = `"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}]}`
	const clinic = `{"resourceType":"Organization","id":"clinic-0123456789"}`
	const some = `{"resourceType":"Bundle","id":"x",` +
		`"entry":[{"resource":{"resourceType":"Condition","id":"a",` + b20 + `}},` +
		`{"resource":{"resourceType":"Observation","id":"o",` +
		`"performer":[{"reference":"Organization/clinic-0123456789"}]}}]}`
	const none = `{"resourceType":"Bundle","id":"x",` +
		`"entry":[{"resource":{"resourceType":"Condition","id":"a",` + b20 + `}}]}`
	for line, want := range map[string]int64{some: 2, none: 0} {
		record := []string{line, clinic}
		s, err := rules(t).Summarize(ehi.KickOff{})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range record {
			if err := s.Observe([]byte(l)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Conclude(); err != nil {
			t.Fatal(err)
		}
		p, err := rules(t).Policy(allBut(), ehi.KickOff{})
		if err != nil {
			t.Fatal(err)
		}
		counts, err := s.Summary().Count(p)
		if err != nil {
			t.Fatal(err)
		}
		went := int64(len(released(t, reviewOf(t, allBut(), true, record...), record...)))
		if counts.All.Released != want || went != want || counts.All.Stored != 2 {
			t.Errorf("of %s %d went, and %d are told of in %+v", line, went, counts.All.Released,
				counts.All)
		}
	}
}

// EHI-9: a withheld Bundle does not withhold other occurrences of its content.
func TestEHI9ABundleThatStaysKeepsNothingElse(t *testing.T) {
	const observation, patient = `{"resourceType":"Observation","id":"o"}`,
		`{"resourceType":"Patient","id":"p"}`
	const bundle = `{"resourceType":"Bundle","id":"x","entry":[{"resource":` + observation +
		`},{"resource":` + patient + `}]}`
	record := []string{patient, observation, bundle}
	want := patient + observation
	for _, f := range []*ehi.ReleaseForm{allBut(ehi.MedicalRecord), allBut()} {
		got := strings.Join(released(t, reviewOf(t, f, true, record...), record...), "")
		if got != want {
			t.Errorf("%s became %s", record, got)
		}
		record[2] = strings.Replace(bundle, `"id":"x"`, `"id":"x",`+hivLabel, 1)
	}
}
