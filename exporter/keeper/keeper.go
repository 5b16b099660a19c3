package keeper

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// Flags are the settings of a Keeper.
type Flags struct {
	// Every is the pause between two rounds. Default 10 s.
	Every time.Duration `name:"keeper-every" help:"Interval between two rounds of the keeper, which removes expired jobs and repairs lost ones." default:"10s" env:"EHI_KEEPER_EVERY" range:"10ms..1h"`
	// Grace is how long the keeper keeps files without a record, and everything that has expired
	// only because the clock has leapt ahead. Files that a record proves to be garbage are
	// removed immediately. With 0 there is no delay.
	Grace time.Duration `name:"orphan-grace" help:"How long to keep export files without a job record. Lost records can be restored during that time." default:"24h" env:"EHI_ORPHAN_GRACE" range:"0s..8760h"`
}

// Keeper cleans up expired jobs, files that no record names, and lost commands. Any number of
// processes may run one: repeating its work does no harm.
type Keeper struct {
	Bus   *bus.Bus
	Files KeeperFiles
	Log   *slog.Logger
	Flags
	// Lost is how long a job may be requested without a command before the command counts as
	// lost. Default 5 s.
	Lost time.Duration
	// Also, if not nil, runs in each round in addition to the keeper's own work. Its errors
	// count as errors of the round.
	Also func(context.Context) error
	// Clock is the machine's clock. Default time.Now.
	Clock func() time.Time

	approval      sweepApproval
	started       sync.Once
	clock         clock
	noted         time.Duration // running time at the last SetServed; 0 before the first
	doubted       doubts
	remakes       sync.Mutex      // held while jobs are exported again
	lacking       map[string]bool // jobs that lack a task and wait for an administrator's approval
	checkedLatest bool            // the latest exports are checked, see latestExports
	// the creation time of the newest job at the start: a power failure may have lost records
	// from about then
	cutAt time.Time
}

// KeeperFiles is what the keeper needs of the export files (files.Store).
type KeeperFiles interface {
	// Walk lists the jobs that have files and calls f for each of them with all of its files.
	Walk(f func(job string, stored []files.Stored) error) error
	// RemoveObject deletes one file that Walk returned. Remove deletes everything of a job.
	RemoveObject(job string, s files.Stored) error
	Remove(job string) error
	// Attempts returns the highest attempt that has written a file for any task of the job, or
	// 0.
	Attempts(job string) (int, error)
	// OrphanSince returns since when a job is known to have files but no record. The first call
	// stores now. Orphans lists these jobs. Adopted removes a job from the list.
	OrphanSince(job string, now time.Time) (time.Time, error)
	Orphans() ([]string, error)
	Adopted(job string) error
	// Damaged lists the known damaged files of a job, or of all jobs if job is "". Forget
	// removes the damage marks of a job.
	Damaged(job string) ([]files.Known, error)
	Forget(job string) error
	// Served returns when a server last served the files, according to SetServed; the zero time
	// if unknown.
	Served() (time.Time, error)
	SetServed(at time.Time) error
	// Free returns how many bytes can still be written.
	Free() (int64, error)
}

// begun is when this process started, approximately. The process's running time counts from it,
// independently of the machine's clock.
var begun = time.Now()

// now returns the time that decides what has expired and is deleted for good, see clock.
func (k *Keeper) now() time.Time {
	wall := time.Now
	if k.Clock != nil {
		wall = k.Clock
	}
	first := false
	k.started.Do(func() { first, k.clock.served = true, k.served() })
	told, leapt := k.clock.now(wall(), time.Since(begun), k.Grace)
	switch {
	case leapt > 0 && first:
		k.Log.Error(
			"the machine's clock is far ahead of the time when a server last ran here. If it "+
				"is wrong, stop the server and set the clock right. Everything that has expired "+
				"since then is kept until the clock is right, or for --orphan-grace",
			"last ran", k.clock.served, "ahead by", leapt.Round(time.Second), "kept for", k.Grace)
	case leapt > 0:
		k.Log.Error(
			"the machine's clock has leapt ahead. If it is wrong, set it right. Everything that "+
				"has expired only because of the leap is kept until then, or for --orphan-grace",
			"by", leapt.Round(time.Second), "kept for", k.Grace)
	}
	return told.UTC()
}

// served returns when a server last ran on these files. Without a note it is the creation time
// of the newest export, and without exports the zero time.
func (k *Keeper) served() (at time.Time) {
	at, err := k.Files.Served()
	if err != nil {
		k.Log.Warn("cannot read when a server last ran", "err", err)
	}
	if !at.IsZero() {
		return at
	}
	k.Bus.Jobs.List(func(s bus.Summary) bool {
		if s.CreatedAt.After(at) {
			at = s.CreatedAt
		}
		return false
	})
	return at
}

// noteServedEvery is the pause between two notes that a server runs.
const noteServedEvery = time.Minute

// noteServed stores that a server runs now. now is the time by which jobs expire, so that a
// clock that is not believed leaves no trace.
func (k *Keeper) noteServed(now time.Time) {
	running := time.Since(begun)
	if k.noted > 0 && running-k.noted < noteServedEvery {
		return
	}
	k.noted = running
	// a full disk must not stop the rest of the round
	if err := k.Files.SetServed(now); err != nil {
		k.Log.Warn("cannot store when a server last ran", "err", err)
	}
}

// Run runs a round immediately and then another after each pause of Every, until ctx ends. It
// sweeps the records in a goroutine of its own: after the loss of a cluster's server NATS may
// take a minute to list them, and deletions must not wait for that.
func (k *Keeper) Run(ctx context.Context) error {
	every, lost := k.Every, k.Lost
	if every <= 0 {
		every = 10 * time.Second
	}
	if lost <= 0 {
		lost = 5 * time.Second
	}
	telemetry.KeeperSuccess.SetToCurrentTime()
	var sweeping sync.WaitGroup
	defer sweeping.Wait()
	sweeping.Go(func() {
		for ctx.Err() == nil {
			k.failed(ctx, k.SweepRecords(ctx))
			pause(ctx, sweepRecordsEvery*every)
		}
	})
	for ctx.Err() == nil {
		now := time.Now().UTC()
		began := time.Now()
		told := k.now()
		k.noteServed(told)
		err := errors.Join(
			k.Bus.Mend(ctx), k.remakeDoubted(ctx), k.Reconcile(ctx, now.Add(-lost)),
			k.Expire(ctx, told), k.Sweep(ctx))
		if k.Also != nil {
			err = errors.Join(err, k.Also(ctx))
		}
		telemetry.KeeperSeconds.Observe(time.Since(began).Seconds())
		if !k.failed(ctx, err) {
			telemetry.KeeperSuccess.SetToCurrentTime()
		}
		if err := k.observe(ctx, now); err != nil && ctx.Err() == nil {
			k.Log.Warn("cannot update the gauges", "err", err)
		}
		pause(ctx, every)
	}
	return nil
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// failed reports whether a round had an error, and logs and counts it.
func (k *Keeper) failed(ctx context.Context, err error) bool {
	if err != nil && ctx.Err() == nil {
		telemetry.KeeperFailed.Inc()
		k.Log.Error("keeper round", "err", err)
	}
	return err != nil
}

// observe sets the gauges that no event updates: queue lengths, ages, and stored bytes and
// records.
func (k *Keeper) observe(ctx context.Context, now time.Time) error {
	standing := k.Bus.Jobs.ByStatus()
	for _, status := range ehi.Statuses() {
		telemetry.JobOldest.WithLabelValues(string(status)).Set(age(now, standing[status].Oldest))
	}
	var errs []error
	for _, lane := range ehi.Lanes() {
		n, since, err := k.Bus.Backlog(ctx, lane)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		telemetry.QueuePending.WithLabelValues(string(lane)).Set(float64(n))
		telemetry.QueueOldest.WithLabelValues(string(lane)).Set(age(now, since))
		inHand, waiting, err := k.Bus.InHand(ctx, lane)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		telemetry.QueueInHand.WithLabelValues(string(lane)).Set(float64(inHand))
		telemetry.QueueWaiting.WithLabelValues(string(lane)).Set(float64(waiting))
	}
	usage, err := k.Bus.Usage(ctx)
	for _, u := range usage {
		telemetry.StateBytes.WithLabelValues(u.Stream).Set(float64(u.Bytes))
		telemetry.StateRecords.WithLabelValues(u.Stream).Set(float64(u.Records))
	}
	free, e := k.Files.Free()
	if e == nil {
		telemetry.ExportFree.Set(float64(free))
	}
	return errors.Join(append(errs, err, e, k.observeDamage(ctx), k.observeExporters(ctx))...)
}

// observeExporters counts the exporters that have joined.
func (k *Keeper) observeExporters(ctx context.Context) error {
	joined, err := k.Bus.Fleet.Exporters(ctx)
	if err != nil {
		return err
	}
	excluded := 0
	for _, e := range joined {
		if len(e.Mismatches) > 0 {
			excluded++
		}
	}
	telemetry.Exporters.WithLabelValues("yes").Set(float64(len(joined) - excluded))
	telemetry.Exporters.WithLabelValues("no").Set(float64(excluded))
	return nil
}

// observeDamage counts the known damaged files, and forgets those of deleted jobs.
func (k *Keeper) observeDamage(ctx context.Context) error {
	known, err := k.Files.Damaged("")
	left := 0
	for _, d := range known {
		_, e := k.Bus.Jobs.Get(ctx, d.Job)
		if ehi.CodeOf(e) == ehi.NotFound {
			err = errors.Join(err, k.Files.Forget(d.Job))
			continue
		}
		left++
	}
	telemetry.DamagedFiles.Set(float64(left))
	return err
}

// age returns the seconds since t, or 0 for the zero time.
func age(now, t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, now.Sub(t).Seconds())
}

// sweepRecordsEvery is how many rounds lie between two sweeps of the task records, because a
// sweep lists all of their names.
const sweepRecordsEvery = 10

// SweepRecords compares the stored records with what this process knows, and deletes leftovers:
// jobs whose deletion was lost when NATS was killed, and tasks whose job is gone. A task
// outlives its job if its own deletion was lost, or if a worker took it at the moment of the
// deletion and then died.
func (k *Keeper) SweepRecords(ctx context.Context) error {
	heardOf := k.Bus.Jobs.IDs()
	jobs, err := k.Bus.Jobs.Keys(ctx)
	if err != nil {
		return err
	}
	var errs []error
	there := make(map[string]bool, len(jobs))
	for _, id := range jobs {
		there[id] = true
	}
	for _, id := range heardOf {
		if !there[id] { // this process missed the deletion: Get forgets the job
			if _, err := k.Bus.Jobs.Get(ctx, id); ehi.CodeOf(err) != ehi.NotFound {
				errs = append(errs, err)
			}
		}
	}
	for _, id := range jobs {
		if _, known := k.Bus.Jobs.Summary(id); known {
			continue
		}
		err := Delete(ctx, k.Bus, k.Files, id, func(*ehi.Job) error { return errNotAborted })
		if !errors.Is(err, errNotAborted) && ehi.CodeOf(err) != ehi.NotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, k.sweepTasks(ctx))...)
}

// sweepTasks deletes the records of tasks whose job is gone. If there are many, it waits for an
// administrator's approval. It also repeats exports that lack the record of a task.
func (k *Keeper) sweepTasks(ctx context.Context) error {
	exported := k.exported()
	keys, err := k.Bus.Tasks.Keys(ctx)
	if err != nil {
		return err
	}
	errs := []error{k.remakeLost(ctx, exported, keys)}
	gone := map[string][]int{}
	for job, tasks := range keys {
		if _, known := k.Bus.Jobs.Summary(job); known {
			continue
		}
		// A job is stored before its tasks. So a job that is absent now was deleted, or its
		// record was lost.
		if _, err := k.Bus.Jobs.Get(ctx, job); ehi.CodeOf(err) != ehi.NotFound {
			errs = append(errs, err)
			continue
		}
		gone[job] = tasks
	}
	if !k.approval.allows("records", len(gone), len(keys)) {
		k.Log.Error(
			"many task records belong to jobs without a record, which may be lost: they are "+
				"kept until an administrator approves their removal (POST /admin/sweep)",
			"jobs", len(gone), "of", len(keys))
		return errors.Join(errs...)
	}
	for job, tasks := range gone {
		for _, n := range tasks {
			telemetry.KeeperRemoved.WithLabelValues("record").Inc()
			k.Log.Info("remove the record of a task whose job is gone", "job", job, "task", n)
			errs = append(errs, k.Bus.Tasks.DeleteOne(ctx, job, n))
		}
	}
	return errors.Join(errs...)
}

// Reconcile publishes the start command of every job that was requested before the given time
// and has no command: the process died between the two writes of a kick-off, or the stream was
// lost. It first removes acknowledged commands that a power failure has restored; they do not
// count as commands.
func (k *Keeper) Reconcile(ctx context.Context, before time.Time) error {
	var errs []error
	for _, lane := range []ehi.Lane{ehi.Interactive, ehi.Bulk} {
		n, err := k.Bus.DropAcknowledged(ctx, lane)
		if n > 0 {
			k.Log.Warn("removed acknowledged commands that had come back: was there a "+
				"power failure?",
				"lane", lane, "commands", n)
		}
		errs = append(errs, err)
	}
	requested := k.Bus.Jobs.List(func(s bus.Summary) bool { return s.Status == ehi.Requested })
	full, err := k.allQueued(ctx, requested)
	if err != nil {
		return err
	}
	for _, s := range requested {
		if full && s.Lane() == ehi.Interactive || !s.CreatedAt.Before(before) {
			continue
		}
		if err := k.republish(ctx, s.ID, before); err != nil && ehi.CodeOf(err) != ehi.NotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// allQueued reports whether there are as many commands as patients' exports that need one. Then
// none is lost, and there is no need to check possibly 100,000 jobs. A duplicate command can
// hide a lost one, but only until it is acknowledged.
func (k *Keeper) allQueued(ctx context.Context, requested []bus.Summary) (bool, error) {
	queued, err := k.Bus.Queued(ctx, ehi.Interactive)
	if err != nil {
		return false, err
	}
	var wanted uint64
	for _, s := range requested {
		if s.Lane() == ehi.Interactive {
			wanted++
		}
	}
	return queued >= wanted, nil
}

var errNotLost = errors.New("the command is not lost")

func (k *Keeper) republish(ctx context.Context, id string, before time.Time) error {
	j, err := k.Bus.Jobs.Get(ctx, id)
	if err != nil {
		return err
	}
	lost, err := k.lost(ctx, j)
	if err != nil || !lost {
		return err
	}
	j, err = k.Bus.Jobs.Update(ctx, id, func(j *ehi.Job) error {
		if j.Status != ehi.Requested || !j.RequestedAt.Before(before) {
			return errNotLost
		}
		j.Starts++
		return nil
	})
	if errors.Is(err, errNotLost) {
		return nil
	}
	if err != nil {
		return err
	}
	telemetry.ReconcilerRepublished.Inc()
	k.Log.Warn("republish a lost start command", "job", id)
	return k.Bus.PublishStart(tracing.WithParent(ctx, j.Trace), j.Lane, id, j.Starts)
}

// lost reports whether a requested job lacks a command: its start command or, once its tasks are
// planned, the command of an unfinished task.
func (k *Keeper) lost(ctx context.Context, j *ehi.Job) (bool, error) {
	has, err := k.Bus.HasStart(ctx, j.Lane, j.ID)
	if err != nil || has {
		return false, err
	}
	if j.Lane != ehi.Bulk || j.Tasks == 0 {
		return true, nil
	}
	queued, err := k.Bus.QueuedTasks(ctx, j.Lane, j.ID)
	if err != nil {
		return false, err
	}
	for n := range j.Tasks {
		if !j.Done.Has(n) && !queued.Has(n) {
			return true, nil
		}
	}
	return false, nil
}

// Expire deletes the jobs that have expired at now, and aborted jobs whose deletion was
// interrupted.
func (k *Keeper) Expire(ctx context.Context, now time.Time) error {
	var errs []error
	for _, s := range k.Bus.Jobs.List(func(s bus.Summary) bool {
		return s.Status == ehi.Aborted || !s.ExpiresAt.IsZero() && !now.Before(s.ExpiresAt)
	}) {
		err := Delete(ctx, k.Bus, k.Files, s.ID, func(j *ehi.Job) error {
			if !j.Expired(now) {
				return errNotExpired
			}
			return nil
		})
		if errors.Is(err, errNotExpired) || ehi.CodeOf(err) == ehi.NotFound {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		telemetry.KeeperRemoved.WithLabelValues("job").Inc()
		k.Log.Info("job expired", "job", s.ID)
	}
	return errors.Join(errs...)
}

// errNotAborted protects a job that this process has not received yet.
var errNotAborted = errors.New("the job was not aborted")

var errNotExpired = errors.New("the job has not expired")

// Remover deletes export files (files.Store).
type Remover interface {
	// Remove deletes everything of a job. It succeeds if there is nothing.
	Remove(job string) error
}

// Delete deletes a job in any state. From the first step on, clients get 404. Then the running
// export stops, and the files and records are deleted. A crash between two steps leaves an
// aborted job, which Expire deletes. may can refuse the deletion with an error; nil allows it
// always. Errors: ehi.NotFound if there is no such job, or if it was already aborted; an aborted
// job is deleted nevertheless.
func Delete(ctx context.Context, b *bus.Bus, f Remover, id string, may func(*ehi.Job) error) error {
	var was ehi.Status
	j, err := b.Jobs.Update(ctx, id, func(j *ehi.Job) error {
		was = j.Status
		if may != nil {
			if err := may(j); err != nil {
				return err
			}
		}
		return j.SetStatus(ehi.Aborted)
	})
	notFound := ehi.CodeOf(err) == ehi.NotFound
	if err != nil && !notFound {
		return err
	}
	tasks := 1
	if j != nil {
		tasks = max(1, j.Tasks)
		if was == ehi.AwaitingInput || was == ehi.Requested {
			telemetry.JobsEnded.WithLabelValues(j.Level.Kind(), string(ehi.Aborted)).Inc()
		}
	}
	e := errors.Join(b.Cancel(id), b.Tasks.Delete(ctx, id, tasks), f.Remove(id),
		b.Jobs.Delete(ctx, id))
	if e != nil {
		return e
	}
	return err
}

// Sweep removes files that no record names. It lists the files before it reads their records. A
// record is written before its files, so a record that is absent then was deleted or lost.
//
// Files that a record proves to be garbage are removed immediately. Files of a job without any
// record are kept for Grace, so that an administrator can restore a lost record. If there are
// many such jobs, they are kept until an administrator approves the removal.
//
// Records are read only for jobs that may have garbage. Otherwise JetStream would load the
// blocks of all jobs into memory, possibly 100,000.
func (k *Keeper) Sweep(ctx context.Context) error {
	var errs []error
	s := sweep{keeper: k, now: k.now()}
	n := 0
	err := k.Files.Walk(func(id string, stored []files.Stored) error {
		n += len(stored)
		s.jobs++
		if k.doubtful(id, stored) {
			errs = append(errs, s.job(ctx, id, stored))
		}
		return ctx.Err()
	})
	if err == nil {
		telemetry.ExportFiles.Set(float64(n))
		err = s.finish()
	}
	return errors.Join(append(errs, err)...)
}

// doubtful reports whether a job may have files that no record names: the job is unknown or has
// failed, a task has files of several attempts, or there are attachments. If a task has files of
// only one attempt, and a later attempt wrote nothing, the files stay until the job is deleted.
func (k *Keeper) doubtful(id string, stored []files.Stored) bool {
	j, known := k.Bus.Jobs.Summary(id)
	if !known || j.Status == ehi.Failed {
		return true
	}
	attempts := make(map[int]int, 1)
	for _, s := range stored {
		if first, seen := attempts[s.Task]; s.Task < 0 || seen && s.Attempt != first {
			return true
		}
		attempts[s.Task] = s.Attempt
	}
	return false
}

// named reports whether a record names a stored object, or may name it later.
func (k *Keeper) named(
	ctx context.Context, job *ehi.Job, tasks map[int]ehi.Task, s files.Stored,
) (bool, error) {
	if s.Task < 0 {
		listed := slices.ContainsFunc(job.Attachments, func(a ehi.Attachment) bool {
			return a.Object == s.Name
		})
		// An upload stores the file before it lists it. It can be in progress only while the job
		// accepts attachments.
		return listed || job.CanAttach() == nil, nil
	}
	if job.Attempts > 0 && s.Attempt <= job.Attempts {
		// The record that named it may be lost and could be restored from a backup. The file is
		// deleted with its job.
		return true, nil
	}
	t, known := tasks[s.Task]
	if !known {
		var err error
		if t, _, err = k.Bus.Tasks.Get(ctx, job.ID, s.Task); err != nil {
			return false, err
		}
		tasks[s.Task] = t
	}
	if s.Attempt != t.Attempt {
		return s.Attempt > t.Attempt, nil
	}
	if !t.Committed {
		return true, nil
	}
	if n, ok := s.Link(); ok {
		return n < t.Links, nil
	}
	return slices.ContainsFunc(t.Files, func(f ehi.File) bool { return f.Object == s.Name }), nil
}
