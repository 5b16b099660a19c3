package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"ehi-server/exporter/native"
	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/source"
	"ehi-server/shared/bus"
	"ehi-server/shared/disk"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// progressEvery is the pause between two progress messages of a running export.
const progressEvery = 500 * time.Millisecond

// exportPatient runs the only task of one patient's export.
func (p *Pool) exportPatient(ctx context.Context, r *run, job *ehi.Job) error {
	if err := p.fits(ctx, job, p.Source.Records()); err != nil {
		return err
	}
	task, err := p.Bus.Tasks.Take(ctx, job.ID, 0, job.Attempts, p.Name, time.Now().UTC())
	if err != nil {
		return err
	}
	return p.runTask(ctx, r, job, task, func() (source.Record, error) {
		record, err := p.Source.Open(ctx, job.Patient.ID)
		if ehi.CodeOf(err) == ehi.NotFound {
			err = unfit("The patient is no longer in the server's records.")
		}
		return record, err
	})
}

// exportPart runs one task of a population's export.
func (p *Pool) exportPart(ctx context.Context, r *run, job *ehi.Job, n int) (err error) {
	population, err := p.Source.Freeze(ctx, job.ID)
	if err != nil {
		return fmt.Errorf("open the population: %w", err)
	}
	defer func() { err = errors.Join(err, population.Close()) }()
	if err := p.fits(ctx, job, population.Records()); err != nil {
		return err
	}
	task, err := p.Bus.Tasks.TakePlanned(ctx, job.ID, n, job.Attempts, p.Name, time.Now().UTC())
	if err != nil {
		return err
	}
	return p.runTask(ctx, r, job, task, func() (source.Record, error) {
		return population.Open(ctx, selectionOf(job), *task.Part)
	})
}

// runTask exports the record that open returns, and counts the task in its job. If an earlier
// delivery has committed the task, it only counts it.
func (p *Pool) runTask(
	ctx context.Context, r *run, job *ehi.Job, task *bus.Taken,
	open func() (source.Record, error),
) error {
	if task.Committed {
		return p.complete(ctx, r, job, task.Task)
	}
	if n := task.Failures(); n >= p.Membership.Limits().MaxDeliver {
		return p.giveUp(ctx, job, n)
	}
	if err := p.attempt(ctx, r, job, task, open); err != nil {
		if excused(ctx, err) {
			// If this write fails, the attempt counts as a failure; MaxDeliver allows for a few
			// of those. If ErrSuperseded is returned, the commit may have succeeded although its
			// answer was lost. Then there is nothing to excuse.
			e := p.Bus.Tasks.Excuse(context.WithoutCancel(ctx), task)
			if !errors.Is(e, bus.ErrSuperseded) {
				err = errors.Join(err, e)
			}
		}
		return err
	}
	return p.complete(ctx, r, job, task.Task)
}

// excused reports whether an attempt failed for an external reason, so that it does not count:
// the process is stopping, the job was deleted, the disk is full, NATS was unreachable at the
// commit, or the process no longer belongs to the server. An error of the source is never
// excused, whatever it is.
func excused(ctx context.Context, err error) bool {
	return ctx.Err() != nil && !errors.Is(context.Cause(ctx), errStalled) ||
		disk.IsFull(err) ||
		errors.Is(err, errNotCommitted) && bus.IsAway(err) ||
		errors.Is(err, errNotAdmitted)
}

// attempt writes a task's files and commits the task. On an error it removes the files of this
// attempt, unless the answer to the commit was lost: the commit may have succeeded. The next
// delivery finds out. If the commit failed, the keeper removes the files.
func (p *Pool) attempt(
	ctx context.Context, r *run, job *ehi.Job, task *bus.Taken,
	open func() (source.Record, error),
) (err error) {
	batch, err := p.Files.NewBatch(job.ID, task.Number, task.Attempt)
	if err != nil {
		return err
	}
	ctx, span := tracing.Start(ctx, "attempt task", attribute.Int("ehi.attempt", task.Attempt))
	uncertain := false
	defer func() {
		tracing.End(span, err)
		if err != nil && !uncertain {
			err = errors.Join(err, batch.Discard())
		}
	}()
	err = contain(func() error { return p.export(ctx, r, job, task, batch, open) })
	if err != nil {
		return err
	}
	// otherwise the files may be where the server does not look for them
	if err := p.Membership.Confirm(ctx); err != nil {
		return fmt.Errorf("%w: %w", errNotAdmitted, err)
	}
	if err = p.Bus.Tasks.Commit(ctx, task, time.Now().UTC()); err != nil {
		uncertain = !errors.Is(err, bus.ErrSuperseded)
		return fmt.Errorf("%w: %w", errNotCommitted, err)
	}
	return nil
}

// errNotCommitted means that an attempt succeeded except for its commit.
var errNotCommitted = errors.New("the task could not be committed")

// export reads the record to its end and closes it.
func (p *Pool) export(
	ctx context.Context, r *run, job *ehi.Job, task *bus.Taken, batch files.Batch,
	open func() (source.Record, error),
) (err error) {
	began := time.Now()
	record, err := open()
	telemetry.SourceOpenSeconds.Observe(time.Since(began).Seconds())
	if err != nil {
		return fmt.Errorf("open record: %w", err)
	}
	defer func() { err = errors.Join(err, record.Close()) }()
	if err := p.fits(ctx, job, record.Records()); err != nil {
		return err
	}
	return p.fill(ctx, r, job, task, batch, record)
}

// contain turns a panic of f into an error with its stack, so that it fails one attempt and not
// the process.
func contain(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// fill runs the pipeline and stores its result in the task record.
func (p *Pool) fill(
	ctx context.Context, r *run, job *ehi.Job, task *bus.Taken, batch files.Batch,
	record source.Record,
) error {
	policy, err := p.Rules.Policy(job.Form, job.KickOff)
	if err != nil {
		return err
	}
	read := &r.read
	if job.Level == ehi.OnePatient { // a population's progress is its number of committed tasks
		stop := p.report(ctx, ehi.Progress{Job: job.ID, Total: record.Total()}, read, read.Load())
		defer stop()
	}
	work := pipeline.NewTask(job, policy, record)
	limits := p.Membership.Limits()
	work.FileResources, work.Batch, work.Read = limits.FileResources, batch, read
	if job.Native() {
		work.Native = nativeOf(job, task, record)
		work.Native.Moved, work.Native.ArchiveBytes = &r.moved, limits.ArchiveBytes
	}
	work.Data = &native.Data{
		Origin: job.Origin(), Job: job.ID, Task: task.Number, Moved: &r.moved,
	}
	if job.Lane == ehi.Bulk {
		work.Yield = func(ctx context.Context) error {
			return p.patients.yield(ctx, limits.BulkYield)
		}
		work.Turn = func(ctx context.Context) (func(), error) {
			r.waits.Store(true)
			defer r.waits.Store(false)
			done, err := p.turns.take(ctx)
			if err != nil {
				return nil, err
			}
			frugal.enter(bulkGCPercent)
			return func() { frugal.leave(); done() }, nil
		}
	}
	leave := func() {}
	defer func() { leave() }()
	work.Large = func() {
		frugal.enter(reviewGCPercent)
		leave = frugal.leave
	}
	res, err := pipeline.Run(ctx, work)
	if err != nil {
		return err
	}
	task.TransactionTime, task.Records = record.TakenAt(), record.Records()
	task.Files, task.Withheld = res.Files, res.Withheld
	task.Links, task.LinkBytes = res.Links, res.LinkBytes
	return nil
}

// nativeOf returns the native content of a task.
func nativeOf(job *ehi.Job, task *bus.Taken, record source.Record) *native.Export {
	return &native.Export{
		Packaging:   job.Packaging(),
		Origin:      job.Origin(),
		Job:         job.ID,
		Task:        task.Number,
		Patient:     job.Patient.ID,
		ByPatient:   job.KickOff.ByPatient,
		TakenAt:     record.TakenAt(),
		Compression: job.KickOff.Compression,
	}
}

// report publishes progress until stop is called. before is the value of read at the start of
// this attempt.
func (p *Pool) report(
	ctx context.Context, progress ehi.Progress, read *atomic.Int64, before int64,
) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		every(ctx, progressEvery, func() {
			progress.Done = read.Load() - before
			if err := p.Bus.PublishProgress(progress); err != nil {
				p.Log.Warn("publish progress", "job", progress.Job, "err", err)
			}
		})
	})
	return func() { cancel(); wg.Wait() }
}

// complete counts the task in its job. The last task moves the job to its next status. If an
// earlier delivery has already counted the task, complete does nothing.
func (p *Pool) complete(ctx context.Context, r *run, job *ehi.Job, task ehi.Task) error {
	done, err := p.Bus.Jobs.Update(ctx, job.ID, func(j *ehi.Job) error {
		return j.Complete(task, time.Now().UTC(), p.Membership.Limits().FileTTL)
	})
	if ehi.CodeOf(err) == ehi.Conflict {
		return nil
	}
	if err != nil {
		return err
	}
	if done.Status == ehi.Requested {
		return nil
	}
	telemetry.JobsEnded.WithLabelValues(job.Level.Kind(), string(done.Status)).Inc()
	p.Log.Log(ctx, job.Level.LogLevel(), "job done", "job", job.ID, "status", done.Status,
		"resources", total(done.Counts), "bytes", done.Bytes, "took",
		done.CompletedAt.Sub(done.RequestedAt), "trace", tracing.ID(ctx))
	lane := string(job.Lane)
	tracing.Observe(ctx, telemetry.JobSeconds.WithLabelValues(lane),
		done.CompletedAt.Sub(done.RequestedAt))
	began := r.began
	if job.Level != ehi.OnePatient { // its first task began at about that time
		began = done.TransactionTime
	}
	tracing.Observe(ctx, telemetry.JobPhase.WithLabelValues("export", lane),
		max(0, done.CompletedAt.Sub(began)))
	if job.Level == ehi.OnePatient {
		return nil
	}
	return p.Source.Thaw(job.ID)
}

// total returns the number of resources of all types.
func total(counts map[string]int64) (n int64) {
	for _, k := range counts {
		n += k
	}
	return n
}
