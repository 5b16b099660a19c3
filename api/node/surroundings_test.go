package node

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What keeps a server from starting is said before anything is opened, all of it at once.
func TestWhatKeepsAServerFromStartingIsSaidAtOnce(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := taken.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg, err := Defaults()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	cfg.Addr, cfg.Bus.Listen = taken.Addr().String(), taken.Addr().String()
	if err := os.Symlink(filepath.Join(data, "unmounted"),
		filepath.Join(data, "exports")); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), cfg, data, slog.New(slog.DiscardHandler), Options{})
	if err == nil {
		t.Fatal("it starts")
	}
	for _, part := range []string{
		"--addr " + cfg.Addr + ": another process listens there",
		"--nats-listen",
		"exports is a link to",
		"unmounted, which is not there",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
	if left, err := filepath.Glob(filepath.Join(data, "*")); err != nil || len(left) != 1 {
		t.Errorf("%v, %v: something was opened", left, err)
	}
	linked := filepath.Join(t.TempDir(), "data")
	if err := os.Symlink(filepath.Join(data, "elsewhere"), linked); err != nil {
		t.Fatal(err)
	}
	cfg.Addr, cfg.Bus.Listen = "127.0.0.1:0", ""
	if _, err = Open(t.Context(), cfg, linked, slog.New(slog.DiscardHandler),
		Options{}); err == nil || !strings.Contains(err.Error(), "is a link to") {
		t.Errorf("%v", err)
	}
	// TEST-NET-1 (RFC 5737), which no machine has
	cfg.SandboxOnNetwork, cfg.Addr = true, "192.0.2.1:0"
	if _, err = Open(t.Context(), cfg, t.TempDir(), slog.New(slog.DiscardHandler),
		Options{}); err == nil || !strings.Contains(err.Error(), "no such address") {
		t.Errorf("%v", err)
	}
}
