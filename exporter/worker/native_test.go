package worker_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"ehi-server/exporter/keeper"
	"ehi-server/exporter/native"
	"ehi-server/exporter/native/nativetest"
	"ehi-server/exporter/worker"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// withNative is a house whose patient has documents and tables. It returns the path of the blob of
// a document that is large enough to be linked.
func withNative(t *testing.T) (h *house, blob string) {
	t.Helper()
	h = newHouse(t)
	scan := nativetest.Document(t, t.TempDir(), "scan.pdf", ehi.MedicalRecord,
		bytes.Repeat([]byte("scan "), 40_000))
	h.source = nativetest.Source{Source: h.source, Native: nativetest.NewRecord(t, scan,
		nativetest.Document(t, "", "letter.pdf", "", []byte("a letter")))}
	return h, scan.Path
}

// exportNative exports the patient's record by a form that shares visits and the medical record.
func (h *house) exportNative(id string, change ...func(*ehi.Job)) (*ehi.Job, ehi.Task) {
	h.t.Helper()
	h.request(id, false)
	_, err := h.bus.Jobs.Update(h.t.Context(), id, func(j *ehi.Job) error {
		j.Form = &ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{
			ehi.MedicalRecord: {}, ehi.Visits: {},
		}}
		for _, f := range change {
			f(j)
		}
		return nil
	})
	if err == nil {
		err = h.bus.PublishStart(h.t.Context(), ehi.Interactive, id, 1)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	j := h.await(id, ehi.Retrieved)
	task, ok, err := h.bus.Tasks.Get(h.t.Context(), id, 0)
	if err != nil || !ok {
		h.t.Fatalf("the task is there: %t, %v", ok, err)
	}
	return j, task
}

// linked returns the place of the only document of a task that is an object of its own.
func (h *house) linked(task *ehi.Task) (at files.Extent) {
	h.t.Helper()
	n := 0
	open := func(e files.Extent) (files.Reader, error) { return h.files.Open(task.Job, e) }
	err := native.EachLink(task, open, func(e files.Extent) error {
		at, n = e, n+1
		return nil
	})
	if err != nil || n != 1 {
		h.t.Fatalf("%d links, %v", n, err)
	}
	return at
}

// NAT-1, NAT-2, NAT-4: a worker exports documents and tables as files or as an archive. What falls
// under no line of the form waits, so even an export that needs no review waits for one.
func TestNAT4AWorkerHoldsWhatCannotBeClassified(t *testing.T) {
	h, _ := withNative(t)
	h.work(h.source, "w")
	for packaging, want := range map[ehi.Packaging]struct{ documents, links int64 }{
		ehi.PackageFiles: {4, 1}, ehi.PackageZIP: {1, 0},
	} {
		j, task := h.exportNative(string(packaging), func(j *ehi.Job) {
			j.KickOff.Package, j.AutoApprove = packaging, true
		})
		if j.Held != 2 || j.Withheld[ehi.Unclassified] != 2 || j.Documents != want.documents ||
			int64(task.Links) != want.links {
			t.Errorf("%s: %d held, %v withheld, %d listed, %d links", packaging, j.Held, j.Withheld,
				j.Documents, task.Links)
		}
		held, ok := native.IndexOf(&task, ehi.HeldIndex)
		if !ok || held.Count != 2 {
			t.Errorf("%s: the index of what waits is %+v", packaging, held)
		}
	}
}

// A linked document outlives its blob, and goes with its export. What no committed record names
// goes with the next sweep.
func TestALinkedDocumentOutlivesItsBlob(t *testing.T) {
	h, blob := withNative(t)
	h.work(h.source, "w")
	_, task := h.exportNative("a")
	at := h.linked(&task)
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	h.leaveLink("a")
	before := len(h.stored("a"))
	h.sweep()
	if after := len(h.stored("a")); before != 3 || after != 2 {
		t.Errorf("%d objects before the sweep and %d after it", before, after)
	}
	r, err := h.files.Open("a", at)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || len(data) != 200_000 {
		t.Errorf("the document has %d bytes: %v", len(data), err)
	}
	if err := keeper.Delete(t.Context(), h.bus, h.files, "a", nil); err != nil {
		t.Fatal(err)
	}
	if left := h.stored("a"); len(left) != 0 {
		t.Errorf("after the deletion there are %+v", left)
	}
}

// leaveLink links a document to a job, in an attempt that nobody commits to the task's record.
func (h *house) leaveLink(job string) {
	h.t.Helper()
	d := nativetest.Document(h.t, h.t.TempDir(), "lost.pdf", "", []byte("lost"))
	b, err := h.files.NewBatch(job, 0, 0)
	if err == nil {
		_, _, err = b.Link(d.Path)
	}
	if err == nil {
		_, err = b.Commit()
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// The scrubber notices that a linked document is damaged, and one that is missing.
func TestTheScrubberReadsLinkedDocuments(t *testing.T) {
	h, blob := withNative(t)
	h.work(h.source, "w")
	_, task := h.exportNative("a")
	at := h.linked(&task)
	scrub := worker.Scrubber{
		Bus: h.bus, Files: h.files, Log: quiet(), ScrubFlags: worker.ScrubFlags{Rate: 1 << 40},
	}
	round := func() []files.Known {
		t.Helper()
		if err := scrub.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
		known, err := h.files.Damaged("a")
		if err != nil {
			t.Fatal(err)
		}
		return known
	}
	if known := round(); len(known) != 0 {
		t.Fatalf("damaged are %+v", known)
	}
	if err := errors.Join(os.Chmod(blob, 0o600),
		os.WriteFile(blob, []byte(strings.Repeat("SCAN ", 40_000)), 0o600)); err != nil {
		t.Fatal(err)
	}
	if known := round(); len(known) != 1 || known[0].Object != at.Object {
		t.Errorf("damaged are %+v", known)
	}
}
