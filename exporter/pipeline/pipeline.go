package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"ehi-server/exporter/native"
	"ehi-server/exporter/release"
	"ehi-server/exporter/selection"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// Task describes the work of one pipeline.
type Task struct {
	Record   source.Record
	Query    source.Query
	Policy   *release.Policy
	Selector *selection.Selector // nil selects everything
	// Associated decides about what Query.Also reads; nil if that is empty.
	Associated *selection.Associated
	// Population means that the record is part of a population: its resources are ordered by
	// patient, and decisions look at one resource at a time.
	Population bool
	// ByPatient organizes the files by patient, with a header line before each patient's block,
	// instead of by type.
	ByPatient bool
	// FileResources is the most resources of a file; 0 means no limit.
	FileResources int64
	// Compression is how the files are stored; "" is ehi.Identity.
	Compression ehi.Compression
	Batch       files.Batch
	// Native, if not nil, writes the native content into the batch, after the resources.
	Native *native.Export
	// Data writes the data that the source keeps beside resources into the batch, as far as
	// resources that leave have it. It can be nil if the source keeps none there.
	Data *native.Data
	// Yield, if not nil, is called before each slab is read. It blocks while other work has
	// priority.
	Yield func(ctx context.Context) error
	// Turn, if not nil, is called before the resources are read, and done after the last one is
	// written. It blocks while enough others read resources: they keep several processors busy,
	// and native content and the commit only one.
	Turn func(ctx context.Context) (done func(), err error)
	// Large, if not nil, is called when a review must keep data about very many resources. The
	// process may then save memory until the pipeline ends.
	Large func()
	// Read, if not nil, counts the resources read so far. Others may read it while the pipeline
	// runs.
	Read *atomic.Int64
}

// NewTask returns the task for a job's form and kick-off on a record. The caller sets the fields
// of the output.
func NewTask(job *ehi.Job, policy *release.Policy, record source.Record) Task {
	k := job.KickOff
	return Task{
		Record:     record,
		Query:      selection.Query(k),
		Policy:     policy,
		Selector:   selection.New(k),
		Associated: selection.NewAssociated(k, record),
		Population: job.Level != ehi.OnePatient, ByPatient: k.ByPatient, Compression: k.Compression,
	}
}

// Result is the result of a pipeline. The files are durable.
type Result struct {
	Files    []ehi.File // sorted by type, then by order of writing; none is empty (REAL-3)
	Withheld map[string]int64
	// Links is the number of documents that are objects of their own, see files.Batch.Link.
	Links int
	// LinkBytes is the size of those of these that leave, in bytes.
	LinkBytes int64
}

// Run exports one task. After an error, including the end of ctx, the batch is unusable and the
// caller discards it.
func Run(ctx context.Context, t Task) (Result, error) {
	if t.Read == nil {
		t.Read = new(atomic.Int64)
	}
	decisions, err := t.decide(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("review: %w", err)
	}
	writers, err := t.resources(ctx, decisions)
	if err != nil {
		return Result{}, err
	}
	res := Result{}
	if decisions != nil {
		res.Withheld = decisions.Withheld()
		for reason, n := range res.Withheld {
			// metrics must not reveal the content of a record
			kind, _, _ := strings.Cut(reason, ".")
			telemetry.PipelineWithheld.WithLabelValues(kind).Add(float64(n))
		}
	}
	var content native.Result
	if t.Native != nil {
		if content, err = t.native(ctx, decisions); err != nil {
			return Result{}, err
		}
		res.Links, res.LinkBytes = content.Links, content.LinkBytes
	}
	for reason, n := range content.Withheld {
		if res.Withheld == nil {
			res.Withheld = map[string]int64{}
		}
		res.Withheld[reason] += n
	}
	data, err := t.data(ctx, writers)
	if err != nil {
		return Result{}, err
	}
	content.Outputs = append(content.Outputs, data.Outputs...)
	res.Links, res.LinkBytes = max(res.Links, data.Links), res.LinkBytes+data.LinkBytes
	_, span := tracing.Start(ctx, "commit files")
	res.Files, err = commit(t.Batch, writers, content.Outputs)
	tracing.End(span, err)
	return res, err
}

// decisions decides what of a record may leave: a Review for one patient, a Filter for a
// population.
type decisions interface {
	// Releaser returns a releaser for one goroutine.
	Releaser() release.Releaser
	// Withheld returns the number of withheld resources by reason.
	Withheld() map[string]int64
	// Native returns the decisions about content that is not FHIR.
	Native() *release.Native
}

// decide prepares the decisions about the record; nil if everything may leave.
func (t *Task) decide(ctx context.Context) (_ decisions, err error) {
	if t.Population {
		if t.Policy.Everything() {
			return nil, nil
		}
		return t.Policy.Filter(), nil
	}
	// An export of some types or dates only is not a full export. Its references stay as they
	// are.
	whole := len(t.Query.Types) == 0 && !t.Query.Timed()
	if t.Policy.Everything() && (t.Record.Complete() || !whole) {
		return nil, nil
	}
	ctx, span := tracing.Start(ctx, "review")
	defer func() { tracing.End(span, err) }()
	return t.review(ctx)
}

// manyResources is the number of resources from which a review keeps about ten MB.
const manyResources = 250_000

// review walks the whole record: once, unless the review asks for a repetition.
func (t *Task) review(ctx context.Context) (*release.Review, error) {
	large := sync.OnceFunc(func() {
		if t.Large != nil {
			t.Large()
		}
	})
	for review := t.Policy.Review(); ; {
		if err := t.observe(ctx, review, large); err != nil {
			return nil, err
		}
		if err := seek(ctx, t.Record, review); err != nil {
			return nil, err
		}
		instead := review.Conclude()
		if instead == nil {
			return review, nil
		}
		review = instead
	}
}

// seeker receives what is beside a record, see release.Review.Beside.
type seeker interface {
	Sought() []release.Name
	Beside(line []byte) error
}

// seek shows a seeker what the names in its record may refer to, and in turn what those refer
// to.
func seek(ctx context.Context, record source.Record, s seeker) error {
	for sought := s.Sought(); len(sought) > 0; sought = s.Sought() {
		names := make([]source.Name, len(sought))
		for i, n := range sought {
			names[i] = source.Name(n)
		}
		if err := record.Beside(ctx, names, s.Beside); err != nil {
			return fmt.Errorf("what the record may mean: %w", err)
		}
	}
	return nil
}

// observe shows the whole record to a review. The reader passes lines to the other observers
// while their mailbox has room, and otherwise observes them itself: nothing waits, and half of a
// record need not be copied. It calls large if there are many resources.
func (t *Task) observe(ctx context.Context, review *release.Review, large func()) error {
	in, whole := newMailbox(ofReviewer, mailboxCapacity), t.Record.Complete()
	if !whole {
		review.Loose()
	}
	group, ctx := errgroup.WithContext(ctx)
	for range deciders() - 1 {
		o := &observer{in: in, of: review.Observer(), record: t.Record}
		group.Go(supervised(ctx, "observe", o))
	}
	sharing := &sharing{in: in, own: review.Observer(), record: t.Record}
	group.Go(supervised(ctx, "read for review", actorFunc(func(ctx context.Context) error {
		defer close(in.slabs)
		n := 0
		err := t.Record.Scan(ctx, source.Query{}, func(r source.Resource) error {
			if n++; n == manyResources {
				large()
			}
			if r.Unchecked && !wellFormed(r) {
				whole = false
				return nil // the reader reports the error
			}
			return sharing.take(ctx, r.Line)
		})
		return sharing.end(ctx, err)
	})))
	err := group.Wait()
	in.drain()
	if err == nil && whole {
		review.Resolved()
	}
	return err
}

// resources writes the resources.
func (t *Task) resources(ctx context.Context, d decisions) ([]*writer, error) {
	if t.Turn != nil {
		done, err := t.Turn(ctx)
		if err != nil {
			return nil, fmt.Errorf("wait for other tasks: %w", err)
		}
		defer done()
	}
	return t.actors(ctx, d)
}

// actors connects the actors as drawn in doc.go, runs them and waits for all.
func (t *Task) actors(ctx context.Context, d decisions) ([]*writer, error) {
	group, ctx := errgroup.WithContext(ctx)
	releasers := t.releasers(d)
	toReleasers, toRouter :=
		newTurns(ofReleaser, len(releasers)), newTurns(ofRouter, len(releasers))
	var writers []*writer
	rt := &router{in: toRouter, writers: map[kind]mailbox{}}
	rt.start = func(k kind) mailbox {
		w := &writer{
			in:          newMailbox(ofWriter, mailboxCapacity),
			kind:        k,
			batch:       t.Batch,
			compression: t.Compression,
			limit:       t.FileResources,
			data:        t.Data,
		}
		writers = append(writers, w)
		what := "write"
		if tracing.Traced(ctx) {
			what += " " + w.label()
		}
		group.Go(supervised(ctx, what, w))
		return w.in
	}
	group.Go(supervised(ctx, "read", &reader{task: t, out: toReleasers, open: map[kind]*slab{}}))
	for i, r := range releasers {
		r.in, r.out = toReleasers.mailboxes[i], toRouter.mailboxes[i]
		group.Go(supervised(ctx, "release", r))
	}
	group.Go(supervised(ctx, "route", rt))
	err := group.Wait()
	toReleasers.drain()
	toRouter.drain()
	for _, w := range writers {
		w.in.drain()
	}
	return writers, err
}

// releasers returns the releasers that share the record; only one if there is nothing to decide.
func (t *Task) releasers(d decisions) []*releaser {
	if d == nil && t.Selector == nil {
		return []*releaser{{}}
	}
	out := make([]*releaser, deciders())
	for i := range out {
		out[i] = &releaser{selector: t.Selector.Another()}
		if d != nil {
			out[i].decide = d.Releaser()
		}
	}
	return out
}

// native writes the native content.
func (t *Task) native(ctx context.Context, d decisions) (_ native.Result, err error) {
	ctx, span := tracing.Start(ctx, "native content")
	defer func() { tracing.End(span, err) }()
	e := t.Native
	e.Record, e.Query, e.Batch, e.Yield = t.Record, t.Query, t.Batch, t.Yield
	e.Holds = t.Record.Has
	var decide *native.Release
	if !t.Policy.Everything() && d != nil {
		rules := d.Native()
		decide = native.NewRelease(rules, t.Record.Tables())
		if !t.Population {
			decide.Find = func(typ, id string) ([]byte, error) {
				return t.Record.Find(ctx, source.Query{}, typ, id)
			}
		}
		if t.Population {
			decide.Another = t.Record.Another
		}
		decide.Beside = t.beside(ctx, rules)
		e.Decide = decide
	}
	res, err := e.Write(ctx)
	if err != nil {
		return res, fmt.Errorf("native content: %w", err)
	}
	if decide != nil {
		res.Withheld = decide.Withheld
	}
	telemetry.NativeFiles.WithLabelValues("document").Add(float64(res.Written.Documents))
	telemetry.NativeFiles.WithLabelValues("table").Add(float64(res.Written.Tables))
	telemetry.NativeRows.Add(float64(res.Written.Rows))
	countBytes(res.Written)
	return res, nil
}

// beside decides about what belongs to resources of the store that are not in the record, or to
// those of a population.
func (t *Task) beside(
	ctx context.Context, rules *release.Native,
) func(typ, id string) (string, error) {
	return func(typ, id string) (reason string, err error) {
		if t.Population {
			line, err := t.Record.Find(ctx, source.Query{}, typ, id)
			if err != nil || line == nil {
				return "", err
			}
			return rules.Beside(line)
		}
		names := []source.Name{{Type: typ, ID: id}}
		err = t.Record.Beside(ctx, names, func(line []byte) error {
			why, err := rules.Beside(line)
			reason = cmp.Or(reason, why)
			return err
		})
		return reason, err
	}
}

func countBytes(f native.Figures) {
	telemetry.NativeBytes.WithLabelValues("linked").Add(float64(f.Linked))
	telemetry.NativeBytes.WithLabelValues("written").Add(float64(f.Bytes - f.Linked))
}

// data writes the data of attachments that the written resources name.
func (t *Task) data(ctx context.Context, writers []*writer) (_ native.Result, err error) {
	var all []native.DataFile
	for _, w := range writers {
		all = slices.AppendSeq(all, maps.Values(w.dataFiles))
	}
	if len(all) == 0 {
		return native.Result{}, nil
	}
	ctx, span := tracing.Start(ctx, "data of attachments")
	defer func() { tracing.End(span, err) }()
	d := t.Data
	d.Record, d.Batch, d.Yield = t.Record, t.Batch, t.Yield
	res, err := d.Write(ctx, all)
	if err != nil {
		return res, err
	}
	telemetry.NativeFiles.WithLabelValues("data").Add(float64(res.Written.Documents))
	countBytes(res.Written)
	return res, nil
}

// deciders is the number of actors that share the decisions, which take longer than reading and
// writing.
func deciders() int { return min(runtime.GOMAXPROCS(0), 4) }

// actor is one goroutine of a pipeline.
type actor interface {
	Run(ctx context.Context) error
}

// actorFunc is an actor that is a function.
type actorFunc func(ctx context.Context) error

// Run calls the function.
func (f actorFunc) Run(ctx context.Context) error { return f(ctx) }

// supervised runs an actor in a span of its own, and turns its panic into an error, so that it
// fails only its own task.
func supervised(ctx context.Context, what string, a actor) func() error {
	return func() (err error) {
		ctx, span := tracing.Start(ctx, what)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("%T panicked: %v\n%s", a, p, debug.Stack())
			}
			tracing.End(span, err)
		}()
		return a.Run(ctx)
	}
}

// commit makes the batch durable and returns its file table.
func commit(
	batch files.Batch, writers []*writer, content []native.Output,
) ([]ehi.File, error) {
	start := time.Now()
	extents, err := batch.Commit()
	if err != nil {
		return nil, fmt.Errorf("commit files: %w", err)
	}
	telemetry.CommitSeconds.Observe(time.Since(start).Seconds())
	var table []ehi.File
	for _, w := range writers {
		for _, f := range w.files {
			e := extents[f.output]
			table = append(table, ehi.File{
				Type:   w.typ,
				Error:  w.errors,
				Count:  f.resources,
				Bytes:  f.bytes,
				Object: e.Object,
				Offset: e.Offset,
				Length: e.Length,
				Sum:    string(e.Sum), Compression: w.compression,
			})
		}
	}
	slices.SortStableFunc(table, func(a, b ehi.File) int { return strings.Compare(a.Type, b.Type) })
	for _, o := range content {
		e := extents[o.Number]
		table = append(table, ehi.File{
			Type: o.Type, Kind: o.Kind, Count: o.Count, Bytes: o.Bytes,
			Object: e.Object, Offset: e.Offset, Length: e.Length, Sum: string(e.Sum),
		})
	}
	return table, nil
}
