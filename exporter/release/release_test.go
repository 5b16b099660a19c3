package release_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/release"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

func rules(t testing.TB) *release.Rules {
	t.Helper()
	r, err := shippedRules()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var shippedRules = sync.OnceValues(func() (*release.Rules, error) {
	return release.RulesFromFile("")
})

// review decides about a record; a nil form means no form.
func review(t testing.TB, form *ehi.ReleaseForm, lines ...string) *release.Review {
	t.Helper()
	p, err := rules(t).Policy(form, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	return release.Decided(t, p, false, lines...)
}

// released returns the lines that may be released.
func released(t testing.TB, r *release.Review, lines ...string) (out []string) {
	t.Helper()
	x := r.Releaser()
	for _, l := range lines {
		line, ok, err := x.Release([]byte(l))
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			out = append(out, string(line))
		}
	}
	return out
}

func form(keys ...ehi.Category) *ehi.ReleaseForm {
	f := &ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{}}
	for _, k := range keys {
		f.Parameters[k] = ehi.Choice{}
	}
	return f
}

const masked = `{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]}`

var unknown = strings.Replace(masked, "masked", "unknown", 1)

// EHI-9: no id of a withheld resource appears anywhere, in any form.
func TestEHI9EveryTraceOfTheWithheldIsMasked(t *testing.T) {
	claim := `{"resourceType":"Claim","id":"claim-0123456789","status":"active"}`
	lines := []string{claim,
		`{"resourceType":"Condition","id":"c1",` +
			`"note":[{"authorReference":{"reference":"Claim/claim-0123456789",` +
			`"display":"the claim"}}],"identifier":[{"system":"x","value":"claim-0123456789"}],` +
			`"code":{"text":"about claim-0123456789."},` +
			`"recorder":{"reference":"Claim\/claim-0123456789\/_history\/2"}}`,
		`{"resourceType":"Condition","id":"c2",` +
			`"instantiatesUri":["http:\/\/x\/Claim\/claim-0123456789","http://y"],` +
			`"contained":[{"resourceType":"ServiceRequest","id":"b",` +
			`"subject":{"reference":"Claim/claim-0123456789"}}]}`,
	}
	r := review(t, form(ehi.MedicalRecord), lines...)
	got := released(t, r, lines...)
	want := []string{
		`{"resourceType":"Condition","id":"c1","note":[{"authorReference":` + masked +
			`}],"identifier":[{"system":"x","_value":` + masked + `}],"code":{"_text":` + masked +
			`},"recorder":` + masked + `}`,
		`{"resourceType":"Condition","id":"c2","instantiatesUri":["masked","http://y"],` +
			`"contained":[{"resourceType":"ServiceRequest","id":"b","subject":` + masked + `}]}`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]int64{"category.billing": 1}, r.Withheld()); d != "" {
		t.Error(d)
	}
}

// A Binary belongs to the documents whose attachments point to it.
func TestEHI9ABinaryFollowsItsDocuments(t *testing.T) {
	const note, report = `{"coding":[{"system":"http://loinc.org","code":"18842-5"}]}`,
		`{"coding":[{"system":"http://loinc.org","code":"11502-2"}]}`
	lines := []string{
		`{"resourceType":"Binary","id":"b1","data":"eA=="}`,
		`{"resourceType":"DocumentReference","id":"d1","type":` + note +
			`,"content":[{"attachment":{"url":"Binary/b1"}}]}`,
		`{"resourceType":"Binary","id":"b2","data":"eA=="}`,
		`{"resourceType":"DiagnosticReport","id":"r1","code":` + note +
			`,"presentedForm":[{"url":"Binary\/b2"}]}`,
		`{"resourceType":"Binary","id":"b3",` +
			`"securityContext":{"reference":"DocumentReference/d1"},"data":"eA=="}`,
		`{"resourceType":"Condition","id":"c1","extension":[{"url":"http://x",` +
			`"valueUrl":"Binary/b4/_history/1"}]}`,
		`{"resourceType":"Binary","id":"b4","data":"eA=="}`,
		`{"resourceType":"Binary","id":"b5",` +
			`"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode",` +
			`"code":"HIV"}]},"data":"eA=="}`,
		`{"resourceType":"Condition","id":"c2","extension":[{"url":"http://x",` +
			`"valueUrl":"Binary/b5"}]}`,
	}
	c2 := strings.Replace(lines[8], `"valueUrl":"Binary/b5"`, `"_valueUrl":`+masked, 1)
	mask := strings.NewReplacer(`,"presentedForm":[{"url":"Binary\/b2"}]`, "")
	for name, c := range map[string]struct {
		form *ehi.ReleaseForm
		want []string
	}{
		"no form": {nil, lines},
		"documents": {
			form(ehi.DischargeSummary),
			[]string{lines[0], lines[1], lines[2], lines[3], lines[4]},
		},
		"medical record": {
			form(ehi.MedicalRecord),
			[]string{mask.Replace(lines[3]), lines[5], lines[6], c2},
		},
		"nothing at all": {form(), []string{mask.Replace(lines[3])}},
		"all of the same": {
			form(ehi.MedicalRecord, ehi.DischargeSummary),
			append(slices.Clone(lines[:7]), c2),
		},
	} {
		got := released(t, review(t, c.form, lines...), lines...)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestAnIDThatTwoResourcesShareIsNotMasked(t *testing.T) {
	lines := []string{
		`{"resourceType":"Claim","id":"same-0123456789"}`,
		`{"resourceType":"Condition","id":"same-0123456789","code":{"text":"same-0123456789"}}`,
	}
	got := released(t, review(t, form(ehi.MedicalRecord), lines...), lines...)
	if len(got) != 1 || got[0] != lines[1] {
		t.Errorf("released %v", got)
	}
}

func TestReferencesThatLeadNowhereAreUnknown(t *testing.T) {
	line := `{"resourceType":"Condition","id":"c1","subject":{"reference":"Patient/gone"},` +
		`"recorder":{"reference":"urn:uuid:1"},"asserter":{"reference":"http://x/Patient/1"},` +
		`"encounter":{"reference":"#e"},` +
		`"evidence":[{"detail":[{"reference":"Practitioner?identifier=x|y"}]}]}`
	want := strings.NewReplacer(`{"reference":"Patient/gone"}`, unknown,
		`{"reference":"urn:uuid:1"}`, unknown, `{"reference":"Practitioner?identifier=x|y"}`,
		unknown).Replace(line)
	if got := released(t, review(t, nil, line), line); len(got) != 1 || got[0] != want {
		t.Errorf("released %v, want %s", got, want)
	}
}

// EHI-8, IN-6: without a form, a reference that points nowhere is removed alone: the elements
// beside it say what was meant. With a form it is removed as a whole, because it may name
// something withheld.
func TestAReferenceThatLeadsNowhereLosesNothingElse(t *testing.T) {
	line := `{"resourceType":"MedicationRequest","id":"m1",` +
		`"medicationReference":{"reference":"Medication/none","display":"Warfarin 5 mg"},` +
		`"requester":{"identifier":{"system":"http://hl7.org/fhir/sid/us-npi",` +
		`"value":"1"} , "reference":"urn:uuid:1"},` +
		`"recorder":{"type":"Practitioner","reference":"Practitioner?identifier=x|y"},` +
		`"performer":{ "reference":"Practitioner/none" },"encounter":{"reference":"Encounter/e1",` +
		`"display":"here"}}`
	lost := `"_reference":` + unknown
	want := strings.NewReplacer(`"reference":"Medication/none"`, lost, `"reference":"urn:uuid:1"`,
		lost,
		`"reference":"Practitioner?identifier=x|y"`, lost, `{ "reference":"Practitioner/none" }`,
		unknown).Replace(line)
	lines := []string{line, `{"resourceType":"Encounter","id":"e1"}`}
	if got := released(t, review(t, nil, lines...), lines...); len(got) != 2 || got[0] != want {
		t.Errorf("released %v, want %s", got, want)
	}
	// This one already has an element with that name.
	odd := `{"resourceType":"Condition","id":"c","recorder":{"reference":"Practitioner/none",` +
		`"_reference":{"id":"r"}}}`
	want = `{"resourceType":"Condition","id":"c","recorder":` + unknown + `}`
	if got := released(t, review(t, nil, odd), odd); len(got) != 1 || got[0] != want {
		t.Errorf("released %v", got)
	}
	f := form(ehi.MedicalRecord, ehi.Visits)
	got := released(t, review(t, f, lines...), lines...)
	if len(got) != 2 || strings.Contains(got[0], "Warfarin") {
		t.Errorf("by a form: %v", got)
	}
}

// EHI-8: without a form everything is released, including resources without references to them
// and elements beside references that point nowhere.
func TestWithoutAFormEverythingGoesWhateverRefersToIt(t *testing.T) {
	lines := []string{
		`{"resourceType":"Patient","id":"a"}`, `{"resourceType":"Device","id":"pacemaker"}`,
		`{"resourceType":"Practitioner","id":"p"}`,
		`{"resourceType":"BiologicallyDerivedProduct","id":"b",` +
			`"collection":{"source":{"reference":"Patient/a"}}}`,
		`{"resourceType":"DeviceMetric","id":"d","source":{"reference":"Device/pacemaker"}}`,
		`{"resourceType":"Substance","id":"s"}`, `{"resourceType":"Location","id":"l"}`,
		`{"resourceType":"Binary","id":"free","contentType":"text/plain","data":"aA=="}`,
		`{"resourceType":"Questionnaire","id":"q","url":"http://x/q","status":"active"}`,
		`{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/a"},` +
			`"performer":[{"reference":"Practitioner/9"}]}`,
	}
	r := review(t, nil, lines...)
	if got := released(t, r, lines...); len(got) != len(lines) || len(r.Withheld()) != 0 {
		t.Errorf("%d of %d are released, withheld are %v: %v", len(got), len(lines), r.Withheld(),
			got)
	}
}

// EHI-9: a resource that is only a reference to something withheld is withheld, and so is one
// that is only a reference to that resource.
func TestEHI9WhatOnlyPointsAtTheWithheldStaysOut(t *testing.T) {
	lines := []string{
		`{"resourceType":"Medication","id":"m1",` +
			`"code":{"coding":[{"system":"http://snomed.info/sct","code":"86406008"}]}}`,
		`{"resourceType":"MedicationRequest","id":"r1",` +
			`"medicationReference":{"reference":"Medication/m1"}}`,
		`{"resourceType":"Provenance","id":"p1","target":[{"reference":"MedicationRequest/r1"}]}`,
		`{"resourceType":"Provenance","id":"p2","target":[{"reference":"MedicationRequest/r1"},` +
			`{"reference":"Condition/c1"}]}`,
		`{"resourceType":"Provenance","id":"p3","target":[{"reference":"http://elsewhere/X/1"}]}`,
		`{"resourceType":"Condition","id":"c1"}`,
	}
	r := review(t, form(ehi.MedicalRecord), lines...)
	want := []string{
		`{"resourceType":"Provenance","id":"p2","target":[` + masked +
			`,{"reference":"Condition/c1"}]}`,
		lines[4],
		lines[5],
	}
	if d := cmp.Diff(want, released(t, r, lines...)); d != "" {
		t.Error(d)
	}
	d := cmp.Diff(map[string]int64{"sensitive.hiv": 1, "reference-only": 2}, r.Withheld())
	if d != "" {
		t.Error(d)
	}
}

// EHI-9: labels count anywhere, codes count by prefix, and a resource of two kinds needs both
// authorizations.
func TestEHI9LabelsAndCodes(t *testing.T) {
	label := func(code string) string {
		return `{"resourceType":"Condition","id":"c",` +
			`"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode",` +
			`"code":"` + code + `"}]}}`
	}
	icd := `{"resourceType":"Condition","id":"c",` +
		`"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F10.20"}]}}`
	confidential := `{"resourceType":"Condition","id":"c",` +
		`"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}]}}`
	for _, c := range []struct {
		line  string
		needs []ehi.Authorization
	}{
		{label("HIV"), []ehi.Authorization{ehi.HIV}},
		{label("ETH"), []ehi.Authorization{ehi.AlcoholAndDrug}},
		{label("PSY"), []ehi.Authorization{ehi.MentalHealth}},
		{label("SDV"), []ehi.Authorization{ehi.DomesticViolence, ehi.SexualAssault}},
		{label("GDIS"), []ehi.Authorization{ehi.Genetic}},
		{label("STD"), []ehi.Authorization{ehi.OtherSensitive}},
		{icd, []ehi.Authorization{ehi.AlcoholAndDrug}},
		{confidential, []ehi.Authorization{ehi.Confidential}},
		{label("NOTHING"), nil},
	} {
		f := form(ehi.MedicalRecord)
		f.Authorizations = map[ehi.Authorization]string{}
		for i := 0; ; i++ {
			n := len(released(t, review(t, f, c.line), c.line))
			if (n == 1) != (i == len(c.needs)) {
				t.Errorf("%s with %v: %d released", c.line, f.Authorizations, n)
			}
			if i == len(c.needs) {
				break
			}
			f.Authorizations[c.needs[i]] = "true"
		}
	}
	patient := `{"resourceType":"Patient","id":"p",` +
		`"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]}}`
	if got := released(t, review(t, form(), patient), patient); len(got) != 1 {
		t.Error("the Patient was withheld")
	}
}

// documentRows returns the rows of documents.csv that name a whole code: system, code, category.
func documentRows(t *testing.T) (out [][]string) {
	t.Helper()
	data, err := os.ReadFile("documents.csv")
	if err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(bytes.NewReader(data))
	r.Comment = '#'
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if !strings.HasSuffix(row[1], "*") {
			out = append(out, row)
		}
	}
	return out
}

// EHI-8: the form line of a document or report, and the treatment of a presentedForm.
func TestEHI8Documents(t *testing.T) {
	lines := map[string]ehi.Category{
		`{"resourceType":"DocumentReference","id":"d","category":[{"coding":[{"system":"x",` +
			`"code":"operative"}]}]}`: ehi.Operative,
		`{"resourceType":"DocumentReference","id":"d"}`: ehi.OtherDocuments,
		`{"resourceType":"Media","id":"d",` +
			`"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/media-type",` +
			`"code":"image"}]}}`: ehi.Photographs,
		`{"resourceType":"Media","id":"d",` +
			`"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/media-type",` +
			`"code":"image"}]},` +
			`"modality":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM",` +
			`"code":"XA"}]}}`: ehi.Radiology,
		`{"resourceType":"ImagingStudy","id":"d"}`: ehi.Radiology,
		`{"resourceType":"DiagnosticReport","id":"d",` +
			`"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0074",` +
			`"code":"LAB"}]}]}`: ehi.Labs,
		`{"resourceType":"Observation","id":"d",` +
			`"category":[{"coding":[{"system":"http://terminology.hl7.org/` +
			`CodeSystem/observation-category","code":"laboratory"}]}]}`: ehi.Labs,
		`{"resourceType":"Immunization","id":"d"}`: ehi.MedicalRecord,
		`{"resourceType":"Coverage","id":"d"}`:     ehi.Billing,
		`{"resourceType":"Procedure","id":"d"}`:    ehi.Visits,
	}
	groups := map[ehi.Category]bool{ehi.OtherDocuments: true} // which needs no code
	for _, row := range documentRows(t) {
		groups[ehi.Category(row[2])] = true
		lines[fmt.Sprintf(`{"resourceType":"DocumentReference","id":"d",`+
			`"type":{"coding":[{"system":%q,"code":%q}]}}`, row[0], row[1])] = ehi.Category(row[2])
	}
	for _, c := range ehi.Categories() {
		if c.OfDocuments() != groups[c.Key] {
			t.Errorf("%s is a group of documents: %v, in documents.csv: %v", c.Key,
				c.OfDocuments(), groups[c.Key])
		}
	}
	for line, key := range lines {
		var others []ehi.Category
		for _, c := range ehi.Categories() {
			got := released(t, review(t, form(c.Key), line), line)
			if (len(got) == 1) != (c.Key == key) {
				t.Errorf("%s with %s alone: %v", line, c.Key, got)
			}
			if c.Key != key {
				others = append(others, c.Key)
			}
		}
		if got := released(t, review(t, form(others...), line), line); len(got) != 0 {
			t.Errorf("%s with all but %s: %v", line, key, got)
		}
	}
	report := `{"resourceType":"DiagnosticReport","id":"d",` +
		`"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0074",` +
		`"code":"RAD"}]}],"presentedForm":[{"title":"x"}],"status":"final"}`
	r := review(t, form(), report)
	got := released(t, r, report)
	if len(got) != 1 ||
		got[0] != strings.Replace(report, `"presentedForm":[{"title":"x"}],`, "", 1) {
		t.Errorf("without radiology: %v", got)
	}
	if r.Withheld()["document.radiology"] != 1 {
		t.Errorf("withheld %v", r.Withheld())
	}
	if got := released(t, review(t, form(ehi.Radiology), report), report); len(got) != 1 ||
		got[0] != report {
		t.Errorf("with radiology: %v", got)
	}
}

// EHI-8: a resource without a date is withheld, because it may be outside the limits.
func TestEHI8DateLimits(t *testing.T) {
	f := &ehi.ReleaseForm{
		Parameters: map[ehi.Category]ehi.Choice{
			ehi.Visits:  {From: "2019-02", To: "2019-03"},
			ehi.Billing: {To: "2019"},
		},
	}
	for line, in := range map[string]bool{
		`{"resourceType":"Encounter","id":"e"}`:                                           false,
		`{"resourceType":"Encounter","id":"e","period":{"start":"2019-03-31T23:00:00Z"}}`: true,
		`{"resourceType":"Encounter","id":"e","period":{"start":"2018","end":"2019"}}`:    true,
		`{"resourceType":"Encounter","id":"e","period":{"start":"2019-04-01"}}`:           false,
		`{"resourceType":"Encounter","id":"e","period":{"end":"2019-01-31"}}`:             false,
		`{"resourceType":"Encounter","id":"e","period":{"end":"2019-02-01"}}`:             true,
		`{"resourceType":"Procedure","id":"e","performedDateTime":"2019"}`:                true,
		`{"resourceType":"Procedure","id":"e","performedDateTime":"2019-04"}`:             false,
		`{"resourceType":"Procedure","id":"e","performedString":"2019-03-01"}`:            false,
		`{"resourceType":"Coverage","id":"e","period":{"start":"2019-12-31"}}`:            true,
		`{"resourceType":"Claim","id":"e","created":"2020-01-01"}`:                        false,
		`{"resourceType":"Claim","id":"e","billablePeriod":{"start":"2019-06-01"},` +
			`"created":"2020-01-01"}`: true,
	} {
		if got := released(t, review(t, f, line), line); (len(got) == 1) != in {
			t.Errorf("%s released: %v", line, len(got) == 1)
		}
	}
}

// EHI-8: a date limit considers every element with a date. A resource without a date is
// withheld.
func TestEHI8DateLimitsReadWhatTheDefinitionsCallADate(t *testing.T) {
	kept := []string{
		`{"resourceType":"ExplanationOfBenefit","id":"e1","item":[{"servicedDate":"2018"},` +
			`{"servicedDate":"2019-03"}],"created":"2023"}`,
		`{"resourceType":"Observation","id":"o1","category":[{"coding":[{"code":"laboratory"}]}],` +
			`"effectiveTiming":{"event":["2017","2019"]}}`,
		`{"resourceType":"Procedure","id":"p1","performedDateTime":"2019-12-31T23:59:60Z"}`,
	}
	withheld := []string{
		`{"resourceType":"ExplanationOfBenefit","id":"e2","item":[{"servicedDate":"2018"},` +
			`{"servicedDate":"2020"}],"created":"2019"}`,
		`{"resourceType":"Observation","id":"o2","category":[{"coding":[{"code":"laboratory"}]}],` +
			`"effectiveTiming":{"code":{"text":"2019"}}}`,
		`{"resourceType":"Procedure","id":"p2","performedString":"2019"}`,
	}
	f := form(ehi.Visits, ehi.Labs, ehi.Billing)
	for k := range f.Parameters {
		f.Parameters[k] = ehi.Choice{From: "2019-01-01", To: "2019-12-31"}
	}
	lines := append(kept, withheld...)
	if d := cmp.Diff(kept, released(t, review(t, f, lines...), lines...)); d != "" {
		t.Error(d)
	}
}

func TestCodeTablesAreChecked(t *testing.T) {
	if _, err := release.SensitiveTable(
		strings.NewReader("sys,code,hiv\nsys,other,nonsense\n")); err ==
		nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("an unknown category: %v", err)
	}
	if _, err := release.SensitiveTable(strings.NewReader("only,two\n")); err == nil {
		t.Error("a row of two fields was taken")
	}
	table, err := release.SensitiveTable(strings.NewReader("# mine\nsys,code,hiv\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := release.NewRules(table).Policy(form(ehi.MedicalRecord), ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	line := `{"resourceType":"Condition","id":"c","code":{"coding":[{"code":"code",` +
		`"system":"sys"}]}}`
	r := release.Decided(t, p, false, line)
	if _, ok, err := r.Releaser().Release([]byte(line)); ok || err != nil {
		t.Errorf("a replaced table does not count: %v, %v", ok, err)
	}
}

// If a resource has two ids, the last one counts, in both passes, for any record.
func TestWhatHasItsIDTwiceStays(t *testing.T) {
	encounter := `{"resourceType":"Encounter","id":"first-0123456789","status":"finished",` +
		`"id":"last-0123456789"}`
	condition := `{"resourceType":"Condition","id":"first","code":{"coding":[{"code":"X"}]},` +
		`"id":"last","x":"\u0041"}`
	toLast := `{"resourceType":"Condition","id":"c",` +
		`"encounter":{"reference":"Encounter/last-0123456789"}}`
	lines := []string{encounter, condition, toLast}
	r := review(t, form(ehi.MedicalRecord), lines...)
	want := []string{
		condition,
		strings.Replace(toLast, `{"reference":"Encounter/last-0123456789"}`,
			string(fhir.MaskedReference), 1),
	}
	if d := cmp.Diff(want, released(t, r, lines...)); d != "" {
		t.Error(d)
	}
}

// If a resource has two types or two ids, the last one counts, even if the first one names a
// released resource.
func TestTheLastOfTwoTypesOrIDsCounts(t *testing.T) {
	goes := `{"resourceType":"Observation","id":"goes-0123456789"}`
	isVisit := `{"resourceType":"Observation","id":"goes-0123456789","resourceType":"Encounter"}`
	isLate := `{"resourceType":"Encounter","status":"finished","id":"visit-0123456789",` +
		`"resourceType":"Observation"}`
	hasLabel := `{"resourceType":"Observation","id":"goes-0123456789",` + hivLabel +
		`,"id":"stays-0123456789"}`
	refers := `{"resourceType":"Condition","id":"c",` +
		`"encounter":{"reference":"Encounter/goes-0123456789"},` +
		`"evidence":[{"detail":[{"reference":"Observation/stays-0123456789"},` +
		`{"reference":"Observation/visit-0123456789"}]}]}`
	masked := strings.NewReplacer(
		`{"reference":"Encounter/goes-0123456789"}`, string(fhir.MaskedReference),
		`{"reference":"Observation/stays-0123456789"}`, string(fhir.MaskedReference),
	).Replace(refers)
	lines := []string{goes, isVisit, isLate, hasLabel, refers}
	for _, resolved := range []bool{false, true} {
		for range len(lines) {
			r := reviewOf(t, form(ehi.MedicalRecord), resolved, lines...)
			out := released(t, r, lines...)
			want := map[string]bool{goes: true, isLate: true, masked: true}
			for _, line := range out {
				if !want[line] {
					t.Errorf("resolved %v: this goes: %s", resolved, line)
				}
				delete(want, line)
			}
			if len(want) > 0 {
				t.Errorf("resolved %v: these stay: %v", resolved, want)
			}
			lines = append(lines[1:], lines[0])
		}
	}
}

// For any record, the output is JSON, and all its references are valid.
func FuzzRelease(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/p"},`+
		`"presentedForm":[1]}`), true)
	f.Add([]byte(`{"resourceType":"DiagnosticReport","id":"claim-0123456789",`+
		`"presentedForm":[{}],"x":["claim-0123456789",{"reference":"Claim/claim-0123456789"}]}`),
		false)
	f.Add([]byte(`{"reference":"Claim/claim-0123456789","a":{"reference":"#x",`+
		`"reference":"Nothing/1"}}`), false)
	f.Fuzz(func(t *testing.T, line []byte, all bool) {
		if !json.Valid(line) || len(line) == 0 || line[0] != '{' {
			return
		}
		choose := form(ehi.MedicalRecord)
		if all {
			choose = nil
		}
		claim := `{"resourceType":"Claim","id":"claim-0123456789"}`
		r := review(t, choose, claim, string(line))
		out, ok, err := r.Releaser().Release(line)
		if err != nil {
			t.Fatal(err)
		}
		if ok && !json.Valid(out) {
			t.Fatalf("%s became %s", line, out)
		}
	})
}
