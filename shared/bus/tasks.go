package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/segmentio/encoding/json"
	"golang.org/x/sync/singleflight"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// Tasks stores the task records. The plan writes those of a population; the first Take writes
// that of one patient. Take and Commit are the two compare-and-sets of the commit protocol:
//
//	worker A: Take -> attempt 1 at revision r1 ................... Commit(r1) -> ErrSuperseded
//	worker B:       Take -> attempt 2 at revision r2 .. Commit(r2) -> committed
type Tasks struct {
	kv *kv.Bucket
	// A committed task never changes until the job is remade.
	committed *lru.Cache[subject.Subject, ehi.Task]
	reads     *singleflight.Group // ongoing reads, by key
}

// committedCache is how many committed tasks are cached, at about 3 KiB each.
const committedCache = 2048

func openTasks(bucket *kv.Bucket) (*Tasks, error) {
	cache, err := lru.New[subject.Subject, ehi.Task](committedCache)
	return &Tasks{bucket, cache, &singleflight.Group{}}, err
}

// ErrSuperseded means that another worker took the task, or that its job was deleted, after this
// worker took it. The files of this attempt are garbage, and the worker deletes them.
var ErrSuperseded = errors.New("the task was taken over or deleted")

// Taken is a task that a worker has taken: the record and its revision, the fence.
type Taken struct {
	ehi.Task
	rev uint64
}

func taskKey(job string, n int) subject.Subject { return records.Of(job).Number(n) }

// Plan writes the record of a population's task unless it exists. Planning again gives the same
// tasks.
func (s *Tasks) Plan(ctx context.Context, job string, n int, part ehi.Part) error {
	t := &Taken{Task: ehi.Task{Version: ehi.RecordVersion, Job: job, Number: n, Part: &part}}
	if err := s.write(ctx, t); !errors.Is(err, ErrSuperseded) {
		return err
	}
	return nil
}

// TakePlanned starts the next attempt at a population's task, higher than after (see
// ehi.Job.Attempts). If the task is committed, it returns the record unchanged. Errors:
// ErrSuperseded if another worker takes it at the same moment or its job was deleted.
func (s *Tasks) TakePlanned(
	ctx context.Context, job string, n, after int, worker string, now time.Time,
) (*Taken, error) {
	return s.takeAgain(ctx, job, n, after, worker, now)
}

// Take starts the next attempt at a task, higher than after (see ehi.Job.Attempts). If the task
// is committed, it returns the record unchanged, and nothing is left to do. Errors:
// ErrSuperseded if another worker takes it at the same moment.
func (s *Tasks) Take(
	ctx context.Context, job string, n, after int, worker string, now time.Time,
) (*Taken, error) {
	t := &Taken{Task: ehi.Task{
		Version: ehi.RecordVersion, Job: job, Number: n, Attempt: after + 1, Excused: after,
		Worker: worker, TakenAt: now,
	}}
	err := s.write(ctx, t)
	if !errors.Is(err, ErrSuperseded) {
		return t, err
	}
	return s.takeAgain(ctx, job, n, after, worker, now) // there was an earlier attempt
}

// takeAgain takes a task that has a record.
func (s *Tasks) takeAgain(
	ctx context.Context, job string, n, after int, worker string, now time.Time,
) (*Taken, error) {
	e, err := s.kv.Newest(ctx, taskKey(job, n))
	if errors.Is(err, kv.ErrNotFound) {
		return nil, ErrSuperseded
	}
	if err != nil {
		return nil, fmt.Errorf("read task %s.%d: %w", job, n, err)
	}
	t := &Taken{}
	if t.Task, err = decodeTask(e.Value); err != nil {
		return nil, err
	}
	t.rev = e.Revision
	if t.Committed {
		return t, nil
	}
	forgotten := max(0, after-t.Attempt) // how they ended is unknown
	t.Attempt += forgotten + 1
	t.Excused += forgotten
	t.Worker, t.TakenAt = worker, now
	return t, s.write(ctx, t)
}

// Excuse records that the attempt ended for external reasons and does not count as a failure.
// Errors: ErrSuperseded.
func (s *Tasks) Excuse(ctx context.Context, t *Taken) error {
	t.Excused++
	return s.write(ctx, t)
}

// Commit stores the result of the attempt as that of the task. Errors: ErrSuperseded.
func (s *Tasks) Commit(ctx context.Context, t *Taken, now time.Time) error {
	t.Committed, t.CommittedAt = true, now
	return s.write(ctx, t)
}

func (s *Tasks) write(ctx context.Context, t *Taken) error {
	t.Version = ehi.RecordVersion
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
	if kv.IsConflict(err) {
		return ErrSuperseded
	}
	if err != nil {
		return fmt.Errorf("write task %s.%d: %w", t.Job, t.Number, err)
	}
	t.rev = rev
	return nil
}

// Get reads a task. ok is false if it has no record. The task must not be changed. Concurrent
// callers share one read: all held polls read the tasks when a job ends.
func (s *Tasks) Get(ctx context.Context, job string, n int) (t ehi.Task, ok bool, err error) {
	if t, ok := s.committed.Get(taskKey(job, n)); ok {
		return t, true, nil
	}
	r, err, shared := share(ctx, s.reads, taskKey(job, n).String(),
		func(ctx context.Context) (taskRead, error) {
			t, ok, err := s.read(ctx, job, n)
			return taskRead{t, ok}, err
		})
	if shared && err == nil && !r.Committed { // it may have been committed after that read started
		return s.read(ctx, job, n)
	}
	return r.Task, r.ok, err
}

// taskRead is the result of reading a task.
type taskRead struct {
	ehi.Task
	ok bool
}

// read reads a task from the bucket and caches it if it is committed.
func (s *Tasks) read(ctx context.Context, job string, n int) (t ehi.Task, ok bool, err error) {
	e, err := s.kv.Get(ctx, taskKey(job, n))
	if errors.Is(err, kv.ErrNotFound) {
		return ehi.Task{}, false, nil
	}
	if err != nil {
		return ehi.Task{}, false, fmt.Errorf("read task %s.%d: %w", job, n, err)
	}
	t, err = decodeTask(e.Value)
	// Another server of the cluster may not have the commit yet.
	if err == nil && !t.Committed {
		if e, err = s.kv.Newest(ctx, taskKey(job, n)); err == nil {
			t, err = decodeTask(e.Value)
		}
	}
	if errors.Is(err, kv.ErrNotFound) {
		return ehi.Task{}, false, nil
	}
	if err == nil && t.Committed {
		s.committed.Add(taskKey(job, n), t)
	}
	return t, err == nil, err
}

// Newest reads the current record of a task from NATS, bypassing the cache. ok is false if it
// has no record.
func (s *Tasks) Newest(ctx context.Context, job string, n int) (t ehi.Task, ok bool, err error) {
	e, err := s.kv.Newest(ctx, taskKey(job, n))
	if errors.Is(err, kv.ErrNotFound) {
		return t, false, nil
	}
	if err != nil {
		return t, false, fmt.Errorf("read task %s.%d: %w", job, n, err)
	}
	t, err = decodeTask(e.Value)
	return t, err == nil, err
}

// forget drops the cached tasks of a job that is exported again.
func (s *Tasks) forget(job string) {
	for _, key := range s.committed.Keys() {
		if strings.HasPrefix(key.String(), job+".") {
			s.committed.Remove(key)
		}
	}
}

// Delete deletes the tasks 0..n-1 of a job. A worker that still runs one of them can no longer
// commit it.
func (s *Tasks) Delete(ctx context.Context, job string, n int) error {
	for i := range n {
		if err := s.DeleteOne(ctx, job, i); err != nil {
			return err
		}
	}
	return nil
}

// DeleteOne deletes one task.
func (s *Tasks) DeleteOne(ctx context.Context, job string, n int) error {
	s.committed.Remove(taskKey(job, n))
	if err := s.kv.Forget(ctx, taskKey(job, n)); err != nil {
		return fmt.Errorf("delete task %s.%d: %w", job, n, err)
	}
	return nil
}

// Keys lists the tasks that have a record, by job.
func (s *Tasks) Keys(ctx context.Context) (map[string][]int, error) {
	keys, err := s.kv.Keys(ctx)
	byJob := map[string][]int{}
	for _, key := range keys {
		job, number, _ := strings.Cut(key.String(), ".")
		if n, err := strconv.Atoi(number); err == nil { // nothing else is stored here
			byJob[job] = append(byJob[job], n)
		}
	}
	return byJob, err
}

func decodeTask(data []byte) (t ehi.Task, err error) {
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("task record: %w", err)
	}
	if t.Version > ehi.RecordVersion {
		return t, newerError("task record of job "+t.Job, t.Version)
	}
	upgradeTask(&t)
	return t, nil
}
