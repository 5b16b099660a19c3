package abuse

import (
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"ehi-server/shared/ehi"
)

// Paces limits how often clients poll the status of each job (BULK-4). It remembers the latest
// 8192 jobs. A job that it has forgotten starts again with its burst.
type Paces struct {
	mu    sync.Mutex
	jobs  *lru.Cache[string, *pace]
	burst int
}

const (
	// pollsPerSecond is twice the rate that the shortest Retry-After allows. A client that obeys
	// Retry-After is never refused, even if its clock is wrong (REAL-1).
	pollsPerSecond = 2
	// retryPolls is the Retry-After of a refused poll. A client that waits this long has its
	// full burst again.
	retryPolls = 3 * time.Second
	// clockSlack is how much too early a client may come back, because clocks differ.
	clockSlack = time.Second
	// underWay is how recent a refusal may be so that a request already on its way could not
	// have known it.
	underWay = 500 * time.Millisecond
	// longestDelay is the longest delay of a poll that is delayed instead of refused, once its
	// client has shown that it obeys.
	longestDelay = 2 * time.Second
)

// ErrPolls is returned for a poll that comes too early.
var ErrPolls = ehi.Errorf(ehi.Throttled,
	"Too many status requests; wait for the time in Retry-After before the next one")

// NewPaces returns a Paces without jobs. burst is the number of polls of a job that are free at
// any moment; 0 for no limit.
func NewPaces(burst int) (*Paces, error) {
	jobs, err := lru.New[string, *pace](8192)
	return &Paces{jobs: jobs, burst: burst}, err
}

// Admit decides about a poll of a job. If both results are 0, answer immediately. If delay is
// not 0, answer after it. If refused is not 0, refuse the poll; the client may come back after
// that time.
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

// pace is the state of one job's polls. Polls are free up to a burst; then they are refused
// until a later time. A client that comes back no earlier has its full burst again, and from
// then on its polls are delayed instead of refused. So a client that obeys is refused only once.
type pace struct {
	burst   int
	limit   *rate.Limiter
	since   time.Time // when a poll was refused
	until   time.Time // until when polls are refused; zero if they are not
	ignored bool      // whether a poll came before that time
	obeyed  bool      // whether the client obeyed the last refusal
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
