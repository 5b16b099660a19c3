package e2e

import (
	"slices"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files/filestest"
)

// A disk that is really full: exports that do not fit wait, what is finished downloads,
// kick-offs are refused where a limit says so; and with the space that deletions give,
// everything that waited is done, and right.
func TestADiskThatIsReallyFull(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	exports := filestest.Small(t, data, "5m")
	w := start(t, data, config(), node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	var finished, waiting []client.Job
	var want []string
	for len(waiting) < 3 {
		j := w.kickOff(pat, "/no-form/auto-approve", p, nil)
		w.until("the export is done, or waits", func() bool {
			task, _, err := w.node.Bus.Tasks.Get(t.Context(), j.ID, 0)
			return err == nil && (task.Committed || task.Excused > 0)
		})
		task, _, err := w.node.Bus.Tasks.Get(t.Context(), j.ID, 0)
		if err == nil && task.Committed {
			finished = append(finished, j)
		} else {
			waiting = append(waiting, j)
		}
		if len(finished) > 40 {
			t.Fatal("the disk does not fill up")
		}
		if len(finished) == 1 && want == nil {
			want = w.contents(pat, w.manifest(pat, j))
		}
	}
	for _, j := range waiting {
		w.want(w.do(pat, "GET", j.StatusURL), 202, "")
	}
	got := w.contents(pat, w.manifest(pat, finished[len(finished)-1]))
	if !slices.Equal(got, want) {
		t.Error("the last export that fitted is not whole")
	}
	for _, j := range finished {
		if err := pat.Delete(t.Context(), j.StatusURL); err != nil {
			t.Fatal(err)
		}
	}
	for _, j := range waiting {
		w.wait(j.ID, ehi.Approved)
		if got := w.contents(pat, w.manifest(pat, j)); !slices.Equal(got, want) {
			t.Errorf("the export of job %s, which waited, is not whole", j.ID)
		}
		task, _, err := w.node.Bus.Tasks.Get(t.Context(), j.ID, 0)
		if err != nil || task.Failures() != 0 {
			t.Errorf("task %+v, %v", task, err)
		}
		if err := pat.Delete(t.Context(), j.StatusURL); err != nil {
			t.Fatal(err)
		}
	}
	awaitFiles(t, exports, map[string]int{})
}
