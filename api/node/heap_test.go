package node

import (
	"runtime/debug"
	"sync"
	"testing"
)

// limit is the soft limit of the heap, in bytes.
func limit() int64 { return debug.SetMemoryLimit(-1) }

// The limit of the heap leaves room for the connections beyond the first few hundred, and takes
// it back.
func TestTheHeapLimitGrowsWithConnections(t *testing.T) {
	before := limit()
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	const base, header = 100 << 20, 16 << 10
	h := newHeapLimit(base, header)
	h.count(connectionStep - 1)
	if limit() != base {
		t.Errorf("a few connections set the limit to %d", limit())
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				h.count(1)
			}
		})
	}
	wg.Wait()
	if grown := limit() - base; grown < 8000*header || grown > 9000*(header+connectionState) {
		t.Errorf("8,255 connections have the limit grow by %d", grown)
	}
	for range 8000 {
		h.count(-1)
	}
	if spare := limit() - base; spare > connectionStep*(header+connectionState) {
		t.Errorf("without them it keeps %d", spare)
	}
}

// A connection that comes and goes at the edge of a step does not change the limit each time: the
// world stops for that.
func TestTheHeapLimitStaysWhereOneConnectionComesAndGoes(t *testing.T) {
	before := limit()
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	h := newHeapLimit(100<<20, 16<<10)
	h.count(connectionStep)
	set := limit()
	h.count(-1)
	if limit() != set {
		t.Error("one connection less changed the limit")
	}
	h.count(1)
	if limit() != set {
		t.Error("one connection more changed the limit")
	}
}
