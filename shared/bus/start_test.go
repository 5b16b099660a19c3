package bus

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// How long a start may take goes by what there is to read. A server that does not become ready
// ends the start, by a message that names the folder and what NATS was doing.
func TestAStartOfNATSHasALimit(t *testing.T) {
	dir := t.TempDir()
	if got := startLimit(dir); got != leastStart {
		t.Errorf("an empty folder has %v", got)
	}
	f, err := os.Create(filepath.Join(dir, "1.blk"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(10 * startRate); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if got := startLimit(dir); got != leastStart+10*time.Second {
		t.Errorf("a large folder has %v", got)
	}
	log := newNATSLog(slog.New(slog.DiscardHandler))
	log.Noticef("  Starting restore for stream %q", "EHI_AUDIT")
	err = within(time.Second, hanging(t.Context().Done()), log, dir)
	if err == nil || !strings.Contains(err.Error(), dir) ||
		!strings.Contains(err.Error(), "EHI_AUDIT") {
		t.Errorf("a server that does not become ready: %v", err)
	}
}

// hanging is a server that reads a damaged file for ever.
type hanging <-chan struct{}

func (h hanging) Start()                               { <-h }
func (hanging) ReadyForConnections(time.Duration) bool { return true }

// NATS finds out by files _test_* whether it can write, and removes them at once. A process that
// was killed between the two leaves one; the next start is as any other.
func TestAKillDuringAStartOfNATSLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(t.Context(), Config{StoreDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	left := []string{
		filepath.Join(dir, "jetstream", "_test_1196652662"),
		filepath.Join(dir, filepath.FromSlash(streamsFolder), "KV_"+bucketJobs, "_test_1"),
	}
	for _, path := range left {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if b, err = Open(t.Context(), Config{StoreDir: dir}); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := check(t, b); err != nil {
		t.Error(err)
	}
	for _, path := range left {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there still: %v", path, err)
		}
	}
}

// Where NATS gives a start up, its own reason is told at once, and nothing is called lost.
func TestWhyNATSCannotStartIsToldAtOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_, err := Open(t.Context(), Config{StoreDir: dir})
	reason := "storage directory is not a directory"
	if !errors.Is(err, errNoStart) || errors.Is(err, ErrLost) ||
		!strings.Contains(err.Error(), reason) {
		t.Errorf("it said %v", err)
	}
	if took := time.Since(begun); took > leastStart/2 {
		t.Errorf("after %v", took)
	}
}
