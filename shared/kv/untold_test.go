package kv

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/link"
	"ehi-server/shared/subject"
)

// Whether all records have come is known of the bucket itself, where NATS does not tell the end:
// a record that was deleted counts while it is remembered, and one that has expired does not.
func TestABucketKnowsWhatHasNotCome(t *testing.T) {
	b := bucketOfTest(t)
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

// bucketOfTest is a bucket of a NATS of its own.
func bucketOfTest(t *testing.T) *Bucket {
	t.Helper()
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
	return b
}

// told is a record as the library tells of it.
type told struct {
	jetstream.KeyValueEntry
	key      string
	revision uint64
}

func (e told) Key() string                     { return e.key }
func (e told) Value() []byte                   { return []byte("value") }
func (e told) Revision() uint64                { return e.revision }
func (e told) Created() time.Time              { return time.Time{} }
func (e told) Operation() jetstream.KeyValueOp { return jetstream.KeyValuePut }

// Whoever follows a bucket has all that was there although NATS never tells the end of it, and
// although others change a record without a pause; and not before, although NATS tells the end
// too early.
func TestAFollowerKnowsWhenAllHasCome(t *testing.T) {
	b := bucketOfTest(t)
	kind := subject.KindOf("kind")
	for _, name := range []string{"a", "b"} {
		if _, err := b.Put(t.Context(), kind.Of(name), []byte("value")); err != nil {
			t.Fatal(err)
		}
	}
	follow :=
		func(every time.Duration) (f *following, updates chan jetstream.KeyValueEntry, end func()) {
			f = &following{
				bucket:  b,
				pattern: kind.All(),
				apply:   func(Entry) {},
				loaded:  make(chan error, 1),
			}
			updates = make(chan jetstream.KeyValueEntry)
			ended := make(chan error, 1)
			go func() { ended <- f.take(t.Context(), updates, every) }()
			return f, updates, func() {
				close(updates)
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		}
	a, other := told{key: kind.Of("a").String(), revision: 1}, told{
		key:      kind.Of("b").String(),
		revision: 2,
	}

	f, updates, end := follow(10 * time.Millisecond)
	updates <- other
	tick, limit := time.NewTicker(time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for all := false; !all; {
		select {
		case <-tick.C:
			updates <- a // without a silence
		case err := <-f.loaded:
			if all = true; err != nil {
				t.Error(err)
			}
		case <-limit:
			t.Fatal("a follower of a bucket that changes all the time never has all")
		}
	}
	end()

	f, updates, end = follow(time.Hour)
	updates <- a
	updates <- nil // too early
	updates <- a   // taken once the end is
	if len(f.loaded) > 0 {
		t.Error("NATS told the end too early, and was believed")
	}
	updates <- other
	if err := <-f.loaded; err != nil {
		t.Error(err)
	}
	end()
}
