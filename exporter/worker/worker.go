package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/shared/bus"
	"ehi-server/shared/disk"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// Flags are the settings of a Pool.
type Flags struct {
	// Workers is how many exports of single patients run at once. Default 4.
	Workers int `help:"Exports of single patients that this process runs in parallel. With 0, a server leaves exports to other processes." default:"4" env:"EHI_WORKERS" range:"0..1000"`
	// BulkWorkers is how many tasks of population exports run at once. Default: one for each
	// processor. Of these, at most one for every two processors reads resources, since its actors
	// keep two busy.
	BulkWorkers int `help:"Tasks of population exports that this process runs in parallel. 0: one for each processor, of which half read FHIR resources at once." default:"0" env:"EHI_BULK_WORKERS" range:"0..1000"`
	// Drain is how long exports that run when the pool is stopped may go on. 0: they are handed
	// back at once.
	Drain time.Duration `help:"How long running exports may continue after a request to stop. Then they return to the queue." default:"20s" env:"EHI_DRAIN" range:"0s..1h"`
}

// Config sets up a Pool.
type Config struct {
	Flags
	Bus    *bus.Bus
	Source source.Source
	Files  PoolFiles
	Rules  *release.Rules
	Log    *slog.Logger
	// Tracer traces what is done for a command; nil does not.
	Tracer *tracing.Tracer
	// Name tells this process's workers from others' in task records and logs.
	Name string
	// Membership says whether these workers belong to the server, and within which limits they
	// work.
	Membership Membership
	// RetryAfter is the pause before a failed attempt is made again. Default 1 s.
	RetryAfter time.Duration
}

// PoolFiles is where exports are written (files.Store).
type PoolFiles interface {
	// NewBatch creates the batch of files of one attempt at a task.
	NewBatch(job string, task, attempt int) (files.Batch, error)
	// Remove deletes everything of a job.
	Remove(job string) error
	// Check reports whether a file can be written now.
	Check() error
}

// Membership is the relation of this process's exporter to its server (exporter/pairing).
type Membership interface {
	// Admitted waits until the exporter belongs to its server. pass ends when that is no longer
	// true, or when ctx ends. The caller must call done. Errors: those of ctx.
	Admitted(ctx context.Context) (pass context.Context, done func(), err error)
	// Confirm returns an error unless the exporter belongs to the server now.
	Confirm(ctx context.Context) error
	// Accepts returns an error unless r are the current records of the server.
	Accepts(ctx context.Context, r ehi.Records) error
	// Limits returns the server's limits for exports.
	Limits() ehi.Limits
}

// Pool is the workers of one process.
type Pool struct {
	Config
	mu       sync.Mutex
	running  map[*run]string // value: the job ID
	patients precedence
	turns    turns // of tasks of populations that read resources
}

// run is one command in progress.
type run struct {
	cancel context.CancelCauseFunc
	// read counts signs of progress: resources read, and checks for space on a full disk.
	read atomic.Int64
	// moved counts bytes of native content, which are signs of progress too.
	moved atomic.Int64
	// waits means that it waits for its turn to read, which is no stall.
	waits atomic.Bool
	// began is when a worker took the command.
	began time.Time
}

var (
	errCancelled = errors.New("the job was cancelled")
	errStalled   = errors.New("the export is stalled: nothing was read for too long")
)

// Name returns the name of this process's workers: host and process ID.
func Name() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// New creates a pool. Run starts it.
func New(c Config) *Pool {
	if c.Workers <= 0 {
		c.Workers = 4
	}
	reading := c.BulkWorkers
	if c.BulkWorkers <= 0 {
		c.BulkWorkers = runtime.GOMAXPROCS(0)
		reading = max(1, c.BulkWorkers/2)
	}
	if c.RetryAfter <= 0 {
		c.RetryAfter = time.Second
	}
	return &Pool{Config: c, running: map[*run]string{}, turns: make(turns, reading)}
}

// Run takes commands until ctx ends, and returns when all of its goroutines have ended. Running
// exports then have Drain to finish. After that, Run returns the remaining commands to the
// queue.
func (p *Pool) Run(ctx context.Context) error {
	runs, cut := p.drained(ctx)
	defer cut()
	p.thawEnded(ctx)
	stop, err := p.Bus.OnCancel(p.cancel)
	if err != nil {
		return fmt.Errorf("listen for cancellations: %w", err)
	}
	var wg sync.WaitGroup
	for lane, n := range map[ehi.Lane]int{ehi.Interactive: p.Workers, ehi.Bulk: p.BulkWorkers} {
		workers := telemetry.Workers.WithLabelValues(string(lane))
		workers.Add(float64(n))
		defer workers.Sub(float64(n))
		for range n {
			wg.Go(func() { p.work(ctx, runs, lane) })
		}
	}
	wg.Go(func() { every(ctx, thawEvery, func() { p.thawEnded(ctx) }) })
	wg.Wait()
	return stop()
}

// drained returns a context that ends Drain after ctx ends, or when cut is called.
func (p *Pool) drained(ctx context.Context) (runs context.Context, cut func()) {
	runs, cut = context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		pause(runs, p.Drain)
		cut()
	})
	return runs, cut
}

// thawEvery is the pause between two checks for frozen populations whose job another process has
// ended.
const thawEvery = 10 * time.Second

// thawEnded deletes the frozen populations whose jobs are no longer running.
func (p *Pool) thawEnded(ctx context.Context) {
	names, err := p.Source.Frozen()
	if err != nil {
		p.Log.Error("list frozen populations", "err", err)
	}
	for _, name := range names {
		j, err := p.Bus.Jobs.Get(ctx, name)
		if err != nil && ehi.CodeOf(err) != ehi.NotFound ||
			err == nil && j.Status == ehi.Requested {
			continue
		}
		if err := p.Source.Thaw(name); err != nil {
			p.Log.Error("thaw a frozen population", "job", name, "err", err)
		}
	}
}

// work takes commands of a lane one by one until ctx ends. A command that runs then may continue
// until runs ends.
func (p *Pool) work(ctx, runs context.Context, lane ehi.Lane) {
	busy := telemetry.WorkersBusy.WithLabelValues(string(lane))
	for ctx.Err() == nil {
		d, err := p.next(ctx, lane)
		if err != nil {
			if ctx.Err() == nil {
				p.Log.Error("take a command", "lane", lane, "err", err)
				pause(ctx, p.RetryAfter)
			}
			continue
		}
		if d == nil {
			continue
		}
		busy.Inc()
		if lane == ehi.Bulk {
			p.deliver(runs, d)
		} else {
			p.patients.enter()
			p.deliver(runs, d)
			p.patients.leave()
		}
		busy.Dec()
	}
}

// next waits for a command. It returns nil if this process does not belong to the server any
// more. It waits only while the process belongs to it, so that otherwise commands go to other
// processes.
func (p *Pool) next(ctx context.Context, lane ehi.Lane) (*bus.Delivery, error) {
	pass, done, err := p.Membership.Admitted(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	d, err := p.Bus.Next(pass, lane)
	if err != nil {
		if pass.Err() != nil {
			err = nil
		}
		return nil, err
	}
	if why := p.Membership.Confirm(ctx); why != nil {
		p.Log.Warn("command handed back", "job", d.Job, "err", why)
		return nil, d.Retry(0)
	}
	return d, nil
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// deliver runs one command and then acknowledges it or hands it back.
func (p *Pool) deliver(ctx context.Context, d *bus.Delivery) {
	log := p.Log.With("job", d.Job, "task", d.Task, "delivery", d.Number)
	runCtx, r, end := p.begin(ctx, d)
	runCtx, span := p.Tracer.Continue(runCtx, d.Trace, "run command", trace.SpanKindConsumer,
		attribute.String(tracing.Job, d.Job),
		attribute.Int("ehi.task", d.Task), attribute.Int("ehi.delivery", d.Number),
		attribute.String("ehi.worker", p.Name))
	if id := tracing.ID(runCtx); id != "" {
		log = log.With("trace", id)
	}
	err := p.runWithSpace(runCtx, r, log, d)
	cause := context.Cause(runCtx)
	end()
	tracing.End(span, err)
	stopping := ctx.Err() != nil
	// NATS must learn the outcome even while the process is stopping.
	ctx = context.WithoutCancel(ctx)
	switch {
	case stopping && err != nil:
		telemetry.TasksEnded.WithLabelValues("handed-back").Inc()
		log.Info("export handed back: this process is stopping")
		if err := d.Retry(0); err != nil {
			log.Error("hand the command back", "err", err)
		}
		return
	case err == nil:
		telemetry.TasksEnded.WithLabelValues("committed").Inc()
	case errors.Is(cause, errCancelled) || ehi.CodeOf(err) == ehi.NotFound:
		telemetry.TasksEnded.WithLabelValues("cancelled").Inc()
		log.Info("export cancelled")
		p.cleanUp(ctx, d)
	case errors.Is(err, bus.ErrSuperseded):
		telemetry.TasksEnded.WithLabelValues("superseded").Inc()
		log.Warn("export superseded by another worker")
	default:
		if errors.Is(cause, errStalled) {
			err = errors.Join(errStalled, err)
		}
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

// runWithSpace runs a command. If the disk is full, it waits for space and runs the command
// again, because a full disk must not count as a failed attempt. Meanwhile this worker keeps the
// command.
func (p *Pool) runWithSpace(
	ctx context.Context, r *run, log *slog.Logger, d *bus.Delivery,
) error {
	for {
		err := contain(func() error { return p.run(ctx, r, d) })
		if !disk.IsFull(err) {
			return err
		}
		telemetry.DiskFull.Inc()
		log.Error("the disk is full: the export waits for space", "err", err)
		for full := true; full; full = disk.IsFull(p.Files.Check()) {
			r.read.Add(1)
			if pause(ctx, p.RetryAfter); ctx.Err() != nil {
				return err
			}
		}
	}
}

// cleanUp removes what this worker may have added to a job after its deletion.
func (p *Pool) cleanUp(ctx context.Context, d *bus.Delivery) {
	if _, err := p.Bus.Jobs.Get(ctx, d.Job); ehi.CodeOf(err) != ehi.NotFound {
		return
	}
	task := max(0, d.Task) // the start command of one patient's export is its task 0
	err := errors.Join(p.Bus.Tasks.DeleteOne(ctx, d.Job, task), p.Files.Remove(d.Job),
		p.Source.Thaw(d.Job))
	if err != nil {
		p.Log.Error("clean up after a deleted job", "job", d.Job, "err", err)
	}
}

// begin registers the run, so that a cancellation reaches it, and starts the heartbeat of its
// command. Call it before the job is read: a later deletion reaches the run as a broadcast, and
// an earlier one shows in the record.
func (p *Pool) begin(
	ctx context.Context, d *bus.Delivery,
) (runCtx context.Context, r *run, end func()) {
	runCtx, cancel := context.WithCancelCause(ctx)
	r = &run{cancel: cancel, began: time.Now()}
	p.mu.Lock()
	p.running[r] = d.Job
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.heartbeat(runCtx, d, r) })
	return runCtx, r, func() {
		cancel(nil)
		wg.Wait()
		p.mu.Lock()
		delete(p.running, r)
		p.mu.Unlock()
	}
}

// cancel stops every run of a job.
func (p *Pool) cancel(job string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for r, id := range p.running {
		if id == job {
			r.cancel(errCancelled)
		}
	}
}

// heartbeat extends the delivery until the run ends or stalls. It cancels a stalled run. Even if
// that run does not end, its command goes to another worker.
func (p *Pool) heartbeat(ctx context.Context, d *bus.Delivery, r *run) {
	progress := func() int64 { return r.read.Load() + r.moved.Load() }
	done, moved := progress(), time.Now()
	limits := p.Membership.Limits()
	every(ctx, limits.AckWait/5, func() {
		if n := progress(); n != done || r.waits.Load() {
			done, moved = n, time.Now()
		}
		if time.Since(moved) > limits.Stall {
			r.cancel(errStalled)
			return
		}
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

// run executes one command. nil means that the command can be acknowledged.
func (p *Pool) run(ctx context.Context, r *run, d *bus.Delivery) error {
	job, err := p.Bus.Jobs.Get(ctx, d.Job)
	if err != nil {
		return err
	}
	if job.Status != ehi.Requested {
		return nil // a repeated command: the job has advanced
	}
	if d.Task == bus.StartCommand && d.Number == 1 {
		tracing.Observe(ctx, telemetry.JobPhase.WithLabelValues("queue", string(job.Lane)),
			max(0, r.began.Sub(job.RequestedAt)))
	}
	switch {
	case d.Task != bus.StartCommand:
		err = p.exportPart(ctx, r, job, d.Task)
	case job.Lane == ehi.Bulk:
		err = p.plan(ctx, job)
	default:
		err = p.exportPatient(ctx, r, job)
	}
	if why, is := errors.AsType[unfit](err); is {
		return p.fail(ctx, job, why)
	}
	return err
}

// giveUp fails a job after too many failed attempts, so that nobody waits forever.
func (p *Pool) giveUp(ctx context.Context, job *ehi.Job, attempts int) error {
	telemetry.CommandsDead.Inc()
	_, err := p.Bus.Jobs.Update(ctx, job.ID, func(j *ehi.Job) error {
		return j.Fail(
			fmt.Sprintf("The export failed after %d attempts. Ask an administrator for the "+
				"cause: it is in the server's log.", attempts), time.Now().UTC())
	})
	if ehi.CodeOf(err) == ehi.Conflict {
		return nil // the command of another task has already failed the job
	}
	if err != nil {
		return err
	}
	telemetry.JobsEnded.WithLabelValues(job.Level.Kind(), string(ehi.Failed)).Inc()
	p.Log.Error("job failed for good", "job", job.ID, "attempts", attempts)
	if job.Lane != ehi.Bulk {
		return nil
	}
	return errors.Join(p.Bus.Cancel(job.ID), p.Source.Thaw(job.ID))
}
