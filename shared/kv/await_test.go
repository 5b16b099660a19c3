package kv

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A load is waited for as long as it goes on, and given up when nothing has come for as long as
// is said: whether or not something came before.
func TestAFollowerWaitsForALoadThatGoesOnOnly(t *testing.T) {
	const silence = 12 * time.Second
	for before, said := range map[int64]string{0: "bucket b: 0 came", 3: "bucket b: 3 came"} {
		synctest.Test(t, func(t *testing.T) {
			f, begun := &following{
				bucket: &Bucket{name: "b"},
				loaded: make(chan error, 1),
			}, time.Now()
			f.came.Add(before)
			err := f.await(t.Context(), silence)
			if err == nil || !strings.Contains(err.Error(), said) {
				t.Errorf("a load that stops: %v", err)
			}
			if took := time.Since(begun); took > silence+2*time.Second {
				t.Errorf("it is given up after %v", took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		f, ended := &following{
			bucket: &Bucket{name: "b"},
			loaded: make(chan error, 1),
		}, make(chan error, 1)
		go func() { ended <- f.await(t.Context(), silence) }()
		entries := time.NewTicker(silence * 3 / 4) // by the bubble's clock
		defer entries.Stop()
		for range 10 {
			<-entries.C
			f.came.Add(1)
		}
		f.tell(nil)
		if err := <-ended; err != nil {
			t.Errorf("a load that goes on: %v", err)
		}
	})
}
