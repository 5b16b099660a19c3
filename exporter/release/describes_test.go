package release_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ehi-server/shared/ehi"
)

// EHI-9: what describes a resource, as a document of a report does, stays if the resource has a
// part that stays for more than an unticked line, however the resource names it.
func TestEHI9WhatDescribesAResourceStaysWithEachOfItsParts(t *testing.T) {
	hidden := `{"resourceType":"Observation","id":"o1",` + hivLabel +
		`,"identifier":[{"system":"urn:lab","value":"LAB-777"}],"code":{"text":"x"}}`
	lab := `{"resourceType":"Observation","id":"o2","category":[{"coding":[{"system":` +
		`"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}]}`
	other := `{"resourceType":"Observation","id":"o3"}`
	for i, parts := range []string{
		`"result":[{"reference":"Observation/o3"},{"reference":"Observation/o1"}]`,
		`"result":[{"reference":"Observation/o3"},{"identifier":{"value":"LAB-777"}}]`,
		`"result":[{"reference":"https://ehr.example.org/x?identifier=urn:lab|LAB-777"}]`,
		`"media":[{"link":{"reference":"Observation/o1"}}],"presentedForm":[{"title":"x"}]`,
		`"result":[{"reference":"Observation/o2"},{"reference":"Observation/o3"}]`,
		`"result":[{"reference":"Observation/absent"},{"identifier":{"value":"LAB-778"}}]`,
	} {
		stays := i < 4
		report := `{"resourceType":"DiagnosticReport","id":"r",` + parts + `}`
		for name, form := range map[string]*ehi.ReleaseForm{
			"every line": everything(ehi.HIV), "no laboratory": allBut(ehi.Labs),
		} {
			r := review(t, form, hidden, lab, other, report)
			reason, err := r.Native().Describes([]byte(report), none)
			if err != nil || (reason != "") != stays {
				t.Errorf("%s, %s: %q, %v", name, parts, reason, err)
			}
		}
	}
}

// none finds nothing in a record.
func none(string, string) ([]byte, error) { return nil, nil }

// EHI-9: what belongs to a resource leaves exactly if the resource's own narrative does, whatever
// the resource loses. It does not stay with one of which only unticked References are masked.
func TestEHI9WhatBelongsToAResourceLeavesWithItsNarrative(t *testing.T) {
	const narrative = `"text":{"status":"generated","div":"<div>NARRATIVE</div>"}`
	for i, resource := range []string{
		`"resourceType":"Claim","diagnosis":[{"sequence":1,"diagnosisReference":REF},` +
			`{"sequence":2,"diagnosisReference":{"reference":"Condition/c2"}}]`,
		`"resourceType":"ExplanationOfBenefit","diagnosis":[{"sequence":1,` +
			`"diagnosisReference":REF}],"item":[{"sequence":1,"diagnosisSequence":[1]},` +
			`{"sequence":2}]`,
		`"resourceType":"Encounter","diagnosis":[{"condition":REF}]`,
		`"resourceType":"QuestionnaireResponse","item":[{"linkId":"1","answer":[` +
			`{"valueReference":REF}]},{"linkId":"2","answer":[{"valueString":"x"}]}]`,
		`"resourceType":"Task","input":[{"valueReference":REF},{"valueString":"x"}]`,
		`"resourceType":"Condition","evidence":[{"detail":[REF]}]`,
		`"resourceType":"AllergyIntolerance","extension":[{"url":"x","valueReference":REF}]`,
		`"resourceType":"Procedure","contained":[{"resourceType":"Claim","id":"k","diagnosis":[` +
			`{"diagnosisReference":REF},{"diagnosisReference":{"reference":"Condition/c2"}}]}],` +
			`"extension":[{"url":"x","valueReference":{"reference":"#k"}}]`,
		`"resourceType":"Encounter","reasonReference":[{"display":"x","identifier":` +
			`{"value":"CON-777"}}]`,
		`"resourceType":"Encounter","serviceProvider":{"reference":"Organization/o"}`,
		`"resourceType":"Encounter"`,
		`"resourceType":"Encounter","diagnosis":[{"condition":{"reference":"Condition/c2"}}]`,
	} {
		resource = `{"id":"r",` + strings.ReplaceAll(resource, "REF",
			`{"reference":"Condition/c1"}`)
		lines := []string{
			`{"resourceType":"Condition","id":"c1","identifier":[{"value":"CON-777"}],` +
				hivLabel + `}`,
			`{"resourceType":"Condition","id":"c2"}`,
		}
		for name, form := range map[string]*ehi.ReleaseForm{
			"every line": everything(ehi.HIV), "nothing sensitive": everything(),
			"no other line": allBut(ehi.MedicalRecord),
		} {
			all := append(lines, resource+`,`+narrative+`}`)
			r := review(t, form, all...)
			leaves := strings.Contains(strings.Join(released(t, r, all...), ""), "NARRATIVE")
			n := r.Native()
			for _, line := range []string{all[2], resource + `}`} {
				reason, err := n.Describes([]byte(line), none)
				typ := strings.Split(resource, `"`)[7]
				if n.Resource(typ, []byte("r")) != "" || reason != "" {
					reason = "stays"
				}
				if err != nil || (reason == "") != leaves {
					t.Errorf("%s, %s: %q, %v, the narrative leaves: %t", name, line, reason, err,
						leaves)
				}
			}
			if name == "every line" && leaves != (i > 8) {
				t.Errorf("%s: the narrative leaves: %t", resource, leaves)
			}
		}
	}
}

// EHI-9: a part that is only not ticked keeps nothing that belongs to the resource, also if nothing
// of its type leaves. One that is sensitive keeps it.
func TestEHI9WhatBelongsToAResourceLeavesWithoutAnUntickedType(t *testing.T) {
	lines := map[string]string{
		"Encounter/e1":   `{"resourceType":"Encounter","id":"e1"}`,
		"Encounter/e2":   `{"resourceType":"Encounter","id":"e2"}`,
		"Observation/ok": `{"resourceType":"Observation","id":"ok"}`,
	}
	for typ, parts := range map[string]string{
		"List": `"entry":[{"item":{"reference":"Encounter/e1"}},` +
			`{"item":{"reference":"Encounter/e2"}},{"item":{"reference":"Observation/ok"}}]`,
		"Composition": `"section":[{"entry":[{"reference":"Encounter/e1"}]},` +
			`{"entry":[{"reference":"urn:uuid:e2"},{"reference":"Observation/ok"}]}]`,
		"Communication": `"payload":[{"contentReference":{"reference":"Encounter/e2"}},` +
			`{"contentReference":{"reference":"Observation/ok"}}]`,
	} {
		whole := `{"resourceType":"` + typ + `","id":"w",` + told + `,` + parts + `}`
		for _, hidden := range []string{"", "Encounter/e1", "Encounter/e2"} {
			all, leaves := []string{whole}, hidden == "" || !strings.Contains(whole, hidden[10:])
			of := map[string]string{}
			for name, line := range lines {
				if name == hidden {
					line = strings.Replace(line, `"id"`, hivLabel+`,"id"`, 1)
				}
				of[name] = line
				all = append(all, line)
			}
			r := review(t, allBut(ehi.Visits), all...)
			if got := released(t, r, whole); len(got) != 1 ||
				strings.Contains(got[0], "TOLD") != leaves {
				t.Errorf("%s with %q became %v", whole, hidden, got)
			}
			reason, err := r.Native().Describes([]byte(whole), func(typ, id string) ([]byte, error) {
				if line := of[typ+"/"+id]; line != "" {
					return []byte(line), nil
				}
				return nil, nil
			})
			if err != nil || (reason == "") != leaves {
				t.Errorf("what belongs to %s with %q: %q, %v", whole, hidden, reason, err)
			}
		}
	}
}

// EHI-9: what belongs to a resource stays if something that it consists of loses a part, also
// through others, and in a circle.
func TestEHI9WhatBelongsToAResourceStaysWithThePartsOfItsParts(t *testing.T) {
	lines := map[string]string{}
	for _, line := range []string{
		`{"resourceType":"Patient","id":"p"}`,
		`{"resourceType":"Observation","id":"hiv",` + hivLabel + `}`,
		`{"resourceType":"Observation","id":"ok"}`,
		`{"resourceType":"Observation","id":"panel","hasMember":[{"reference":` +
			`"Observation/hiv"},{"reference":"Observation/ok"}]}`,
		`{"resourceType":"DiagnosticReport","id":"report","result":[{"reference":` +
			`"https://ehr.example.org/fhir/Observation/panel"}]}`,
		`{"resourceType":"DocumentReference","id":"letter","context":{"related":[{"reference":` +
			`"DiagnosticReport/report"}]}}`,
		`{"resourceType":"Composition","id":"summary","section":[{"section":[{"entry":` +
			`[{"reference":"Patient/p"},{"reference":"urn:uuid:report"}]}]}]}`,
		`{"resourceType":"List","id":"loop","entry":[{"item":{"reference":"List/other"}},` +
			`{"item":{"reference":"DiagnosticReport/report"}}]}`,
		`{"resourceType":"List","id":"other","entry":[{"item":{"reference":"List/loop"}}]}`,
		`{"resourceType":"Encounter","id":"visit","diagnosis":[{"condition":` +
			`{"reference":"Condition/hidden"}}]}`,
		`{"resourceType":"Condition","id":"hidden",` + hivLabel + `}`,
		`{"resourceType":"Composition","id":"course","section":[{"entry":[` +
			`{"reference":"Encounter/visit"}]}]}`,
		`{"resourceType":"DiagnosticReport","id":"fine","result":[{"reference":` +
			`"Observation/ok"}],"basedOn":[{"reference":"ServiceRequest/gone"}]}`,
		`{"resourceType":"List","id":"a","entry":[{"item":{"reference":"List/b"}},` +
			`{"item":{"reference":"DiagnosticReport/fine"}}]}`,
		`{"resourceType":"List","id":"b","entry":[{"item":{"reference":"List/a"}}]}`,
		`{"resourceType":"Observation","id":"during","encounter":{"reference":` +
			`"Encounter/visit"}}`,
	} {
		parts := strings.SplitN(line, `"`, 9)
		lines[parts[3]+"/"+parts[7]] = line
	}
	var all []string
	for _, line := range lines {
		all = append(all, line)
	}
	find := func(typ, id string) ([]byte, error) {
		if line := lines[typ+"/"+id]; line != "" {
			return []byte(line), nil
		}
		return nil, nil
	}
	n := review(t, everything(ehi.HIV), all...).Native()
	stay := map[string]bool{
		"Observation/panel": true, "DiagnosticReport/report": true, "List/loop": true,
		"List/other": true, "DocumentReference/letter": true, "Composition/summary": true,
		"Composition/course": true, "Encounter/visit": true, "Observation/hiv": true,
		"Condition/hidden": true,
	}
	for range 2 {
		for name, line := range lines { // in any order, as answers are kept
			reason, err := n.Describes([]byte(line), find)
			if err != nil || (reason != "") != stay[name] {
				t.Errorf("what belongs to %s stays: %q, %v", name, reason, err)
			}
		}
	}
	broken := errors.New("broken")
	n = review(t, everything(ehi.HIV), all...).Native()
	_, err := n.Describes([]byte(lines["List/a"]), func(string, string) ([]byte, error) {
		return nil, broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("it is decided in spite of an error: %v", err)
	}
	if _, err := n.Describes([]byte("{"), none); err == nil {
		t.Error("what is no JSON is decided")
	}
}

// EHI-9: a resource is followed to the last of its parts, however many they are. What belongs to it
// leaves if each goes whole, and stays if one does not.
func TestEHI9WhatBelongsToAResourceOfManyPartsFollowsEachOfThem(t *testing.T) {
	const parts = 5000
	lines := map[string]string{
		"Condition/hidden": `{"resourceType":"Condition","id":"hidden",` + hivLabel + `}`,
		"Encounter/visit": `{"resourceType":"Encounter","id":"visit","diagnosis":[{"condition":` +
			`{"reference":"Condition/hidden"}}]}`,
	}
	var entries []string
	for i := range parts {
		name := fmt.Sprintf("Observation/o%d", i)
		lines[name] = fmt.Sprintf(`{"resourceType":"Observation","id":"o%d"}`, i)
		entries = append(entries, `{"item":{"reference":"`+name+`"}}`)
	}
	visit := `{"item":{"reference":"Encounter/visit"}}`
	for _, c := range []struct {
		of    []string
		stays bool
	}{
		{entries, false},
		{append([]string{visit}, entries...), true},
		{append(slices.Clip(entries), visit), true},
	} {
		list := `{"resourceType":"List","id":"l","entry":[` + strings.Join(c.of, ",") + `]}`
		all, found := []string{list}, map[string]bool{}
		for _, line := range lines {
			all = append(all, line)
		}
		n := review(t, everything(ehi.HIV), all...).Native()
		reason, err := n.Describes([]byte(list), func(typ, id string) ([]byte, error) {
			if found[typ+"/"+id] {
				t.Errorf("%s/%s is read again", typ, id)
			}
			found[typ+"/"+id] = true
			return []byte(lines[typ+"/"+id]), nil
		})
		if err != nil || (reason != "") != c.stays || !c.stays && len(found) != parts {
			t.Errorf("%d parts of %d are read: %q, %v", len(found), len(c.of), reason, err)
		}
	}
}
