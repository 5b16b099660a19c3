package bus

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// A NATS whose account allows too few streams, or no JetStream, is refused with the limit to raise, at once.
func TestAccountsThatAllowTooLittleAreNamed(t *testing.T) {
	for limits, want := range map[string]string{
		"jetstream: {max_streams: 3}":           "max_streams",
		"jetstream: {max_file: 10}":             "max_file",
		"jetstream: {max_bytes_required: true}": "max_bytes_required",
		"jetstream: disabled":                   "enable it",
	} {
		dir := t.TempDir()
		conf := filepath.Join(dir, "nats.conf")
		text := "listen: \"127.0.0.1:-1\"\njetstream {store_dir: \"" + filepath.Join(dir, "js") + "\"}\naccounts {EHI {" + limits + ", users: [{user: u, password: p}]}}\n"
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		opts, err := server.ProcessConfigFile(conf)
		if err != nil {
			t.Fatal(err)
		}
		opts.NoSigs, opts.NoLog = true, true
		s, err := server.NewServer(opts)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(30 * time.Second) {
			t.Fatal("the NATS does not start")
		}
		began := time.Now()
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second) // of the minute that an absent NATS is waited for
		b, err := Open(ctx, Config{URL: strings.Replace(s.ClientURL(), "//", "//u:p@", 1), Wait: time.Minute})
		stop()
		if err == nil {
			b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", limits, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: said after %v", limits, took)
		}
	}
}
