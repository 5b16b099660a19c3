package e2e

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"ehi-server/api/node"
	"ehi-server/exporter/worker"
	"ehi-server/shared/files"
)

// The scrubber finds damage before anybody requests the file, and finds that a restored file is
// intact again. Two scrubbers do not work on one disk at the same time.
func TestTheScrubberFindsDamage(t *testing.T) {
	t.Parallel()
	log := &book{}
	cfg := config()
	logger := slog.New(slog.NewTextHandler(log, nil))
	w := startLogging(t, t.TempDir(), cfg, node.Options{}, logger)
	// the rate of the node's own scrubber is 0
	scrubber := &worker.Scrubber{
		Bus: w.node.Bus, Files: w.node.Files, Log: logger,
		ScrubFlags: worker.ScrubFlags{Rate: 1 << 40},
	}
	round := func() {
		t.Helper()
		if err := scrubber.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	e := w.stored("identity")
	round()
	if at, err := w.node.Files.Scrubbed(); err != nil || time.Since(at) > time.Minute {
		t.Errorf("the round ended at %v, %v", at, err)
	}
	if known, err := w.node.Files.Damaged(""); err != nil || len(known) > 0 {
		t.Fatalf("of what is whole: %+v, %v", known, err)
	}
	f := e.table[e.pick("segment")]
	pages := func(damage string) {
		t.Helper()
		for _, page := range []string{"/admin/ui/system", "/admin/ui/jobs/" + e.job.ID} {
			text := string(e.do(w.admin, "GET", page).Body)
			names := strings.Contains(text, "<td>"+f.Type+".ndjson</td><td>"+damage)
			if names != (damage != "") || strings.Contains(text, "Damaged files") != names {
				t.Errorf("%s: it names the damaged file: %t", page, names)
			}
		}
	}
	pages("")
	good, err := os.ReadFile(e.path(f.Object))
	if err != nil {
		t.Fatal(err)
	}
	for kind, change := range map[files.Kind]func(b []byte) []byte{
		files.Changed: func(b []byte) []byte { b[f.Offset] ^= 1; return b },
		files.Short:   func(b []byte) []byte { return b[:f.Offset+f.Length-1] },
		files.Missing: func([]byte) []byte { return nil },
	} {
		e.alter(f.Object, change)
		lock, err := w.node.Files.TryLock("scrub")
		if err != nil {
			t.Fatal(err)
		}
		round()
		if known, err := w.node.Files.Damaged(e.job.ID); err != nil || len(known) > 0 {
			t.Errorf("%s: found while another one scrubs: %+v, %v", kind, known, err)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
		round()
		known, err := w.node.Files.Damaged(e.job.ID)
		if err != nil || len(known) == 0 || known[0].Kind != kind {
			t.Errorf("%s: %+v, %v", kind, known, err)
		}
		pages(map[files.Kind]string{
			files.Changed: "it was changed",
			files.Short:   "its end is missing",
			files.Missing: "it is gone",
		}[kind])
		if !strings.Contains(log.String(), "kind="+string(kind)) {
			t.Errorf("the log does not say %s", kind)
		}
		e.wantOutcome(e.do(e.pat, "GET", e.url(f)), 500, "damaged")
		if err := os.WriteFile(e.path(f.Object), good, 0o600); err != nil {
			t.Fatal(err)
		}
		round()
		if known, err := w.node.Files.Damaged(e.job.ID); err != nil || len(known) > 0 {
			t.Errorf("%s: given back, and still known: %+v, %v", kind, known, err)
		}
		pages("")
	}
	e.alter(f.Object, func(b []byte) []byte { return append(b, 0) })
	round()
	if !strings.Contains(log.String(), "kind=longer") {
		t.Error("the log does not say that a file has grown")
	}
	e.want(e.do(e.pat, "GET", e.url(f)), 200, "")
}
