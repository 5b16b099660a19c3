package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A kick-off that NATS did not answer may have been stored all the same, and its client was told
// 503: that nothing is done. recalls keeps that word: it deletes what may be there, again and
// again until NATS has answered. A message that was held up on the network and arrives after
// that is refused: the deletion has left its mark.
//
// What has to be deleted is written into the folder of the exports before its client is told
// 503: a process that is killed before NATS has answered leaves it to the next start.

const (
	// recallEvery is the pause after a deletion that failed, recallTime how long one may take.
	recallEvery = time.Second
	recallTime  = 5 * time.Second
	// maxRecalls bounds how many jobs wait to be deleted: more kick-offs than fail in an hour of
	// outage.
	maxRecalls = 100_000
)

// recalls are the jobs that have to be gone, because nobody knows of them.
type recalls struct {
	end  func(ctx context.Context, job string) error
	kept recallNotes
	stop func() // and wait until nothing goes on

	mu   sync.Mutex
	jobs map[string]bool
	more chan struct{} // has something where a job has come since it was last received from
}

// recallNotes are the jobs that have to be gone as the folder of the exports keeps them.
type recallNotes interface {
	NoteRecall(job string) error
	Recalls() ([]string, error)
	ForgetRecall(job string) error
}

// newRecalls begins with what the process before this one has left. Errors: where that cannot be
// read.
func newRecalls(
	end func(ctx context.Context, job string) error, kept recallNotes,
) (*recalls, error) {
	r := &recalls{end: end, kept: kept, jobs: map[string]bool{}, more: make(chan struct{}, 1)}
	left, err := kept.Recalls()
	if err != nil {
		return nil, fmt.Errorf("read which exports have to be deleted: %w", err)
	}
	for _, job := range left {
		r.jobs[job] = true
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.run(ctx)
	}()
	r.stop = func() { cancel(); <-ended }
	return r, nil
}

var errTooManyRecalls = errors.New("too many exports have to be deleted")

// add has a job deleted, by the next start if not by this process. Errors: errTooManyRecalls,
// where nobody will; any other says that this process alone will.
func (r *recalls) add(job string) error {
	r.mu.Lock()
	full := len(r.jobs) >= maxRecalls
	if !full {
		r.jobs[job] = true
	}
	r.mu.Unlock()
	if full {
		return errTooManyRecalls
	}
	select {
	case r.more <- struct{}{}:
	default: // it has not looked yet
	}
	return r.kept.NoteRecall(job)
}

func (r *recalls) waiting() (jobs []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for job := range r.jobs {
		jobs = append(jobs, job)
	}
	return jobs
}

// run deletes what has to be gone until ctx ends. A first failure ends a round: NATS is away for
// all of them.
func (r *recalls) run(ctx context.Context) {
	for {
		var again <-chan time.Time
		for _, job := range r.waiting() {
			if !r.try(ctx, job) {
				again = time.After(recallEvery)
				break
			}
		}
		select {
		case <-r.more:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}

// try deletes a job, and reports whether it is gone.
func (r *recalls) try(ctx context.Context, job string) bool {
	ctx, cancel := context.WithTimeout(ctx, recallTime)
	defer cancel()
	if err := r.end(ctx, job); err != nil && !isNotFound(err) {
		return false
	}
	if r.kept.ForgetRecall(job) != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.jobs, job)
	return true
}

// recall deletes the job of a kick-off that failed: now if NATS answers in time, else as soon as
// it does.
func (s *Service) recall(ctx context.Context, job string) {
	ctx, cancel := undoing(ctx)
	defer cancel()
	err := s.Remove(ctx, job)
	if err == nil || isNotFound(err) {
		return
	}
	switch kept := s.recalls.add(job); {
	case errors.Is(kept, errTooManyRecalls):
		s.Log.Error("an export that was refused may be made", "job", job, "err", err, "cause", kept)
	case kept != nil:
		s.Log.Error("an export that was refused may be made if this process ends before NATS "+
			"answers", "job", job,
			"err", err, "cause", kept)
	default:
		s.Log.Warn("an export that was refused is deleted as soon as NATS answers", "job", job,
			"err", err)
	}
}
