package keeper

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// Jobs and tasks are records of two streams, and each is synced to the disk by itself. So a loss
// of power can leave a job that counts a task as committed, and take the task's record, or its
// commit. Whoever needs such a task says so to the keeper (Doubt); and each look at the names of
// all tasks shows the jobs that lack one. The job is requested again then, and what it lacks is
// made.

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

// remakeDoubted makes those of the jobs anew that do lack one. While a sweep of the records makes
// jobs anew, which may take long, the doubts wait for the next round.
func (k *Keeper) remakeDoubted(ctx context.Context) error {
	if !k.remakes.TryLock() {
		return nil
	}
	defer k.remakes.Unlock()
	k.doubted.mu.Lock()
	jobs := slices.Collect(maps.Keys(k.doubted.jobs))
	k.doubted.jobs = nil
	k.doubted.mu.Unlock()
	return k.remakeAll(ctx, jobs)
}

// latestExports is how many of the latest jobs are looked at whole when a keeper begins: a
// commit that was lost shows nowhere else. Older ones are found when they are asked for.
const latestExports = 1000

// exported lists the jobs that have counted tasks, or may have, newest first.
func (k *Keeper) exported() []bus.Summary {
	return k.Bus.Jobs.List(func(s bus.Summary) bool {
		return s.Status == ehi.Retrieved || s.Status == ehi.Approved ||
			s.Status == ehi.Requested && s.Level != ehi.OnePatient
	})
}

// remakeLost makes the jobs anew that lack a task. exported was listed before the names of the
// tasks were read.
func (k *Keeper) remakeLost(
	ctx context.Context, exported []bus.Summary, tasks map[string][]int,
) error {
	var suspects []string
	for i, s := range exported {
		latest := !k.looked && i < latestExports
		if latest || s.Level != ehi.OnePatient || len(tasks[s.ID]) == 0 {
			suspects = append(suspects, s.ID)
		}
	}
	k.remakes.Lock()
	defer k.remakes.Unlock()
	err := k.remakeAll(ctx, suspects)
	k.looked = k.looked || err == nil
	return err
}

// remakeAll makes those of the jobs anew that lack a task. A loss of power takes the latest
// records. Where more than a few others are lost, a bucket is damaged rather than cut short, and
// a backup may have what is missing: those exports wait for an administrator's word. The caller
// holds k.remakes.
func (k *Keeper) remakeAll(ctx context.Context, jobs []string) error {
	if k.cutAt.IsZero() {
		k.cutAt = k.newest()
	}
	var errs []error
	lacking := map[string]bool{}
	for _, id := range slices.Concat(jobs, slices.Collect(maps.Keys(k.lacking))) {
		j, _, lacks, err := k.lacks(ctx, id)
		switch {
		case ehi.CodeOf(err) == ehi.NotFound:
			continue
		case err != nil:
			errs = append(errs, err)
			lacks = k.lacking[id]
		case lacks && k.cutAt.Sub(lastChange(j)).Abs() < cutWithin:
			errs = append(errs, k.remake(ctx, id))
			continue
		}
		if lacks && len(lacking) < mostDoubts {
			lacking[id] = true
		}
	}
	k.lacking = nil
	all := 0
	if len(lacking) > fewOrphans {
		all = len(k.exported())
	}
	if !k.word.allows("exports", len(lacking), all) {
		k.lacking = lacking
		k.Log.Error("many exports lack records of their tasks, which may be lost: "+
			"they are not made anew until an administrator says so (POST /admin/sweep)",
			"exports", len(lacking), "of", all)
		return errors.Join(errs...)
	}
	for id := range lacking {
		if err := k.remake(ctx, id); err != nil && ehi.CodeOf(err) != ehi.NotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// cutWithin is how far from the newest record of the state a loss of power reaches, with a
// margin: NATS syncs its files every few seconds.
const cutWithin = time.Minute

// newest is when the newest job was made, of those that were there when the keeper began.
func (k *Keeper) newest() (at time.Time) {
	at = time.Unix(1, 0) // of no job: long ago
	for _, s := range k.Bus.Jobs.List(func(bus.Summary) bool { return true }) {
		if s.CreatedAt.After(at) {
			at = s.CreatedAt
		}
	}
	return at
}

// lastChange is when a job was last known to have come further.
func lastChange(j *ehi.Job) time.Time {
	if j.CompletedAt.After(j.RequestedAt) {
		return j.CompletedAt
	}
	return j.RequestedAt
}

var errNotLacking = errors.New("the job lacks no task")

// lacks reports whether a job lacks a task that it has counted, and returns the job and those of
// its tasks that are there. Errors: ehi.NotFound where the job is gone.
func (k *Keeper) lacks(
	ctx context.Context, id string,
) (j *ehi.Job, kept []ehi.Task, lacks bool, err error) {
	j, err = k.Bus.Jobs.Get(ctx, id)
	if err != nil || j.Done.Count() == 0 {
		return j, nil, false, err
	}
	kept, err = k.committed(ctx, j)
	return j, kept, err == nil && !j.Whole(kept), err
}

// remake requests a job again that lacks a task which it has counted. Errors: ehi.NotFound where
// it is gone.
func (k *Keeper) remake(ctx context.Context, id string) error {
	seen, kept, lacks, err := k.lacks(ctx, id)
	if err != nil || !lacks {
		return err
	}
	attempts, err := k.Files.Attempts(id)
	if err != nil {
		return err
	}
	j, err := k.Bus.Jobs.Update(ctx, id, func(j *ehi.Job) error {
		// A deletion takes the tasks first, and another keeper may have done this already.
		if j.Status != seen.Status || !slices.Equal(j.Done, seen.Done) ||
			!j.CompletedAt.Equal(seen.CompletedAt) {
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
