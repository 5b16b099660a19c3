package abuse

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// at is the start time of the tests.
var at = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// poller is a client that requests a job's status at intervals of gap, one request after the
// other.
type poller struct {
	pace    *pace
	now     time.Time
	refused int // polls that were refused
	taken   int
}

func (p *poller) poll(gap time.Duration) (refused time.Duration) {
	delay, refused := p.pace.admit(p.now)
	if p.now = p.now.Add(delay + gap); refused > 0 {
		p.refused++
	} else {
		p.taken++
	}
	return refused
}

func newPoller(burst int) *poller {
	b, _ := NewPaces(burst) // cannot fail: its size is a constant
	return &poller{pace: b.pace("job"), now: at}
}

// REAL-1: a client that keeps the pace of the shortest Retry-After is never refused, even if its
// clock is up to a tenth fast.
func TestREAL1TheToldPaceIsNeverRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPoller(rapid.IntRange(1, 5).Draw(t, "burst"))
		for range 1000 {
			p.poll(time.Duration(rapid.IntRange(900, 60_000).Draw(t, "ms")) * time.Millisecond)
		}
		if p.refused > 0 {
			t.Fatalf("%d polls were refused", p.refused)
		}
	})
}

// BULK-4: a client that polls too fast is refused once. If it then obeys Retry-After, within a
// second, it is never refused again, however fast it then polls.
func TestBULK4AClientThatWaitsIsRefusedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPoller(rapid.IntRange(1, 100).Draw(t, "burst"))
		gap := time.Duration(rapid.IntRange(0, 400).Draw(t, "ms")) * time.Millisecond
		slack := time.Duration(rapid.IntRange(-1000, 1000).Draw(t, "slack ms")) * time.Millisecond
		for range 3000 {
			if refused := p.poll(gap); refused > 0 {
				p.now = p.now.Add(max(0, refused+slack-gap))
			}
		}
		if p.refused != 1 {
			t.Fatalf("%d polls were refused, %d taken in %s", p.refused, p.taken, p.now.Sub(at))
		}
	})
}

// BULK-4: a client that does not obey gets only the burst and the pace.
func TestBULK4AClientThatDoesNotWaitIsRefusedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		burst := rapid.IntRange(1, 100).Draw(t, "burst")
		p := newPoller(burst)
		for range 5000 {
			p.poll(time.Duration(rapid.IntRange(1, 400).Draw(t, "ms")) * time.Millisecond)
		}
		if most := burst + 1 + int(p.now.Sub(at).Seconds()*pollsPerSecond); p.taken > most {
			t.Fatalf("%d polls were taken in %s, more than %d", p.taken, p.now.Sub(at), most)
		}
	})
}
