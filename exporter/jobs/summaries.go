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

// summaries reads patients' records in the background for open forms. It reads a record only
// once for all callers at the same time, and keeps the result for a while. The caller decides
// how long to wait. If a record takes longer than briefTime, it waits for its turn and is then
// read at half speed, so that exports get enough processor time.
type summaries struct {
	source Source
	rules  *release.Rules
	log    *slog.Logger

	ctx     context.Context // ends with the service
	cancel  func()
	running sync.WaitGroup

	brief, long *semaphore.Weighted

	mu      sync.Mutex
	known   map[string]*counting // by patient and kick-off parameters
	waiting int                  // for long
}

// counting is a summary that is being computed or complete.
type counting struct {
	done  chan struct{}
	found *release.Summary
	err   error
	until time.Time // when a complete summary expires
}

const (
	// briefCounts limits how many records are read at once. A record that takes longer than
	// briefTime continues alone, without another such record.
	briefCounts = 2
	briefTime   = 200 * time.Millisecond
	// maxWaiting limits how many partly read records wait for that.
	maxWaiting = 4
	// A summary is kept for keptFactor times the time that it took, at most keptFor.
	keptFactor = 20
	keptFor    = time.Minute
	// maxKept limits the total nodes of all kept summaries. It corresponds to about 40 MB.
	maxKept = 400_000
)

// ErrCounting means that the record is still being counted.
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

// stop cancels running summaries and waits for them.
func (s *summaries) stop() {
	s.cancel()
	s.running.Wait()
}

// get returns the summary of a job's record, at most keptFor old. Errors: ErrCounting if it is
// not ready within wait.
func (s *summaries) get(
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

// begin returns the current summary of a key, or starts a new one.
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
			s.log.Info("cannot summarize a record", "job", j.ID, "err", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		c.found, c.err, c.until =
			found, err, time.Now().Add(min(keptFor, keptFactor*time.Since(began)))
		close(c.done)
	})
	return c
}

// forget deletes expired summaries, and further ones if they exceed maxKept.
func (s *summaries) forget() {
	nodes := 0
	for key, c := range s.known {
		switch {
		case c.until.IsZero(): // not complete yet
		case time.Now().After(c.until):
			delete(s.known, key)
		case c.found != nil:
			if nodes += c.found.Nodes(); nodes > maxKept {
				delete(s.known, key)
			}
		}
	}
}

// count reads the record and counts its resources. A panic ends the summary but not the server.
func (s *summaries) count(ctx context.Context, j *ehi.Job) (found *release.Summary, err error) {
	if err := s.brief.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	t := turn{summaries: s, began: time.Now(), holds: s.brief}
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

// turn is the permission to read a record.
type turn struct {
	summaries   *summaries
	began, last time.Time
	holds       *semaphore.Weighted // brief or long; nil for neither
}

// pause is called between slabs. After briefTime it switches from brief to long. From then on it
// rests as long as the reader works.
func (t *turn) pause(ctx context.Context) error {
	if t.holds == t.summaries.brief {
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

// lengthen releases brief and waits for long. Errors: errManyWait if too many others wait.
func (t *turn) lengthen(ctx context.Context) error {
	s := t.summaries
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

// Preview counts what a form would release of a job's record. It waits at most wait for a record
// that is still being counted. Errors: ErrCounting.
func (s *Service) Preview(
	ctx context.Context, j *ehi.Job, form ehi.ReleaseForm, wait time.Duration,
) (n release.Counts, err error) {
	policy, err := s.Rules.Policy(&form, ehi.KickOff{})
	if err != nil {
		return n, err
	}
	summary, err := s.counted.get(ctx, j, wait)
	if err != nil {
		return n, err
	}
	return summary.Count(policy)
}
