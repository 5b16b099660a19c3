package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
)

// Tasks keeps the task records. Take and Commit are the two compare-and-sets of DESIGN section 3:
//
//	worker A: Take -> attempt 1 at revision r1 ............................ Commit(r1) -> ErrSuperseded
//	worker B:                 Take -> attempt 2 at revision r2 .. Commit(r2) -> committed
type Tasks struct{ kv jetstream.KeyValue }

// ErrSuperseded says that another worker took the task, or that its job was deleted, since this worker took it: what this
// attempt wrote is garbage and its own to remove.
var ErrSuperseded = errors.New("the task was taken over or deleted")

// Taken is a task in a worker's hands: the record and the fence.
type Taken struct {
	ehi.Task
	rev uint64
}

func taskKey(job string, n int) string { return job + "." + strconv.Itoa(n) }

// Take starts the next attempt of a task. Where the task is committed already it returns that record unchanged: nothing is
// left to do. Errors: ErrSuperseded where another worker takes it at the same moment.
func (s *Tasks) Take(ctx context.Context, job string, n int, worker string, now time.Time) (*Taken, error) {
	t := &Taken{Task: ehi.Task{Version: ehi.RecordVersion, Job: job, Number: n, Attempt: 1, Worker: worker, TakenAt: now}}
	err := s.write(ctx, t)
	if !errors.Is(err, ErrSuperseded) {
		return t, err
	}
	e, err := s.kv.Get(ctx, taskKey(job, n)) // somebody was here before
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, ErrSuperseded
	}
	if err != nil {
		return nil, fmt.Errorf("read task %s.%d: %w", job, n, err)
	}
	if t.Task, err = decodeTask(e.Value()); err != nil {
		return nil, err
	}
	t.rev = e.Revision()
	if t.Committed {
		return t, nil
	}
	t.Attempt++
	t.Worker, t.TakenAt = worker, now
	return t, s.write(ctx, t)
}

// Commit makes the attempt's result the task's. Errors: ErrSuperseded.
func (s *Tasks) Commit(ctx context.Context, t *Taken, now time.Time) error {
	t.Committed, t.CommittedAt = true, now
	return s.write(ctx, t)
}

func (s *Tasks) write(ctx context.Context, t *Taken) error {
	data, err := json.Marshal(&t.Task)
	if err != nil {
		return err
	}
	var rev uint64
	if t.rev == 0 {
		rev, err = s.kv.Create(ctx, taskKey(t.Job, t.Number), data)
	} else {
		rev, err = s.kv.Update(ctx, taskKey(t.Job, t.Number), data, t.rev)
	}
	if isConflict(err) {
		return ErrSuperseded
	}
	if err != nil {
		return fmt.Errorf("write task %s.%d: %w", t.Job, t.Number, err)
	}
	t.rev = rev
	return nil
}

// Get reads one task. ok is false where it has never been taken.
func (s *Tasks) Get(ctx context.Context, job string, n int) (t ehi.Task, ok bool, err error) {
	e, err := s.kv.Get(ctx, taskKey(job, n))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return ehi.Task{}, false, nil
	}
	if err != nil {
		return ehi.Task{}, false, fmt.Errorf("read task %s.%d: %w", job, n, err)
	}
	t, err = decodeTask(e.Value())
	return t, err == nil, err
}

// Delete forgets the tasks 0..n-1 of a job. A worker that still runs one of them can no longer commit it.
func (s *Tasks) Delete(ctx context.Context, job string, n int) error {
	for i := range n {
		if err := s.kv.Purge(ctx, taskKey(job, i), jetstream.PurgeTTL(markerTTL)); err != nil {
			return fmt.Errorf("delete task %s.%d: %w", job, i, err)
		}
	}
	return nil
}

func decodeTask(data []byte) (t ehi.Task, err error) {
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("task record: %w", err)
	}
	if t.Version > ehi.RecordVersion {
		return t, fmt.Errorf("task record of job %s has version %d; this build reads up to %d", t.Job, t.Version, ehi.RecordVersion)
	}
	return t, nil
}
