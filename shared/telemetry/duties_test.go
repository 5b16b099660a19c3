package telemetry

import (
	"testing"
	"time"
)

// What is to be done before a process ends is done once, unless it is not needed any more; what
// hangs holds nobody up.
func TestDutiesAreDoneBeforeTheEnd(t *testing.T) {
	var d duties
	done, forever := make(chan string, 2), make(chan struct{})
	d.add(func() { done <- "kept" })
	d.add(func() { done <- "given up" })()
	d.run(10 * time.Second)
	if len(done) != 1 || <-done != "kept" {
		t.Error("not what was to be done")
	}
	t.Cleanup(func() { close(forever) })
	d.add(func() { <-forever })
	began := time.Now()
	if d.run(time.Millisecond); time.Since(began) > 5*time.Second {
		t.Errorf("it took %v", time.Since(began))
	}
}
