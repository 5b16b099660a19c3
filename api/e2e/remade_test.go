package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// If an approved export loses the record of a task, for example in a power failure, it does not
// fail for good: its client is told to retry, the export runs again, and has the same content.
func TestAnApprovedExportWhoseTaskIsLostIsMadeAnew(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Keeper.Every = 50 * time.Millisecond
	w := start(t, t.TempDir(), cfg, node.Options{})
	e := w.stored("identity")
	before, _ := w.download(e.pat, w.manifest(e.pat, e.job))
	if err := w.node.Bus.Tasks.DeleteOne(t.Context(), e.job.ID, 0); err != nil {
		t.Fatal(err)
	}
	if a := w.do(e.pat, "GET", e.job.StatusURL); a.Status == http.StatusInternalServerError {
		t.Errorf("the status is %d %.200s", a.Status, a.Body)
	}
	a := w.do(w.admin, "GET", "/admin/jobs/"+e.job.ID)
	if a.Status == http.StatusInternalServerError {
		t.Errorf("the administrator is told %d %.200s", a.Status, a.Body)
	}
	w.until("the export is made anew", func() bool {
		task, there, err := w.node.Bus.Tasks.Get(t.Context(), e.job.ID, 0)
		return err == nil && there && task.Committed && task.Attempt > 1
	})
	w.wait(e.job.ID, ehi.Approved)
	after, _ := w.download(e.pat, w.manifest(e.pat, e.job))
	if d := cmp.Diff(before, after); d != "" {
		t.Error(d)
	}
}
