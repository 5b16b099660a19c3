package release_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/release"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/records"
)

const hivLabel = `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]}`

// conditionWith returns a Condition whose evidence is one Reference.
func conditionWith(reference string) string {
	return `{"resourceType":"Condition","id":"c1","evidence":[{"detail":[` + reference + `]}]}`
}

// EHI-9: a Reference of any form is released only if its target is, or if it matches nothing
// withheld. This holds for long and short ids, for ids shared with released resources, and
// whether or not all references of the record resolve.
func TestEHI9AReferenceGoesOnlyWhereItsTargetDoes(t *testing.T) {
	for _, ids := range [][2]string{{"withheld-0123456789", "released-0123456789"}, {"1", "2"}} {
		withheld := `{"resourceType":"Observation","id":"` + ids[0] + `",` + hivLabel +
			`,"identifier":[{"system":"urn:lab","value":" LAB-777"}],"code":{"text":"x"}}`
		goes := `{"resourceType":"Observation","id":"` + ids[1] +
			`","identifier":[{"value":"LAB-778"}]}`
		w, g := "Observation/"+ids[0], "Observation/"+ids[1]
		for reference, stays := range map[string]bool{
			`{"reference":"` + w + `"}`:                                                true,
			`{"display":"LEAK","reference":"` + w + `"}`:                               true,
			`{"reference":"` + w + `/_history/3","display":"LEAK"}`:                    true,
			`{"reference":"https://ehr.example.org/fhir/` + w + `","display":"LEAK"}`:  true,
			`{"reference":"HTTP://ehr.example.org/` + w + `/_history/1"}`:              true,
			`{"reference":"https://ehr.example.org/` + w + `?_format=json"}`:           true,
			`{"reference":"https://ehr.example.org/` + w + `#top"}`:                    true,
			`{"reference":"https://ehr.example.org/Observation%2F` + ids[0] + `"}`:     true,
			`{"reference":"https://ehr.example.org/Observation?_id=` + ids[0] + `"}`:   true,
			`{"reference":"https://ehr.example.org/x/` + ids[0] + `/y","display":"L"}`: true,
			`{"reference":"https://lab.example.org/result/lab-777"}`:                   true,
			`{"reference":"https://ehr.example.org/Observation?identifier=z|LAB-777"}`: true,
			`{"identifier":{"system":"urn:lab","value":"LAB-777"},"display":"LEAK"}`:   true,
			`{"identifier":{"value":"lab-777 ","system":"urn:other"}}`:                 true,
			`{"identifier":{"assigner":{"display":"x"},"value":"LAB-777"},"type":"X"}`: true,
			`{"reference":"` + g + `","identifier":{"value":"LAB-777"},"display":"L"}`: true,
			`{"display":"LEAK"}`:                                                       true,
			`{"type":"Observation","display":"LEAK"}`:                                  true,
			`{"display" : "LEAK" , "identifier" : {}}`:                                 true,
			`{"reference":"` + g + `","display":"goes"}`:                               false,
			`{"reference":"https://ehr.example.org/fhir/` + g + `","display":"goes"}`:  false,
			`{"reference":"` + g + `","identifier":{"value":"LAB-778"},"display":"g"}`: false,
			`{"reference":"https://other.example.org/Observation/3","display":"goes"}`: false,
			`{"identifier":{"system":"urn:lab","value":"LAB-779"},"display":"goes"}`:   false,
		} {
			for _, resolved := range []bool{true, false} {
				for _, escape := range []bool{true, false} {
					line := conditionWith(reference)
					if escape {
						line = strings.NewReplacer(`"reference":`, `"\u0072eference":`, `"display"`,
							`"displa\u0079"`).
							Replace(line)
					}
					r := reviewOf(t, form(ehi.MedicalRecord), resolved, withheld, goes, line)
					got := released(t, r, withheld, goes, line)
					want := []string{goes, line}
					if stays {
						want[1] = conditionWith(masked)
					}
					if d := cmp.Diff(want, got); d != "" {
						t.Errorf("%s (resolved %v, escaped %v):\n%s", reference, resolved, escape,
							d)
					}
				}
			}
		}
	}
}

// reviewOf is review for a record whose references all resolve, or may not.
func reviewOf(t *testing.T, f *ehi.ReleaseForm, resolved bool, lines ...string) *release.Review {
	t.Helper()
	p, err := rules(t).Policy(f, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	return release.Decided(t, p, resolved, lines...)
}

// EHI-9: a lone display is released if R4 does not allow a withheld target in the field.
func TestEHI9ADisplayAloneGoesWhereNothingWithheldIsOfItsTypes(t *testing.T) {
	withheld := `{"resourceType":"Observation","id":"withheld-0123456789",` + hivLabel + `}`
	line := `{"resourceType":"Encounter","id":"e1","serviceProvider":{"display":"General ` +
		`Hospital"},` +
		`"participant":[{"individual":{"type":"Practitioner","display":"Dr. Goes"}}],` +
		`"class":{"display":"ambulatory"},"type":[{"coding":[{"display":"check-up","code":"1"}]}]}`
	r := review(t, form(ehi.MedicalRecord, ehi.Visits), withheld, line)
	if d := cmp.Diff([]string{line}, released(t, r, withheld, line)); d != "" {
		t.Error(d)
	}
}

// EHI-9: the decision does not depend on the order or the spelling of keys.
func TestEHI9OrderAndSpellingOfKeysDecideNothing(t *testing.T) {
	fields := []string{
		`"resourceType":"DiagnosticReport"`,
		`"id":"r1"`,
		`"status":"final"`,
		`"presentedForm":[{"title":"LEAK"}]`,
		`"category":[{"coding":[{"code":"RAD",` +
			`"system":"http://terminology.hl7.org/CodeSystem/v2-0074"}]}]`,
	}
	for turn := range fields {
		for _, escaped := range []int{-1, 0, 1, 3, 4} {
			var turned []string
			for i := range fields {
				at := (i + turn) % len(fields)
				f := fields[at]
				if at == escaped {
					f = fmt.Sprintf(`"\u%04x`, f[1]) + f[2:]
				}
				turned = append(turned, f)
			}
			line := "{" + strings.Join(turned, ",") + "}"
			got := released(t, review(t, form(), line), line)
			if len(got) != 1 || strings.Contains(got[0], "LEAK") {
				t.Errorf("%s became %v", line, got)
			}
		}
	}
}

// EHI-9: no Reference names a resource contained in a withheld one.
func TestEHI9ContainedResourcesArePartOfTheirContainer(t *testing.T) {
	withheld := `{"resourceType":"Claim","id":"claim-0123456789",` +
		`"contained":[{"resourceType":"Coverage","id":"k",` +
		`"identifier":[{"value":"POLICY-1"}]}]}`
	for _, reference := range []string{
		`{"reference":"Claim/claim-0123456789#k","display":"LEAK"}`,
		`{"identifier":{"value":"POLICY-1"},"display":"LEAK"}`,
	} {
		line := conditionWith(reference)
		got := released(t, review(t, form(ehi.MedicalRecord), withheld, line), withheld, line)
		if d := cmp.Diff([]string{conditionWith(masked)}, got); d != "" {
			t.Error(d)
		}
	}
}

// EHI-9: a Binary is also recognized by an absolute URL.
func TestEHI9ABinaryFollowsDocumentsThatNameItByAnAbsoluteURL(t *testing.T) {
	document := `{"resourceType":"DocumentReference","id":"d1",` +
		`"content":[{"attachment":{"url":"https://ehr.example.org/Binary/b1"}}]}`
	binary := `{"resourceType":"Binary","id":"b1","data":"TEVBSw=="}`
	if got := released(t, review(t, form(ehi.MedicalRecord), document, binary), document,
		binary); len(got) > 0 {
		t.Errorf("without documents: %v", got)
	}
	got := released(t, review(t, form(ehi.OtherDocuments), document, binary), document, binary)
	if d := cmp.Diff([]string{document, binary}, got); d != "" {
		t.Error(d)
	}
}

// EHI-9: a resource that only describes a Binary does not release the content of a withheld
// document. If nothing else refers to the Binary, that resource decides.
func TestEHI9WhatOnlyTellsOfABinaryDoesNotReleaseIt(t *testing.T) {
	document := `{"resourceType":"DocumentReference","id":"d1",` +
		`"content":[{"attachment":{"url":"Binary/b1"}}],` + hivLabel + `}`
	binary := `{"resourceType":"Binary","id":"b1","data":"TEVBSw=="}`
	tells := `{"resourceType":"Provenance","id":"p1","target":[{"reference":"Binary/b1"},` +
		`{"reference":"Condition/c1"}]}`
	condition := `{"resourceType":"Condition","id":"c1"}`
	f := form(ehi.MedicalRecord, ehi.OtherDocuments)
	got := goesWith(t, f, document, binary, tells, condition)
	if got != "Condition/c1 Provenance/p1" {
		t.Errorf("with a withheld document: %s", got)
	}
	if got := goesWith(t, f, binary, tells,
		condition); got != "Binary/b1 Condition/c1 Provenance/p1" {
		t.Errorf("without a document: %s", got)
	}
}

// EHI-9: if a resource is withheld only because the Binary it is about is, another Binary that
// it holds is withheld with it.
func TestEHI9ABinaryFallsWithWhatFellByAnother(t *testing.T) {
	observation := `{"resourceType":"Observation","id":"o1",` +
		`"hasMember":[{"reference":"Binary/b1"}],` + hivLabel + `}`
	task := `{"resourceType":"Task","id":"t1","focus":{"reference":"Binary/b1"},` +
		`"owner":{"reference":"Binary/b2"}}`
	one, two := `{"resourceType":"Binary","id":"b1","data":"TEVBSw=="}`,
		`{"resourceType":"Binary","id":"b2","data":"TEVBSw=="}`
	f := form(ehi.MedicalRecord, ehi.Labs)
	if got := goesWith(t, f, observation, task, one, two); got != "" {
		t.Errorf("with a withheld observation: %s", got)
	}
	got := goesWith(t, f, strings.Replace(observation, hivLabel, `"x":1`, 1), task, one, two)
	if got != "Binary/b1 Binary/b2 Observation/o1 Task/t1" {
		t.Errorf("with one that goes: %s", got)
	}
}

// EHI-9: a line of a bill releases the clinic and the report that it refers to only if the line
// remains.
func TestEHI9WhatAnEntryRefersToStaysWhereTheEntryIsLeftOut(t *testing.T) {
	withheld := `{"resourceType":"Condition","id":"c1",` + hivLabel + `}`
	goes := `{"resourceType":"Condition","id":"c2"}`
	clinic, binary := `{"resourceType":"Location","id":"l1"}`,
		`{"resourceType":"Binary","id":"b1","data":"TEVBSw=="}`
	refers := `"locationReference":{"reference":"Location/l1"},` +
		`"informationAttachment":{"url":"Binary/b1"}`
	diagnoses := `"diagnosis":[{"sequence":1,"diagnosisReference":{"reference":"Condition/c1"}},` +
		`{"diagnosisReference":{"reference":"Condition/c2"},"sequence":2}]`
	all := "Binary/b1 Claim/x Condition/c2 Location/l1"
	for claim, want := range map[string]string{
		`"item":[{"diagnosisSequence":[1],` + refers + `}],` +
			diagnoses: "Claim/x Condition/c2",
		diagnoses + `,"item":[{` + refers +
			`,"diagnosisSequence":[1]}]`: "Claim/x Condition/c2",
		`"item" : [{"locationReference":{"reference":"Location/l1"},` +
			`"diagnosisReference":{"reference":"Condition/c1"}}]`: "Claim/x Condition/c2",
		`"item":[{` + refers +
			`,"diagnosisReference":{"reference":"https://e.example/Condition/c1"}}]`: "Claim/x Condition/c2",
		`"item":[{` + refers +
			`,"diagnosisReference":{"display":"perhaps that one"}}]`: "Claim/x Condition/c2",
		`"item":[{"diagnosisSequence":[2],` + refers + `}],` +
			diagnoses: all,
		`"item":[{` + refers +
			`,"detail":[{"x":{"reference":"#a"}}],"y":{"reference":"Condition/c2"}}]`: all,
		`"item":[{` + refers +
			`,"productOrService":{"coding":[{"system":"urn:x","code":"1","display":"a visit"}]}}]`: all,
		`"item":[{"diagnosisSequence":[1],` + refers + `},{` + refers + `}],` +
			diagnoses: all,
		`"facility":{"reference":"Location/l1"},"item":[{"diagnosisSequence":[1],` + refers +
			`}],` + diagnoses: "Claim/x Condition/c2 Location/l1",
	} {
		line := `{"resourceType":"Claim","id":"x",` + claim + `}`
		record := []string{withheld, goes, clinic, binary, line}
		if !strings.Contains(claim, "Binary") {
			record = []string{withheld, goes, clinic, line}
		}
		if got := goesWith(t, form(ehi.MedicalRecord, ehi.Billing), record...); got != want {
			t.Errorf("%s: %s, want %s", claim, got, want)
		}
	}
}

// EHI-9: a type and an id name something withheld in a field of any name, and inside a text,
// however short the id is.
func TestEHI9ATypeWithAnIDIsMaskedInAnyText(t *testing.T) {
	withheld := `{"resourceType":"Observation","id":"7",` + hivLabel + `}`
	for _, text := range []string{
		"Observation/7",
		"Observation/7/_history/2",
		"https://ehr.example.org/Observation/7",
		"https://ehr.example.org/Observation%2F7",
		`Observation\/7`,
		"as Observation/7 says",
		"see Observation/7.",
		"http://x/?focus=Observation/7&y",
	} {
		line := `{"resourceType":"Communication","id":"c","payload":[{"contentUrl":"` + text +
			`"}]}`
		got := released(t, review(t, form(ehi.MedicalRecord), withheld, line), withheld, line)
		want := `{"resourceType":"Communication","id":"c","payload":[{"_contentUrl":` + masked +
			`}]}`
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s became %v", line, got)
		}
	}
	for _, text := range []string{
		"Observation/77", "Condition/7", "Observations/7", "7", "Observation 7",
	} {
		line := `{"resourceType":"Communication","id":"c","payload":[{"contentUrl":"` + text +
			`"}]}`
		got := released(t, review(t, form(ehi.MedicalRecord), withheld, line), withheld, line)
		if len(got) != 1 || got[0] != line {
			t.Errorf("%s became %v", line, got)
		}
	}
}

// A presentedForm is also removed if there is space around its commas, and if it is not a list.
func TestEHI9APresentedFormIsCutOutHoweverItIsWritten(t *testing.T) {
	for _, line := range []string{
		`{"resourceType":"DiagnosticReport" , "id":"r" , "presentedForm":[{"title":"LEAK"}] , ` +
			`"status":"final"}`,
		`{"resourceType":"DiagnosticReport","id":"r","status":"final" , "presentedForm" : ` +
			`[{"title":"LEAK"}] }`,
		`{ "presentedForm":{"title":"LEAK"} ,"resourceType":"DiagnosticReport","id":"r"}`,
	} {
		got := released(t, review(t, form(), line), line)
		if len(got) != 1 || !json.Valid([]byte(got[0])) || strings.Contains(got[0], "LEAK") {
			t.Errorf("%s became %v", line, got)
		}
	}
}

// EHI-9: nothing in a resource that is read alone points to another one.
func TestEHI9AResourceAloneTellsOfNoOther(t *testing.T) {
	for line, want := range map[string]string{
		`{"resourceType":"Patient","id":"p","active":true}`: `{"resourceType":"Patient","id":"p",` +
			`"active":true}`,
		`{"managingOrganization":{"display":"LEAK"},"id":"p","resourceType":"Patient"}`: `{"managingOrganization":` +
			masked + `,"id":"p","resourceType":"Patient"}`,
		`{"generalPractitioner":[{"identifier":{"value":"LEAK"}},` +
			`{"reference":"https://e.example/x"}]}`: `{"generalPractitioner":[` + masked + `,` +
			masked + `]}`,
		`{"contact":[{"organization":{"refer\u0065nce":"#LEAK","display":"LEAK"}}]}`: `{"contact":[{"organization":` +
			masked + `}]}`,
		`{"photo":[{"url":"https://e.example/Binary/LEAK"}]}`: `{"photo":[{"_url":` +
			masked + `}]}`,
		`{"identifier":[{"value":"7","assigner":{"display":"LEAK"}}]}`: `{"identifier":[{"value":"7","assigner":` +
			masked + `}]}`,
		`{"maritalStatus":{"coding":[{"code":"M","display":"married",` +
			`"system":"http://x/CodeSystem/y"}]}}`: `{"maritalStatus":{"coding":[{"code":"M",` +
			`"display":"married","system":"http://x/CodeSystem/y"}]}}`,
		`{"telecom":[{"system":"phone","value":"1"}],"name":[{"family":"Doe"}],` +
			`"communication":[{"x":{}}]}`: `{"telecom":[{"system":"phone","value":"1"}],` +
			`"name":[{"family":"Doe"}],"communication":[{"x":{}}]}`,
	} {
		if got, err := rules(t).Alone([]byte(line)); err != nil || string(got) != want {
			t.Errorf("%s became %s, %v", line, got, err)
		}
	}
	if got, err := rules(t).Alone([]byte(`{"a":`)); err == nil {
		t.Errorf("half a line became %s", got)
	}
}

// goesWith returns the type and id of everything in a record that a form releases.
func goesWith(t *testing.T, f *ehi.ReleaseForm, lines ...string) string {
	t.Helper()
	var out []string
	for _, line := range released(t, reviewOf(t, f, true, lines...), lines...) {
		var r struct{ ResourceType, ID string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		out = append(out, r.ResourceType+"/"+r.ID)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// EHI-8, EHI-9: a supporting resource is released if a released resource refers to it.
func TestEHI9SupportingResourcesGoWithWhatRefersToThem(t *testing.T) {
	hiv := `{"resourceType":"MedicationRequest","id":"hiv",` + hivLabel +
		`,"medicationReference":{"reference":"Medication/m1"},` +
		`"requester":{"reference":"Practitioner/p1"},"performer":{"reference":"Device/d1"}}`
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"the drug, prescriber and clinic of a withheld prescription": {[]string{hiv,
			`{"resourceType":"Medication","id":"m1",` +
				`"manufacturer":{"reference":"Organization/o1"}}`, `{"resourceType":"Practitioner","id":"p1"}`,
			`{"resourceType":"Organization","id":"o1"}`,
			`{"resourceType":"Device","id":"d1","patient":{"reference":"Patient/p"}}`,
		}, ""},
		"of one that goes, by way of another": {[]string{hiv,
			`{"resourceType":"MedicationRequest","id":"r",` +
				`"medicationReference":{"reference":"Medication/m1"}}`,
			`{"resourceType":"Medication","id":"m1",` +
				`"manufacturer":{"reference":"https:\/\/ehr.example.org\/Organization\/o1"}}`,
			`{"resourceType":"Organization","id":"o1","partOf":{"reference":"Organization/o2"}}`,
			`{"resourceType":"Organization","id":"o2"}`,
		}, "Medication/m1 MedicationRequest/r Organization/o1 Organization/o2"},
		"that refer to one another alone": {[]string{
			`{"resourceType":"PractitionerRole","id":"a",` +
				`"organization":{"reference":"Organization/b"}}`,
			`{"resourceType":"Organization","id":"b","endpoint":[{"reference":"Endpoint/c"}]}`,
			`{"resourceType":"Endpoint","id":"c",` +
				`"managingOrganization":{"reference":"Organization/b"}}`,
		}, ""},
		"what only tells of them": {[]string{hiv, `{"resourceType":"Medication","id":"m1"}`,
			`{"resourceType":"Provenance","id":"v","target":[{"reference":"Medication/m1"}]}`,
			`{"resourceType":"List","id":"l","entry":[{"item":{"reference":"Medication/m1"}}]}`,
		}, ""},
		"of a contained resource": {[]string{`{"resourceType":"Medication","id":"m1"}`,
			`{"resourceType":"Condition","id":"c",` +
				`"contained":[{"resourceType":"MedicationStatement","id":"s",` +
				`"medicationReference":{"reference":"Medication/m1"}}]}`,
		}, "Condition/c Medication/m1"},
		"the patient's own device": {[]string{
			`{"resourceType":"Device","id":"d1","patient":{"reference":"Patient/p"}}`,
			`{"resourceType":"Device","id":"d2"}`,
		}, "Device/d1"},
	} {
		for range 2 {
			if got := goesWith(t, form(ehi.MedicalRecord), c.lines...); got != c.want {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
			slices.Reverse(c.lines)
		}
	}
	got := goesWith(t, form(),
		`{"resourceType":"Observation","id":"o","device":{"reference":"Device/d"}}`,
		`{"resourceType":"Device","id":"d"}`)
	if got != "Device/d Observation/o" {
		t.Errorf("without the medical record: %q", got)
	}
}

// EHI-9: a part of something withheld is withheld with it, unless a released resource refers to
// it. A part without references is released according to its form line.
func TestEHI9PartsStayWithWhatTheyBelongTo(t *testing.T) {
	appointment := `{"resourceType":"Appointment","id":"a","slot":[{"reference":"Slot/s"}]%s}`
	slot := []string{
		`{"resourceType":"Slot","id":"s","schedule":{"reference":"Schedule/c"}}`,
		`{"resourceType":"Schedule","id":"c","actor":[{"reference":"Location/l"}]}`,
		`{"resourceType":"Location","id":"l"}`,
	}
	goal := `{"resourceType":"Goal","id":"g","subject":{"reference":"Patient/p"}}`
	plan := `{"resourceType":"CarePlan","id":"%s","goal":[{"reference":"Goal/g"}],` +
		`"careTeam":[{"reference":"CareTeam/t"}]%s}`
	team := `{"resourceType":"CareTeam","id":"t",` +
		`"participant":[{"member":{"reference":"RelatedPerson/r"}}]}`
	relative := `{"resourceType":"RelatedPerson","id":"r","patient":{"reference":"Patient/p"}}`
	withheld := "," + hivLabel
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"of a withheld appointment": {append(slot, fmt.Sprintf(appointment, withheld)), ""},
		"of an appointment": {
			append(slot, fmt.Sprintf(appointment, "")),
			"Appointment/a Location/l Schedule/c Slot/s",
		},
		"of nothing": {slot, "Location/l Schedule/c Slot/s"},
		"of a withheld plan": {
			[]string{fmt.Sprintf(plan, "x", withheld), goal, team, relative},
			"CareTeam/t RelatedPerson/r",
		},
		"of a plan, too": {
			[]string{
				fmt.Sprintf(plan, "x", withheld), goal, team, relative, fmt.Sprintf(plan, "y", ""),
			},
			"CarePlan/y CareTeam/t Goal/g RelatedPerson/r",
		},
		"of the patient alone": {[]string{goal, relative}, "Goal/g RelatedPerson/r"},
		"of one another alone": {
			[]string{
				`{"resourceType":"Goal","id":"a","outcomeReference":[{"reference":"Goal/b"}]}`,
				`{"resourceType":"Goal","id":"b","outcomeReference":[{"reference":"Goal/a"}]}`,
			},
			"Goal/a Goal/b",
		},
		"of a visit that is not ticked": {
			[]string{
				`{"resourceType":"Encounter","id":"e",` +
					`"participant":[{"individual":{"reference":"RelatedPerson/r"}}]}`,
				relative,
			},
			"RelatedPerson/r",
		},
		"of a withheld subject of a study": {
			[]string{
				`{"resourceType":"ResearchSubject","id":"x",` +
					`"study":{"reference":"ResearchStudy/s"}` + withheld + `}`,
				`{"resourceType":"ResearchStudy","id":"s","enrollment":[{"reference":"Group/g"}],` +
					`"site":[{"reference":"Location/l"}],` +
					`"protocol":[{"reference":"PlanDefinition/d"}]}`,
				`{"resourceType":"Group","id":"g"}`,
				`{"resourceType":"Location","id":"l"}`,
				`{"resourceType":"PlanDefinition","id":"d"}`,
			},
			"",
		},
		"of a withheld communication": {
			[]string{
				`{"resourceType":"Communication","id":"x",` +
					`"recipient":[{"reference":"RelatedPerson/r"}]` + withheld + `}`,
				relative,
			},
			"",
		},
		"of a withheld observation": {
			[]string{
				`{"resourceType":"Observation","id":"x","specimen":{"reference":"Specimen/s"}` +
					withheld + `}`,
				`{"resourceType":"Specimen","id":"s","subject":{"reference":"Patient/p"}}`,
			},
			"",
		},
		"of a drug": {
			[]string{
				`{"resourceType":"Medication","id":"i",` + hivLabel + `}`,
				`{"resourceType":"Substance","id":"j"}`,
				`{"resourceType":"Medication","id":"m",` +
					`"ingredient":[{"itemReference":{"reference":"Substance/j"}},` +
					`{"itemReference":{"reference":"Medication/i"}}]}`,
				`{"resourceType":"MedicationRequest","id":"r",` +
					`"medicationReference":{"reference":"Medication/m"}}`,
			},
			"",
		},
	} {
		for range 2 {
			if got := goesWith(t, form(ehi.MedicalRecord), c.lines...); got != c.want {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
			slices.Reverse(c.lines)
		}
	}
	if got := goesWith(t, form(ehi.Visits), goal, relative); got != "" {
		t.Errorf("without their line of the form: %q", got)
	}
}

// EHI-9: for each type of the table, a resource that is only about something withheld is
// withheld, and one that is also about something else is released.
func TestEHI9WhatIsWhollyAboutTheWithheldStaysOut(t *testing.T) {
	withheld := `{"resourceType":"Condition","id":"withheld-0123456789",` + hivLabel + `}`
	goes := `{"resourceType":"Condition","id":"goes"}`
	w, g := `{"reference":"Condition/withheld-0123456789","display":"LEAK"}`,
		`{"reference":"Condition/goes"}`
	all := []ehi.Category{}
	for _, c := range ehi.Categories() {
		all = append(all, c.Key)
	}
	for _, table := range []map[string][][]string{release.AboutPaths, release.WhyPaths} {
		for typ, groups := range table {
			for _, path := range slices.Concat(groups...) {
				names := strings.Split(path, ".")
				field := func(references ...string) string {
					out := strings.Join(references, ",")
					for i := len(names) - 1; i > 0; i-- {
						out = `{"` + names[i] + `":[` + out + `]}`
					}
					return `"` + names[0] + `":[` + out + `]`
				}
				for i, c := range []struct{ fields, want string }{
					{field(w), "Condition/goes"},
					{field(w, w), "Condition/goes"},
					{field(w, g), "Condition/goes " + typ + "/x"},
					{field(g), "Condition/goes " + typ + "/x"},
				} {
					line := `{` + c.fields + `,"id":"x","note":[{"text":"LEAK"}],"resourceType":"` +
						typ + `"}`
					want := strings.Fields(c.want)
					slices.Sort(want)
					got := goesWith(t, form(all...), withheld, goes, line)
					if got != strings.Join(want, " ") {
						t.Errorf("%d: %s: %q, want %q", i, line, got, want)
					}
				}
			}
		}
	}
}

// EHI-9: a resource that exists only for something unticked is released with the Reference
// masked: a bill without its prescription. It is withheld if that thing is sensitive.
func TestEHI9WhatIsForTheUntickedGoes(t *testing.T) {
	for _, line := range []string{
		`{"resourceType":"Claim","id":"x","prescription":{"reference":"MedicationRequest/m"}}`,
		`{"resourceType":"ExplanationOfBenefit","id":"x",` +
			`"prescription":{"reference":"MedicationRequest/m"}}`,
		`{"resourceType":"Procedure","id":"x",` +
			`"reasonReference":[{"reference":"MedicationRequest/m"}]}`,
	} {
		f := form(ehi.Billing, ehi.Visits)
		m := `{"resourceType":"MedicationRequest","id":"m"}`
		r := review(t, f, m, line)
		out := released(t, r, m, line)
		if len(out) != 1 || strings.Contains(out[0], "MedicationRequest") {
			t.Errorf("%s: released %v", line, out)
		}
		got := goesWith(t, f, `{"resourceType":"MedicationRequest","id":"m",`+hivLabel+`}`, line)
		if got != "" {
			t.Errorf("%s: %q went", line, got)
		}
	}
}

// The table contains only elements of R4 that are References.
func TestAboutPathsAreReferencesOfR4(t *testing.T) {
	for typ, groups := range release.AboutPaths {
		if !fhir.KnownType(typ) {
			t.Errorf("%s is no type", typ)
		}
		for _, path := range slices.Concat(groups...) {
			if fhir.ReferenceFields()[path[strings.LastIndexByte(path, '.')+1:]] == nil {
				t.Errorf("%s.%s is no Reference", typ, path)
			}
		}
	}
}

// EHI-9: nothing in the records of the case release-leaks leaks.
func TestEHI9TheCaseOfReleaseLeaks(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(records.Cases(t, "release-leaks"), "records.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	all := []ehi.Category{}
	for _, c := range ehi.Categories() {
		all = append(all, c.Key)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	r := review(t, form(all...), lines...)
	out := strings.Join(released(t, r, lines...), "\n")
	for _, leak := range []string{
		"LEAK", "SECRET", "hiv-observation", "biktarvy", "mr-hiv", "LAB-777", "dr-absolute",
	} {
		if strings.Contains(out, leak) {
			t.Errorf("%s in %s", leak, out)
		}
	}
	if !strings.Contains(out, "rel-patient-0001") {
		t.Errorf("missing in %s", out)
	}
}

// EHI-9: an object with fields that a Reference does not have still counts as one. Double
// encoding is decoded twice. An identifier names its owner wherever it occurs.
func TestEHI9AReferenceInAnotherShapeIsMasked(t *testing.T) {
	withheld := `{"resourceType":"Condition","id":"c9",` + hivLabel +
		`,"identifier":[{"system":"urn:s","value":"SECRET-77"}]}`
	for _, object := range []string{
		`{"code":"x","display":"SECRET"}`,
		`{"display":"SECRET","code":"x"}`,
		`{"system":"urn:x","display":"SECRET"}`,
		`{"display":"SECRET","system":"urn:x"}`,
		`{"code":"x","identifier":{"value":"SECRET-77"}}`,
		`{"identifier":{"value":"urn:uuid:SECRET-77"},"system":"urn:x"}`,
		`{"reference":"https://h.example/fhir/Condition%252Fc9","display":"SECRET"}`,
		`{"reference":"https://h.example/fhir/Condition%25252Fc9","display":"SECRET"}`,
	} {
		for _, field := range []string{
			`"evidence":[{"detail":[%s]}]`,
			`"extension":[{"url":"u","valueReference":%s}]`,
		} {
			line := `{"resourceType":"Condition","id":"o",` + fmt.Sprintf(field, object) + `}`
			for _, resolved := range []bool{false, true} {
				out := strings.Join(released(t,
					reviewOf(t, form(ehi.MedicalRecord), resolved, withheld, line), line), "")
				if strings.Contains(out, "SECRET") || strings.Contains(out, "c9") ||
					!strings.Contains(out, `"Condition"`) {
					t.Errorf("%s became %s", line, out)
				}
			}
		}
	}
	named := `{"resourceType":"Observation","id":"o","extension":[{"url":"u",` +
		`"valueIdentifier":{"system":"urn:s","value":"SECRET-77"}}]}`
	out := released(t, reviewOf(t, form(ehi.MedicalRecord), true, withheld, named), named)
	if len(out) != 1 || strings.Contains(out[0], "SECRET") {
		t.Errorf("%s became %s", named, out)
	}
	mapped := `{"resourceType":"ConceptMap","id":"m","group":[{"element":[{"code":"a",` +
		`"target":[{"code":"x","display":"KEPT","equivalence":"equal"}]}]}]}`
	if out := released(t, reviewOf(t, form(ehi.MedicalRecord), true, withheld, mapped),
		mapped); len(out) != 1 || out[0] != mapped {
		t.Errorf("%s became %s", mapped, out)
	}
	coded := `{"resourceType":"Observation","id":"o","code":{"coding":[{"code":"x",` +
		`"display":"KEPT"},{"system":"urn:x","code":"x","display":"KEPT"}]}}`
	if out := released(t, reviewOf(t, form(ehi.MedicalRecord), true, withheld, coded),
		coded); len(out) != 1 || out[0] != coded {
		t.Errorf("%s became %s", coded, out)
	}
}

// EHI-9: in any field, and in lists, an object counts as a Reference if it has a display beside
// an identifier of something withheld, beside a type of which something is withheld, or beside a
// masked reference.
func TestEHI9WhatStandsBesideANameOfTheWithheldIsMasked(t *testing.T) {
	withheld := `{"resourceType":"Condition","id":"c9",` + hivLabel +
		`,"identifier":[{"system":"urn:s","value":"SECRET-77"}]}`
	fields := []string{
		`"relatedProblem":%s`,
		`"relatedProblem":[%s]`,
		`"participant":[{"actor":%s}]`,
		`"recorder":%s`,
		`"extension":[{"url":"u","valueReference":%s}]`,
	}
	masked := func(object string) {
		t.Helper()
		for _, field := range fields {
			line := `{"resourceType":"Condition","id":"o",` + fmt.Sprintf(field, object) +
				`,"code":{"text":"KEPT"}}`
			for _, resolved := range []bool{false, true} {
				review := reviewOf(t, form(ehi.MedicalRecord), resolved, withheld, line)
				out := strings.Join(released(t, review, line), "")
				if strings.Contains(out, "SECRET") || strings.Contains(out, "c9") ||
					!strings.Contains(out, "KEPT") {
					t.Errorf("%s became %s", line, out)
				}
			}
		}
	}
	for _, object := range []string{
		`{"identifier":{"value":"SECRET-77"},"display":"SECRET"}`,
		`{"display":"SECRET","identifier":{"value":"SECRET-77"}}`,
		`{"identifier":[{"value":"x"},{"value":"SECRET-77"}],"display":"SECRET"}`,
		`{"display":"SECRET","identifier":[{"value":"SECRET-77"}]}`,
		`{"identifier":[{"value":"SECRET-77"}]}`,
		`{"type":"Condition","display":"SECRET"}`, `{"display":"SECRET","type":"Condition"}`,
		`{"display":"SECRET","id":"1","type":"http://hl7.org/fhir/StructureDefinition/Condition"}`,
		`{"reference":{"reference":"Condition/c9"},"display":"SECRET"}`,
		`{"display":"SECRET","reference":["Condition/c9"]}`,
		`{"reference":[{"reference":"Condition/c9"}],"display":"SECRET"}`,
	} {
		masked(object)
	}
	for _, object := range []string{
		`{"identifier":{"value":"another"},"display":"GOES"}`,
		`{"type":"Observation","display":"GOES"}`,
		`{"system":"urn:x","code":"y","display":"GOES","type":"Condition"}`,
		`{"display":"GOES","identifier":[{"value":"another"}]}`,
		`{"type":"Condition","code":"y"}`,
	} {
		line := `{"resourceType":"Condition","id":"o","relatedProblem":` + object + `}`
		out := released(t, reviewOf(t, form(ehi.MedicalRecord), true, withheld, line), line)
		if len(out) != 1 || out[0] != line {
			t.Errorf("%s became %s", line, out)
		}
	}
}

// EHI-9: a Reference by an identifier alone releases its target like any other. With a different
// system it means another resource. A canonical URL names a definition.
func TestEHI9WhatIsNamedByAnIdentifierGoesWithWhatNamesIt(t *testing.T) {
	const npi, own = "http://hl7.org/fhir/sid/us-npi", "https://Example.org/own/"
	practitioner := `{"resourceType":"Practitioner","id":"p","identifier":[{"system":"%s",` +
		`"value":"%s"}]}`
	condition := `{"resourceType":"Condition","id":"c","asserter":{"identifier":{%s},` +
		`"display":"KEPT"}%s}`
	visit := `{"resourceType":"Procedure","id":"v",` +
		`"performer":[{"actor":{"reference":"Practitioner/p"}}],` + hivLabel + `}`
	for _, c := range []struct {
		system, value, by string
		goes              bool
	}{
		{npi, "1234567893", `"system":"` + npi + `","value":"1234567893"`, true},
		{npi, "1234567893", `"system":"urn:oid:2.16.840.1.113883.4.6","value":"1234567893"`, true},
		{npi, "1234567893", `"value":"1234567893"`, true},
		{npi, "1234567893", `"value":1234567893,"system":"` + npi + `"`, true},
		{own, "A-7", `"system":"http://example.org/own","value":" a-7 "`, true},
		{own, "urn:uuid:0B3E", `"system":"http://example.org/own","value":"0b3e"`, true},
		{"", "NPI1", `"value":"NPI1"`, true},
		{"", "7", `"value":"7"`, true},
		{"", "NPI1", `"value":"NPI1","system":"` + npi + `"`, true},
		{own, "7", `"value":"7"`, false},
		{own, "7", `"system":"` + npi + `","value":"7"`, false},
		{own, "A-7", `"system":"` + npi + `","value":"A-7"`, false},
	} {
		p := fmt.Sprintf(practitioner, c.system, c.value)
		lines := []string{p, visit, fmt.Sprintf(condition, c.by, "")}
		for range 2 {
			r := reviewOf(t, form(ehi.MedicalRecord, ehi.Visits), true, lines...)
			out := strings.Join(released(t, r, lines...), "\n")
			if strings.Contains(out, `"Practitioner"`) != c.goes ||
				strings.Contains(out, "KEPT") != c.goes {
				t.Errorf("%+v: %s", c, out)
			}
			slices.Reverse(lines)
		}
		lines[slices.Index(lines, fmt.Sprintf(condition, c.by, ""))] = fmt.Sprintf(condition, c.by,
			","+hivLabel)
		if got := goesWith(t, form(ehi.MedicalRecord, ehi.Visits), lines...); got != "" {
			t.Errorf("%+v, withheld: %s", c, got)
		}
	}
	line := `{"resourceType":"Claim","id":"b","item":[{"sequence":1,` +
		`"locationReference":{"identifier":{"system":"urn:s","value":"L1"}},` +
		`"encounter":[{"reference":"Encounter/%s"}]}]}`
	location := `{"resourceType":"Location","id":"l","identifier":[{"system":"urn:s",` +
		`"value":"L1"}]}`
	visits := []string{
		`{"resourceType":"Encounter","id":"x",` + hivLabel + `}`,
		`{"resourceType":"Encounter","id":"y"}`,
	}
	for id, want := range map[string]string{
		"x": "Claim/b Encounter/y",
		"y": "Claim/b Encounter/y Location/l",
	} {
		got := goesWith(t, form(ehi.Visits, ehi.Billing),
			append(visits, location, fmt.Sprintf(line, id))...)
		if got != want {
			t.Errorf("a line of a bill: %q, want %q", got, want)
		}
		other := `{"resourceType":"Claim","id":"b",` +
			`"item":[{"encounter":[{"identifier":{"value":"ID-%s"}}],` +
			`"locationReference":{"reference":"Location/l"}}]}`
		lines := []string{
			strings.Replace(visits[0], `"id":"x"`, `"id":"x","identifier":[{"value":"ID-x"}]`, 1),
			visits[1],
			location,
			fmt.Sprintf(other, id),
		}
		if got := goesWith(t, form(ehi.Visits, ehi.Billing), lines...); got != want {
			t.Errorf("a line of a bill that names a visit by an identifier: %q, want %q", got, want)
		}
	}
}

// EHI-9: a canonical URL releases the definition that it names, and withholds it.
func TestEHI9WhatIsNamedByACanonicalGoesWithWhatNamesIt(t *testing.T) {
	definition := `{"resourceType":"Questionnaire","id":"q","url":"http://example.org/forms/hiv"}`
	for url, named := range map[string]bool{
		"http://example.org/forms/hiv":         true,
		"https://example.org/forms/hiv|2.1":    true,
		"http://example.org/forms/hiv#part":    true,
		"Questionnaire/q":                      true,
		"http://elsewhere.org/Questionnaire/q": true, "http://example.org/forms/other": false,
	} {
		response := `{"resourceType":"QuestionnaireResponse","id":"%s","questionnaire":"` + url +
			`"%s}`
		withheld := fmt.Sprintf(response, "w", ","+hivLabel)
		for want, lines := range map[string][]string{
			map[bool]string{true: "", false: "Questionnaire/q"}[named]: {definition, withheld},
			"Questionnaire/q QuestionnaireResponse/r": {
				withheld, fmt.Sprintf(response, "r", ""), definition,
			},
		} {
			if got := goesWith(t, form(ehi.MedicalRecord), lines...); got != want {
				t.Errorf("%s: %q, want %q", url, got, want)
			}
		}
	}
}

// EHI-8: what a definition names by a canonical URL is released or withheld with that
// definition.
func TestEHI8WhatADefinitionIsMadeOfGoesWithIt(t *testing.T) {
	definitions := []string{
		`{"resourceType":"ValueSet","id":"v","url":"http://example.org/answers"}`,
		`{"resourceType":"Questionnaire","id":"q","url":"http://example.org/form",` +
			`"item":[{"item":[{"linkId":"1","answerValueSet":"http://example.org/answers"}]}]}`,
		`{"resourceType":"ActivityDefinition","id":"a","url":"http://example.org/activity",` +
			`"library":["http://example.org/library|1"]}`,
		`{"resourceType":"Library","id":"l","url":"http://example.org/library","version":"1"}`,
	}
	for label, want := range map[string]string{
		"": "ActivityDefinition/a Library/l Questionnaire/q QuestionnaireResponse/r " +
			"ServiceRequest/s ValueSet/v",
		"," + hivLabel: "",
	} {
		lines := append([]string{
			`{"resourceType":"QuestionnaireResponse","id":"r",` +
				`"questionnaire":"http://example.org/form"` + label + `}`,
			`{"resourceType":"ServiceRequest","id":"s",` +
				`"instantiatesCanonical":["http://example.org/activity"]` + label + `}`,
		}, definitions...)
		for range 2 {
			if got := goesWith(t, form(ehi.MedicalRecord), lines...); got != want {
				t.Errorf("labelled %q: %q, want %q", label, got, want)
			}
			slices.Reverse(lines)
		}
	}
}
