package e2e

import (
	"syscall"
	"testing"

	"ehi-server/api/node"
	"ehi-server/shared/disk"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files/filestest"
)

// If the disk fails to return a file, its download ends before the announced length, so that no
// client considers it complete. Everything else works as before, and so does the file when the
// disk works again.
func TestAFileThatCannotBeReadEndsItsDownload(t *testing.T) {
	t.Parallel()
	faulty := filestest.NewFaulty(disk.OS())
	w := start(t, t.TempDir(), config(), node.Options{Disk: faulty})
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "/no-form/auto-approve", p, nil)
	m := w.manifest(pat, j)
	faulty.Fail(filestest.Read, syscall.EIO, -1)
	for _, e := range m.Output[:5] {
		w.wantOutcome(w.do(pat, "GET", e.URL), 500, "damaged")
	}
	w.want(w.do(pat, "GET", j.StatusURL), 200, "")
	faulty.Fail(filestest.Read, nil, 0)
	if got := w.contents(pat, m); len(got) != len(m.Output) {
		t.Errorf("%d of %d files can be read again", len(got), len(m.Output))
	}
}

// After a disk was full and has space again, the server recovers by itself:
// exports that waited complete correctly.
func TestADiskThatWasFullNeedsNoRestart(t *testing.T) {
	t.Parallel()
	faulty := filestest.NewFaulty(disk.OS())
	w := start(t, t.TempDir(), config(), node.Options{Disk: faulty})
	p := w.demoPatient()
	pat := w.patient(p)
	first := w.kickOff(pat, "/no-form/auto-approve", p, nil)
	want := w.contents(pat, w.manifest(pat, first))

	faulty.Fail(filestest.Create, syscall.ENOSPC, -1)
	j := w.kickOff(pat, "/no-form/auto-approve", p, nil)
	w.want(w.do(w.open, "GET", "/readyz"), 503, "")
	w.want(w.do(pat, "GET", j.StatusURL), 202, "")
	if got := w.contents(pat, w.manifest(pat, first)); len(got) != len(want) {
		t.Error("a full disk keeps finished files from their client")
	}
	w.until("the export has met the full disk", func() bool {
		task, _, err := w.node.Bus.Tasks.Get(t.Context(), j.ID, 0)
		return err == nil && task.Excused > 0
	})
	faulty.Fail(filestest.Create, nil, 0)
	w.wait(j.ID, ehi.Approved)
	for i, got := range w.contents(pat, w.manifest(pat, j)) {
		if got != want[i] {
			t.Errorf("file %d differs", i)
		}
	}
	w.want(w.do(w.open, "GET", "/readyz"), 200, "")
}
