package ehi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"ehi-server/shared/ehi"
)

// An approval is of what there was: after any change of files, documents or choices it has to be
// given again, by both. Nothing else voids it, also not that the record is stored and read.
func TestApprovalsAreBoundToWhatWasApproved(t *testing.T) {
	at := time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)
	retrieved := func() *ehi.Job {
		return &ehi.Job{
			ID:              "j",
			Patient:         ehi.Patient{ID: "p"},
			Status:          ehi.Retrieved,
			WithForm:        true,
			Tasks:           1,
			TransactionTime: at,
			Form: &ehi.ReleaseForm{
				Parameters: map[ehi.Category]ehi.Choice{"labs": {From: "2019"}},
			},
			Counts: map[string]int64{"Patient": 1}, Bytes: 100, Stored: 90, Files: 1,
			Attachments: []ehi.Attachment{
				{Name: "a.pdf", Object: "o1", Size: 5, SHA1: []byte{1}, CreatedAt: at},
			},
		}
	}
	stored := func(j *ehi.Job) *ehi.Job {
		t.Helper()
		data, err := json.Marshal(j)
		if err != nil {
			t.Fatal(err)
		}
		out := &ehi.Job{}
		if err := json.Unmarshal(data, out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	approve := func(j *ehi.Job, by string) {
		t.Helper()
		err := j.ApproveByTwo(j.Contents(), by, "account of "+by, everybody, at, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(*ehi.Job){
		"nothing":             func(*ehi.Job) {},
		"the time of its end": func(j *ehi.Job) { j.ExpiresAt = at },
		"a document more": func(j *ehi.Job) {
			j.Attachments = append(j.Attachments, ehi.Attachment{Name: "b.pdf", Object: "o2"})
		},
		"a document fewer": func(j *ehi.Job) { j.Attachments = nil },
		"a document's bytes": func(j *ehi.Job) {
			j.Attachments[0].Object, j.Attachments[0].SHA1 = "o3", []byte{2}
		},
		"a document's name": func(j *ehi.Job) { j.Attachments[0].Name = "c.pdf" },
		"a file":            func(j *ehi.Job) { j.Files++ },
		"what is in the files": func(j *ehi.Job) {
			j.Counts = map[string]int64{"Patient": 1, "Condition": 1}
		},
		"the time of the record": func(j *ehi.Job) { j.TransactionTime = at.Add(time.Second) },
		"a choice": func(j *ehi.Job) {
			j.Form.Authorizations = map[ehi.Authorization]string{ehi.HIV: "true"}
		},
		"the dates of a choice": func(j *ehi.Job) {
			j.Form.Parameters["labs"] = ehi.Choice{From: "2018"}
		},
		"no form":                 func(j *ehi.Job) { j.Form = nil },
		"what was asked for":      func(j *ehi.Job) { j.KickOff.Types = []string{"Patient"} },
		"an older build's record": func(j *ehi.Job) { j.Approved = "" },
		"a build's between":       func(j *ehi.Job) { j.ApprovedAs = nil },
	} {
		holds := name == "nothing" || name == "the time of its end"
		j := retrieved()
		approve(j, "rita")
		j = stored(j)
		seen := j.Contents()
		change(j)
		if j.Approved != "" && j.ApprovedAs != nil && (j.Unchanged(seen) == nil) != holds {
			t.Errorf("%s: a decision about what was seen before: %v", name, j.Unchanged(seen))
		}
		approve(j, "ada")
		switch {
		case holds &&
			(j.Status != ehi.Approved ||
				!slices.Equal(j.Approvers(everybody), []string{"rita", "ada"})):
			t.Errorf("%s changed: %s by %v", name, j.Status, j.Approvers(everybody))
		case !holds &&
			(j.Status != ehi.Retrieved || !slices.Equal(j.Approvers(everybody), []string{"ada"})):
			t.Errorf("%s changed: %s by %v", name, j.Status, j.Approvers(everybody))
		}
		if !holds {
			if approve(j, "rita"); j.Status != ehi.Approved || j.DecidedBy != "ada, rita" {
				t.Errorf("%s: approved again: %s by %s", name, j.Status, j.DecidedBy)
			}
		}
	}
}

// everybody who has approved may approve still.
func everybody(name, as string) bool { return as == "account of "+name }

// The approval of an administrator who was removed or demoted since counts no more, also where
// there is another account of his name by now: two have to approve who may.
func TestApprovalsEndWithTheirApprover(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	j := &ehi.Job{ID: "j", Status: ehi.Retrieved}
	gone := map[string]bool{}
	stands := func(name, as string) bool { return !gone[as] }
	for _, step := range []struct {
		by, as, gone string
		status       ehi.Status
		approvers    []string
	}{
		{"rita", "first", "", ehi.Retrieved, []string{"rita"}},
		{"ada", "ada", "first", ehi.Retrieved, []string{"ada"}},
		{"rita", "second", "ada", ehi.Retrieved, []string{"rita"}},
		{"vera", "vera", "", ehi.Approved, []string{"rita", "vera"}},
	} {
		gone[step.gone] = true
		err := j.ApproveByTwo(j.Contents(), step.by, step.as, stands, at, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		got := j.Approvers(stands)
		if j.Status != step.status || !slices.Equal(got, step.approvers) {
			t.Errorf("%s approves where %q is gone: %s by %q", step.by, step.gone, j.Status, got)
		}
	}
	gone["second"], gone["vera"] = true, true
	if got := j.Approvers(stands); len(got) != 2 {
		t.Errorf("who had approved what was released: %q", got)
	}
}

// An approval by two is of what the one who approves has looked at: it says so.
func TestAnApprovalByTwoSaysWhatWasSeen(t *testing.T) {
	at := time.Now()
	everybody := func(string, string) bool { return true }
	j := &ehi.Job{ID: "j", Status: ehi.Retrieved}
	err := j.ApproveByTwo("", "ada", "ada", everybody, at, time.Hour)
	if ehi.CodeOf(err) != ehi.Invalid {
		t.Errorf("of nothing: %v", err)
	}
	seen := j.Contents()
	j.Attachments = []ehi.Attachment{{Name: "a.pdf"}}
	err = j.ApproveByTwo(seen, "ada", "ada", everybody, at, time.Hour)
	if ehi.CodeOf(err) != ehi.Conflict {
		t.Errorf("of another state: %v", err)
	}
	err = j.ApproveByTwo(j.Contents(), "ada", "ada", everybody, at, time.Hour)
	if err != nil || len(j.Approvals) != 1 {
		t.Errorf("of what is there: %v", err)
	}
}

// A job has no more documents than its record has room for, whatever its uploads knew when they
// began.
func TestAJobTakesAHundredDocuments(t *testing.T) {
	j := &ehi.Job{ID: "j", Status: ehi.Retrieved}
	of := func(first, n int) (all []ehi.Attachment) {
		for i := range n {
			all = append(all, ehi.Attachment{Name: fmt.Sprint(first + i)})
		}
		return all
	}
	if err := j.Attach(of(0, 60)...); err != nil {
		t.Fatal(err)
	}
	if err := j.Attach(of(100, 41)...); ehi.CodeOf(err) != ehi.Invalid || len(j.Attachments) != 60 {
		t.Errorf("one too many: %v, %d documents", err, len(j.Attachments))
	}
	if err := j.Attach(of(59, 1)...); ehi.CodeOf(err) != ehi.Transient {
		t.Errorf("a name that is taken: %v", err)
	}
	if err := j.Attach(of(100, 40)...); err != nil || len(j.Attachments) != ehi.MaxAttachments {
		t.Errorf("%v, %d documents", err, len(j.Attachments))
	}
	j.Status = ehi.Approved
	if err := j.Attach(of(200, 1)...); ehi.CodeOf(err) != ehi.Conflict {
		t.Errorf("when it is approved: %v", err)
	}
}

// Two documents whose names some system holds to be one never stand beside each other, however they
// came: those of one upload, or of several at once.
func TestEHI11DocumentsOfAnExportHaveNamesOfTheirOwnEverywhere(t *testing.T) {
	for _, pair := range [][2]string{
		{"Note.txt", "note.TXT"},
		{"straße.txt", "STRASSE.txt"},
		{"ς.txt", "σ.txt"},
		{"ﬁle.txt", "FILE.txt"},
		{"K.txt", "k.txt"},
		{"n\u00e4me", "na\u0308me"},
		{"می\u200cخواهم", "میخواهم"},
		{"\u2764\ufe0f", "\u2764"},
		{"same", "same"},
	} {
		of := func(name string) ehi.Attachment { return ehi.Attachment{Name: name} }
		j := &ehi.Job{ID: "j", Status: ehi.Retrieved}
		err := j.Attach(of(pair[0]), of(pair[1]))
		if ehi.CodeOf(err) != ehi.Transient || len(j.Attachments) != 0 {
			t.Errorf("%q together: %v, %v", pair, j.Attachments, err)
		}
		if err := j.Attach(of(pair[0])); err != nil {
			t.Fatal(err)
		}
		err = j.Attach(of(pair[1]))
		if ehi.CodeOf(err) != ehi.Transient || len(j.Attachments) != 1 {
			t.Errorf("%q one after the other: %v, %v", pair, j.Attachments, err)
		}
	}
}

// What an approval was of is gone with any change, also where a second one makes it look as it did.
func TestApprovalsEndWithAChangeThatIsUndone(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	j := &ehi.Job{ID: "j", Status: ehi.Retrieved}
	seen := j.Contents()
	approve := func(by string) {
		t.Helper()
		if err := j.ApproveByTwo(seen, by, "account of "+by, everybody, at, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	approve("rita")
	if err := j.Attach(ehi.Attachment{Name: "a.pdf", Object: "o1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Detach("b.pdf"); ehi.CodeOf(err) != ehi.NotFound {
		t.Errorf("what is not there is removed: %v", err)
	}
	removed, err := j.Detach("a.pdf")
	if err != nil || !slices.Equal(removed, []string{"o1"}) || j.Contents() != seen {
		t.Fatalf("removed %q, %v, contents the same: %t", removed, err, j.Contents() == seen)
	}
	if approve("ada"); j.Status != ehi.Retrieved ||
		!slices.Equal(j.Approvers(everybody), []string{"ada"}) {
		t.Errorf("approved by %q, %s", j.Approvers(everybody), j.Status)
	}
	if approve("rita"); j.Status != ehi.Approved {
		t.Errorf("approved by two, and %s", j.Status)
	}
}
