package fhirapi

import (
	"strings"
	"testing"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/api/progress"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// EHI-14: whatever is withheld, and whatever the state of the job, everything rendered for its
// application is the same as for a job of which nothing is withheld.
func TestEHI14AnApplicationNeverLearnsThatSomethingIsWithheld(t *testing.T) {
	whole := reachOf(&auth.Access{Scopes: auth.PatientExport, Patient: "p"}, &ehi.Job{})
	if !whole.whole {
		t.Fatal("the token does not open its export")
	}
	book, err := progress.NewBook()
	if err != nil {
		t.Fatal(err)
	}
	h := &Handlers{Progress: book}
	render := func(j ehi.Job, total int64) string {
		book.Note(ehi.Progress{Job: j.ID, Done: total / 2, Total: total})
		sent := h.describeJob(&j, reach{})
		sent.Parameters, sent.Authorizations = nil, nil // the sender's own choices
		told, err := json.Marshal([]any{
			metadataFor(whole, &j), metadataFor(reach{}, &j), sent,
			string(errorLines(&j, whole)), h.progressText(&j, whole),
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(told)
	}
	for _, status := range []ehi.Status{
		ehi.Requested, ehi.Retrieved, ehi.Approved, ehi.Rejected, ehi.Failed,
	} {
		at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
		job := ehi.Job{
			ID:        "j",
			Patient:   ehi.Patient{ID: "p"},
			Status:    status,
			WithForm:  true,
			CreatedAt: at,
			Bytes:     70,
			Counts:    map[string]int64{"Patient": 1, "Condition": 2},
			Form:      &ehi.ReleaseForm{},
		}
		plain, withholding := job, job
		plain.Form = &ehi.ReleaseForm{Authorizations: map[ehi.Authorization]string{ehi.HIV: "true"}}
		withholding.Withheld = map[string]int64{"sensitive.hiv": 10, "category.visits": 3}
		withholding.Reason = "the HIV results"
		if a, b := render(plain, 4), render(withholding, 26); a != b {
			t.Errorf("%s: with nothing withheld\n%s\nwith something\n%s", status, a, b)
		}
		if status != ehi.Approved && strings.Contains(render(job, 4), "Condition") {
			t.Errorf("%s: counts before anything is released: %s", status, render(job, 4))
		}
		staff, err := json.Marshal(metadataForStaff(&withholding))
		if err != nil || !strings.Contains(string(staff), `"sensitive.hiv":10`) ||
			!strings.Contains(string(staff), `"Condition":2`) {
			t.Errorf("%s: administrators see %s, %v", status, staff, err)
		}
	}
}
