package link

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"ehi-server/shared/subject"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		JetStream:  true,
		StoreDir:   t.TempDir(),
		DontListen: true,
		NoSigs:     true,
		NoLog:      true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func open(t *testing.T, s *server.Server) *Link {
	t.Helper()
	l, err := Open(Config{
		Options: []nats.Option{nats.InProcessServer(s)},
		Log:     slog.New(slog.DiscardHandler),
		Lost:    func(*nats.Msg, error) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// breakFor closes the connection for good, as the client library does over an error that it does
// not know.
func breakFor(t *testing.T, l *Link) {
	t.Helper()
	s := l.session()
	s.conn.Close()
	await(t, "the loss to be noticed", func() bool { return l.Failed() != nil || l.session() != s })
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

var kind = subject.KindOf("test")

// A connection that the library gave up is replaced: what was asked, stored and listened to goes
// on.
func TestAClosedConnectionIsOpenedAnew(t *testing.T) {
	l := open(t, serve(t))
	if err := l.Streams().DeclareBucket(t.Context(),
		jetstream.KeyValueConfig{Bucket: "b"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.KeyValue(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 10)
	stop, err := l.Subscribe(kind.Under(), func(m *nats.Msg) { heard <- string(m.Data) })
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	l.Bind(func() { close(ended) })
	for range 3 {
		breakFor(t, l)
		await(t, "a new connection", func() bool {
			return l.Failed() == nil && !l.session().conn.IsClosed()
		})
		kv, err := l.KeyValue(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), "k", []byte("v")); err != nil {
			t.Fatal(err)
		}
		if err := l.Publish(kind.Of("news"), []byte("news")); err != nil {
			t.Fatal(err)
		}
		if got := <-heard; got != "news" {
			t.Errorf("heard %q", got)
		}
	}
	<-ended // who waited for an answer over the first connection does not any more
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := len(l.renewed); n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}

// Where no new connection can be had, that shows, until one can.
func TestAConnectionThatCannotBeOpenedAnewIsTold(t *testing.T) {
	l := open(t, serve(t))
	if err := l.Failed(); err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	notYet := errors.New("not yet")
	l.OnReopen(func(context.Context) error {
		if away.Load() {
			return notYet
		}
		return nil
	})
	away.Store(true)
	breakFor(t, l)
	await(t, "the failure to be told", func() bool { return errors.Is(l.Failed(), notYet) })
	away.Store(false)
	await(t, "a new connection", func() bool { return l.Failed() == nil })
	if err := l.Publish(kind.Of("x"), nil); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := l.Publish(kind.Of("x"), nil); !IsAway(err) {
		t.Errorf("published over a closed link: %v", err)
	}
}

// A request to the server of this process waits longer than one across a network.
func TestAnEmbeddedServerHasTimeToAnswer(t *testing.T) {
	l := open(t, serve(t))
	if got := l.now.js.Options().DefaultTimeout; got != embeddedTime {
		t.Errorf("a request without a deadline waits %v, want %v", got, embeddedTime)
	}
}
