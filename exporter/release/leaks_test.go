package release_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/release"
	"ehi-server/shared/ehi"
)

const hivLabel = `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]}`

// conditionWith is a Condition whose evidence is one Reference.
func conditionWith(reference string) string {
	return `{"resourceType":"Condition","id":"c1","evidence":[{"detail":[` + reference + `]}]}`
}

// EHI-9: whatever a Reference is made of, it goes only where its target goes, or where it matches
// nothing withheld. The same holds whether the ids are long, short, or shared with what goes, and
// whether all references of the record resolve.
func TestEHI9AReferenceGoesOnlyWhereItsTargetDoes(t *testing.T) {
	for _, ids := range [][2]string{{"withheld-0123456789", "released-0123456789"}, {"1", "2"}} {
		withheld := `{"resourceType":"Observation","id":"` + ids[0] + `",` + hivLabel +
			`,"identifier":[{"system":"urn:lab","value":" LAB-777"}],"code":{"text":"x"}}`
		goes := `{"resourceType":"Observation","id":"` + ids[1] + `","identifier":[{"value":"LAB-778"}]}`
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
						line = strings.NewReplacer(`"reference":`, `"\u0072eference":`, `"display"`, `"displa\u0079"`).
							Replace(line)
					}
					r := reviewOf(t, form(ehi.MedicalRecord), resolved, withheld, goes, line)
					got := released(t, r, withheld, goes, line)
					want := []string{goes, line}
					if stays {
						want[1] = conditionWith(masked)
					}
					if d := cmp.Diff(want, got); d != "" {
						t.Errorf("%s (resolved %v, escaped %v):\n%s", reference, resolved, escape, d)
					}
				}
			}
		}
	}
}

// reviewOf is review of a record whose references all resolve, or of one of which that is not known.
func reviewOf(t *testing.T, f *ehi.ReleaseForm, resolved bool, lines ...string) *release.Review {
	t.Helper()
	p, err := rules(t).Policy(f, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	r := p.Review()
	o := r.Observer()
	for _, l := range lines {
		if err := o.Observe([]byte(l)); err != nil {
			t.Fatal(err)
		}
	}
	if resolved {
		r.Resolved()
	}
	r.Conclude()
	return r
}

// EHI-9: a display alone goes where nothing withheld can be its target by the definitions of R4.
func TestEHI9ADisplayAloneGoesWhereNothingWithheldIsOfItsTypes(t *testing.T) {
	withheld := `{"resourceType":"Observation","id":"withheld-0123456789",` + hivLabel + `}`
	line := `{"resourceType":"Encounter","id":"e1","serviceProvider":{"display":"General Hospital"},` +
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
		`"resourceType":"DiagnosticReport"`, `"id":"r1"`, `"status":"final"`, `"presentedForm":[{"title":"LEAK"}]`,
		`"category":[{"coding":[{"code":"RAD","system":"http://terminology.hl7.org/CodeSystem/v2-0074"}]}]`,
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
			if got := released(t, review(t, form(), line), line); len(got) != 1 || strings.Contains(got[0], "LEAK") {
				t.Errorf("%s became %v", line, got)
			}
		}
	}
}

// EHI-9: what a withheld resource contains is called by no Reference either.
func TestEHI9ContainedResourcesArePartOfTheirContainer(t *testing.T) {
	withheld := `{"resourceType":"Claim","id":"claim-0123456789","contained":[{"resourceType":"Coverage","id":"k",` +
		`"identifier":[{"value":"POLICY-1"}]}]}`
	for _, reference := range []string{
		`{"reference":"Claim/claim-0123456789#k","display":"LEAK"}`, `{"identifier":{"value":"POLICY-1"},"display":"LEAK"}`,
	} {
		line := conditionWith(reference)
		got := released(t, review(t, form(ehi.MedicalRecord), withheld, line), withheld, line)
		if d := cmp.Diff([]string{conditionWith(masked)}, got); d != "" {
			t.Error(d)
		}
	}
}

// EHI-9: a Binary is found behind an absolute URL too.
func TestEHI9ABinaryFollowsDocumentsThatNameItByAnAbsoluteURL(t *testing.T) {
	document := `{"resourceType":"DocumentReference","id":"d1","content":[{"attachment":{"url":"https://ehr.example.org/Binary/b1"}}]}`
	binary := `{"resourceType":"Binary","id":"b1","data":"TEVBSw=="}`
	if got := released(t, review(t, form(ehi.MedicalRecord), document, binary), document, binary); len(got) > 0 {
		t.Errorf("without documents: %v", got)
	}
	got := released(t, review(t, form(ehi.OtherDocuments), document, binary), document, binary)
	if d := cmp.Diff([]string{document, binary}, got); d != "" {
		t.Error(d)
	}
}
