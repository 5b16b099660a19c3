package bus

import (
	"context"
	"fmt"
	"testing"
	"time"

	"ehi-server/shared/files/filestest"
	"ehi-server/shared/subject"
)

// A full disk breaks the embedded NATS for as long as it runs: then Check and Broken say so,
// also when there is room again. Started anew it has all that it had confirmed, and takes more;
// followers go on.
func TestAnEmbeddedNATSThatCouldNotWriteIsStartedAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	filestest.Mount(t, dir, "16m")
	b, err := Open(t.Context(), Config{StoreDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	for round := range 3 {
		kind := subject.KindOf("full")
		clear := filestest.Fill(t, dir, 0)
		stored := 0
		for err = nil; err == nil; {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err = b.Auth.Put(ctx, kind.Of(fmt.Sprint(round, "-", stored)),
				make([]byte, 10_000)); err == nil {
				stored++
			}
			cancel()
			if stored > 10_000 {
				t.Fatal("the disk does not fill up")
			}
		}
		clear()
		for end := time.Now().Add(
			30 * time.Second); b.Broken() == nil; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the fault is not seen after %v", err)
			}
		}
		if err := check(t, b); err == nil {
			t.Error("it is ready, and takes no record")
		}
		if err := b.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.Broken(); err != nil {
			t.Error(err)
		}
		if err := check(t, b); err != nil {
			t.Error(err)
		}
		for n := range stored {
			e, err := b.Auth.Get(t.Context(), kind.Of(fmt.Sprint(round, "-", n)))
			if err != nil || len(e.Value) != 10_000 {
				t.Fatalf("record %d of %d that was confirmed: %v", n, stored, err)
			}
		}
		for n := range stored {
			if err := b.Auth.Forget(t.Context(), kind.Of(fmt.Sprint(round, "-", n))); err != nil {
				t.Fatal(err)
			}
		}
	}
}
