package release_test

import (
	"encoding/json"
	"strings"
	"testing"

	"ehi-server/shared/ehi"
	"ehi-server/shared/records"
)

// pruned returns a record's last line as released if everything is ticked and nothing
// authorized; "" if it is withheld.
func pruned(t *testing.T, line string) string {
	t.Helper()
	record := []string{
		`{"resourceType":"Condition","id":"withheld-0123456789",` + hivLabel + `}`,
		`{"resourceType":"Condition","id":"goes"}`,
		`{"resourceType":"Location","id":"clinic-0123456789"}`, line,
	}
	var categories []ehi.Category
	for _, c := range ehi.Categories() {
		categories = append(categories, c.Key)
	}
	var last [2]string
	for i, resolved := range []bool{false, true} {
		got := released(t, reviewOf(t, form(categories...), resolved, record...), record...)
		if last[i] = got[len(got)-1]; last[i] == record[1] || last[i] == record[2] {
			last[i] = ""
		}
	}
	if last[0] != last[1] {
		t.Errorf("%s and %s", last[0], last[1])
	}
	return last[0]
}

const withheldRef, goesRef = `{"reference":"Condition/withheld-0123456789"}`,
	`{"reference":"Condition/goes"}`

// EHI-9: everything that names a removed line of a bill is removed, directly or through others,
// and so are notes about it.
func TestEHI9WhatNamesALineThatIsLeftOutIsLeftOut(t *testing.T) {
	const head = `{"resourceType":"ExplanationOfBenefit","id":"x","disposition":"LEAK",` +
		`"diagnosis":[{"sequence":1,"diagnosisReference":` +
		withheldRef + `},{"sequence":2,"diagnosisReference":` + goesRef + `}],`
	const left = `{"resourceType":"ExplanationOfBenefit","id":"x","diagnosis":[{"sequence":2,` +
		`"diagnosisReference":` + goesRef + `}],`
	for line, want := range map[string]string{
		head +
			`"addItem":[{"itemSequence":[1],"note":"LEAK"},{"itemSequence":[2]},` +
			`{"itemSequence":[2,1.0]}],` +
			`"item":[{"sequence":1,"diagnosisSequence":[1]},{"sequence":2,` +
			`"diagnosisSequence":[2]}]}`: left +
			`"addItem":[{"itemSequence":[2]}],"item":[{"sequence":2,"diagnosisSequence":[2]}]}`,
		head +
			`"processNote":[{"number":1,"text":"LEAK"},{"number":2,"text":"goes"},{"number":3,` +
			`"text":"LEAK"},{"text":"LEAK"}],` +
			`"item":[{"sequence":1,"diagnosisSequence":[1],"noteNumber":[1]},{"sequence":2,` +
			`"noteNumber":[2]},` +
			`{"sequence":4,"informationSequence":[7],"adjudication":[{"reason":{"text":"goes"}}],` +
			`"detail":[{"noteNumber":[2]}]},` +
			`{"sequence":3,"diagnosisSequence":[1,2],` +
			`"detail":[{"subDetail":[{"noteNumber":[3]}]}]},{"sequence":5,` +
			`"diagnosisSequence":[2]}]}`: left +
			`"processNote":[{"number":2,"text":"goes"}],"item":[{"sequence":2,"noteNumber":[2]},` +
			`{"sequence":4,"informationSequence":[7],"adjudication":[{"reason":{"text":"goes"}}],` +
			`"detail":[{"noteNumber":[2]}]},{"sequence":5,"diagnosisSequence":[2]}]}`,
		head +
			`"careTeam":[{"sequence":1,"role":{"text":"LEAK"}},{"sequence":2},{"sequence":3}],` +
			`"procedure":[{"sequence":1,"note":"LEAK"}],` +
			`"supportingInfo":[{"sequence":1,"valueString":"LEAK"},{"sequence":2,` +
			`"valueString":"goes"}],` +
			`"item":[{"sequence":1,"diagnosisSequence":[1],"careTeamSequence":[1,2],` +
			`"procedureSequence":[1],"informationSequence":[1]},` +
			`{"sequence":2,"careTeamSequence":[2]}]}`: left +
			`"careTeam":[{"sequence":2},{"sequence":3}],"supportingInfo":[{"sequence":2,` +
			`"valueString":"goes"}],"item":[{"sequence":2,"careTeamSequence":[2]}]}`,
		`{"resourceType":"CoverageEligibilityRequest","id":"x","supportingInfo":[{"sequence":1,` +
			`"information":` + withheldRef +
			`}],"item":[{"supportingInfoSequence":[1],"category":{"text":"LEAK"}},` +
			`{"supportingInfoSequence":[2]}]}`: `{"resourceType":"CoverageEligibilityRequest",` +
			`"id":"x","item":[{"supportingInfoSequence":[2]}]}`,
	} {
		if got := pruned(t, line); got != want {
			t.Errorf("%s became %s, want %s", line, got, want)
		}
	}
}

// EHI-9: elements beside a masked Reference, and summaries of its target, are removed.
func TestEHI9WhatStandsBesideTheWithheldIsLeftOut(t *testing.T) {
	for line, want := range map[string]string{
		`{"resourceType":"Task","id":"x","input":[{"type":{"text":"LEAK"},"valueReference":` +
			withheldRef + `},{"type":{"text":"goes"},"valueReference":` + goesRef +
			`}]}`: `{"resourceType":"Task","id":"x","input":[{"type":{"text":"goes"},` +
			`"valueReference":` + goesRef + `}]}`,
		`{"resourceType":"Task","id":"x","output":[{"valueReference":` + withheldRef +
			`,"type":{"text":"LEAK"}}]}`: `{"resourceType":"Task","id":"x"}`,
		`{"resourceType":"DiagnosticReport","id":"x","media":[{"comment":"LEAK","link":` +
			withheldRef + `},{"link":` + goesRef +
			`}],"conclusion":"LEAK"}`: `{"resourceType":"DiagnosticReport","id":"x",` +
			`"media":[{"link":` + goesRef + `}]}`,
		`{"resourceType":"DiagnosticReport","id":"x","text":{"div":"LEAK"},"result":[` +
			withheldRef + `,` + goesRef +
			`],"conclusionCode":[{"text":"LEAK"}]}`: `{"resourceType":"DiagnosticReport",` +
			`"id":"x","result":[` + masked + `,` + goesRef + `]}`,
		`{"resourceType":"ClinicalImpression","id":"x","finding":[{"itemReference":` + goesRef +
			`},{"itemReference":` + withheldRef +
			`}],"summary":"LEAK"}`: `{"resourceType":"ClinicalImpression","id":"x",` +
			`"finding":[{"itemReference":` + goesRef + `}]}`,
		`{"resourceType":"DetectedIssue","id":"x","implicated":[` + goesRef +
			`],"evidence":[{"code":[{"text":"LEAK"}],"detail":[` + withheldRef +
			`]}]}`: `{"resourceType":"DetectedIssue","id":"x","implicated":[` + goesRef + `]}`,
		`{"resourceType":"Composition","id":"x","event":[{"code":[{"text":"LEAK"}],"detail":[` +
			withheldRef + `]},{"detail":[` + goesRef +
			`]}]}`: `{"resourceType":"Composition","id":"x","event":[{"detail":[` + goesRef +
			`]}]}`,
	} {
		if got := pruned(t, line); got != want {
			t.Errorf("%s became %s, want %s", line, got, want)
		}
	}
}

// EHI-9: contained resources are treated like their container, with entries at any depth.
func TestEHI9WhatIsContainedIsTreatedAsItsContainer(t *testing.T) {
	const b20 = `"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}],` +
		`"text":"LEAK"}`
	for line, want := range map[string]string{
		// The Patient loses sensitive parts, and what it says about them.
		`{"resourceType":"Patient","id":"x","text":{"div":"LEAK"},` +
			`"contained":[{"resourceType":"Condition","id":"c",` + b20 +
			`},{"resourceType":"Condition","id":"d"}],` +
			`"extension":[{"url":"urn:x","valueReference":{"reference":"#c","display":"LEAK"}},` +
			`{"url":"urn:x","valueReference":{"reference":"#d"}}]}`: `{"resourceType":"Patient",` +
			`"id":"x","contained":[{"resourceType":"Condition","id":"d"}],` +
			`"extension":[{"url":"urn:x","valueReference":` + masked +
			`},{"url":"urn:x","valueReference":{"reference":"#d"}}]}`,
		`{"contained":[{` + b20 +
			`,"resourceType":"Condition"}],"id":"x","resourceType":"Patient"}`: `{"id":"x","resourceType":"Patient"}`,
		`{"c\u006fntained":[{"resourceType":"Condition","meta":{"security":[{"code":"HIV"}]},` +
			`"id":"c"}],"id":"x","resourceType":"Patient"}`: `{"id":"x","resourceType":"Patient"}`,
		// An entry of a contained resource is treated like one of a resource of its own.
		`{"resourceType":"Observation","id":"x","contained":[{"resourceType":"List","id":"l",` +
			`"entry":[{"flag":{"text":"LEAK"},"item":` + withheldRef + `},{"item":` + goesRef +
			`}]}]}`: `{"resourceType":"Observation","id":"x","contained":[{"resourceType":"List",` +
			`"id":"l","entry":[{"item":` + goesRef + `}]}]}`,
		// A resource wholly about something withheld is removed; references to it are masked, or
		// removed with it.
		`{"resourceType":"Observation","id":"x","contained":[{"resourceType":"List","id":"l",` +
			`"title":"LEAK","entry":[{"item":` + withheldRef + `}]}],` +
			`"extension":[{"url":"urn:x","valueReference":{"reference":"#l",` +
			`"display":"LEAK"}}]}`: `{"resourceType":"Observation","id":"x",` +
			`"extension":[{"url":"urn:x",` +
			`"valueReference":` +
			masked + `}]}`,
		`{"resourceType":"List","id":"x","contained":[{"resourceType":"Provenance","id":"p",` +
			`"reason":[{"text":"LEAK"}],"target":[` + withheldRef + `]}],` +
			`"entry":[{"item":{"reference":"#p"},"flag":{"text":"LEAK"}},{"item":` + goesRef +
			`}]}`: `{"resourceType":"List","id":"x","entry":[{"item":` + goesRef + `}]}`,
		// A clinic that only a removed line names is removed, and so is the organization it is
		// part of.
		`{"resourceType":"Claim","id":"x","contained":[{"resourceType":"Location","id":"a",` +
			`"name":"LEAK","managingOrganization":{"reference":"#b"}},` +
			`{"resourceType":"Organization","id":"b","name":"LEAK"},` +
			`{"resourceType":"Organization","id":"c"},{"resourceType":"Organization","id":"d"}],` +
			`"provider":{"reference":"#c"},` +
			`"item":[{"sequence":1,"extension":[{"url":"urn:x","valueReference":` + withheldRef +
			`}],"locationReference":{"reference":"#a"}}]}`: `{"resourceType":"Claim","id":"x",` +
			`"contained":[{"resourceType":"Organization","id":"c"},` +
			`{"resourceType":"Organization","id":"d"}],"provider":{"reference":"#c"}}`,
		// Nested sections.
		`{"resourceType":"Composition","id":"x","section":[{"title":"a","text":{"div":"LEAK"},` +
			`"section":[{"title":"LEAK","entry":[` + withheldRef + `]},` +
			`{"title":"b","entry":[` + goesRef +
			`]}]}]}`: `{"resourceType":"Composition","id":"x","section":[{"title":"a",` +
			`"section":[{"title":"b","entry":[` + goesRef + `]}]}]}`,
		`{"resourceType":"Composition","id":"x","section":[{"title":"LEAK",` +
			`"section":[{"title":"LEAK","section":[{"title":"LEAK","entry":[` + withheldRef +
			`]}]}]},{"entry":[` + goesRef +
			`]}]}`: `{"resourceType":"Composition","id":"x","section":[{"entry":[` + goesRef +
			`]}]}`,
		// Nested details.
		`{"resourceType":"CarePlan","id":"x","activity":[{"detail":{"description":"LEAK",` +
			`"reasonReference":[` + withheldRef +
			`]}},{"detail":{"description":"goes"}}]}`: `{"resourceType":"CarePlan","id":"x",` +
			`"activity":[{"detail":{"description":"goes"}}]}`,
		`{"resourceType":"Claim","id":"x","item":[{"sequence":1,"detail":[{"sequence":1,` +
			`"subDetail":[{"productOrService":{"text":"LEAK"},"udi":[` + withheldRef +
			`]}]}]},{"sequence":2}]}`: `{"resourceType":"Claim","id":"x","item":[{"sequence":2}]}`,
	} {
		if got := pruned(t, line); got != want {
			t.Errorf("%s became\n%s, want\n%s", line, got, want)
		}
	}
}

// EHI-9: a Patient that is read alone loses contained resources, and the text about them.
func TestEHI9AResourceAloneContainsNothing(t *testing.T) {
	for line, want := range map[string]string{
		`{"resourceType":"Patient","id":"x","contained":[{"resourceType":"Condition","id":"c",` +
			`"code":{"text":"LEAK"}}],"text":{"div":"LEAK"},` +
			`"active":true}`: `{"resourceType":"Patient","id":"x",` +
			`"active":true}`,
		`{"cont\u0061ined":[{"code":{"text":"LEAK"}}],` +
			`"resourceType":"Patient","id":"x"}`: `{"resourceType":"Patient","id":"x"}`,
		`{"resourceType":"Patient","id":"x","text":{"div":"\u0061"},` +
			`"contained":[]}`: `{"resourceType":"Patient","id":"x","text":{"div":"\u0061"},` +
			`"contained":[]}`,
	} {
		if got, err := rules(t).Alone([]byte(line)); err != nil || string(got) != want {
			t.Errorf("%s became %s, want %s; %v", line, got, want, err)
		}
	}
}

// EHI-8, EHI-9: the Patient is always released, except for the smallest elements with sensitive
// codes, and the text. The rest is unchanged.
func TestEHI9ThePatientGoesWithoutWhatIsSensitive(t *testing.T) {
	const hiv = `{"coding":[{"system":"http://snomed.info/sct","code":"86406008",` +
		`"display":"LEAK"}],"text":"LEAK"}`
	const label = `{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV",` +
		`"display":"LEAK"}`
	const normal = `{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality",` +
		`"code":"N"}`
	const head, name = `{"resourceType":"Patient","id":"x"`,
		`"name":[{"family":"Doe"}],"gender":"male"`
	const race = `{"url":"http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",` +
		`"extension":[{"url":"ombCategory",` +
		`"valueCoding":{"system":"urn:oid:2.16.840.1.113883.6.238","code":"2106-3",` +
		`"display":"White"}},{"url":"text","valueString":"White"}]}`
	const sex = `{"url":"http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex",` +
		`"valueCode":"F"}`
	const identity = `{"url":"http://hl7.org/fhir/us/core/StructureDefinition/us-core-genderIdentity","valueCodeableConcept":` +
		`{"coding":[{"system":"http://snomed.info/sct","code":"446141000124107",` +
		`"display":"Identifies as female gender"}]}}`
	for line, want := range map[string]string{
		head + `,"extension":[` + race + `,{"url":"d","valueCodeableConcept":` + hiv + `},` + sex +
			`,` + identity + `],` + name + `}`: head +
			`,"extension":[` + race + `,` + sex + `,` + identity + `],` + name + `}`,
		head +
			`,"text":{"div":"LEAK"},"extension":[{"url":"a","extension":[{"url":"b",` +
			`"valueCode":"F11.20"},{"url":"c","valueString":"LEAK"}]}],` + name + `}`: head +
			`,` + name + `}`,
		head + `,"contact":[{"name":{"text":"mother"}},{"relationship":[` + hiv +
			`],"name":{"text":"LEAK"}}],` + name + `}`: head +
			`,"contact":[{"name":{"text":"mother"}}],` + name + `}`,
		head + `,"communication":[{"language":` + hiv + `,"preferred":true}],` + name +
			`}`: head + `,` + name + `}`,
		head + `,` + name + `,"maritalStatus":` + hiv +
			`}`: head + `,` + name + `}`,
		head + `,"_birthDate":{"extension":[{"url":"a","valueCodeableConcept":` + hiv +
			`}]},"birthDate":"1970-01-01",` + name + `}`: head + `,"birthDate":"1970-01-01",` +
			name + `}`,
		head + `,"meta":{"versionId":"3","security":[` + normal + `,` + label +
			`],"profile":["http://p"]},` + name + `}`: head +
			`,"meta":{"versionId":"3","security":[` + normal + `],"profile":["http://p"]},` + name +
			`}`,
		head + `,"meta":{"security":[` + label + `],"lastUpdated":"2020-01-01T00:00:00Z"},` + name +
			`}`: head + `,"meta":{"lastUpdated":"2020-01-01T00:00:00Z"},` + name + `}`,
		head + `,"meta":{"security":[` + label + `]},` + name +
			`}`: head + `,` + name + `}`,
		head + `,"meta":{"security":"HIV"},` + name +
			`}`: head + `,` + name + `}`,
		head + `,"meta":{"security":[` + normal + `]},"text":{"div":"goes"},` + name +
			`}`: head + `,"meta":{"security":[` + normal + `]},"text":{"div":"goes"},` + name + `}`,
		`{"c\u006fntact":[{"relationship":[` + hiv +
			`]}],"id":"x" , "resourceType":"Patient",` +
			`"te\u0078t":{"div":"LEAK"}}`: `{"id":"x","resourceType":"Patient"}`,
		// A code of the Patient itself, with its system; R4 has none.
		head + `,"code":"042","system":"http://hl7.org/fhir/sid/icd-9-cm",` + name + `}`: head +
			`}`,
		// What only a removed contact refers to is removed with it.
		head +
			`,"contained":[{"resourceType":"Organization","id":"a","name":"LEAK"},` +
			`{"resourceType":"Organization","id":"b"}],"managingOrganization":{"reference":"#b"},` +
			`"contact":[{"relationship":[` + hiv + `],"organization":{"reference":"#a"}}]}`: head +
			`,"contained":[{"resourceType":"Organization","id":"b"}],` +
			`"managingOrganization":{"reference":"#b"}}`,
	} {
		if got := pruned(t, line); got != want {
			t.Errorf("%s became\n%s, want\n%s", line, got, want)
		}
		authorized := form(ehi.MedicalRecord)
		for _, a := range ehi.Authorizations() {
			authorized.Authorize(a.Key)
		}
		if got := released(t, review(t, authorized, line), line); len(got) != 1 || got[0] != line {
			t.Errorf("with all authorizations %s became %s", line, got)
		}
		alone, err := rules(t).Alone([]byte(line))
		if err != nil || strings.Contains(string(alone), "LEAK") ||
			strings.Contains(string(alone), `"gender"`) != strings.Contains(want, `"gender"`) {
			t.Errorf("alone %s became %s, %v", line, alone, err)
		}
	}
}

// EHI-8: the Patients of the sample records lose nothing, whatever is authorized.
func TestEHI8NothingOfASamplePatientIsMissing(t *testing.T) {
	n := 0
	for _, b := range records.Bundles(t, records.Dir(t)) {
		for _, r := range b.Resources {
			if r["resourceType"] != "Patient" {
				continue
			}
			line, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			n++
			got := released(t, review(t, form(), string(line)), string(line))
			if len(got) != 1 || got[0] != string(line) {
				t.Errorf("%s became %s", line, got)
			}
		}
	}
	if n == 0 {
		t.Error("the sample records have no Patient")
	}
}

// EHI-8: a lone display that may mean the Patient is released, even if the Patient loses
// something.
func TestEHI8APatientWithoutSomethingIsNotWithheld(t *testing.T) {
	record := []string{
		`{"resourceType":"Patient","id":"x",` + hivLabel + `}`,
		`{"resourceType":"Observation","id":"o","subject":{"display":"Jane Doe"},` +
			`"note":[{"authorReference":{"display":"Jane Doe"}}]}`,
	}
	got := released(t, reviewOf(t, form(ehi.MedicalRecord), true, record...), record...)
	if len(got) != 2 || got[1] != record[1] {
		t.Errorf("%s", got)
	}
}

// EHI-8, EHI-9: a contained resource releases its targets only if it remains: not if it is about
// something withheld, or if nothing else refers to it any longer.
func TestEHI9WhatIsContainedTakesAlongWhereItGoes(t *testing.T) {
	const withheld, goes = `{"resourceType":"Condition","id":"withheld-0123456789",` + hivLabel +
		`}`, `{"resourceType":"Condition","id":"goes"}`
	const clinic = `{"resourceType":"Organization","id":"clinic-0123456789"}`
	const ref = `{"reference":"Organization/clinic-0123456789"}`
	provenance := func(target, others string) string {
		return `{"resourceType":"Provenance",` + others + `"target":[` + target +
			`],"agent":[{"who":` + ref + `}]}`
	}
	role := `{"resourceType":"PractitionerRole","id":"r","organization":` + ref + `}`
	item := func(target, others string) string {
		return `{"sequence":1,"extension":[{"url":"urn:x","valueReference":` + target + `}]` +
			others + `}`
	}
	for line, want := range map[string]bool{
		`"contained":[` + provenance(withheldRef, "") +
			`]`: false,
		`"contained":[` + provenance(goesRef, "") +
			`]`: true,
		`"contained":[` + provenance(withheldRef+`,`+goesRef, "") +
			`]`: true,
		`"contained":[` + provenance(withheldRef, `"id":"p",`) +
			`],"note":[{"authorReference":{"reference":"#p"}}]`: false,
		// Through another contained resource.
		`"contained":[` + role + `,` + `{"resourceType":"Provenance","target":[` + withheldRef +
			`],"agent":[{"who":{"reference":"#r"}}]}]`: false,
		`"contained":[` + role + `,` + `{"resourceType":"Provenance","target":[` + goesRef +
			`],"agent":[{"who":{"reference":"#r"}}]}]`: true,
		`"contained":[` + role + `,` + `{"resourceType":"Provenance","target":[` + withheldRef +
			`],"agent":[{"who":{"reference":"#r"}}]}],"provider":{"reference":"#r"}`: true,
		`"contained":[` +
			strings.Replace(provenance(`{"reference":"#l"}`, ""), `[{"who"`, `[{"onBehalfOf"`, 1) +
			`,{"resourceType":"List","id":"l","entry":[{"item":` + withheldRef + `}]}]`: false,
		// Through a removed line of a bill.
		`"contained":[` + role + `],"item":[` +
			item(withheldRef, `,"locationReference":{"reference":"#r"}`) + `]`: false,
		`"contained":[` + role + `],"item":[` +
			item(goesRef, `,"locationReference":{"reference":"#r"}`) + `]`: true,
		`"contained":[` + role + `],"provider":{"reference":"#r"},"item":[` +
			item(withheldRef, `,"locationReference":{"reference":"#r"}`) + `]`: true,
		`"contained":[` +
			strings.Replace(provenance(withheldRef, `"id":"p",`), ref, `{"display":"x"}`, 1) +
			`],"item":[` + item(`{"reference":"#p"}`, `,"locationReference":`+ref) + `]`: false,
		// One without references to it is released, and so are two that refer to each other.
		`"contained":[` + role + `]`: true,
		`"contained":[` +
			strings.Replace(role, `"id":"r"`, `"id":"r","practitioner":{"reference":"#s"}`, 1) +
			`,{"resourceType":"Practitioner","id":"s",` +
			`"qualification":[{"issuer":{"reference":"#r"}}]}]`: true,
	} {
		record := []string{withheld, goes, clinic, `{"resourceType":"Claim","id":"x",` + line + `}`}
		for _, resolved := range []bool{false, true} {
			got := strings.Join(released(t, reviewOf(t, allBut(), resolved, record...), record...),
				"\n")
			if strings.Contains(got, clinic) != want || strings.Contains(got, ref) != want {
				t.Errorf("of %s went %s", line, got)
			}
		}
	}
}

// EHI-8: contained resources that a Patient loses release nothing.
func TestEHI8WhatAPatientLeavesBehindTakesNothingAlong(t *testing.T) {
	const clinic = `{"resourceType":"Location","id":"clinic-0123456789",` +
		`"identifier":[{"value":"C1"}]}`
	for class, want := range map[string]bool{hivLabel: false, `"code":{"text":"x"}`: true} {
		for _, location := range []string{
			`{"reference":"Location/clinic-0123456789"}`,
			`{"identifier":{"value":"C1"}}`,
		} {
			for _, field := range []string{
				`"contained":[{"resourceType":"Encounter","location":[{"location":` + location +
					`}],` + class + `}]`,
				`"extension":[{"url":"urn:x","valueReference":` + location + `,` +
					strings.Replace(class, "meta", "securityLabel", 1) + `}]`,
			} {
				record := []string{clinic, `{"resourceType":"Patient","id":"x",` + field + `}`}
				got := strings.Join(released(t,
					reviewOf(t, form(ehi.MedicalRecord), true, record...), record...), "")
				if strings.Contains(got, clinic) != want {
					t.Errorf("by %s the clinic went: %v", field, !want)
				}
			}
		}
	}
}
