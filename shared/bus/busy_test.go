package bus

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// A machine that is busy does not make a NATS that works look broken: it would be started anew,
// and refuse everything meanwhile.
func TestABusyMachineIsNoBrokenNATS(t *testing.T) {
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	var idle atomic.Bool
	var busy sync.WaitGroup
	for range 16 * runtime.GOMAXPROCS(0) {
		busy.Go(func() {
			for n := 0; !idle.Load(); n++ { // nothing else
			}
		})
	}
	defer busy.Wait()
	defer idle.Store(true)
	for range 1000 {
		if err := b.Broken(); err != nil {
			t.Fatal(err)
		}
	}
}
