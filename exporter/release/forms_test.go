package release_test

import (
	"slices"
	"strings"
	"testing"

	"ehi-server/exporter/release"
	"ehi-server/shared/ehi"
)

// EHI-9: a report's presentedForm describes all its results. It is released, with its Binary,
// only if no result is withheld for a reason other than an unticked form line. The counts of the
// preview agree.
func TestEHI9APresentedFormStaysWithAResultThatDoes(t *testing.T) {
	const (
		patient = `{"resourceType":"Patient","id":"p"}`
		secret  = `{"resourceType":"Observation","id":"o1",` + hivLabel + `}`
		plain   = `{"resourceType":"Observation","id":"o2","status":"final"}`
		shows   = `,"presentedForm":[{"title":"FORM","url":"Binary/b"}]}`
		head    = `{"resourceType":"DiagnosticReport","id":"r"`
		binary  = `{"resourceType":"Binary","id":"b","data":"TEVBSw=="}`
	)
	for members, goes := range map[string]bool{
		`,"result":[{"reference":"Observation/o2"}]`:                                true,
		`,"result":[{"reference":"Observation/o1"},{"reference":"Observation/o2"}]`: false,
		`,"result":[{"reference":"Observation/o2"},{"reference":"Observation/o1"}]`: false,
		`,"result":[{"reference":"Observation/o2"}],` +
			`"imagingStudy":[{"reference":"ImagingStudy/s"}]`: false,
		`,"result":[{"reference":"Observation/o2"}],"media":[{"link":{"reference":"Media/m"}}]`:     false,
		`,"result":[{"display":"a"},{"reference":"Observation/o1"},{"reference":"Observation/o2"}]`: false,
		`,"result":[{"reference":"Observation/o2"}],"basedOn":[{"reference":"Encounter/e"},` +
			`{"display":"nothing"}]`: true,
	} {
		lines := []string{patient, secret, plain, head + members + shows, binary,
			`{"resourceType":"ImagingStudy","id":"s",` + hivLabel + `}`,
			`{"resourceType":"Media","id":"m",` + hivLabel + `}`,
			`{"resourceType":"Encounter","id":"e",` + hivLabel + `}`}
		for range 2 {
			f := form(everyLine()...)
			out := strings.Join(released(t, review(t, f, lines...), lines...), "\n")
			if strings.Contains(out, "FORM") != goes || strings.Contains(out, "TEVBSw") != goes {
				t.Errorf("with %s the form goes: %v, want %v:\n%s", members, !goes, goes, out)
			}
			if !strings.Contains(out, `"DiagnosticReport"`) {
				t.Errorf("with %s the report itself stays", members)
			}
			n := counted(t, f, lines...).Categories[ehi.MedicalRecord].Released
			if n != map[bool]int64{true: 1}[goes] {
				t.Errorf("with %s the preview counts %d Binaries, want it to go: %v", members, n,
					goes)
			}
			slices.Reverse(lines)
		}
	}
}

// counted returns the counts of a record's preview for a form.
func counted(t *testing.T, f *ehi.ReleaseForm, lines ...string) release.Counts {
	t.Helper()
	s, err := rules(t).Summarize(ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if err := s.Observe([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Conclude(); err != nil {
		t.Fatal(err)
	}
	policy, err := rules(t).Policy(f, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	counts, err := s.Summary().Count(policy)
	if err != nil {
		t.Fatal(err)
	}
	return counts
}
