package worker

import (
	"runtime/debug"
	"testing"
)

// The lowest percentage of the running tasks applies. After the last task the process's own
// percentage applies again.
func TestTheLowestGCPercentageOfTheTasksApplies(t *testing.T) {
	for own, want := range map[int][]int{
		100: {50, 25, 25, 100},
		30:  {30, 25, 25, 30},
		10:  {10, 10, 10, 10},
		-1:  {-1, -1, -1, -1},
	} {
		defer debug.SetGCPercent(debug.SetGCPercent(own))
		var c collector
		for step, do := range []func(){
			func() { c.enter(bulkGCPercent) },
			func() { c.enter(reviewGCPercent) },
			c.leave,
			c.leave,
		} {
			do()
			is := debug.SetGCPercent(own)
			debug.SetGCPercent(is)
			if is != want[step] {
				t.Errorf("of a process that has %d: %d after step %d, want %d", own, is, step,
					want[step])
			}
		}
	}
}
