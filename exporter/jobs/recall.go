package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// If NATS does not answer a kick-off, the job may have been stored although its client got 503,
// which means that nothing was done. recalls deletes such jobs. It tries until NATS answers. If
// a delayed message to create the job arrives later, NATS refuses it, because the deletion has
// left a marker.
//
// The jobs to delete are noted in the exports folder before the client gets 503. So if the
// process is killed before NATS answers, the next start deletes them.

const (
	// recallEvery is the pause after a failed deletion. recallTime limits one deletion.
	recallEvery = time.Second
	recallTime  = 5 * time.Second
	// maxRecalls limits how many jobs wait for deletion. It is more than the kick-offs that fail
	// in an hour of outage.
	maxRecalls = 100_000
)

// recalls deletes jobs that no client knows of.
type recalls struct {
	end  func(ctx context.Context, job string) error
	kept recallNotes
	stop func() // ends run and waits for it

	mu   sync.Mutex
	jobs map[string]bool
	more chan struct{} // holds a value if a job was added since the last receive
}

// recallNotes stores in the exports folder which jobs are to be deleted.
type recallNotes interface {
	NoteRecall(job string) error
	Recalls() ([]string, error)
	ForgetRecall(job string) error
}

// newRecalls starts with the jobs that the previous process has noted. An error means that they
// could not be read.
func newRecalls(
	end func(ctx context.Context, job string) error, kept recallNotes,
) (*recalls, error) {
	r := &recalls{end: end, kept: kept, jobs: map[string]bool{}, more: make(chan struct{}, 1)}
	left, err := kept.Recalls()
	if err != nil {
		return nil, fmt.Errorf("read the exports to delete: %w", err)
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

var errTooManyRecalls = errors.New("too many exports wait for deletion")

// add schedules the deletion of a job. Errors: errTooManyRecalls if it will not be deleted;
// after any other error only this process will delete it, not the next one.
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
	default: // a value is there already
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

// run deletes the scheduled jobs until ctx ends. The first failure ends a round, because NATS is
// then unreachable for all of them.
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

// try deletes a job and reports whether it is gone.
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

// recall deletes the job of a failed kick-off: now if NATS answers in time, otherwise as soon as
// it answers.
func (s *Service) recall(ctx context.Context, job string) {
	ctx, cancel := undoContext(ctx)
	defer cancel()
	err := s.Remove(ctx, job)
	if err == nil || isNotFound(err) {
		return
	}
	switch kept := s.recalls.add(job); {
	case errors.Is(kept, errTooManyRecalls):
		s.Log.Error("the job of a failed kick-off may still be exported", "job", job, "err", err,
			"cause", kept)
	case kept != nil:
		s.Log.Error(
			"the job of a failed kick-off may still be exported if this process ends before NATS "+
				"answers", "job", job,
			"err", err, "cause", kept)
	default:
		s.Log.Warn("the job of a failed kick-off will be deleted when NATS answers", "job", job,
			"err", err)
	}
}
