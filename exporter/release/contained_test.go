package release_test

import (
	"strings"
	"testing"

	"ehi-server/exporter/release"
	"ehi-server/shared/ehi"
)

// pruned is what a record's last line becomes where everything is ticked and nothing authorised, "" where
// it stays.
func pruned(t *testing.T, line string) string {
	t.Helper()
	record := []string{
		`{"resourceType":"Condition","id":"withheld-0123456789",` + hivLabel + `}`, `{"resourceType":"Condition","id":"goes"}`,
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

const withheldRef, goesRef = `{"reference":"Condition/withheld-0123456789"}`, `{"reference":"Condition/goes"}`

// EHI-9: what names a line of a bill that is left out goes with it, and what names that; and notes that
// tell of it.
func TestEHI9WhatNamesALineThatIsLeftOutIsLeftOut(t *testing.T) {
	const head = `{"resourceType":"ExplanationOfBenefit","id":"x","disposition":"LEAK","diagnosis":[{"sequence":1,"diagnosisReference":` +
		withheldRef + `},{"sequence":2,"diagnosisReference":` + goesRef + `}],`
	const left = `{"resourceType":"ExplanationOfBenefit","id":"x","diagnosis":[{"sequence":2,"diagnosisReference":` + goesRef + `}],`
	for line, want := range map[string]string{
		head + `"addItem":[{"itemSequence":[1],"note":"LEAK"},{"itemSequence":[2]},{"itemSequence":[2,1.0]}],` +
			`"item":[{"sequence":1,"diagnosisSequence":[1]},{"sequence":2,"diagnosisSequence":[2]}]}`: left +
			`"addItem":[{"itemSequence":[2]}],"item":[{"sequence":2,"diagnosisSequence":[2]}]}`,
		head + `"processNote":[{"number":1,"text":"LEAK"},{"number":2,"text":"goes"},{"number":3,"text":"LEAK"},{"text":"LEAK"}],` +
			`"item":[{"sequence":1,"diagnosisSequence":[1],"noteNumber":[1]},{"sequence":2,"noteNumber":[2]},` +
			`{"sequence":4,"informationSequence":[7],"adjudication":[{"reason":{"text":"goes"}}],"detail":[{"noteNumber":[2]}]},` +
			`{"sequence":3,"diagnosisSequence":[2,1],"detail":[{"subDetail":[{"noteNumber":[3]}]}]}]}`: left +
			`"processNote":[{"number":2,"text":"goes"}],"item":[{"sequence":2,"noteNumber":[2]},` +
			`{"sequence":4,"informationSequence":[7],"adjudication":[{"reason":{"text":"goes"}}],"detail":[{"noteNumber":[2]}]}]}`,
		`{"resourceType":"CoverageEligibilityRequest","id":"x","supportingInfo":[{"sequence":1,"information":` + withheldRef +
			`}],"item":[{"supportingInfoSequence":[1],"category":{"text":"LEAK"}},{"supportingInfoSequence":[2]}]}`: `{"resourceType":"CoverageEligibilityRequest","id":"x","item":[{"supportingInfoSequence":[2]}]}`,
	} {
		if got := pruned(t, line); got != want {
			t.Errorf("%s became %s, want %s", line, got, want)
		}
	}
}

// EHI-9: what stands beside a Reference that is masked, or sums up what it means, is left out with it.
func TestEHI9WhatStandsBesideTheWithheldIsLeftOut(t *testing.T) {
	for line, want := range map[string]string{
		`{"resourceType":"Task","id":"x","input":[{"type":{"text":"LEAK"},"valueReference":` + withheldRef + `},{"type":{"text":"goes"},"valueReference":` + goesRef + `}]}`: `{"resourceType":"Task","id":"x","input":[{"type":{"text":"goes"},"valueReference":` + goesRef + `}]}`,
		`{"resourceType":"Task","id":"x","output":[{"valueReference":` + withheldRef + `,"type":{"text":"LEAK"}}]}`:                                                          `{"resourceType":"Task","id":"x"}`,
		`{"resourceType":"DiagnosticReport","id":"x","media":[{"comment":"LEAK","link":` + withheldRef + `},{"link":` + goesRef + `}],"conclusion":"LEAK"}`:                  `{"resourceType":"DiagnosticReport","id":"x","media":[{"link":` + goesRef + `}]}`,
		`{"resourceType":"DiagnosticReport","id":"x","text":{"div":"LEAK"},"result":[` + withheldRef + `,` + goesRef + `],"conclusionCode":[{"text":"LEAK"}]}`:               `{"resourceType":"DiagnosticReport","id":"x","result":[` + masked + `,` + goesRef + `]}`,
		`{"resourceType":"ClinicalImpression","id":"x","finding":[{"itemReference":` + goesRef + `},{"itemReference":` + withheldRef + `}],"summary":"LEAK"}`:                `{"resourceType":"ClinicalImpression","id":"x","finding":[{"itemReference":` + goesRef + `}]}`,
		`{"resourceType":"DetectedIssue","id":"x","implicated":[` + goesRef + `],"evidence":[{"code":[{"text":"LEAK"}],"detail":[` + withheldRef + `]}]}`:                    `{"resourceType":"DetectedIssue","id":"x","implicated":[` + goesRef + `]}`,
		`{"resourceType":"Composition","id":"x","event":[{"code":[{"text":"LEAK"}],"detail":[` + withheldRef + `]},{"detail":[` + goesRef + `]}]}`:                           `{"resourceType":"Composition","id":"x","event":[{"detail":[` + goesRef + `]}]}`,
	} {
		if got := pruned(t, line); got != want {
			t.Errorf("%s became %s, want %s", line, got, want)
		}
	}
}

// EHI-9: what a resource contains is treated as it is, at whatever depth entries stand.
func TestEHI9WhatIsContainedIsTreatedAsItsContainer(t *testing.T) {
	const b20 = `"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}],"text":"LEAK"}`
	for line, want := range map[string]string{
		// The Patient goes without what is sensitive, and without what it says of that.
		`{"resourceType":"Patient","id":"x","text":{"div":"LEAK"},"contained":[{"resourceType":"Condition","id":"c",` + b20 + `},{"resourceType":"Condition","id":"d"}],` +
			`"extension":[{"url":"urn:x","valueReference":{"reference":"#c","display":"LEAK"}},{"url":"urn:x","valueReference":{"reference":"#d"}}]}`: `{"resourceType":"Patient","id":"x","contained":[{"resourceType":"Condition","id":"d"}],` +
			`"extension":[{"url":"urn:x","valueReference":` + masked + `},{"url":"urn:x","valueReference":{"reference":"#d"}}]}`,
		`{"contained":[{` + b20 + `,"resourceType":"Condition"}],"id":"x","resourceType":"Patient"}`:                                        `{"id":"x","resourceType":"Patient"}`,
		`{"c\u006fntained":[{"resourceType":"Condition","meta":{"security":[{"code":"HIV"}]},"id":"c"}],"id":"x","resourceType":"Patient"}`: `{"id":"x","resourceType":"Patient"}`,
		// An entry of what is contained goes as one of its own would.
		`{"resourceType":"Observation","id":"x","contained":[{"resourceType":"List","id":"l","entry":[{"flag":{"text":"LEAK"},"item":` + withheldRef + `},{"item":` + goesRef + `}]}]}`: `{"resourceType":"Observation","id":"x","contained":[{"resourceType":"List","id":"l","entry":[{"item":` + goesRef + `}]}]}`,
		// What is wholly about the withheld is left out; what refers to it is masked, or goes with it.
		`{"resourceType":"Observation","id":"x","contained":[{"resourceType":"List","id":"l","title":"LEAK","entry":[{"item":` + withheldRef + `}]}],` +
			`"extension":[{"url":"urn:x","valueReference":{"reference":"#l","display":"LEAK"}}]}`: `{"resourceType":"Observation","id":"x","extension":[{"url":"urn:x","valueReference":` + masked + `}]}`,
		`{"resourceType":"List","id":"x","contained":[{"resourceType":"Provenance","id":"p","reason":[{"text":"LEAK"}],"target":[` + withheldRef + `]}],` +
			`"entry":[{"item":{"reference":"#p"},"flag":{"text":"LEAK"}},{"item":` + goesRef + `}]}`: `{"resourceType":"List","id":"x","entry":[{"item":` + goesRef + `}]}`,
		// A clinic that only a line names that is left out goes with it, and whose part it is.
		`{"resourceType":"Claim","id":"x","contained":[{"resourceType":"Location","id":"a","name":"LEAK","managingOrganization":{"reference":"#b"}},` +
			`{"resourceType":"Organization","id":"b","name":"LEAK"},{"resourceType":"Organization","id":"c"},{"resourceType":"Organization","id":"d"}],"provider":{"reference":"#c"},` +
			`"item":[{"sequence":1,"extension":[{"url":"urn:x","valueReference":` + withheldRef + `}],"locationReference":{"reference":"#a"}}]}`: `{"resourceType":"Claim","id":"x",` +
			`"contained":[{"resourceType":"Organization","id":"c"},{"resourceType":"Organization","id":"d"}],"provider":{"reference":"#c"}}`,
		// Sections within sections.
		`{"resourceType":"Composition","id":"x","section":[{"title":"a","text":{"div":"LEAK"},"section":[{"title":"LEAK","entry":[` + withheldRef + `]},` +
			`{"title":"b","entry":[` + goesRef + `]}]}]}`: `{"resourceType":"Composition","id":"x","section":[{"title":"a","section":[{"title":"b","entry":[` + goesRef + `]}]}]}`,
		`{"resourceType":"Composition","id":"x","section":[{"title":"LEAK","section":[{"title":"LEAK","section":[{"title":"LEAK","entry":[` + withheldRef + `]}]}]},{"entry":[` + goesRef + `]}]}`: `{"resourceType":"Composition","id":"x","section":[{"entry":[` + goesRef + `]}]}`,
		// Details of a detail.
		`{"resourceType":"CarePlan","id":"x","activity":[{"detail":{"description":"LEAK","reasonReference":[` + withheldRef + `]}},{"detail":{"description":"goes"}}]}`:                     `{"resourceType":"CarePlan","id":"x","activity":[{"detail":{"description":"goes"}}]}`,
		`{"resourceType":"Claim","id":"x","item":[{"sequence":1,"detail":[{"sequence":1,"subDetail":[{"productOrService":{"text":"LEAK"},"udi":[` + withheldRef + `]}]}]},{"sequence":2}]}`: `{"resourceType":"Claim","id":"x","item":[{"sequence":2}]}`,
	} {
		if got := pruned(t, line); got != want {
			t.Errorf("%s became\n%s, want\n%s", line, got, want)
		}
	}
}

// EHI-9: a Patient who is read alone goes without what it contains, and without the text that tells of
// that.
func TestEHI9AResourceAloneContainsNothing(t *testing.T) {
	for line, want := range map[string]string{
		`{"resourceType":"Patient","id":"x","contained":[{"resourceType":"Condition","id":"c","code":{"text":"LEAK"}}],"text":{"div":"LEAK"},"active":true}`: `{"resourceType":"Patient","id":"x","active":true}`,
		`{"cont\u0061ined":[{"code":{"text":"LEAK"}}],"resourceType":"Patient","id":"x"}`:                                                                    `{"resourceType":"Patient","id":"x"}`,
		`{"resourceType":"Patient","id":"x","text":{"div":"\u0061"},"contained":[]}`:                                                                         `{"resourceType":"Patient","id":"x","text":{"div":"\u0061"},"contained":[]}`,
	} {
		if got, err := release.Alone([]byte(line)); err != nil || string(got) != want {
			t.Errorf("%s became %s, want %s; %v", line, got, want, err)
		}
	}
}

// EHI-8: a Patient takes nothing along by what it contains and leaves behind.
func TestEHI8WhatAPatientLeavesBehindTakesNothingAlong(t *testing.T) {
	const clinic = `{"resourceType":"Location","id":"clinic-0123456789","identifier":[{"value":"C1"}]}`
	for class, want := range map[string]bool{hivLabel: false, `"code":{"text":"x"}`: true} {
		for _, location := range []string{`{"reference":"Location/clinic-0123456789"}`, `{"identifier":{"value":"C1"}}`} {
			record := []string{clinic, `{"resourceType":"Patient","id":"x","contained":[{"resourceType":"Encounter","location":[{"location":` + location + `}],` +
				class + `}]}`}
			got := strings.Join(released(t, reviewOf(t, form(ehi.MedicalRecord), true, record...), record...), "")
			if strings.Contains(got, clinic) != want {
				t.Errorf("by %s and %s the clinic went: %v", class, location, !want)
			}
		}
	}
}
