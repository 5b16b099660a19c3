package worker

import (
	"runtime/debug"
	"sync"
)

// bulkGCPercent is how much the heap may grow between two collections while populations are exported, in percent of what lives.
const bulkGCPercent = 50

// frugal makes the collector run more often while populations are exported, and records of very many resources through a form. They allocate one object for ten resources, so that it costs
// nothing that could be measured, and the peak of memory stays nearly the same however long they take. A GOGC that is lower yet, or off, stays.
var frugal collector

type collector struct {
	mu     sync.Mutex
	tasks  int
	before int
}

// enter begins a population's task.
func (c *collector) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tasks++; c.tasks > 1 {
		return
	}
	if c.before = debug.SetGCPercent(bulkGCPercent); c.before < bulkGCPercent {
		debug.SetGCPercent(c.before)
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
