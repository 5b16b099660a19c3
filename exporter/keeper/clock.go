package keeper

import (
	"sync"
	"time"
)

// largestStep is how far the machine's clock may move ahead of the elapsed time between two
// readings. A larger step is a leap.
const largestStep = 5 * time.Minute

// largestAbsence is how long no server may have run before a start distrusts the machine's
// clock. It is longer than a night, and longer than the error of a clock with the wrong time
// zone. A dead battery or a wrong time source usually causes an error of months.
const largestAbsence = 24 * time.Hour

// clock returns the time that decides what has expired and is deleted for good. This is the
// machine's clock until it leaps ahead. Then the clock may be wrong, and believing it would
// expire everything at once. So for a grace period the time continues from where it was, as if
// the clock had not leapt. If the clock is set back within that period, the leap has no effect.
//
// After the machine has slept, its clock has leapt too: expired items are deleted one grace
// period later. The same happens after a long time without a running server. A clock is believed
// immediately only if it continues from where a server stopped.
type clock struct {
	mu      sync.Mutex
	begun   bool
	served  time.Time     // when a server last ran, before the first reading; zero if unknown
	wall    time.Time     // the machine's clock at the last reading
	running time.Duration // how long the process had run at the last reading
	ahead   time.Duration // how far the machine's clock is ahead of the returned time
	until   time.Duration // how long the process has run when the machine's clock is believed again
}

// now returns the time to use when the machine's clock shows wall and the process has run for
// running. leapt is how far the clock has leapt since the last reading, or 0.
func (c *clock) now(
	wall time.Time, running, grace time.Duration,
) (told time.Time, leapt time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall = wall.Round(0) // drop the monotonic clock
	step := wall.Sub(c.wall) - (running - c.running)
	begun := c.begun
	c.begun, c.wall, c.running = true, wall, running
	switch {
	case !begun && (c.served.IsZero() || wall.Sub(c.served) <= largestAbsence):
	case !begun:
		leapt = wall.Sub(c.served)
		c.ahead, c.until = leapt, running+grace
	case step > largestStep:
		leapt = step
		c.ahead += step
		c.until = running + grace
	case c.ahead > 0 && step < -largestStep: // the clock was set back
		c.ahead = max(0, c.ahead+step)
	}
	if c.ahead > 0 && running >= c.until {
		c.ahead = 0
	}
	if c.ahead <= largestStep { // the clock is right, or nearly
		c.ahead = 0
	}
	return wall.Add(-c.ahead), leapt
}
