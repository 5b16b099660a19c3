package abuse

import (
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"ehi-server/shared/ehi"
)

// Paces holds the polls of each job's status to a pace (BULK-4). It remembers the latest 8192 jobs;
// one that it has forgotten begins anew.
type Paces struct {
	mu    sync.Mutex
	jobs  *lru.Cache[string, *pace]
	burst int
}

const (
	// pollsPerSecond is twice the pace that the shortest Retry-After allows: a client that obeys it
	// is never refused, whatever its clock does (REAL-1).
	pollsPerSecond = 2
	// retryPolls is the Retry-After of a refused poll. A client that waits for as long has its
	// whole burst again.
	retryPolls = 3 * time.Second
	// clockSlack is how much earlier than told a client may come: its clock may differ from ours.
	clockSlack = time.Second
	// underWay is how old a refusal may be that a request on its way cannot know of.
	underWay = 500 * time.Millisecond
	// longestDelay is how long a poll is delayed at most, rather than refused, once its client has
	// shown that it obeys.
	longestDelay = 2 * time.Second
)

// ErrPolls is the answer to a poll that comes too soon.
var ErrPolls = ehi.Errorf(ehi.Throttled,
	"The status is asked for too often; Retry-After says when it may have changed")

// NewPaces remembers no job yet. burst polls of a job are free at any moment; 0 sets no limit.
func NewPaces(burst int) (*Paces, error) {
	jobs, err := lru.New[string, *pace](8192)
	return &Paces{jobs: jobs, burst: burst}, err
}

// Admit decides on a poll of a job. It is answered at once if both results are 0, after delay if
// that is not 0, and refused if refused is not 0: the client may come back after so long.
func (p *Paces) Admit(job string, now time.Time) (delay, refused time.Duration) {
	if p.burst <= 0 {
		return 0, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pace(job).admit(now)
}

// Refuse refuses a poll that could not be delayed.
func (p *Paces) Refuse(job string, now time.Time) (refused time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pace(job).refuse(now)
}

func (p *Paces) pace(job string) *pace {
	known, ok := p.jobs.Get(job)
	if !ok {
		known = &pace{burst: p.burst, limit: rate.NewLimiter(pollsPerSecond, p.burst)}
		p.jobs.Add(strings.Clone(job), known)
	}
	return known
}

// pace is the pace of one job's polls. They are free up to a burst; then polls are refused until
// some later time. A client that does not come back earlier has its burst again, and from then on
// its polls are delayed instead of refused: a client that obeys sees one refusal only.
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
