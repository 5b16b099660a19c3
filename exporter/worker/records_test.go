package worker_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// queued requests the exports of a patient (one) and of everybody (all), for which there is no
// worker yet. It changes the records of the jobs before their commands are published.
func (h *house) queued(change func(*ehi.Job)) {
	h.t.Helper()
	at := time.Now().UTC()
	one := &ehi.Job{
		Version: ehi.RecordVersion, ID: "one", Patient: h.patient, Lane: ehi.Interactive,
		Status: ehi.Requested, CreatedAt: at, RequestedAt: at, ExpiresAt: at.Add(time.Hour),
		Starts: 1, Tasks: 1,
	}
	all := &ehi.Job{
		Version: ehi.RecordVersion, ID: "all", Level: ehi.System, Operation: ehi.BulkExport,
		Lane: ehi.Bulk, Status: ehi.Requested, CreatedAt: at, RequestedAt: at,
		ExpiresAt: at.Add(time.Hour), Starts: 1,
	}
	for _, j := range []*ehi.Job{one, all} {
		change(j)
		err := h.bus.Jobs.Create(h.t.Context(), j)
		if err == nil {
			err = h.bus.PublishStart(h.t.Context(), j.Lane, j.ID, 1)
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

// text returns what the files of a task hold.
func (h *house) text(id string, task ehi.Task) string {
	h.t.Helper()
	var all strings.Builder
	for _, f := range task.Files {
		r, err := h.files.Open(id,
			files.Extent{Object: f.Object, Offset: f.Offset, Length: f.Length})
		if err == nil {
			_, err = io.Copy(&all, r)
			err = errors.Join(err, r.Close())
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	return all.String()
}

// A queued export fails with a reason if its server now has another source than at the kick-off.
// It never becomes an export of another patient.
func TestAQueuedExportIsNotMadeFromAnotherSource(t *testing.T) {
	h := newHouse(t)
	made := func(seed string) source.Source {
		s, err := kinds.Open(kinds.Config{
			Flags: kinds.Flags{Spec: "synthetic:patients=3,seed=" + seed},
			Data:  t.TempDir(),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	then, now := made("1"), made("2")
	h.queued(func(j *ehi.Job) { j.Records = then.Records() })
	h.work(now, "w")
	for _, id := range []string{"one", "all"} {
		j := h.await(id, ehi.Failed)
		if !strings.Contains(j.Error, "seed=1") || !strings.Contains(j.Error, "seed=2") {
			t.Errorf("%s failed by %q", id, j.Error)
		}
		if s := h.stored(id); len(s) > 0 {
			t.Errorf("%s: stored %+v", id, s)
		}
	}
}

// A queued export fails with a reason if its server now has another table of sensitive codes,
// because the patient or the client requested it under the previous one.
func TestAQueuedExportIsNotMadeByOtherRules(t *testing.T) {
	h := newHouse(t)
	nothing, err := release.SensitiveTable(strings.NewReader("# nothing is sensitive\n"))
	if err != nil {
		t.Fatal(err)
	}
	h.queued(func(j *ehi.Job) {
		j.Records, j.Rules = h.source.Records(), release.NewRules(nothing).Digest()
	})
	h.work(h.source, "w")
	for _, id := range []string{"one", "all"} {
		j := h.await(id, ehi.Failed)
		if !strings.Contains(j.Error, "sensitive codes") || !strings.Contains(j.Error, "again") {
			t.Errorf("%s failed by %q", id, j.Error)
		}
		if s := h.stored(id); len(s) > 0 {
			t.Errorf("%s: stored %+v", id, s)
		}
	}
}

// Records that are imported between the kick-off and the start are in the export, which says
// which version it has.
func TestAQueuedExportIsPlannedOnTheRecordsOfItsStart(t *testing.T) {
	h := newHouse(t)
	asked := h.source.Records()
	h.queued(func(j *ehi.Job) { j.Records = asked })
	file := filepath.Join(t.TempDir(), "in.ndjson")
	later := `{"resourceType":"Observation","id":"later","status":"final","code":{"text":"x"},` +
		`"subject":{"reference":"Patient/` + h.patient.ID + `"}}`
	if err := os.WriteFile(file, []byte(later), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := h.source.(*dataset.Store).Import(t.Context(), []string{file},
		source.ImportOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	h.work(h.source, "w")
	for _, id := range []string{"one", "all"} {
		j := h.await(id, ehi.Retrieved)
		task, _, err := h.bus.Tasks.Get(t.Context(), id, 0)
		if err != nil || j.Records.Identity != asked.Identity ||
			j.Records.Version == asked.Version || task.Records != j.Records {
			t.Errorf("%s: asked for of %v, done of %v, its task of %v, %v", id, asked, j.Records,
				task.Records, err)
		}
		if !strings.Contains(h.text(id, task), `"id":"later"`) {
			t.Errorf("%s: the import is not in it", id)
		}
	}
}
