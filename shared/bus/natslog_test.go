package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"ehi-server/shared/logtest"
	"ehi-server/shared/telemetry"
)

// lines collects a log.
type lines = logtest.Book

func counted(level string) float64 {
	return testutil.ToFloat64(telemetry.NATSLog.WithLabelValues(level))
}

// What the embedded NATS warns of is in our log and counted; a damaged folder is the reason to.
func TestWarningsOfTheEmbeddedNATSAreLoggedAndCounted(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(t.Context(), Config{StoreDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	states, err := filepath.Glob(
		filepath.Join(dir, "jetstream", "$G", "streams", "KV_"+bucketJobs, "msgs", "index.db"))
	if err != nil || len(states) != 1 {
		t.Fatalf("%q, %v", states, err)
	}
	// as if it were killed
	if err := errors.Join(os.Truncate(states[0], 5), removeFileList(dir)); err != nil {
		t.Fatal(err)
	}
	before, log := counted("warn"), &lines{}
	b, err = Open(t.Context(), Config{StoreDir: dir, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	said := log.String()
	if !strings.Contains(said, `level=WARN msg="the embedded NATS"`) ||
		!strings.Contains(said, "KV_"+bucketJobs) {
		t.Errorf("the log says: %s", said)
	}
	if n := counted("warn") - before; n < 1 {
		t.Errorf("%v warnings were counted", n)
	}
}

// The log of NATS is bounded, says what it left out, and names no record.
func TestTheLogOfNATSIsBoundedAndNamesNoRecord(t *testing.T) {
	out, now := &lines{}, time.Now()
	l := newNATSLog(slog.New(slog.NewTextHandler(out, nil)))
	l.now = func() time.Time { return now }
	before := counted("error")
	for n := range 10 * logBurst {
		l.Errorf("Filestore [%s] %d", "KV_ehi_jobs", n)
	}
	if n := strings.Count(out.String(), "\n"); n != logBurst {
		t.Errorf("%d lines", n)
	}
	if n := counted("error") - before; n != 10*logBurst {
		t.Errorf("%v were counted", n)
	}
	now = now.Add(logEvery)
	l.Fatalf("later")
	if want := fmt.Sprintf("suppressed=%d", 9*logBurst); !strings.Contains(out.String(), want) {
		t.Errorf("no %s in %s", want, out)
	}
	l.Warnf("another level has lines of its own")
	if !strings.Contains(out.String(), "level=WARN") {
		t.Error("errors took the lines of warnings")
	}
	for line, want := range map[string]string{
		`Internal subscription on "$KV.ehi_jobs.secret" took too long`: `Internal subscription ` +
			`on "$KV.ehi_jobs.(key)" took too long`,
		`bad [ehi.audit.read.patient-1] and ehi.task.bulk.job.7, so`: `bad [ehi.audit.(key)] and ` +
			`ehi.task.(key) so`,
		`Filestore [KV_ehi_jobs] loadBlock error: EOF`: `Filestore [KV_ehi_jobs] loadBlock ` +
			`error: EOF`,
	} {
		if got := withoutKeys(line); got != want {
			t.Errorf("%s\nbecame %s", line, got)
		}
	}
}
