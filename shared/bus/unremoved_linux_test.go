package bus

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ehi-server/shared/ehi"
)

// immutable is FS_IMMUTABLE_FL of linux/fs.h.
const immutable = 0x10

// keepFrom lets nobody remove a file until the test ends, not even root.
func keepFrom(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	set := func(flags int) error {
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	if err := set(immutable); err != nil {
		_ = f.Close()
		t.Skip("needs root, and a file system that has the flag:", err)
	}
	t.Cleanup(func() {
		if err := set(0); err != nil {
			t.Error(err)
		}
		_ = f.Close()
	})
}

// A start at which a file of the embedded NATS cannot be removed is answered by an error that
// says whose it is, and why, and not that it is lost: nobody is to give up for it what is there.
// NATS 2.15.2 ended by a stack.
func TestAFileThatCannotBeRemovedIsReported(t *testing.T) {
	cfg := Config{
		StoreDir: filepath.Join(t.TempDir(), "nats"),
		Audit:    &AuditConfig{TTL: 2 * time.Second},
	}
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.Audit.Record(ehi.Event{At: time.Now(), Action: ehi.ActionDelete, Agent: "test"})
	b.Close()
	<-time.After(cfg.Audit.TTL) // the trail's only block is over at the next start
	block := filepath.Join(cfg.StoreDir, "jetstream", "$G", "streams", auditStream, "msgs", "1.blk")
	keepFrom(t, block)
	b, err = Open(t.Context(), cfg)
	if err == nil {
		b.Close()
	}
	if !errors.Is(err, ErrUnread) || errors.Is(err, ErrLost) ||
		!strings.Contains(err.Error(), "audit trail") ||
		!strings.Contains(err.Error(), "operation not permitted") {
		t.Errorf("the start says %v", err)
	}
}

// Files that the disk does not give are told apart from those that are gone or changed.
func TestUnreadableFilesAreNotReportedAsLost(t *testing.T) {
	b := &Bus{cfg: Config{StoreDir: "nats", Log: slog.New(slog.DiscardHandler)}}
	eio := damagedFile{"nats/1.blk", unread + " (input/output error)"}
	gone := damagedFile{"nats/2.blk", "is gone"}
	err := b.lostFiles(map[string][]damagedFile{"KV_ehi_jobs": {eio}})
	if !errors.Is(err, ErrUnread) || errors.Is(err, ErrLost) ||
		!strings.Contains(err.Error(), "input/output error") {
		t.Errorf("of one that cannot be read: %v", err)
	}
	for name, damaged := range map[string]map[string][]damagedFile{
		"one is gone too":    {"KV_ehi_jobs": {eio, gone}},
		"another's are gone": {"KV_ehi_jobs": {eio}, "KV_ehi_tasks": {gone}},
	} {
		if err := b.lostFiles(damaged); !errors.Is(err, ErrLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
