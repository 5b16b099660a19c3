package server

import (
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"ehi-server/shared/ehi"
)

// paceBook holds the polls of each job to a pace (BULK-4). It is bounded; a job that falls out of it
// begins anew.
type paceBook struct {
	mu    sync.Mutex
	jobs  *lru.Cache[string, *pace]
	burst int
}

const (
	// pollsPerSecond is twice the pace that the shortest Retry-After allows: a client that keeps that
	// one is never refused, whatever its clock does (REAL-1).
	pollsPerSecond = 2
	// retryPolls is the Retry-After of a refused poll. A client that waits for as long has its whole
	// burst again.
	retryPolls = 3 * time.Second
	// clockSlack is how much earlier than told a client may come: its clock is not this one.
	clockSlack = time.Second
	// underWay is how old a refusal may be that a request on its way cannot know of.
	underWay = 500 * time.Millisecond
	// longestDelay is for how long a poll is delayed rather than refused, once its client has shown
	// that it obeys.
	longestDelay = 2 * time.Second
)

// errThrottled is the answer to a poll that comes too soon.
var errThrottled = ehi.Errorf(ehi.Throttled, "The status is asked for too often; Retry-After says when it may have changed")

// newPaceBook makes a book; burst polls are free at any moment, 0 sets no limit.
func newPaceBook(burst int) (*paceBook, error) {
	jobs, err := lru.New[string, *pace](8192)
	return &paceBook{jobs: jobs, burst: burst}, err
}

// admit takes a poll of a job: at once; or after a delay, where that is not 0; or, where refused is
// not 0, not before so much time has passed.
func (b *paceBook) admit(job string, now time.Time) (delay, refused time.Duration) {
	if b.burst <= 0 {
		return 0, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.of(job).admit(now)
}

// refuse is the refusal of a poll that could not be delayed.
func (b *paceBook) refuse(job string, now time.Time) (refused time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.of(job).refuse(now)
}

func (b *paceBook) of(job string) *pace {
	p, known := b.jobs.Get(job)
	if !known {
		p = &pace{burst: b.burst, limit: rate.NewLimiter(pollsPerSecond, b.burst)}
		b.jobs.Add(strings.Clone(job), p)
	}
	return p
}

// pace is that of one job's polls. They are free up to a burst; then one is refused until a time. A
// client that comes back no sooner has its burst again, and from then on its polls are delayed where
// others would be refused: one refusal is all that a client ever sees which obeys it.
type pace struct {
	burst   int
	limit   *rate.Limiter
	since   time.Time // when a poll was refused
	until   time.Time // until when polls are refused; zero: they are not
	ignored bool      // whether one came before that
	obeyed  bool      // whether the last refusal was obeyed
}

func (p *pace) admit(now time.Time) (delay, refused time.Duration) {
	if !p.until.IsZero() {
		if now.Before(p.until.Add(-clockSlack)) {
			p.ignored = p.ignored || now.Sub(p.since) > underWay
			return 0, p.until.Sub(now)
		}
		if p.obeyed = !p.ignored; p.obeyed {
			p.limit = rate.NewLimiter(pollsPerSecond, p.burst)
		}
		p.until, p.ignored = time.Time{}, false
	}
	if p.limit.AllowN(now, 1) {
		return 0, 0
	}
	if p.obeyed {
		r := p.limit.ReserveN(now, 1)
		if delay = r.DelayFrom(now); delay <= longestDelay {
			return delay, 0
		}
		r.CancelAt(now)
	}
	return 0, p.refuse(now)
}

func (p *pace) refuse(now time.Time) (refused time.Duration) {
	p.since, p.until, p.ignored, p.obeyed = now, now.Add(retryPolls), false, false
	return retryPolls
}
