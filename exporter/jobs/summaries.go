package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/segmentio/encoding/json"
	"golang.org/x/sync/semaphore"

	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/release"
	"ehi-server/shared/ehi"
)

// summaries reads patients' records in the background for the forms that are open. It reads a
// record once for all who ask at the same time, and keeps the result for a while. A page decides
// how long it waits. A record that takes longer than a moment waits for its turn and is read at
// half speed, so that exports keep the processors.
type summaries struct {
	source Source
	rules  *release.Rules
	log    *slog.Logger

	ctx     context.Context // ends with the server
	cancel  func()
	running sync.WaitGroup

	brief, long *semaphore.Weighted

	mu      sync.Mutex
	known   map[string]*counting // by patient and what the application asked for
	waiting int                  // for long
}

// counting is a summary in the making, or made.
type counting struct {
	done  chan struct{}
	found *release.Summary
	err   error
	until time.Time // when it is too old; of one that is made
}

const (
	// briefCounts records are begun at a time; what takes longer than briefTime goes on one at a
	// time.
	briefCounts = 2
	briefTime   = 200 * time.Millisecond
	// maxWaiting is how many records, as far as they were read, wait for that.
	maxWaiting = 4
	// keptFor is how long a summary is kept, as a multiple of the time that it took, and at most.
	keptFactor = 20
	keptFor    = time.Minute
	// maxKept bounds the nodes of all summaries that are kept, to some 40 MB.
	maxKept = 400_000
)

// ErrCounting says that the record is still being counted.
var ErrCounting = errors.New("the record is being counted")

var (
	errManyWait = errors.New("too many records are being counted")
)

func newSummaries(d Deps) *summaries {
	s := &summaries{
		source: d.Source, rules: d.Rules, log: d.Log, known: map[string]*counting{},
		brief: semaphore.NewWeighted(briefCounts), long: semaphore.NewWeighted(1),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// stop ends what is under way and waits for it.
func (s *summaries) stop() {
	s.cancel()
	s.running.Wait()
}

// of returns the summary of a job's record, at most keptFor old. Errors: ErrCounting if it is
// not ready within wait.
func (s *summaries) of(
	ctx context.Context, j *ehi.Job, wait time.Duration,
) (*release.Summary, error) {
	asked, err := json.Marshal(j.KickOff)
	if err != nil {
		return nil, err
	}
	c := s.begin(j.Patient.ID+" "+string(asked), j)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-c.done:
		return c.found, c.err
	case <-timer.C:
		return nil, ErrCounting
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// begin finds a summary that is in the making, or fresh, or begins one.
func (s *summaries) begin(key string, j *ehi.Job) *counting {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	if c := s.known[key]; c != nil {
		return c
	}
	c := &counting{done: make(chan struct{})}
	s.known[key] = c
	s.running.Go(func() {
		began := time.Now()
		found, err := s.count(s.ctx, j)
		if err != nil && s.ctx.Err() == nil {
			s.log.Info("no summary of a record", "job", j.ID, "err", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		c.found, c.err, c.until =
			found, err, time.Now().Add(min(keptFor, keptFactor*time.Since(began)))
		close(c.done)
	})
	return c
}

// forget drops what is too old, and what is too much.
func (s *summaries) forget() {
	nodes := 0
	for key, c := range s.known {
		switch {
		case c.until.IsZero(): // in the making
		case time.Now().After(c.until):
			delete(s.known, key)
		case c.found != nil:
			if nodes += c.found.Nodes(); nodes > maxKept {
				delete(s.known, key)
			}
		}
	}
}

// count goes through the record. A panic ends the summary and not the server.
func (s *summaries) count(ctx context.Context, j *ehi.Job) (found *release.Summary, err error) {
	if err := s.brief.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	t := turn{of: s, began: time.Now(), holds: s.brief}
	defer t.end()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	record, err := s.source.Open(ctx, j.Patient.ID)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, record.Close()) }()
	return pipeline.Summarize(ctx, s.rules, j, record, t.pause)
}

// turn is the right to go through a record.
type turn struct {
	of          *summaries
	began, last time.Time
	holds       *semaphore.Weighted // brief or long; nil for neither
}

// pause is called between slabs: it changes from brief to long, and from then on rests as long
// as it works.
func (t *turn) pause(ctx context.Context) error {
	if t.holds == t.of.brief {
		if time.Since(t.began) < briefTime {
			return nil
		}
		return t.lengthen(ctx)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Since(t.last)):
	}
	t.last = time.Now()
	return nil
}

// lengthen makes room for others and waits until no other long one is under way.
func (t *turn) lengthen(ctx context.Context) error {
	s := t.of
	s.mu.Lock()
	if s.waiting == maxWaiting {
		s.mu.Unlock()
		return errManyWait
	}
	s.waiting++
	s.mu.Unlock()
	s.brief.Release(1)
	err := s.long.Acquire(ctx, 1)
	s.mu.Lock()
	s.waiting--
	s.mu.Unlock()
	t.holds = s.long
	if err != nil {
		t.holds = nil
	}
	t.last = time.Now()
	return err
}

func (t *turn) end() {
	if t.holds != nil {
		t.holds.Release(1)
	}
}

// Preview counts what a form would release of a job's record. It waits for a record that is
// still being counted for so long at most. Errors: ErrCounting.
func (s *Service) Preview(
	ctx context.Context, j *ehi.Job, form ehi.ReleaseForm, wait time.Duration,
) (n release.Counts, err error) {
	policy, err := s.Rules.Policy(&form, ehi.KickOff{})
	if err != nil {
		return n, err
	}
	summary, err := s.counted.of(ctx, j, wait)
	if err != nil {
		return n, err
	}
	return summary.Count(policy)
}
