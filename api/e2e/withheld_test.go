package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// EHI-14, EHI-9: an application requests everything about its job, before the patient has
// chosen, before the approval, after it and after a rejection, and finds nothing about withheld
// data. The patient and administrators do.
func TestEHI14NothingOfAJobTellsItsApplicationWhatIsWithheld(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	w.load(`{"resourceType":"Patient","id":"pw","name":[{"family":"Doe"}]}
{"resourceType":"Condition","id":"plain","subject":{"reference":"Patient/pw"},"code":{"text":"asthma"}}
{"resourceType":"Condition","id":"b20","subject":{"reference":"Patient/pw"},"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}]}}
`)
	pat := w.patient("pw")
	for _, decision := range []string{"approve", "reject"} {
		j, b := w.formOf("pw")
		var told []string
		look := func() {
			for _, path := range []string{
				"/metadata",
				"/status",
				"/download/errors.OperationOutcome.ndjson",
			} {
				a := w.do(pat, "GET", "/jobs/"+j.ID+path)
				told = append(told, string(a.Body), a.Header.Get("X-Progress"))
			}
		}
		look()
		b.submit("p.medicalRecord", "on")
		if job := w.wait(j.ID, ehi.Retrieved); job.Withheld["sensitive.hiv"] != 1 {
			t.Fatalf("withheld: %v", job.Withheld)
		}
		b.visit(w.open.Base + "/my/requests/" + j.ID)
		b.sees(200, "HIV test results")
		look()
		if _, err := w.admin.Act(t.Context(), j.ID, decision); err != nil {
			t.Fatal(err)
		}
		look()
		w.want(w.do(w.admin, "GET", "/jobs/"+j.ID+"/metadata"), 200, `"sensitive.hiv":1`)
		for _, text := range told {
			if word := telling.FindString(text); word != "" {
				t.Errorf("%s: the application reads %q in %s", decision, word, text)
			}
		}
		counted := slices.ContainsFunc(told, func(text string) bool {
			return strings.Contains(text, `"Condition":1`)
		})
		if counted != (decision == "approve") {
			t.Errorf("%s: counts of what is released: %v", decision, counted)
		}
	}
	if page := w.do(w.open, "GET", "/metrics"); strings.Contains(string(page.Body), "sensitive.") {
		t.Error("metrics tell which kind of information is withheld")
	}
}

// telling matches what would tell of a withheld resource. b20 is a word: a UUID may contain it.
var telling = regexp.MustCompile(
	`(?i)hiv|withheld|sensitive|reference-only|authorizations|\bb20\b`)
