package release_test

import (
	"strings"
	"testing"

	"ehi-server/shared/ehi"
)

// EHI-9: a participant is withheld with the study if that is withheld for a reason other than an
// unticked form line.
func TestEHI9AResearchSubjectStaysWithItsStudy(t *testing.T) {
	study := `{"resourceType":"ResearchStudy","id":"s","identifier":[{"value":"STUDY-7"}],` +
		`"title":"TOLD"`
	subject := `{"resourceType":"ResearchSubject","id":"u",` +
		`"individual":{"reference":"Patient/p"},"study":%s}`
	for _, reference := range []string{
		`{"reference":"ResearchStudy/s"}`,
		`{"reference":"urn:uuid:s"}`,
		`{"identifier":{"value":"STUDY-7"}}`,
	} {
		line := strings.Replace(subject, "%s", reference, 1)
		for _, c := range []struct {
			study string
			goes  int
		}{{study + `}`, 2}, {study + `,` + hivLabel + `}`, 0}} {
			for _, lines := range [][]string{{c.study, line}, {line, c.study}} {
				got := released(t, reviewOf(t, form(ehi.MedicalRecord), true, lines...), lines...)
				if len(got) != c.goes {
					t.Errorf("%v became %v", lines, got)
				}
			}
		}
	}
}

// EHI-9: an Observation about something withheld is withheld, even if it also names the Patient,
// in any form, because every Observation is of the Patient. If it is also about something
// released, only the Reference is masked.
func TestEHI9AnObservationStaysWithItsFocusBesideThePatient(t *testing.T) {
	patient := `{"resourceType":"Patient","id":"p","identifier":[{"system":"urn:mrn",` +
		`"value":"MRN-7"}]}`
	withheld := `{"resourceType":"Condition","id":"w",` + hivLabel + `}`
	unticked := `{"resourceType":"Encounter","id":"w"}`
	other := `{"resourceType":"Condition","id":"g","identifier":[{"value":"G-7"}]}`
	for _, c := range []struct {
		by, beside string
		goes       bool
	}{
		{withheld, `{"reference":"Patient/p"}`, false},
		{withheld, `{"reference":"https://x.example/fhir/Patient/p"}`, false},
		{withheld, `{"reference":"urn:uuid:p"}`, false},
		{withheld, `{"reference":"Patient?identifier=MRN-7"}`, false},
		{withheld, `{"identifier":{"system":"urn:mrn","value":"MRN-7"}}`, false},
		{withheld, `{"identifier":{"value":"mrn-7"},"display":"x"}`, false},
		{withheld, `{"reference":"Condition/g"}`, true},
		{withheld, `{"identifier":{"value":"G-7"}}`, true},
		{unticked, `{"identifier":{"value":"MRN-7"}}`, true},
	} {
		typ := strings.Split(c.by, `"`)[3]
		for _, focus := range []string{
			`{"reference":"` + typ + `/w"},` + c.beside,
			c.beside + `,{"reference":"` + typ + `/w"}`,
		} {
			line := `{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/p"},` +
				`"focus":[` + focus + `],"valueString":"TOLD"}`
			for _, record := range [][]string{
				{patient, other, c.by, line}, {line, c.by, other, patient},
			} {
				got := released(t, reviewOf(t, form(ehi.MedicalRecord), true, record...), line)
				if len(got) == 1 != c.goes || len(got) == 1 && !strings.Contains(got[0], masked) {
					t.Errorf("%s became %v", line, got)
				}
			}
		}
	}
}
