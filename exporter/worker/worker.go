package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
)

// Config sets up a Pool.
type Config struct {
	Bus    *bus.Bus
	Source source.Source
	Files  *files.Local
	Rules  *release.Rules
	Log    *slog.Logger
	// Name tells this process's workers from others' in task records and logs.
	Name string
	// Workers is how many exports run at once. Default 4.
	Workers int
	// MaxDeliver is after how many deliveries of its command a job is failed. Default 5.
	MaxDeliver int
	// RetryAfter is the pause before a failed attempt is made again. Default 1 s.
	RetryAfter time.Duration
	// FileTTL is how long the files of an automatically approved job are kept. Default 24 h.
	FileTTL time.Duration
}

// progressEvery is how often a running export tells how far it is (DESIGN section 3: about twice a second).
const progressEvery = 500 * time.Millisecond

// Pool is the workers of one process.
type Pool struct {
	Config
	mu      sync.Mutex
	running map[string]*run
}

// run is one export in progress.
type run struct {
	cancel context.CancelCauseFunc
}

var errCancelled = errors.New("the job was cancelled")

// Name is what this process calls its workers: host and process id.
func Name() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// New makes a pool; Run starts it.
func New(c Config) *Pool {
	if c.Workers <= 0 {
		c.Workers = 4
	}
	if c.MaxDeliver <= 0 {
		c.MaxDeliver = 5
	}
	if c.RetryAfter <= 0 {
		c.RetryAfter = time.Second
	}
	if c.FileTTL <= 0 {
		c.FileTTL = 24 * time.Hour
	}
	return &Pool{Config: c, running: map[string]*run{}}
}

// Run works until ctx ends, and returns when all of its goroutines have. What was in hand then is handed back.
func (p *Pool) Run(ctx context.Context) error {
	stop, err := p.Bus.OnCancel(p.cancel)
	if err != nil {
		return fmt.Errorf("listen for cancellations: %w", err)
	}
	telemetry.Workers.Add(float64(p.Workers))
	defer telemetry.Workers.Sub(float64(p.Workers))
	var wg sync.WaitGroup
	for range p.Workers {
		wg.Go(func() { p.work(ctx) })
	}
	wg.Wait()
	return stop()
}

// work takes one command after the other.
func (p *Pool) work(ctx context.Context) {
	for ctx.Err() == nil {
		d, err := p.Bus.NextStart(ctx)
		if err != nil {
			if ctx.Err() == nil {
				p.Log.Error("take a command", "err", err)
				pause(ctx, p.RetryAfter)
			}
			continue
		}
		telemetry.WorkersBusy.Inc()
		p.deliver(ctx, d)
		telemetry.WorkersBusy.Dec()
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// deliver sees one command through to Done or Retry.
func (p *Pool) deliver(ctx context.Context, d *bus.Delivery) {
	log := p.Log.With("job", d.Job, "delivery", d.Number)
	runCtx, end := p.begin(ctx, d)
	err := p.export(runCtx, d)
	cause := context.Cause(runCtx)
	end()
	stopping := ctx.Err() != nil
	// The outcome is settled with NATS even while the process is being stopped.
	ctx = context.WithoutCancel(ctx)
	switch {
	case stopping && err != nil:
		telemetry.TasksEnded.WithLabelValues("handed-back").Inc()
		log.Info("export handed back: this process stops")
		if err := d.Retry(0); err != nil {
			log.Error("hand the command back", "err", err)
		}
		return
	case err == nil:
		telemetry.TasksEnded.WithLabelValues("committed").Inc()
	case errors.Is(cause, errCancelled) || ehi.CodeOf(err) == ehi.NotFound:
		telemetry.TasksEnded.WithLabelValues("cancelled").Inc()
		log.Info("export cancelled")
		p.cleanUp(ctx, d.Job)
	case errors.Is(err, bus.ErrSuperseded):
		telemetry.TasksEnded.WithLabelValues("superseded").Inc()
		log.Warn("export superseded by another worker")
	default:
		telemetry.TasksEnded.WithLabelValues("error").Inc()
		log.Error("export attempt failed", "err", err)
		if err := d.Retry(p.RetryAfter); err != nil {
			log.Error("hand the command back", "err", err)
		}
		return
	}
	if err := d.Done(); err != nil {
		log.Error("acknowledge the command", "err", err)
	}
}

// cleanUp removes what this worker may have added to a job after its deletion.
func (p *Pool) cleanUp(ctx context.Context, job string) {
	if _, err := p.Bus.Jobs.Get(ctx, job); ehi.CodeOf(err) != ehi.NotFound {
		return
	}
	if err := errors.Join(p.Bus.Tasks.Delete(ctx, job, 1), p.Files.Remove(job)); err != nil {
		p.Log.Error("clean up after a deleted job", "job", job, "err", err)
	}
}

// begin registers the run, so that a cancellation finds it, and keeps its command alive. It comes before the job is
// read: a deletion after that read reaches the run by broadcast, one before it is seen in the record.
func (p *Pool) begin(ctx context.Context, d *bus.Delivery) (runCtx context.Context, end func()) {
	runCtx, cancel := context.WithCancelCause(ctx)
	r := &run{cancel: cancel}
	p.mu.Lock()
	p.running[d.Job] = r
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.heartbeat(runCtx, d) })
	return runCtx, func() {
		cancel(nil)
		wg.Wait()
		p.mu.Lock()
		if p.running[d.Job] == r {
			delete(p.running, d.Job)
		}
		p.mu.Unlock()
	}
}

func (p *Pool) cancel(job string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.running[job]; r != nil {
		r.cancel(errCancelled)
	}
}

// heartbeat extends the delivery until the run ends.
func (p *Pool) heartbeat(ctx context.Context, d *bus.Delivery) {
	every(ctx, p.Bus.AckWait()/3, func() {
		if err := d.Extend(); err != nil {
			p.Log.Warn("extend a command", "job", d.Job, "err", err)
		}
	})
}

// every calls f at each tick until ctx ends.
func every(ctx context.Context, d time.Duration, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f()
		}
	}
}

// export runs the job of one command to its next state. A nil error means that the command is done with.
func (p *Pool) export(ctx context.Context, d *bus.Delivery) error {
	job, err := p.Bus.Jobs.Get(ctx, d.Job)
	if err != nil {
		return err
	}
	if job.Status != ehi.Requested {
		return nil // a repeat of a command whose job went on
	}
	if d.Number > p.MaxDeliver {
		return p.giveUp(ctx, job, d.Number-1)
	}
	task, err := p.Bus.Tasks.Take(ctx, job.ID, 0, p.Name, time.Now().UTC())
	if err != nil {
		return err
	}
	if !task.Committed {
		if err := p.runTask(ctx, job, task); err != nil {
			return err
		}
	}
	return p.complete(ctx, job, task.Task)
}

// giveUp fails a job whose command came back too often: whatever happens, nobody waits for ever.
func (p *Pool) giveUp(ctx context.Context, job *ehi.Job, attempts int) error {
	telemetry.CommandsDead.Inc()
	_, err := p.Bus.Jobs.Update(ctx, job.ID, func(j *ehi.Job) error {
		return j.Fail(fmt.Sprintf("The export did not succeed in %d attempts. An administrator finds the cause in the server's log.", attempts), time.Now().UTC())
	})
	if err != nil {
		return err
	}
	telemetry.JobsEnded.WithLabelValues(string(ehi.Failed)).Inc()
	p.Log.Error("job failed for good", "job", job.ID, "attempts", attempts)
	return nil
}

// runTask exports one task and commits it. On any error the files of this attempt are gone.
func (p *Pool) runTask(ctx context.Context, job *ehi.Job, task *bus.Taken) (err error) {
	batch, err := p.Files.NewBatch(job.ID, task.Number, task.Attempt)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, batch.Discard())
		}
	}()
	if err := p.fill(ctx, job, task, batch); err != nil {
		return err
	}
	return p.Bus.Tasks.Commit(ctx, task, time.Now().UTC())
}

// fill runs the pipeline and puts its result into the task record.
func (p *Pool) fill(ctx context.Context, job *ehi.Job, task *bus.Taken, batch *files.Batch) error {
	policy, err := p.Rules.Policy(job.Form, job.KickOff)
	if err != nil {
		return err
	}
	record, err := p.Source.Open(ctx, job.Patient.ID)
	if err != nil {
		return fmt.Errorf("open record: %w", err)
	}
	var read atomic.Int64
	stop := p.report(ctx, job.ID, &read, record.Total())
	res, err := pipeline.Run(ctx, pipeline.Task{
		Record: record,
		Query:  source.Query{Types: job.KickOff.Types, Since: job.KickOff.Since, Until: job.KickOff.Until},
		Policy: policy, Batch: batch, Read: &read,
	})
	stop()
	if err := errors.Join(err, record.Close()); err != nil {
		return err
	}
	task.TransactionTime, task.Files, task.Withheld = record.TakenAt(), res.Files, res.Withheld
	return nil
}

// report publishes progress until it is stopped.
func (p *Pool) report(ctx context.Context, job string, read *atomic.Int64, total int64) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		every(ctx, progressEvery, func() {
			if err := p.Bus.PublishProgress(ehi.Progress{Job: job, Done: read.Load(), Total: total}); err != nil {
				p.Log.Warn("publish progress", "job", job, "err", err)
			}
		})
	})
	return func() { cancel(); wg.Wait() }
}

// complete moves the job on. A job that has moved already, by an earlier delivery, is left alone.
func (p *Pool) complete(ctx context.Context, job *ehi.Job, task ehi.Task) error {
	done, err := p.Bus.Jobs.Update(ctx, job.ID, func(j *ehi.Job) error {
		return j.Complete([]ehi.Task{task}, time.Now().UTC(), p.FileTTL)
	})
	if ehi.CodeOf(err) == ehi.Conflict {
		return nil
	}
	if err != nil {
		return err
	}
	telemetry.JobsEnded.WithLabelValues(string(done.Status)).Inc()
	telemetry.JobSeconds.Observe(done.CompletedAt.Sub(done.RequestedAt).Seconds())
	return nil
}
