package keeper

import (
	"testing"
	"time"
)

// A clock that leaps ahead expires nothing until the grace period is over. If it is set back
// before, the leap has no effect.
func TestAClockThatLeapsIsNotBelievedAtOnce(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for name, steps := range map[string][]struct {
		wall, running time.Duration // since the start
		told, leapt   time.Duration
	}{
		"a steady one": {
			{0, 0, 0, 0},
			{time.Minute, time.Minute, time.Minute, 0},
			{30 * day, 30 * day, 30 * day, 0},
		},
		"a corrected one": {{0, 0, 0, 0}, {11 * time.Second, 10 * time.Second, 11 * time.Second, 0},
			{19 * time.Second, 20 * time.Second, 19 * time.Second, 0}},
		"one that leaps, and is set back": {
			{0, 0, 0, 0},
			{3650*day + time.Second, time.Second, time.Second, 3650 * day},
			{3650*day + time.Minute, time.Minute, time.Minute, 0},
			{time.Hour, time.Hour, time.Hour, 0},
			{2 * day, 2 * day, 2 * day, 0},
		},
		"one that leaps, and is right": {
			{0, 0, 0, 0},
			{2*day + time.Second, time.Second, time.Second, 2 * day},
			{3 * day, day, day, 0},
			{3*day + time.Second, day + time.Second, 3*day + time.Second, 0},
		},
		"one that leaps twice": {
			{0, 0, 0, 0},
			{day, 0, 0, day},
			{3*day + time.Hour, time.Hour, time.Hour, 2 * day},
			{time.Hour, time.Hour, time.Hour, 0},
		},
		"one that was behind, and leaps to the right time": {
			{-day, 0, -day, 0},
			{0, 0, -day, day},
			{day + time.Second, day + time.Second, day + time.Second, 0},
		},
		"one that is set back": {
			{0, 0, 0, 0},
			{-day, 0, -day, 0},
			{-day + time.Hour, time.Hour, -day + time.Hour, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &clock{}
			for i, s := range steps {
				told, leapt := c.now(start.Add(s.wall), s.running, day)
				if told.Sub(start) != s.told || leapt != s.leapt {
					t.Errorf("step %d: %v and a leap of %v, want %v and %v", i, told.Sub(start),
						leapt, s.told, s.leapt)
				}
			}
		})
	}
}

// If the clock at a start is more than a day ahead of the last running server, it is believed
// after the grace period, or when it is set right. A shorter absence is normal.
func TestAClockThatIsFarAheadAtTheStartIsNotBelievedAtOnce(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	// wall is since a server last ran, running since the start
	type look struct{ wall, running, told, leapt time.Duration }
	for name, looks := range map[string][]look{
		"after a night": {
			{10 * time.Hour, 0, 10 * time.Hour, 0},
			{11 * time.Hour, time.Hour, 11 * time.Hour, 0},
		},
		"of a clock behind": {{-40 * day, 0, -40 * day, 0}},
		"after weeks": {
			{21 * day, 0, 0, 21 * day}, {22*day - 1, day - 1, day - 1, 0},
			{22 * day, day, 22 * day, 0},
		},
		"until it is right": {
			{40 * day, 0, 0, 40 * day},
			{2 * time.Minute, time.Minute, 2 * time.Minute, 0},
		},
		"and leaps once more": {
			{40 * day, 0, 0, 40 * day},
			{80*day + time.Hour, time.Hour, time.Hour, 40 * day},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &clock{served: start}
			for i, l := range looks {
				told, leapt := c.now(start.Add(l.wall), l.running, day)
				if told.Sub(start) != l.told || leapt != l.leapt {
					t.Errorf("look %d: %v and a leap of %v, want %v and %v", i, told.Sub(start),
						leapt, l.told, l.leapt)
				}
			}
		})
	}
}
