package worker

import (
	"runtime/debug"
	"sync"
)

// How much the heap may grow between two garbage collections, in percent of the live heap:
// bulkGCPercent while resources of populations are exported; reviewGCPercent while a form's export
// keeps data about very many resources. That data contains almost no pointers.
const (
	bulkGCPercent   = 50
	reviewGCPercent = 25
)

// frugal makes the garbage collector run more often while exports of populations read resources,
// and during exports with a form of records with very many resources. These allocate only one
// object for ten resources, so the cost is too small to measure, and the peak of memory stays
// nearly constant however long they take. Native content allocates more: there it would cost a
// sixth of the throughput. A lower GOGC, or GOGC=off, remains in effect.
var frugal collector

type collector struct {
	mu     sync.Mutex
	tasks  int
	before int
}

// enter starts such a task. While several run, the lowest percentage applies until all have
// ended.
func (c *collector) enter(percent int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := debug.SetGCPercent(percent)
	if set < percent {
		debug.SetGCPercent(set)
	}
	if c.tasks++; c.tasks == 1 {
		c.before = set
	}
}

// leave ends such a task.
func (c *collector) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tasks--; c.tasks == 0 {
		debug.SetGCPercent(c.before)
	}
}
