package worker

import (
	"runtime/debug"
	"sync"
)

// How much the heap may grow between two collections, in percent of what lives: while
// populations are exported, and while a review keeps something of very many resources, which
// holds next to no pointers.
const (
	bulkGCPercent   = 50
	reviewGCPercent = 25
)

// frugal makes the collector run more often while populations are exported, and records of very
// many resources through a form. They allocate one object for ten resources, so that it costs
// nothing that could be measured, and the peak of memory stays nearly the same however long they
// take. A GOGC that is lower yet, or off, stays.
var frugal collector

type collector struct {
	mu     sync.Mutex
	tasks  int
	before int
}

// enter begins a task of those. Of several the lowest percentage holds until all have ended.
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

// leave ends it.
func (c *collector) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tasks--; c.tasks == 0 {
		debug.SetGCPercent(c.before)
	}
}
