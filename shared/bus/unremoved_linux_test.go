package bus

import (
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
	set := func(flags int) error { return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags) }
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

// A start at which a file of the embedded NATS cannot be removed is answered by an error that says whose it is:
// NATS 2.15.2 ended the process by a stack.
func TestAFileThatCannotBeRemovedIsNoStack(t *testing.T) {
	cfg := Config{StoreDir: filepath.Join(t.TempDir(), "nats"), Audit: &AuditConfig{TTL: 2 * time.Second}}
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
	if err == nil || !strings.Contains(err.Error(), "audit trail") {
		t.Errorf("the start says %v", err)
	}
}
