package bus

import (
	"errors"
	"sync"
	"testing"
)

// Of restores into one NATS that come one after the other the first goes on; of those that come
// together one does; and one that has ended, or was killed, keeps nobody out.
func TestOneRestoreAtATime(t *testing.T) {
	t.Parallel()
	b := opened(t, t.TempDir(), func(c *Config) { c.Listen = "127.0.0.1:0" })
	t.Cleanup(b.Close)
	first, err := RestoreAlone(t.Context(), b.ClientURL(), Access{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		release, err := RestoreAlone(t.Context(), b.ClientURL(), Access{})
		if !errors.Is(err, ErrRestoring) {
			t.Errorf("a second one: %v", err)
			if err == nil {
				release()
			}
		}
	}
	first()
	for range 3 {
		var mu sync.Mutex
		var taken []func()
		var together sync.WaitGroup
		for range 6 {
			together.Go(func() {
				release, err := RestoreAlone(t.Context(), b.ClientURL(), Access{})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					taken = append(taken, release)
				} else if !errors.Is(err, ErrRestoring) {
					t.Error(err)
				}
			})
		}
		together.Wait()
		if len(taken) != 1 {
			t.Errorf("%d restores at once", len(taken))
		}
		for _, release := range taken {
			release()
		}
	}
}
