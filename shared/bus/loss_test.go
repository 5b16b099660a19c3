package bus_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/bus"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// outside is a NATS that is somebody else's, at a port of its own over restarts.
type outside struct {
	t    *testing.T
	opts server.Options
	s    *server.Server
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{
		t: t,
		opts: server.Options{
			Host:      "127.0.0.1",
			Port:      server.RANDOM_PORT,
			JetStream: true,
			StoreDir:  t.TempDir(),
			NoLog:     true,
			NoSigs:    true,
		},
	}
	o.start()
	t.Cleanup(o.stop)
	return o
}

func (o *outside) start() {
	o.t.Helper()
	opts := o.opts
	s, err := server.NewServer(&opts)
	if err != nil {
		o.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		o.t.Fatal("NATS does not start")
	}
	o.s, o.opts.Port = s, opts.Port
}

func (o *outside) stop() { o.s.Shutdown(); o.s.WaitForShutdown() }

// js is JetStream there, past the bus.
func (o *outside) js() jetstream.JetStream {
	o.t.Helper()
	conn, err := nats.Connect(o.s.ClientURL())
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		o.t.Fatal(err)
	}
	return js
}

// open opens the state there for the files of a folder.
func (o *outside) open(f *local.Store, accept bool) (*bus.Bus, error) {
	return bus.Open(o.t.Context(), bus.Config{
		Flags: bus.Flags{
			URL:        o.s.ClientURL(),
			AcceptLoss: accept,
			Dial:       bus.Dial{Wait: 30 * time.Second},
		},
		Files: f,
	})
}

func localStore(t *testing.T) *local.Store {
	t.Helper()
	f, err := local.Open(local.Config{Root: filepath.Join(t.TempDir(), files.Folder)})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// watched has a bus watch for losses, and returns when it has looked once.
func watched(t *testing.T, b *bus.Bus, f *local.Store) (ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out := make(chan error, 1)
	go func() { out <- b.WatchForLoss(ctx) }()
	t.Cleanup(cancel)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if reached, err := f.Reached(); err != nil || len(reached) > 0 {
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		if time.Now().After(end) {
			t.Fatal("it is not kept how far the state has come")
		}
	}
}

// wantLoss waits until a loss is noticed, and has it refused until an operator accepts it.
func wantLoss(
	t *testing.T, o *outside, b *bus.Bus, f *local.Store, ended <-chan error, says string,
) {
	t.Helper()
	select {
	case err := <-ended:
		if !errors.Is(err, bus.ErrLost) || !strings.Contains(err.Error(), says) {
			t.Errorf("while it is used: %v, want what says %q", err, says)
		}
	case <-time.After(time.Minute):
		t.Error("nobody notices while it is used")
	}
	b.Close()
	if b, err := o.open(f, false); !errors.Is(err, bus.ErrLost) ||
		!strings.Contains(err.Error(), says) {
		t.Errorf("the next start: %v, want what says %q", err, says)
		if err == nil {
			b.Close()
		}
	}
	for _, accept := range []bool{true, false} { // once is enough
		b, err := o.open(f, accept)
		if err != nil {
			t.Fatalf("accepted (%v): %v", accept, err)
		}
		b.Close()
	}
}

// A NATS that comes back with an older copy of its files is noticed by whoever uses it, and at
// the next start.
func TestAnOlderCopyOfTheStateIsNoticed(t *testing.T) {
	t.Parallel()
	o, f, older := newOutside(t), localStore(t), filepath.Join(t.TempDir(), "older")
	b, err := o.open(f, false)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	o.stop()
	if err := os.CopyFS(older, os.DirFS(o.opts.StoreDir)); err != nil {
		t.Fatal(err)
	}
	o.start()
	if b, err = o.open(f, false); err != nil {
		t.Fatalf("the same again: %v", err)
	}
	defer b.Close()
	if err := b.Jobs.Create(t.Context(), newJob("a")); err != nil {
		t.Fatal(err)
	}
	ended := watched(t, b, f)
	o.stop()
	o.opts.StoreDir = older
	o.start()
	further, err := o.js().KeyValue(t.Context(), "ehi_jobs")
	if err != nil {
		t.Fatal(err)
	}
	for range 100 { // so that its newest number is beyond that of before
		if _, err := further.Put(t.Context(), "probe.further", nil); err != nil {
			t.Fatal(err)
		}
	}
	wantLoss(t, o, b, f, ended, "older copy of its files")
}

// A purge, and whatever else takes records away that nobody of this project has deleted, is
// noticed too.
func TestRecordsThatNobodyHasDeletedAreMissed(t *testing.T) {
	for name, take := range map[string]func(context.Context, jetstream.JetStream, string) error{
		"a purge": func(ctx context.Context, js jetstream.JetStream, stream string) error {
			s, err := js.Stream(ctx, stream)
			if err != nil {
				return err
			}
			return s.Purge(ctx)
		},
		"a limit of age": func(ctx context.Context, js jetstream.JetStream, stream string) error {
			s, err := js.Stream(ctx, stream)
			if err != nil {
				return err
			}
			config := s.CachedInfo().Config
			config.MaxAge, config.Duplicates = 200*time.Millisecond, 0
			_, err = js.UpdateStream(ctx, config)
			return err
		},
	} {
		for _, bucket := range []string{"ehi_jobs", "ehi_tasks", "ehi_auth"} {
			t.Run(name+" of "+bucket, func(t *testing.T) {
				t.Parallel()
				o, f := newOutside(t), localStore(t)
				b, err := o.open(f, false)
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close()
				ended := watched(t, b, f)
				if err := take(t.Context(), o.js(), "KV_"+bucket); err != nil {
					t.Fatal(err)
				}
				wantLoss(t, o, b, f, ended,
					"bucket "+bucket+" at the NATS of --nats lacks records that nobody has deleted")
			})
		}
	}
}

// What somebody has set of a bucket that its users rely on is set back while it is used, and at
// a start.
func TestABucketGetsItsSettingsBack(t *testing.T) {
	t.Parallel()
	o, f := newOutside(t), localStore(t)
	js := o.js()
	change := func() {
		t.Helper()
		s, err := js.Stream(t.Context(), "KV_ehi_jobs")
		if err != nil {
			t.Fatal(err)
		}
		config := s.CachedInfo().Config
		config.AllowDirect, config.MaxAge, config.Discard, config.Subjects =
			false, 24*time.Hour, jetstream.DiscardOld, []string{"$KV.other.>"}
		if _, err := js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	settled := func() bool {
		s, err := js.Stream(t.Context(), "KV_ehi_jobs")
		if err != nil {
			t.Fatal(err)
		}
		c := s.CachedInfo().Config
		return c.AllowDirect && c.MaxAge == 0 && c.Discard == jetstream.DiscardNew &&
			c.Subjects[0] == "$KV.ehi_jobs.>" && c.Metadata["ehi.identity"] != ""
	}
	b, err := o.open(f, false)
	if err != nil {
		t.Fatal(err)
	}
	ended := watched(t, b, f)
	change()
	for end := time.Now().Add(30 * time.Second); !settled(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the settings are not set back while the bucket is used")
		}
	}
	change()
	b.Close()
	if b, err = o.open(f, false); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if !settled() {
		t.Error("the settings are not set back at a start")
	}
	select {
	case err := <-ended:
		t.Errorf("the watch ended: %v", err)
	default:
	}
}
