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

// Jobs and tasks are in two streams, and each stream is synced to disk separately. So after a
// power failure a job may count a task as committed whose record, or whose commit, is lost. Code
// that needs the task reports the job to the keeper (Doubt), and each sweep of the task records
// finds jobs without tasks. The keeper then requests the job again, and the workers export what
// is missing.

// doubts are the jobs that were reported to lack a task.
type doubts struct {
	mu   sync.Mutex
	jobs map[string]bool
}

// mostDoubts limits the set. Further jobs are reported again with their next request.
const mostDoubts = 10_000

// Doubt makes the next round check whether a job lacks the record of a task.
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

// remakeDoubted requests the reported jobs again that do lack a task. While a sweep of the
// records does the same, which may take long, the jobs wait for the next round.
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

// latestExports is how many of the latest jobs a keeper checks completely when it starts. The
// lost commit of a task is not visible otherwise. Older jobs are found when somebody requests
// their files.
const latestExports = 1000

// exported lists the jobs that have counted tasks, or may have, newest first.
func (k *Keeper) exported() []bus.Summary {
	return k.Bus.Jobs.List(func(s bus.Summary) bool {
		return s.Status == ehi.Retrieved || s.Status == ehi.Approved ||
			s.Status == ehi.Requested && s.Level != ehi.OnePatient
	})
}

// remakeLost requests the jobs again that lack a task. exported was listed before the task
// records in tasks.
func (k *Keeper) remakeLost(
	ctx context.Context, exported []bus.Summary, tasks map[string][]int,
) error {
	var suspects []string
	for i, s := range exported {
		latest := !k.checkedLatest && i < latestExports
		if latest || s.Level != ehi.OnePatient || len(tasks[s.ID]) == 0 {
			suspects = append(suspects, s.ID)
		}
	}
	k.remakes.Lock()
	defer k.remakes.Unlock()
	err := k.remakeAll(ctx, suspects)
	k.checkedLatest = k.checkedLatest || err == nil
	return err
}

// remakeAll requests those of the jobs again that lack a task. A power failure loses the latest
// records only. If more than a few older records are missing, the bucket is damaged, and a
// backup may contain the records. These exports wait for an administrator's approval. The caller
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
	if !k.approval.allows("exports", len(lacking), all) {
		k.lacking = lacking
		k.Log.Error("many exports lack records of their tasks, which may be lost: they are not "+
			"made again until an administrator approves it (POST /admin/sweep)",
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

// cutWithin is how far from the newest record a power failure can lose records, with a margin:
// NATS syncs its files every few seconds.
const cutWithin = time.Minute

// newest returns the creation time of the newest job that existed when the keeper started.
func (k *Keeper) newest() (at time.Time) {
	at = time.Unix(1, 0) // long ago, if there is no job
	for _, s := range k.Bus.Jobs.List(func(bus.Summary) bool { return true }) {
		if s.CreatedAt.After(at) {
			at = s.CreatedAt
		}
	}
	return at
}

// lastChange returns when a job was last completed or requested.
func lastChange(j *ehi.Job) time.Time {
	if j.CompletedAt.After(j.RequestedAt) {
		return j.CompletedAt
	}
	return j.RequestedAt
}

var errNotLacking = errors.New("the job lacks no task")

// lacks reports whether a job lacks a task that it counts as committed. It also returns the job
// and its existing tasks. Errors: ehi.NotFound if the job is gone.
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

// remake requests a job again that lacks a task. Errors: ehi.NotFound if it is gone.
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
		// A deletion removes the tasks first, and another keeper may have requested the job
		// again.
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
	k.Log.Error(
		"an export lacks the record of a task and is made again: was there a power failure?",
		"job", id, "was", seen.Status, "tasks", seen.Tasks, "lost", seen.Done.Count()-len(kept))
	// If this fails, the command is lost, and Reconcile publishes it.
	return k.Bus.PublishStart(tracing.WithParent(ctx, j.Trace), j.Lane, id, j.Starts)
}

// committed returns the tasks of a job that it counts as committed and whose record says so.
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
