package release_test

import (
	"fmt"
	"strings"
	"testing"

	"ehi-server/exporter/release"
	"ehi-server/shared/ehi"
)

// EHI-9: a reference to a sensitive resource outside the record is masked, and a resource wholly
// about it is withheld: by another server's URL, by an identifier in any system, in an
// extension. A short number only masks the Reference, and references to harmless resources are
// released.
func TestEHI9WhatLeadsToASensitiveResourceBesideTheRecordIsMasked(t *testing.T) {
	ways := func(typ, id, value string) []string {
		return []string{
			`{"reference":"https://other.example/fhir/` + typ + `/` + id + `","display":"SAID"}`,
			`{"reference":"https://other.example/fhir/` + typ + `/` + id +
				`/_history/3","display":"SAID"}`,
			`{"reference":"https://other.example/fhir/` + typ + `%2F` + id + `","display":"SAID"}`,
			`{"reference":"https://other.example/fhir/` + typ + `?_id=` + id +
				`","display":"SAID"}`,
			`{"reference":"https://other.example/fhir/` + typ + `?identifier=urn:y|` + value +
				`","display":"SAID"}`,
			`{"identifier":{"value":"` + value + `"},"display":"SAID"}`,
			`{"identifier":{"system":"urn:y","value":"` + value + `"},"display":"SAID"}`,
			`{"identifier":{"value":" ` + strings.ToUpper(value) + ` "},"display":"SAID"}`,
			`{"reference":"https://other.example/x","identifier":{"value":"` + value +
				`"},"display":"SAID"}`,
		}
	}
	patient := `{"resourceType":"Patient","id":"p"}`
	for _, typ := range []string{
		"Medication", "Device", "Organization", "Condition", "PlanDefinition",
	} {
		for _, called := range []struct {
			id, value string
			certain   bool
		}{{"truvada-tab", "drug-77", true}, {"1234567", "7654321", true}, {"12", "7", false}} {
			for _, harm := range []string{hivLabel, `"meta":{}`} {
				line := `{"resourceType":"` + typ + `","id":"` + called.id + `",` + harm +
					`,"identifier":[{"system":"urn:x","value":"` + called.value + `"}]}`
				other := release.Other{
					Line:   line,
					Type:   typ,
					ID:     called.id,
					Values: []string{called.value},
				}
				for _, way := range ways(typ, called.id, called.value) {
					for _, c := range []struct {
						line  string
						whole bool // it is only about that resource
					}{
						{
							`{"resourceType":"MedicationRequest","id":"x1","medicationReference":` +
								way + `}`,
							true,
						},
						{`{"resourceType":"DeviceUseStatement","id":"x1","device":` + way +
							`}`, true},
						{
							`{"resourceType":"Procedure","id":"x1","reasonReference":[` + way +
								`]}`,
							true,
						},
						{`{"resourceType":"Observation","id":"x1","device":` + way + `}`, false},
						{
							`{"resourceType":"Condition","id":"x1","extension":[{"url":"urn:e",` +
								`"valueReference":` + way + `}]}`,
							false,
						},
						{
							`{"resourceType":"Claim","id":"x1","item":[{"sequence":1,"udi":[` +
								way + `]}]}`,
							false,
						},
						{
							`{"resourceType":"Appointment","id":"x1","participant":[{"actor":` +
								way + `}]}`,
							false,
						},
					} {
						for _, resolved := range []bool{false, true} {
							r := release.DecidedBeside(t, policyOf(t, form(everyLine()...)),
								resolved, []release.Other{other}, patient, c.line)
							got := strings.Join(released(t, r, patient, c.line), "\n")
							withheld := harm == hivLabel
							if strings.Contains(got, "SAID") == withheld {
								t.Errorf("beside %s (resolved: %v)\n%s became\n%s", line, resolved,
									c.line, got)
							}
							goes := strings.Contains(got, `"x1"`)
							if goes != !(withheld && c.whole && called.certain) {
								t.Errorf("beside %s (resolved: %v)\n%s went: %v", line, resolved,
									c.line, goes)
							}
							for reason, n := range r.Withheld() {
								if strings.HasPrefix(reason, "sensitive") {
									t.Errorf("%d are counted as withheld that are not in the "+
										"record: %s", n, reason)
								}
							}
						}
					}
				}
			}
		}
	}
}

// EHI-9: so is a relative reference to another patient's sensitive resource, in each place and
// spelling. Texts about it stay too, and what is only about it. Nothing stays for a harmless one.
func TestEHI9ARelativeReferenceLeadsToWhatIsBesideTheRecord(t *testing.T) {
	const sound = `{"reference":"Observation/sound"}`
	for _, ref := range []string{
		`{"reference":"Observation/others-result-01","display":"SAID"}`,
		`{"reference":"Observation/others-result-01/_history/2","display":"SAID"}`,
		`{"ref\u0065rence":"Observation\/others-result-01","display":"SAID"}`,
	} {
		for line, stays := range map[string]bool{
			`{"resourceType":"List","id":"x1","entry":[{"item":` + ref + `}]}`:       true,
			`{"resourceType":"Basic","id":"x1","subject":` + ref + `}`:               true,
			`{"resourceType":"Procedure","id":"x1","reasonReference":[` + ref + `]}`: true,
			`{"resourceType":"List","id":"x1",` + told + `,"entry":[{"item":` + ref + `},{"item":` +
				sound + `}]}`: false,
			`{"resourceType":"DiagnosticReport","id":"x1",` + told + `,"conclusion":"TOLD",` +
				`"presentedForm":[{"title":"TOLD"}],"result":[` + ref + `,` + sound + `]}`: false,
			`{"resourceType":"Condition","id":"x1",` + told + `,"extension":[{"url":"urn:x",` +
				`"valueReference":` + ref + `}]}`: false,
			`{"resourceType":"Condition","id":"x1",` + told + `,"contained":[{"id":"l",` +
				`"resourceType":"List","entry":[{"item":` + ref + `},{"item":` + sound + `}]}],` +
				`"extension":[{"url":"urn:x","valueReference":{"reference":"#l"}}]}`: false,
		} {
			for _, harm := range []string{hivLabel, `"meta":{}`} {
				other := release.Other{
					Line: `{"resourceType":"Observation","id":"others-result-01",` + harm + `}`,
					Type: "Observation", ID: "others-result-01",
				}
				others := []release.Other{other}
				for _, early := range []bool{false, true} {
					r := release.DecidedLooking(t, policyOf(t, form(everyLine()...)), false, early,
						others, line, soundPart)
					got, told := released(t, r, line), strings.Count(line, "TOLD")
					all := strings.Join(got, "")
					if harm == hivLabel && (stays != (len(got) == 0) ||
						strings.Contains(all, "SAID") || strings.Contains(all, "TOLD")) ||
						harm != hivLabel && (len(got) != 1 || strings.Count(all, "TOLD") != told) {
						t.Errorf("with %s\n%s\nbecame %s", other.Line, line, all)
					}
				}
				s, err := rules(t).Summarize(ehi.KickOff{})
				if err != nil {
					t.Fatal(err)
				}
				s.Loose()
				if err := s.Observe([]byte(line)); err != nil {
					t.Fatal(err)
				}
				release.ShowOthers(t, s, others)
				if err := s.Conclude(); err != nil {
					t.Fatal(err)
				}
				counts, err := s.Summary().Count(policyOf(t, form(everyLine()...)))
				if want := stays && harm == hivLabel; err != nil ||
					(counts.All.Released == 0) != want {
					t.Errorf("the preview counts %v of %s beside %s: %v", counts.All, line,
						other.Line, err)
				}
			}
		}
	}
}

// EHI-9: a drug outside the record is as sensitive as each of its ingredients, wherever that is.
func TestEHI9ADrugBesideTheRecordIsItsIngredients(t *testing.T) {
	drug := `{"resourceType":"Medication","id":"drug-a",` +
		`"ingredient":[{"itemReference":{"reference":"Substance/sub-a"}}]}`
	substance := `{"resourceType":"Substance","id":"sub-a",` + hivLabel + `}`
	others := []release.Other{
		{Line: drug, Type: "Medication", ID: "drug-a"},
		{Line: substance, Type: "Substance", ID: "sub-a"},
	}
	line := `{"resourceType":"Observation","id":"x1",` +
		`"device":{"reference":"https://other.example/Medication/drug-a","display":"SAID"}}`
	for _, some := range [][]release.Other{others, others[:1]} {
		r := release.DecidedBeside(t, policyOf(t, form(everyLine()...)), true, some, line)
		got := strings.Join(released(t, r, line), "\n")
		if strings.Contains(got, "SAID") != (len(some) == 1) {
			t.Errorf("of %d others: %s", len(some), got)
		}
	}
}

// A preview agrees with an export if References point outside the record.
func TestEHI9PreviewsKnowWhatIsBesideTheRecord(t *testing.T) {
	drug := release.Other{
		Line: `{"resourceType":"Medication","id":"drug-a",` + hivLabel + `}`,
		Type: "Medication",
		ID:   "drug-a",
	}
	line := `{"resourceType":"MedicationRequest","id":"x1",` +
		`"medicationReference":{"reference":"https://other.example/Medication/drug-a"}}`
	for _, others := range [][]release.Other{nil, {drug}} {
		s, err := rules(t).Summarize(ehi.KickOff{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Observe([]byte(line)); err != nil {
			t.Fatal(err)
		}
		release.ShowOthers(t, s, others)
		if err := s.Conclude(); err != nil {
			t.Fatal(err)
		}
		counts, err := s.Summary().Count(policyOf(t, form(everyLine()...)))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprint(release.Tally{Stored: 1, Released: 1 - int64(len(others))})
		if fmt.Sprint(counts.All) != want {
			t.Errorf("beside %d: %v, want %s", len(others), counts.All, want)
		}
	}
}

func policyOf(t testing.TB, f *ehi.ReleaseForm) *release.Policy {
	t.Helper()
	p, err := rules(t).Policy(f, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}
