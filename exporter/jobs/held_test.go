package jobs

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ehi-server/exporter/native/nativetest"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// scan is large enough to be an object of its own.
var scan = bytes.Repeat([]byte("scan "), 40_000)

// withHeld returns a job that waits for review with a letter and a table that wait for a decision,
// beside a scan and a table that do not.
func (h *house) withHeld(change ...func(*ehi.Job)) *ehi.Job {
	h.t.Helper()
	j, err := h.Submit(h.t.Context(), h.self(), h.kicked(), ehi.ReleaseForm{})
	if err == nil && len(change) > 0 {
		j, err = h.Bus.Jobs.Update(h.t.Context(), j.ID, func(j *ehi.Job) error {
			change[0](j)
			return nil
		})
	}
	if err != nil {
		h.t.Fatal(err)
	}
	j = nativetest.Export(h.t, h.Bus, h.Files.(files.Store), j, content(h.t))
	if j, err = h.Record(h.t.Context(), j.ID); err != nil { // as reviewers read it
		h.t.Fatal(err)
	}
	return j
}

func content(t *testing.T) source.Native {
	t.Helper()
	return nativetest.NewRecord(t,
		nativetest.Document(t, t.TempDir(), "scan.pdf", ehi.MedicalRecord, scan),
		nativetest.Document(t, "", "letter.pdf", "", []byte("a letter")),
		nativetest.Document(t, "", "last.pdf", ehi.MedicalRecord, []byte("the last")))
}

const (
	letter = "documents/r000001-letter.pdf"
	oddity = "tables/oddity.csv"
	// described is the description of the oddities, which is released with them.
	described = "tables/oddity~datapackage.json"
)

// native returns what clients download one by one.
func (h *house) native(j *ehi.Job) map[string]string {
	h.t.Helper()
	out := map[string]string{}
	err := h.EachNative(h.t.Context(), j, func(f ehi.NativeFile, at Stored) error {
		data, err := h.read(at)
		out[f.Name] = data
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *house) read(at Stored) (string, error) {
	r, err := h.OpenFile(h.t.Context(), at)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(r)
	return string(data), errors.Join(err, r.Close())
}

// A decision is about the list that was read: if the export was made again meanwhile, its numbers
// may stand for other documents.
func TestNAT4ADecisionIsNotAppliedToAnotherList(t *testing.T) {
	h := newHouse(t, nil)
	before := h.withHeld()
	if _, err := h.Bus.Jobs.Update(t.Context(), before.ID, func(j *ehi.Job) error {
		j.Starts++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	_, err := h.DecideHeld(t.Context(), reviewer, before, HeldDecision{Release: []string{letter}})
	wantCode(t, "a decision about the list before", err, ehi.Conflict)
	j, err := h.Bus.Jobs.Get(t.Context(), before.ID)
	if err != nil || j.Freed.Count() != 0 {
		t.Errorf("%d are released, %v", j.Freed.Count(), err)
	}
}

// NAT-4: what falls under no line of the form waits, listed, and nobody gets it. It can be found
// for its review.
func TestNAT4WhatCannotBeClassifiedWaits(t *testing.T) {
	h := newHouse(t, nil)
	j := h.withHeld()
	if j.Held != 2 || j.Waiting() != 2 || j.Documents != 5 {
		t.Fatalf("%d are held, %d wait, %d are exported", j.Held, j.Waiting(), j.Documents)
	}
	list, err := h.ListHeld(t.Context(), j, "", 10)
	first := Held{Name: letter, Title: "About letter.pdf", ContentType: "application/pdf", Size: 8}
	if err != nil || len(list) != 2 || !reflect.DeepEqual(list[0], first) ||
		list[1].Name != oddity || list[1].ContentType != "text/csv; charset=utf-8" {
		t.Errorf("%+v, %v", list, err)
	}
	rest, err := h.ListHeld(t.Context(), j, letter, 10)
	if err != nil || len(rest) != 1 || rest[0].Name != oddity {
		t.Errorf("behind the letter there are %+v, %v", rest, err)
	}
	if list, err = h.ListHeld(t.Context(), j, "", 1); err != nil || len(list) != 1 {
		t.Errorf("of one, there are %+v, %v", list, err)
	}
	for _, name := range []string{letter, oddity} {
		_, _, err := h.FindNative(t.Context(), j, name)
		wantCode(t, name, err, ehi.NotFound)
		_, at, err := h.FindHeld(t.Context(), j, name)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := h.read(at); err != nil || data == "" {
			t.Errorf("%s holds %q, %v", name, data, err)
		}
	}
	_, _, err = h.FindHeld(t.Context(), j, "documents/000001-scan.pdf")
	wantCode(t, "what does not wait", err, ehi.NotFound)
	lines, err := h.ReleasedLines(t.Context(), j)
	if err != nil || len(lines) != 0 {
		t.Errorf("released are %s, %v", lines, err)
	}
	got := h.native(j)
	if len(got) != 5 || got["documents/000001-scan.pdf"] != string(scan) ||
		got["documents/000002-last.pdf"] != "the last" { // no gap tells of the letter (EHI-14)
		t.Errorf("%d files leave", len(got))
	}
}

// NAT-4: an administrator's decision releases exactly what it names, and can be withdrawn.
func TestNAT4ADecisionReleasesWhatItNames(t *testing.T) {
	for _, packaging := range []ehi.Packaging{ehi.PackageFiles, ehi.PackageZIP} {
		t.Run(string(packaging), func(t *testing.T) {
			h := newHouse(t, nil)
			j := h.withHeld(func(j *ehi.Job) { j.KickOff.Package = packaging })
			j, err := h.DecideHeld(t.Context(), reviewer, j,
				HeldDecision{Release: []string{letter}, Contents: j.Contents()})
			if err != nil || j.Waiting() != 1 || h.native(j)[letter] != "a letter" {
				t.Fatalf("%d wait: %v", j.Waiting(), err)
			}
			for _, name := range []string{oddity, described} {
				_, _, err = h.FindNative(t.Context(), j, name)
				wantCode(t, name, err, ehi.NotFound)
				if _, _, err = h.FindHeld(t.Context(), j, name); err != nil { // for its review
					t.Errorf("%s: %v", name, err)
				}
			}
			if j.Beside != 0 {
				t.Errorf("%d files are released with the letter", j.Beside)
			}
			lines, err := h.ReleasedLines(t.Context(), j)
			if err != nil || bytes.Count(lines, []byte("\n")) != 1 ||
				!strings.Contains(string(lines), "/download/"+letter) {
				t.Errorf("%s, %v", lines, err)
			}
			j, err = h.DecideHeld(t.Context(), reviewer, j,
				HeldDecision{Release: []string{oddity}, Withhold: []string{letter}})
			if err != nil || j.Waiting() != 1 {
				t.Fatalf("%d wait: %v", j.Waiting(), err)
			}
			if got := h.native(j); got[letter] != "" || !strings.Contains(got[oddity], "<script>") {
				t.Errorf("after the second decision there are %q", got)
			}
			lines, err = h.ReleasedLines(t.Context(), j)
			if err != nil || j.Beside != 1 || bytes.Count(lines, []byte("\n")) != 2 ||
				!strings.Contains(string(lines), "/download/"+described) {
				t.Errorf("%d files are released with the table: %s, %v", j.Beside, lines, err)
			}
			h.wantLast(j, "release by admin rita: ok", "release by admin rita: ok",
				"withhold by admin rita: ok")
		})
	}
}

// wantLast requires the last events of a job in the trail.
func (h *house) wantLast(j *ehi.Job, want ...string) {
	h.t.Helper()
	said := h.trail(j.ID)
	if last := said[max(0, len(said)-len(want)):]; !slices.Equal(last, want) {
		h.t.Errorf("the trail ends with %q", last)
	}
}

// NAT-4: a decision about all releases what waits, or withholds what is released.
func TestNAT4AllAreDecidedAtOnce(t *testing.T) {
	h := newHouse(t, nil)
	j := h.withHeld()
	for _, step := range []struct {
		all     ehi.Action
		waiting int64
	}{{ehi.ActionRelease, 0}, {ehi.ActionWithhold, 2}} {
		var err error
		j, err = h.DecideHeld(t.Context(), reviewer, j, HeldDecision{All: step.all})
		if err != nil || j.Waiting() != step.waiting {
			t.Fatalf("after %s %d wait: %v", step.all, j.Waiting(), err)
		}
	}
	h.wantLast(j, "release by admin rita: ok", "withhold by admin rita: ok")
}

// NAT-4: a decision that cannot be made as a whole is not made at all, and the trail says so.
func TestNAT4ARefusedDecisionChangesNothing(t *testing.T) {
	h := newHouse(t, nil)
	j := h.withHeld()
	for name, c := range map[string]struct {
		by   ehi.Actor
		d    HeldDecision
		want ehi.Code
	}{
		"an unknown name": {reviewer, HeldDecision{Release: []string{letter, "tables/x.csv"}},
			ehi.NotFound},
		"what leaves by itself": {reviewer,
			HeldDecision{Withhold: []string{"documents/000001-scan.pdf"}}, ehi.NotFound},
		"both at once": {reviewer,
			HeldDecision{Release: []string{letter}, Withhold: []string{letter}}, ehi.Invalid},
		"nothing": {reviewer, HeldDecision{}, ehi.Invalid},
		"another export": {reviewer,
			HeldDecision{Release: []string{letter}, Contents: "old"}, ehi.Conflict},
		"a viewer":        {viewer, HeldDecision{Release: []string{letter}}, ehi.Forbidden},
		"the application": {h.app(), HeldDecision{Release: []string{letter}}, ehi.Forbidden},
		"the patient":     {h.self(), HeldDecision{Release: []string{letter}}, ehi.Forbidden},
	} {
		_, err := h.DecideHeld(t.Context(), c.by, j, c.d)
		wantCode(t, name, err, c.want)
	}
	now, err := h.Record(t.Context(), j.ID)
	if err != nil || now.Freed.Count() != 0 {
		t.Errorf("%d are released, %v", now.Freed.Count(), err)
	}
	refused := 0
	for _, said := range h.trail(j.ID) {
		if strings.Contains(said, "release by") || strings.Contains(said, "withhold by") {
			refused++
			if !strings.HasSuffix(said, ": refused") {
				t.Error(said)
			}
		}
	}
	if refused != 9 { // one of them would do both
		t.Errorf("the trail has %d refused decisions: %q", refused, h.trail(j.ID))
	}
}

// NAT-4: an export is approved without a decision, and then what waits stays withheld for good.
func TestNAT4ApprovalReleasesNothingThatWaits(t *testing.T) {
	h := newHouse(t, nil)
	j := h.withHeld()
	j, err := h.Approve(t.Context(), reviewer, j, Decision{})
	if err != nil || j.Status != ehi.Approved || len(h.native(j)) != 5 {
		t.Fatalf("%s, %v", j.Status, err)
	}
	_, err = h.DecideHeld(t.Context(), reviewer, j, HeldDecision{Release: []string{letter}})
	wantCode(t, "after the approval", err, ehi.Conflict)
}

// NAT-4, EHI-1: an export that needs no review waits for one if something needs a decision.
func TestNAT4WhatWaitsIsReviewedDespiteAutoApproval(t *testing.T) {
	h := newHouse(t, nil)
	j := h.withHeld(func(j *ehi.Job) { j.AutoApprove = true })
	if j.Status != ehi.Retrieved {
		t.Errorf("the job is %s", j.Status)
	}
}

// NAT-4: approvals of two do not count for what is released or withheld after them.
func TestNAT4ADecisionVoidsApprovals(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.FourEyes = true })
	j := h.withHeld()
	for i, d := range []HeldDecision{
		{Release: []string{letter}}, {Withhold: []string{letter}},
		{Release: []string{oddity}}, {All: ehi.ActionWithhold},
	} {
		seen := j.Contents()
		var err error
		j, err = h.Approve(t.Context(), reviewer, j, Decision{Contents: seen})
		if err != nil || len(j.Approvals) != 1 {
			t.Fatalf("%d: approvals %q, %v", i, j.Approvals, err)
		}
		if j, err = h.DecideHeld(t.Context(), second, j, d); err != nil ||
			len(h.Approvers(j)) != 0 {
			t.Errorf("%d: approvals %q, %v", i, h.Approvers(j), err)
		}
		if d.Release == nil {
			continue
		}
		_, err = h.Approve(t.Context(), second, j, Decision{Contents: seen})
		wantCode(t, "an approval of the export before", err, ehi.Conflict)
	}
}
