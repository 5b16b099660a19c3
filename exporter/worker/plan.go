package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// selectionOf returns the selection of a job's population.
func selectionOf(job *ehi.Job) source.Selection {
	return source.Selection{
		Level:     job.Level,
		Group:     job.Group,
		Patients:  job.KickOff.Patients,
		ByPatient: job.KickOff.ByPatient,
		Native:    job.Native(),
	}
}

// plan divides a population's export into tasks and publishes their commands. It can be
// interrupted at any point and repeated. It freezes the population first, so that every plan is
// the same. It stores the number of tasks in the job's record before it creates any of them, so
// that a deletion knows which tasks to delete. It publishes only tasks that are neither
// committed nor queued.
func (p *Pool) plan(ctx context.Context, job *ehi.Job) (err error) {
	if job, err = p.attemptPlan(ctx, job, 1); err != nil {
		return err
	}
	if n := job.Plans - 1; n >= p.Membership.Limits().MaxDeliver {
		return p.giveUp(ctx, job, n)
	}
	defer func() {
		if err != nil && excused(ctx, err) {
			_, e := p.attemptPlan(context.WithoutCancel(ctx), job, -1)
			err = errors.Join(err, e)
		}
	}()
	return contain(func() error { return p.divide(ctx, job) })
}

// attemptPlan adds n to the job's planning attempts: 1 counts an attempt, -1 takes it back.
func (p *Pool) attemptPlan(ctx context.Context, job *ehi.Job, n int) (*ehi.Job, error) {
	return p.Bus.Jobs.Update(ctx, job.ID, func(j *ehi.Job) error {
		j.Plans = max(0, j.Plans+n)
		return nil
	})
}

func (p *Pool) divide(ctx context.Context, job *ehi.Job) (err error) {
	ctx, span := tracing.Start(ctx, "plan tasks")
	defer func() { tracing.End(span, err) }()
	population, err := p.Source.Freeze(ctx, job.ID)
	if err != nil {
		return fmt.Errorf("freeze the population: %w", err)
	}
	records := population.Records()
	if err := p.fits(ctx, job, records); err != nil {
		return errors.Join(err, population.Close())
	}
	selection := selectionOf(job)
	parts, err := population.Plan(ctx, selection, p.Membership.Limits().TaskBytes)
	var absent []string
	if err == nil {
		absent, err = population.Absent(ctx, selection)
	}
	at := population.TakenAt()
	if err := errors.Join(err, population.Close()); err != nil {
		// the group has changed since the kick-off
		if c := ehi.CodeOf(err); c == ehi.NotFound || c == ehi.Invalid {
			return p.fail(ctx, job, err)
		}
		return fmt.Errorf("plan: %w", err)
	}
	if job, err = p.recordPlan(ctx, job, parts, absent, at, records); err != nil {
		return err
	}
	for n, part := range parts {
		if err := p.Bus.Tasks.Plan(ctx, job.ID, n, part); err != nil {
			return err
		}
	}
	queued, err := p.Bus.QueuedTasks(ctx, job.Lane, job.ID)
	if err != nil {
		return err
	}
	for n := range parts {
		if job.Done.Has(n) || queued.Has(n) {
			continue
		}
		if err := p.Bus.PublishTask(ctx, job.Lane, job.ID, n, job.Starts); err != nil {
			return err
		}
	}
	return nil
}

// recordPlan stores the size of the plan in the job's record. If there was an earlier plan, it
// checks that both have the same number of tasks.
func (p *Pool) recordPlan(
	ctx context.Context, job *ehi.Job, parts []ehi.Part, absent []string, at time.Time,
	records ehi.Records,
) (*ehi.Job, error) {
	var resources int64
	for _, part := range parts {
		resources += part.Resources
	}
	planned, err := p.Bus.Jobs.Update(ctx, job.ID, func(j *ehi.Job) error {
		j.NoteAbsent(absent)
		return j.Plan(len(parts), resources, at, records)
	})
	if ehi.CodeOf(err) != ehi.Conflict {
		return planned, err
	}
	if planned, err = p.Bus.Jobs.Update(ctx, job.ID,
		func(j *ehi.Job) error { j.Plans = 0; return nil }); err != nil {
		return nil, err
	}
	if planned.Status == ehi.Requested && planned.Tasks != len(parts) {
		return nil,
			fmt.Errorf("the job was planned as %d tasks and now has %d: the frozen population was "+
				"lost", planned.Tasks, len(parts))
	}
	return planned, nil
}

// fail ends a job immediately, with a reason that its client can understand.
func (p *Pool) fail(ctx context.Context, job *ehi.Job, reason error) error {
	_, err := p.Bus.Jobs.Update(ctx, job.ID, func(j *ehi.Job) error {
		return j.Fail(reason.Error(), time.Now().UTC())
	})
	if err != nil {
		return err
	}
	telemetry.JobsEnded.WithLabelValues(job.Level.Kind(), string(ehi.Failed)).Inc()
	if job.Lane != ehi.Bulk {
		return nil
	}
	return errors.Join(p.Bus.Cancel(job.ID), p.Source.Thaw(job.ID))
}
