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

// Keeper tidies up after everybody: expired jobs, files that no record names, commands that were
// lost. Any number of processes may run one; all that it does may be done twice.
type Keeper struct {
	Bus   *bus.Bus
	Files KeeperFiles
	Log   *slog.Logger
	// Every is the pause between two rounds. Default 10 s.
	Every time.Duration
	// Lost is how long a job may be requested before a missing command is taken for lost.
	// Default 5 s.
	Lost time.Duration
	// Grace is for how long files are kept that no record names, though none proves that they
	// are garbage, and what is over by a clock that has just leapt ahead; 0: they go at once.
	Grace time.Duration
	// Also is done in each round, beside the keeper's own work; nil: nothing is. Its errors are
	// the round's.
	Also func(context.Context) error
	// Clock is the machine's clock. Default time.Now.
	Clock func() time.Time

	word    sweepWord
	started sync.Once
	clock   clock
	noted   time.Duration // for how long the process had run when noteServed wrote last; 0: never
	doubted doubts
	remakes sync.Mutex      // is held while jobs are made anew
	lacking map[string]bool // jobs that lack a task, and wait for an administrator's word
	looked  bool            // at the latest exports, see latestExports
	// when a loss of power may have cut the state short: the newest job's time at the beginning
	cutAt time.Time
}

// KeeperFiles is the files of exports, as far as they are tidied up (files.Store).
type KeeperFiles interface {
	// Walk calls f for each job that has files, which are listed before, with all of them.
	Walk(f func(job string, stored []files.Stored) error) error
	// RemoveObject deletes one file that Walk showed, and Remove everything of a job.
	RemoveObject(job string, s files.Stored) error
	Remove(job string) error
	// Attempts is the highest attempt at a task of the job that has left a file; 0 where none has.
	Attempts(job string) (int, error)
	// OrphanSince is since when it is known that a job has files and no record: now, where it was
	// not known before. Orphans are the jobs that it knows, until they are Adopted.
	OrphanSince(job string, now time.Time) (time.Time, error)
	Orphans() ([]string, error)
	Adopted(job string) error
	// Damaged lists what is known to be damaged: of one job, or where job is "" of all. Forget
	// forgets what is known of a job.
	Damaged(job string) ([]files.Known, error)
	Forget(job string) error
	// Served is when a server ran last that keeps the files, as SetServed was told; the zero time
	// where nothing is known.
	Served() (time.Time, error)
	SetServed(at time.Time) error
	// Free is how many bytes more can be taken.
	Free() (int64, error)
}

// begun is when this process began, or nearly so: what it has run for is counted from it,
// whatever the machine's clock does.
var begun = time.Now()

// now is the time by which what is over is removed for good, see clock.
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
		k.Log.Error("the machine's clock is far ahead of when a server ran here last: if it is "+
			"wrong, stop and set "+
			"it right; what has expired since then is kept until it is right, or for "+
			"--orphan-grace",
			"ran last", k.clock.served, "ahead by", leapt.Round(time.Second), "kept for", k.Grace)
	case leapt > 0:
		k.Log.Error("the machine's clock has leapt ahead: if it is wrong, set it right; what is "+
			"over by it and was not before is kept until then, or for --orphan-grace",
			"by", leapt.Round(time.Second), "kept for", k.Grace)
	}
	return told.UTC()
}

// served is when a server ran last on these files: as it was noted or, where nothing is, when
// the newest export was asked for. Zero where nothing tells.
func (k *Keeper) served() (at time.Time) {
	at, err := k.Files.Served()
	if err != nil {
		k.Log.Warn("it cannot be told when a server ran last", "err", err)
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

// noteServed notes that a server runs, by the time by which things expire: a clock that is
// doubted leaves no trace.
func (k *Keeper) noteServed(now time.Time) {
	running := time.Since(begun)
	if k.noted > 0 && running-k.noted < noteServedEvery {
		return
	}
	k.noted = running
	// the disk may be full: all else of the round goes on
	if err := k.Files.SetServed(now); err != nil {
		k.Log.Warn("it is not noted that a server runs", "err", err)
	}
}

// Run does a round at once and then one every Every, until ctx ends. The records are swept beside
// the rounds: NATS may take a minute to list them after a server of a cluster was lost, and
// deletions do not wait for that.
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
			k.Log.Warn("look at the state", "err", err)
		}
		pause(ctx, every)
	}
	return nil
}

// pause waits for a while, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// failed reports whether a round met an error, and counts it.
func (k *Keeper) failed(ctx context.Context, err error) bool {
	if err != nil && ctx.Err() == nil {
		telemetry.KeeperFailed.Inc()
		k.Log.Error("keeper round", "err", err)
	}
	return err != nil
}

// observe sets the figures that nobody comes by: what waits, since when, and what is held.
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
		inHand, waiting, err := k.Bus.Hands(ctx, lane)
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

// observeExporters counts those that have joined.
func (k *Keeper) observeExporters(ctx context.Context) error {
	joined, err := k.Bus.Fleet.Exporters(ctx)
	if err != nil {
		return err
	}
	strangers := 0
	for _, e := range joined {
		if len(e.Mismatches) > 0 {
			strangers++
		}
	}
	telemetry.Exporters.WithLabelValues("yes").Set(float64(len(joined) - strangers))
	telemetry.Exporters.WithLabelValues("no").Set(float64(strangers))
	return nil
}

// observeDamage counts the files that are known to be damaged, and forgets those of jobs that
// are gone.
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

// age is the seconds since t; 0 for the zero time.
func age(now, t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, now.Sub(t).Seconds())
}

// sweepRecordsEvery is in how many rounds once the records of tasks are swept: that reads the
// names of all of them.
const sweepRecordsEvery = 10

// SweepRecords compares the records with what this process knows, and removes those that were to
// be gone: jobs whose deletion a NATS forgot that was killed, and tasks whose job is gone,
// because that was forgotten too, or because their worker took them at the very moment of the
// deletion, and died.
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
		if !there[id] { // its deletion was not heard of: reading it forgets it
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

// sweepTasks removes the records of tasks whose job is gone; if there are many, not before an
// administrator says so. It makes jobs anew whose tasks are gone.
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
		// A job is there before its tasks are, so that one that is not there now is gone for
		// good, or was lost.
		if _, err := k.Bus.Jobs.Get(ctx, job); ehi.CodeOf(err) != ehi.NotFound {
			errs = append(errs, err)
			continue
		}
		gone[job] = tasks
	}
	if !k.word.allows("records", len(gone), len(keys)) {
		k.Log.Error("the records of many tasks name jobs that are gone, which may be lost: they "+
			"are kept until an administrator says that they are garbage (POST /admin/sweep)",
			"jobs", len(gone), "of", len(keys))
		return errors.Join(errs...)
	}
	for job, tasks := range gone {
		for _, n := range tasks {
			telemetry.JanitorRemoved.WithLabelValues("record").Inc()
			k.Log.Info("remove the record of a task whose job is gone", "job", job, "task", n)
			errs = append(errs, k.Bus.Tasks.DeleteOne(ctx, job, n))
		}
	}
	return errors.Join(errs...)
}

// Reconcile publishes the start command of every job that has been requested since before the
// given time and lacks a command: the process died between the two writes of a kick-off, or the
// stream was lost. Commands that a loss of power has brought back count as none.
func (k *Keeper) Reconcile(ctx context.Context, before time.Time) error {
	var errs []error
	for _, lane := range []ehi.Lane{ehi.Interactive, ehi.Bulk} {
		n, err := k.Bus.DropAcknowledged(ctx, lane)
		if n > 0 {
			k.Log.Warn("commands that were done with had come back and are removed: was there a "+
				"loss of power?",
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

// allQueued reports whether there are as many commands as patients' exports that want one: then
// none is lost, and a hundred thousand of them need not be looked at. A command that is there
// twice can hide a lost one until it is done with, and no longer.
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

// lost reports whether a running job lacks a command: its start, or where that is done with, one
// of its tasks.
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

// Expire deletes the jobs whose time is up at now, and those that were aborted and not deleted
// to the end.
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
		telemetry.JanitorRemoved.WithLabelValues("job").Inc()
		k.Log.Info("job expired", "job", s.ID)
	}
	return errors.Join(errs...)
}

// errNotAborted spares a job that this process has not heard of yet.
var errNotAborted = errors.New("the job was not aborted")

var errNotExpired = errors.New("the job has not expired")

// Remover is the files of exports, as far as they are deleted (files.Store).
type Remover interface {
	// Remove deletes everything of a job. It is no error when there is nothing.
	Remove(job string) error
}

// Delete ends a job in any state: from the first step on the outside sees 404, the running
// export stops, the files and records go. A crash between two steps leaves an aborted job, which
// Expire deletes. may can refuse by an error; it is nil where anything goes. Errors:
// ehi.NotFound where there is no such job (an aborted one is deleted all the same).
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

// Sweep removes files that no record names. Files are listed before their records are read:
// whatever is seen was preceded by its record, so a record that is absent then is absent for
// good, or was lost. What a record proves to be garbage goes at once. The files of a job of
// which there is no record at all are kept for Grace, in which a lost record can be given back;
// and if there are many such jobs, until an administrator says that they are garbage. Records
// are read only where something can be wrong: a hundred thousand kept jobs would else have all
// of JetStream's blocks in memory.
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

// doubtful reports whether some of a job's files may be named by no record: those of a job that
// is not known or failed, of a task that was attempted more than once, and attachments. Those of
// a lone attempt whose successor wrote nothing stay until their job goes.
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

// named reports whether a record names a stored object, or may still come to name it.
func (k *Keeper) named(
	ctx context.Context, job *ehi.Job, tasks map[int]ehi.Task, s files.Stored,
) (bool, error) {
	if s.Task < 0 {
		listed := slices.ContainsFunc(job.Attachments, func(a ehi.Attachment) bool {
			return a.Object == s.Name
		})
		// An upload stores the file first and lists it then; only while the job takes documents
		// can one be under way.
		return listed || job.CanAttach() == nil, nil
	}
	if job.Attempts > 0 && s.Attempt <= job.Attempts {
		// The record that named it may be lost: with the state given back, it is what it was. It
		// goes with its job.
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
	for _, f := range t.Files {
		if f.Object == s.Name {
			return true, nil
		}
	}
	return false, nil
}
