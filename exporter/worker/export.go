package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/selection"
	"ehi-server/exporter/source"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
)

// progressEvery is how often a running export tells how far it is (DESIGN section 3: about twice a second).
const progressEvery = 500 * time.Millisecond

// exportPatient is the only task of one patient's export.
func (p *Pool) exportPatient(ctx context.Context, job *ehi.Job) error {
	task, err := p.Bus.Tasks.Take(ctx, job.ID, 0, p.Name, time.Now().UTC())
	if err != nil {
		return err
	}
	return p.runTask(ctx, job, task, func() (source.Record, error) {
		return p.Source.Open(ctx, job.Patient.ID)
	})
}

// exportPart is one task of a population's export.
func (p *Pool) exportPart(ctx context.Context, job *ehi.Job, n int) error {
	task, err := p.Bus.Tasks.TakePlanned(ctx, job.ID, n, p.Name, time.Now().UTC())
	if err != nil {
		return err
	}
	population, err := p.Source.Freeze(ctx, job.ID)
	if err != nil {
		return fmt.Errorf("open the population: %w", err)
	}
	err = p.runTask(ctx, job, task, func() (source.Record, error) {
		return population.Open(ctx, selectionOf(job), *task.Part)
	})
	return errors.Join(err, population.Close())
}

// runTask exports what open gives, unless an earlier delivery has done so, and counts the task in its job.
func (p *Pool) runTask(ctx context.Context, job *ehi.Job, task *bus.Taken, open func() (source.Record, error)) error {
	if !task.Committed {
		if err := p.attempt(ctx, job, task, open); err != nil {
			return err
		}
	}
	return p.complete(ctx, job, task.Task)
}

// attempt writes a task's files and commits it. On any error the files of this attempt are gone.
func (p *Pool) attempt(ctx context.Context, job *ehi.Job, task *bus.Taken, open func() (source.Record, error)) (err error) {
	batch, err := p.Files.NewBatch(job.ID, task.Number, task.Attempt)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, batch.Discard())
		}
	}()
	record, err := open()
	if err != nil {
		return fmt.Errorf("open record: %w", err)
	}
	err = p.fill(ctx, job, task, batch, record)
	if err := errors.Join(err, record.Close()); err != nil {
		return err
	}
	return p.Bus.Tasks.Commit(ctx, task, time.Now().UTC())
}

// fill runs the pipeline and puts its result into the task record.
func (p *Pool) fill(ctx context.Context, job *ehi.Job, task *bus.Taken, batch *files.Batch, record source.Record) error {
	policy, err := p.Rules.Policy(job.Form, job.KickOff)
	if err != nil {
		return err
	}
	var read atomic.Int64
	if job.Level == ehi.OnePatient { // a population's progress is its committed tasks
		stop := p.report(ctx, ehi.Progress{Job: job.ID, Total: record.Total()}, &read)
		defer stop()
	}
	k := job.KickOff
	var yield func(context.Context) error
	if job.Lane == ehi.Bulk {
		yield = func(ctx context.Context) error { return p.patients.yield(ctx, p.BulkYield) }
	}
	res, err := pipeline.Run(ctx, pipeline.Task{
		Record: record, Query: source.Query{Types: selection.Types(k), Since: k.Since, Until: k.Until},
		Policy: policy, Selector: selection.New(k), Population: job.Level != ehi.OnePatient, ByPatient: k.ByPatient,
		FileResources: p.FileResources, Compression: k.Compression, Batch: batch, Read: &read, Yield: yield,
	})
	if err != nil {
		return err
	}
	task.TransactionTime, task.Files, task.Withheld = record.TakenAt(), res.Files, res.Withheld
	return nil
}

// report publishes progress until it is stopped.
func (p *Pool) report(ctx context.Context, progress ehi.Progress, read *atomic.Int64) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		every(ctx, progressEvery, func() {
			progress.Done = read.Load()
			if err := p.Bus.PublishProgress(progress); err != nil {
				p.Log.Warn("publish progress", "job", progress.Job, "err", err)
			}
		})
	})
	return func() { cancel(); wg.Wait() }
}

// complete counts the task in its job, which moves on where it was the last one. A job that has counted it already, by an
// earlier delivery, is left alone.
func (p *Pool) complete(ctx context.Context, job *ehi.Job, task ehi.Task) error {
	done, err := p.Bus.Jobs.Update(ctx, job.ID, func(j *ehi.Job) error {
		return j.Complete(task, time.Now().UTC(), p.FileTTL)
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
	telemetry.JobsEnded.WithLabelValues(string(done.Status)).Inc()
	telemetry.JobSeconds.WithLabelValues(string(job.Lane)).Observe(done.CompletedAt.Sub(done.RequestedAt).Seconds())
	if job.Level == ehi.OnePatient {
		return nil
	}
	return p.Source.Thaw(job.ID)
}
