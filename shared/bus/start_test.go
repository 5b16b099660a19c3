package bus

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// How long a start may take goes by what there is to read. A server that does not become ready ends the start, by a
// message that names the folder and what NATS was doing.
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
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "EHI_AUDIT") {
		t.Errorf("a server that does not become ready: %v", err)
	}
}

// hanging is a server that reads a damaged file for ever.
type hanging <-chan struct{}

func (h hanging) Start()                               { <-h }
func (hanging) ReadyForConnections(time.Duration) bool { return true }
