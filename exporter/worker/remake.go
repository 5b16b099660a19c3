package worker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// Jobs and tasks are records of two streams, and each is synced to the disk by itself. So a loss of power can leave a
// job that counts a task as committed, and take the task's record, or its commit. Whoever needs such a task says so to
// the keeper (Doubt); and each look at the names of all tasks shows the jobs that lack one. The job is requested
// again then, and what it lacks is made.

// doubts are the jobs of which somebody missed a task.
type doubts struct {
	mu   sync.Mutex
	jobs map[string]bool
}

// mostDoubts bounds them: the others come again with the next request.
const mostDoubts = 10_000

// Doubt has the keeper look in its next round whether a job lacks the record of a task.
func (k *Keeper) Doubt(job string) {
	k.doubted.mu.Lock()
	defer k.doubted.mu.Unlock()
	if k.doubted.jobs == nil {
		k.doubted.jobs = map[string]bool{}
	}
	if len(k.doubted.jobs) < mostDoubts {
		k.doubted.jobs[job] = true
	}
}

// remakeDoubted makes those of the jobs anew that do lack one.
func (k *Keeper) remakeDoubted(ctx context.Context) error {
	k.doubted.mu.Lock()
	jobs := slices.Collect(maps.Keys(k.doubted.jobs))
	k.doubted.jobs = nil
	k.doubted.mu.Unlock()
	return k.remakeAll(ctx, jobs)
}

// latestExports is how many of the latest jobs are looked at whole when a keeper begins: a commit that was lost shows
// nowhere else. Older ones are found when they are asked for.
const latestExports = 1000

// exported lists the jobs that have counted tasks, or may have, newest first.
func (k *Keeper) exported() []bus.Summary {
	return k.Bus.Jobs.List(func(s bus.Summary) bool {
		return s.Status == ehi.Retrieved || s.Status == ehi.Approved ||
			s.Status == ehi.Requested && s.Level != ehi.OnePatient
	})
}

// remakeLost makes the jobs anew that lack a task. exported was listed before the names of the tasks were read.
func (k *Keeper) remakeLost(ctx context.Context, exported []bus.Summary, tasks map[string][]int) error {
	var suspects []string
	for i, s := range exported {
		latest := !k.looked && i < latestExports
		if latest || s.Level != ehi.OnePatient || len(tasks[s.ID]) == 0 {
			suspects = append(suspects, s.ID)
		}
	}
	err := k.remakeAll(ctx, suspects)
	k.looked = k.looked || err == nil
	return err
}

func (k *Keeper) remakeAll(ctx context.Context, jobs []string) error {
	var errs []error
	for _, id := range jobs {
		if err := k.remake(ctx, id); err != nil && ehi.CodeOf(err) != ehi.NotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

var errNotLacking = errors.New("the job lacks no task")

// remake requests a job again that lacks a task which it has counted. Errors: ehi.NotFound where it is gone.
func (k *Keeper) remake(ctx context.Context, id string) error {
	seen, err := k.Bus.Jobs.Get(ctx, id)
	if err != nil || seen.Done.Count() == 0 {
		return err
	}
	kept, err := k.committed(ctx, seen)
	if err != nil || seen.Whole(kept) {
		return err
	}
	attempts, err := k.Files.Attempts(id)
	if err != nil {
		return err
	}
	j, err := k.Bus.Jobs.Update(ctx, id, func(j *ehi.Job) error {
		// A deletion takes the tasks first, and another keeper may have done this already.
		if j.Status != seen.Status || !slices.Equal(j.Done, seen.Done) || !j.CompletedAt.Equal(seen.CompletedAt) {
			return errNotLacking
		}
		return j.Remake(kept, attempts)
	})
	if errors.Is(err, errNotLacking) || ehi.CodeOf(err) == ehi.Conflict {
		return nil
	}
	if err != nil {
		return err
	}
	telemetry.ReconcilerRepublished.Inc()
	k.Log.Error("an export lacks the record of a task and is made anew: was there a loss of power?",
		"job", id, "was", seen.Status, "tasks", seen.Tasks, "lost", seen.Done.Count()-len(kept))
	// Where this fails, the command is one that was lost, see Reconcile.
	return k.Bus.PublishStart(tracing.WithParent(ctx, j.Trace), j.Lane, id, j.Starts)
}

// committed reads those of a job's tasks that it counts, and that are committed.
func (k *Keeper) committed(ctx context.Context, j *ehi.Job) (tasks []ehi.Task, err error) {
	for n := range j.Tasks {
		if !j.Done.Has(n) {
			continue
		}
		t, there, err := k.Bus.Tasks.Newest(ctx, j.ID, n)
		if err != nil {
			return nil, err
		}
		if there && t.Committed {
			tasks = append(tasks, t)
		}
	}
	return tasks, nil
}
