package kv_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ehi-server/shared/bus"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) *kv.Bucket {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b.Auth
}

func TestStorageKeepsAndForgets(t *testing.T) {
	bucket := open(t)
	s := bucket.Part(subject.KindOf("part"))
	if v, err := s.Get("absent"); v != nil || err != nil {
		t.Fatalf("absent key: %q, %v", v, err)
	}
	if err := s.Set("k", []byte("v"), time.Second); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get("k"); string(v) != "v" || err != nil {
		t.Fatalf("set key: %q, %v", v, err)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		if v, _ := s.Get("k"); v == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the key never expired")
		}
	}
	other := bucket.Part(subject.KindOf("other"))
	err := errors.Join(s.Set("k2", []byte("v"), 0), other.Set("k2", []byte("w"), 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	if v, _ := s.Get("k2"); v != nil {
		t.Fatal("Reset left a key")
	}
	if v, _ := other.Get("k2"); string(v) != "w" {
		t.Fatalf("Reset of one part took another's key: %q", v)
	}
}

// A key may be anything that a cookie or a path brings: it costs its own request at most, and
// reaches no other part.
func TestStorageTakesAnyKey(t *testing.T) {
	bucket := open(t)
	s, other := bucket.Part(subject.KindOf("part")), bucket.Part(subject.KindOf("other"))
	if err := other.Set("k", []byte("other's"), 0); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		strings.Repeat("x", 5000), strings.Repeat("x", 1<<20), "*", ">", "a.*", "other.k", ".",
		"..", "a b", "\r\nPUB x 0\r\n", "\x00", "ü", "=",
	} {
		if v, err := s.Get(key); v != nil || err != nil {
			t.Errorf("%.20q, absent: %q, %v", key, v, err)
		}
		if err := s.Set(key, []byte(key), 0); err != nil {
			t.Errorf("%.20q: %v", key, err)
		}
		if v, err := s.Get(key); string(v) != key || err != nil {
			t.Errorf("%.20q: %.20q, %v", key, v, err)
		}
		if err := s.Delete(key); err != nil {
			t.Errorf("%.20q: %v", key, err)
		}
		if v, err := s.Get(key); v != nil || err != nil {
			t.Errorf("%.20q, deleted: %.20q, %v", key, v, err)
		}
	}
	if v, err := other.Get("k"); string(v) != "other's" || err != nil {
		t.Errorf("another part's key: %q, %v", v, err)
	}
}

func TestRecordsChangeByCompareAndSet(t *testing.T) {
	b, key := open(t), subject.KindOf("kind").Of("k")
	if _, err := b.Get(t.Context(), key); !errors.Is(err, kv.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	rev, err := b.Create(t.Context(), key, []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(t.Context(), key, []byte("2")); !kv.IsConflict(err) {
		t.Errorf("created twice: %v", err)
	}
	next, err := b.Update(t.Context(), key, []byte("2"), rev)
	if err != nil || next <= rev {
		t.Errorf("revision %d after %d, %v", next, rev, err)
	}
	if _, err := b.Update(t.Context(), key, []byte("3"), rev); !kv.IsConflict(err) {
		t.Errorf("updated at an old revision: %v", err)
	}
	var found []kv.Entry
	if err := b.Entries(t.Context(), subject.KindOf("kind").Under(), func(e kv.Entry) error {
		found = append(found, e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Key != key || string(found[0].Value) != "2" ||
		found[0].Revision != next {
		t.Errorf("%+v", found)
	}
	if err := errors.Join(b.Forget(t.Context(), key), b.Forget(t.Context(), key)); err != nil {
		t.Error(err)
	}
	if keys, err := b.Keys(t.Context()); len(keys) != 0 || err != nil {
		t.Errorf("%v, %v", keys, err)
	}
}

// A record that changes while the keys are listed is one key all the same: a backup had the
// files of an export twice, and could not be restored. So is it one entry, for who lists
// accounts.
func TestAKeyIsListedOnceWhileItChanges(t *testing.T) {
	b := open(t)
	keys := make([]subject.Subject, 2000)
	for i := range keys {
		keys[i] = subject.KindOf("kind").Of(strconv.Itoa(i))
		if _, err := b.Put(t.Context(), keys[i], []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	const writers = 8
	changed := make(chan error, writers)
	for range writers {
		go func() {
			for ctx.Err() == nil {
				_, err := b.Put(ctx, keys[rand.IntN(len(keys))], []byte("2"))
				if err != nil && ctx.Err() == nil {
					changed <- err
					return
				}
			}
			changed <- nil
		}()
	}
	for round := range 100 {
		found, err := b.Keys(t.Context())
		if round%2 == 1 {
			found = nil
			err = b.Entries(t.Context(), subject.Kind{}.All(), func(e kv.Entry) error {
				found = append(found, e.Key)
				return nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		once := map[subject.Subject]bool{}
		for _, key := range found {
			once[key] = true
		}
		if len(found) != len(keys) || len(once) != len(keys) {
			t.Fatalf("%d keys, %d of them different, of %d", len(found), len(once), len(keys))
		}
	}
	cancel()
	for range writers {
		if err := <-changed; err != nil {
			t.Error(err)
		}
	}
}

// Entries gives each value that is there, without a question for each; what was deleted, and
// other keys, are not among them. It ends with the first error, and with its context.
func TestAllValuesAreReadInOnePass(t *testing.T) {
	b := open(t)
	wanted, other := subject.KindOf("wanted"), subject.KindOf("other")
	const n = 300
	for i := range n {
		for _, kind := range []subject.Kind{wanted, other} {
			_, err := b.Put(t.Context(), kind.Of(strconv.Itoa(i)), []byte(kind.String()))
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 10 {
		if err := b.Forget(t.Context(), wanted.Of(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	var found atomic.Int64
	count := func(e kv.Entry) error {
		if string(e.Value) != wanted.String() {
			t.Errorf("%s is %q", e.Key, e.Value)
		}
		found.Add(1)
		return nil
	}
	if err := b.Entries(t.Context(), wanted.Under(), count); err != nil || found.Load() != n-10 {
		t.Errorf("%d values, %v", found.Load(), err)
	}
	err := b.Entries(t.Context(), subject.KindOf("nothing").Under(), count)
	if err != nil || found.Load() != n-10 {
		t.Errorf("of nothing: %d values, %v", found.Load(), err)
	}
	enough := errors.New("enough")
	first := func(kv.Entry) error { return enough }
	if err := b.Entries(t.Context(), wanted.Under(), first); !errors.Is(err, enough) {
		t.Errorf("its error is %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Entries(gone, wanted.Under(), count); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context's end: %v", err)
	}
}

// A reading that ends before everything has come leaves nothing behind, however much more there
// is than the library keeps ready; neither does a following that stops while it loads.
func TestAReadingThatIsCutLeavesNothingBehind(t *testing.T) {
	b := open(t)
	kind := subject.KindOf("kind")
	const n = 1000 // the library keeps 256 ready
	for i := range n {
		if _, err := b.Put(t.Context(), kind.Of(strconv.Itoa(i)), []byte("value")); err != nil {
			t.Fatal(err)
		}
	}
	before, enough := goleak.IgnoreCurrent(), errors.New("enough")
	first := func(kv.Entry) error { return enough }
	for range 20 {
		if err := b.Entries(t.Context(), kind.Under(), first); !errors.Is(err, enough) {
			t.Fatalf("its error is %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err := b.Follow(ctx, kind.Under(), func(kv.Entry) { cancel() }, nil)
		if cancel(); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("a following: %v", err)
		}
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}
