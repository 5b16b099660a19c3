package worker

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"ehi-server/exporter/native"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
)

// Scrubber reads the files of finished exports in the background and compares them with their
// checksums, so that damage is known before somebody downloads the file. It never changes a
// file. Only one process per disk does this at a time.
type Scrubber struct {
	Bus   *bus.Bus
	Files ScrubberFiles
	Log   *slog.Logger
	ScrubFlags
	// Every is the pause between two rounds. Default 10 min.
	Every time.Duration
}

// ScrubFlags are the settings of a Scrubber.
type ScrubFlags struct {
	// Rate is the maximum number of bytes read per second. 0 disables the scrubber.
	Rate int64 `name:"scrub-rate" help:"Bytes per second that the server reads in the background to verify the checksums of export files. It reads less while exports run. 0 disables the check." default:"4194304" env:"EHI_SCRUB_RATE" range:"0.."`
}

// ScrubberFiles is what the scrubber needs of the export files (files.Store).
type ScrubberFiles interface {
	Open(job string, e files.Extent) (files.Reader, error)
	// Verify reads a file completely and writes it to w. Errors: fs.ErrNotExist,
	// files.ErrDamaged, those of w and ctx.
	Verify(ctx context.Context, job string, e files.Extent, w io.Writer) error
	// Grown reports whether a file has more bytes than were written.
	Grown(job, object string, written int64) (bool, error)
	// Lost records that a file which a record names is missing. It returns files.ErrDamaged.
	Lost(job string, e files.Extent) error
	// Scrubbed returns when a process last verified all files, according to SetScrubbed; the
	// zero time if unknown.
	Scrubbed() (time.Time, error)
	SetScrubbed(now time.Time) error
	// TryLock takes a lock that one process can hold at a time. It returns nil if another
	// process holds it.
	TryLock(name string) (io.Closer, error)
}

const (
	// scrubPiece is how many bytes the scrubber reads between two pauses.
	scrubPiece = 1 << 20
	// scrubYield is how long it waits for running exports before each piece, at most. scrubLook
	// is how often it checks whether they have ended.
	scrubYield = time.Second
	scrubLook  = 50 * time.Millisecond
)

// Run runs rounds until ctx ends, with a pause of Every between them.
func (s *Scrubber) Run(ctx context.Context) error {
	if s.Rate <= 0 {
		return nil
	}
	every := s.Every
	if every <= 0 {
		every = 10 * time.Minute
	}
	for ctx.Err() == nil {
		err := s.observe()
		if err == nil {
			err = s.Round(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("scrub the exports", "err", err)
		}
		pause(ctx, every)
	}
	return nil
}

// observe sets the metric of when a process on this disk last completed a round. Before the
// first round it stores the current time, from which an alert counts.
func (s *Scrubber) observe() error {
	last, err := s.Files.Scrubbed()
	if err == nil && last.IsZero() {
		last = time.Now()
		err = s.Files.SetScrubbed(last)
	}
	if err == nil {
		telemetry.ScrubRound.Set(float64(last.Unix()))
	}
	return err
}

// Round verifies every file of every finished export, unless another process on this disk does
// so already.
func (s *Scrubber) Round(ctx context.Context) (err error) {
	lock, err := s.Files.TryLock("scrub")
	if err != nil || lock == nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	var jobs []string
	for _, j := range s.Bus.Jobs.List(func(j bus.Summary) bool { return stored(j.Status) }) {
		jobs = append(jobs, j.ID)
	}
	slices.Sort(jobs)
	from := 0 // random, so that interrupted rounds do not always miss the same files
	if len(jobs) > 0 {
		from = rand.IntN(len(jobs))
	}
	p := &pacer{
		rate:  s.Rate,
		since: time.Now(),
		busy:  func() bool { return s.Bus.Jobs.ByStatus()[ehi.Requested].Jobs > 0 },
	}
	var errs []error
	for _, id := range slices.Concat(jobs[from:], jobs[:from]) {
		if err := s.job(ctx, p, id); ehi.CodeOf(err) != ehi.NotFound {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := s.Files.SetScrubbed(time.Now()); err != nil {
		return err
	}
	return s.observe()
}

// stored reports whether the files of an export in this status are final.
func stored(status ehi.Status) bool { return status == ehi.Retrieved || status == ehi.Approved }

// job verifies the files of one job.
func (s *Scrubber) job(ctx context.Context, p *pacer, id string) error {
	j, err := s.Bus.Jobs.Get(ctx, id)
	if err != nil {
		return err
	}
	var errs []error
	for n := range j.Tasks {
		t, _, err := s.Bus.Tasks.Get(ctx, id, n)
		if err != nil {
			return err
		}
		written := map[string]int64{}
		for _, f := range t.Files {
			e := files.Extent{
				Object: f.Object,
				Offset: f.Offset,
				Length: f.Length,
				Sum:    files.Sum(f.Sum),
			}
			written[f.Object] = max(written[f.Object], f.Offset+f.Length)
			errs = append(errs, s.file(ctx, p, id, e))
		}
		err = s.links(ctx, p, id, &t, written)
		if !errors.Is(err, files.ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err) // otherwise the index is known to be damaged
		}
		for object, n := range written {
			_, err := s.Files.Grown(id, object, n)
			errs = append(errs, err)
		}
	}
	for _, a := range j.Attachments {
		e := files.Extent{Object: a.Object, Length: a.Size, Sum: files.SHA1Sum(a.SHA1)}
		errs = append(errs, s.file(ctx, p, id, e))
	}
	return errors.Join(errs...)
}

// links verifies the documents of a task that are objects of their own.
func (s *Scrubber) links(
	ctx context.Context, p *pacer, id string, t *ehi.Task, written map[string]int64,
) error {
	open := func(e files.Extent) (files.Reader, error) { return s.Files.Open(id, e) }
	return native.EachLink(t, open, func(e files.Extent) error {
		written[e.Object] = e.Length
		return s.file(ctx, p, id, e)
	})
}

// file verifies one file. Damage is no error here: the store has recorded and reported it.
func (s *Scrubber) file(ctx context.Context, p *pacer, job string, e files.Extent) error {
	p.ctx = ctx
	err := s.Files.Verify(ctx, job, e, p)
	telemetry.ScrubbedFiles.Inc()
	switch {
	case errors.Is(err, files.ErrDamaged):
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	now, err := s.Bus.Jobs.Newest(ctx, job)
	if err != nil {
		return err // deleted meanwhile
	}
	named := !strings.HasPrefix(e.Object, "a.") ||
		slices.ContainsFunc(now.Attachments, func(a ehi.Attachment) bool {
			return a.Object == e.Object
		})
	if named && stored(now.Status) {
		_ = s.Files.Lost(job, e) // the store reports it
	}
	return nil
}

// pacer receives the bytes that are read. It limits their rate, and pauses for a short time
// while exports run.
type pacer struct {
	ctx   context.Context
	rate  int64
	busy  func() bool
	since time.Time
	bytes int64 // since then
	piece int64
}

// Write implements io.Writer.
func (p *pacer) Write(b []byte) (int, error) {
	n := int64(len(b))
	telemetry.ScrubbedBytes.Add(float64(n))
	p.bytes, p.piece = p.bytes+n, p.piece+n
	if p.piece < min(scrubPiece, p.rate) {
		return len(b), nil
	}
	p.piece = 0
	for waited := time.Duration(0); waited < scrubYield && p.busy() &&
		p.ctx.Err() == nil; waited += scrubLook {
		pause(p.ctx, scrubLook)
	}
	due := time.Duration(float64(p.bytes) / float64(p.rate) * float64(time.Second))
	if ahead := due - time.Since(p.since); ahead > 0 {
		pause(p.ctx, ahead)
	} else {
		p.since, p.bytes = time.Now(), 0 // unused time is not made up for
	}
	return len(b), p.ctx.Err()
}
