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

// A NATS whose account allows too few streams, or no JetStream, is refused with the limit to
// raise, at once.
func TestAccountsThatAllowTooLittleAreNamed(t *testing.T) {
	for limits, want := range map[string]string{
		"jetstream: {max_streams: 3}":           "max_streams",
		"jetstream: {max_file: 10}":             "max_file",
		"jetstream: {max_bytes_required: true}": "max_bytes_required",
		"jetstream: disabled":                   "enable it",
	} {
		dir := t.TempDir()
		conf := filepath.Join(dir, "nats.conf")
		text := "listen: \"127.0.0.1:-1\"\njetstream {store_dir: \"" + filepath.Join(dir, "js") +
			"\"}\naccounts {EHI {" + limits + ", users: [{user: u, password: p}]}}\n"
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
		// of the minute that an absent NATS is waited for
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		b, err := Open(ctx, Config{
			Flags: Flags{
				URL:  strings.Replace(s.ClientURL(), "//", "//u:p@", 1),
				Dial: Dial{Wait: time.Minute},
			},
		})
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

// An address at which there is no NATS, or none with JetStream, is named with its flag, and
// without the password in it. One over WebSocket works where NATS has that.
func TestANATSThatDoesNotServeIsNamed(t *testing.T) {
	run := func(js bool, socket int) *server.Server {
		t.Helper()
		opts := &server.Options{
			Host:      "127.0.0.1",
			Port:      server.RANDOM_PORT,
			JetStream: js,
			StoreDir:  t.TempDir(),
			NoSigs:    true,
			NoLog:     true,
		}
		if socket != 0 {
			opts.Websocket = server.WebsocketOpts{Host: "127.0.0.1", Port: socket, NoTLS: true}
		}
		s, err := server.NewServer(opts)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(30 * time.Second) {
			t.Fatal("the NATS does not start")
		}
		return s
	}
	with, without := run(true, server.RANDOM_PORT), run(false, 0)
	for url, want := range map[string]string{
		strings.Replace(without.ClientURL(), "//", "//u:secret@", 1):         "JetStream is off",
		strings.Replace(without.ClientURL(), "nats://", "ws://u:secret@", 1): "block websocket",
		"nats://u:secret@127.0.0.1:1,nats://token@127.0.0.1:2":               "nats://127.0.0.1:2",
		strings.Replace(with.WebsocketURL(), "ws://", "nats://u:secret@", 1): "--nats",
	} {
		began := time.Now()
		b, err := Open(t.Context(), Config{Flags: Flags{URL: url}})
		if err == nil {
			b.Close()
			t.Errorf("%s is taken", url)
			continue
		}
		said := err.Error()
		host := url[strings.LastIndex(url, "@")+1:]
		if !strings.Contains(said, want) || !strings.Contains(said, host) ||
			!strings.Contains(said, "--nats") {
			t.Errorf("%s: %v", url, err)
		}
		if strings.Contains(said, "secret") || strings.Contains(said, "token@") {
			t.Errorf("the password is told: %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: said after %v", url, took)
		}
	}
	b, err := Open(t.Context(), Config{Flags: Flags{URL: with.WebsocketURL()}})
	if err != nil {
		t.Fatalf("over WebSocket: %v", err)
	}
	b.Close()
}
