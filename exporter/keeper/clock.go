package keeper

import (
	"sync"
	"time"
)

// largestStep is by how much a machine's clock may be set ahead, or may run ahead of itself
// between two looks, before that is a leap.
const largestStep = 5 * time.Minute

// largestAbsence is for how long nobody may have served before a start doubts the machine's
// clock: longer than a night, and than what a clock is ahead that is taken for one of another
// time zone. A dead battery, or a wrong source of time, is mostly off by months.
const largestAbsence = 24 * time.Hour

// clock tells by what time something is over that goes then for good. That is the machine's,
// until it leaps ahead: then it may be wrong, and all that is kept would be over at once. For a
// grace, time goes on from where it was, as if the clock had not leapt; if it is set back within
// that, nothing has happened.
//
// A machine that slept is one whose clock has leapt: then the same things go a grace later. So
// is one that was off for long: only a clock that goes on from where a server stopped is
// believed at once.
type clock struct {
	mu      sync.Mutex
	begun   bool
	served  time.Time     // when a server ran last, before the first look; zero where nothing is known
	wall    time.Time     // by the machine's clock, when somebody looked last
	running time.Duration // for how long the process had run then
	ahead   time.Duration // by how much the machine's clock is ahead of the time that is told
	until   time.Duration // for how long the process has run when the machine's clock is believed
}

// now is the time to go by at a moment of the machine's clock, when the process has run for so
// long, and by how much the clock has leapt since the last look: 0 where it has not.
func (c *clock) now(
	wall time.Time, running, grace time.Duration,
) (told time.Time, leapt time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall = wall.Round(0) // by the machine's clock alone
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
	case c.ahead > 0 && step < -largestStep: // it is set back
		c.ahead = max(0, c.ahead+step)
	}
	if c.ahead > 0 && running >= c.until {
		c.ahead = 0
	}
	if c.ahead <= largestStep { // as good as right
		c.ahead = 0
	}
	return wall.Add(-c.ahead), leapt
}
