package kv

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"ehi-server/shared/link"
	"ehi-server/shared/subject"
)

// Whether all records have come is known of the bucket itself, where NATS does not tell the end: a record that was
// deleted counts while it is remembered, and one that has expired does not.
func TestABucketKnowsWhatHasNotCome(t *testing.T) {
	s, err := server.NewServer(&server.Options{
		DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("NATS does not start")
	}
	l, err := link.Open(link.Config{Options: []nats.Option{nats.InProcessServer(s)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	b, err := Declare(t.Context(), l, "test", "")
	if err != nil {
		t.Fatal(err)
	}
	kind, other := subject.KindOf("kind"), subject.KindOf("other")
	put := func(key subject.Subject, lives time.Duration) uint64 {
		t.Helper()
		revision, err := b.store(t.Context(), key, []byte("value"), lives)
		if err != nil {
			t.Fatal(err)
		}
		return revision
	}
	came := map[subject.Subject]uint64{kind.Of("a"): put(kind.Of("a"), 0)}
	put(other.Of("x"), 0)
	all := func(ctx context.Context) bool {
		t.Helper()
		lacks, err := b.lacks(ctx, kind.All(), came)
		if err != nil {
			t.Fatal(err)
		}
		return len(lacks) == 0
	}
	if !all(t.Context()) {
		t.Error("everything has come, and is not all")
	}
	revision := put(kind.Of("b"), 0)
	if all(t.Context()) {
		t.Error("one has not come, and it is all")
	}
	came[kind.Of("b")] = revision
	if err := b.Forget(t.Context(), kind.Of("b")); err != nil {
		t.Fatal(err)
	}
	if !all(t.Context()) {
		t.Error("one that came is deleted, and the rest is not all")
	}
}
