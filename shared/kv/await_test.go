package kv

import (
	"strings"
	"testing"
	"time"
)

// A load that brings nothing for too long ends, and says of which bucket; one that goes on is waited for.
func TestAFollowerWaitsForALoadThatGoesOnOnly(t *testing.T) {
	f := &following{bucket: &Bucket{name: "b"}, loaded: make(chan error, 1)}
	if err := f.await(t.Context(), 10*time.Millisecond); err == nil || !strings.Contains(err.Error(), "bucket b: 0 came") {
		t.Errorf("a load that never begins: %v", err)
	}
	ended := make(chan error)
	go func() { ended <- f.await(t.Context(), 200*time.Millisecond) }()
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		f.came.Add(1)
		select {
		case err := <-ended:
			t.Fatalf("a load that goes on: %v", err)
		default:
		}
	}
	f.tell(nil)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
