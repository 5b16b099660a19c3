package pipeline

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"ehi-server/exporter/release"
	"ehi-server/exporter/selection"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// reader turns a record into slabs. It owns those that it fills, one of each type.
type reader struct {
	task  *Task
	out   *turns
	open  map[kind]*slab
	last  *slab   // the slab that was filled last
	large passage // of the slab with a large line that is on its way; made for the first
	read  int     // resources since the metrics were told
	of    string  // the patient whose block is open, where the files are organized by patient
	// targets decides whether what a Provenance is about is released; made when the first is
	// asked about.
	targets release.Releaser
	loose
}

// Run ends when the record is read, and closes the releasers' mailboxes in any case.
func (r *reader) Run(ctx context.Context) error {
	defer r.out.close()
	err := r.task.Record.Scan(ctx, r.task.Query, func(res source.Resource) error {
		return r.take(ctx, res)
	})
	r.tell()
	for _, s := range r.open {
		if err != nil {
			s.recycle()
			continue
		}
		err = r.out.send(ctx, s)
	}
	return err
}

// tell counts in the metrics what was read.
func (r *reader) tell() {
	telemetry.SourceResources.Add(float64(r.read))
	r.read = 0
}

// take puts one resource into its slab.
func (r *reader) take(ctx context.Context, res source.Resource) error {
	r.task.Read.Add(1)
	r.read++
	if res.Also {
		if ok, err := r.relevant(ctx, res); err != nil || !ok {
			return err
		}
	}
	line, k := res.Line, kind{typ: res.Type}
	if res.Unchecked && !wellFormed(res) {
		k, line = kind{"OperationOutcome", true}, malformed(res, r.task.Policy.Everything())
	} else if res.Loose {
		var err error
		if line, err = r.fix(r.task.Record, line, r.task.Policy.Everything()); err != nil {
			return err
		}
	}
	if r.task.ByPatient && !k.errors {
		return r.organize(ctx, res.Patient, line)
	}
	s, err := r.slab(ctx, k, len(line))
	if err != nil {
		return err
	}
	return r.put(ctx, s, line)
}

// put adds a line to an open slab. One that alone fills a slab goes on at once, and the next
// such waits until it is written: of large resources a pipeline holds one, whatever its
// mailboxes could take.
func (r *reader) put(ctx context.Context, s *slab, line []byte) error {
	if len(line) < SlabBytes {
		s.add(line)
		return nil
	}
	if r.large == nil {
		r.large = make(passage, 1)
	}
	select {
	case r.large <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.passage = r.large
	s.add(line)
	return r.flush(ctx, s)
}

// relevant reports whether something is read because of what it is about, and that goes out.
func (r *reader) relevant(ctx context.Context, res source.Resource) (bool, error) {
	if r.task.Associated == nil || res.Unchecked && !wellFormed(res) {
		return false, nil
	}
	if r.task.Policy.Everything() {
		return r.task.Associated.Relevant(ctx, res.Line, nil)
	}
	if r.targets == nil {
		r.targets = r.task.Policy.Filter().Releaser()
	}
	return r.task.Associated.Relevant(ctx, res.Line, func(line []byte) (bool, error) {
		_, ok, err := r.targets.Release(line)
		return ok, err
	})
}

// slab finds the slab for a line of a kind: the open one while it has room.
func (r *reader) slab(ctx context.Context, k kind, size int) (*slab, error) {
	s := r.last
	if s == nil || s.kind != k {
		s = r.open[k]
	}
	limit := r.task.FileResources
	if s != nil && (len(s.data)+size >= SlabBytes || limit > 0 && s.lines >= limit) {
		if err := r.flush(ctx, s); err != nil {
			return nil, err
		}
		s = nil
	}
	if s == nil {
		s = newSlab(k)
		r.open[k] = s
	}
	r.last = s
	return s, nil
}

func (r *reader) flush(ctx context.Context, s *slab) error {
	delete(r.open, s.kind)
	r.last = nil
	r.tell()
	if r.task.Yield != nil {
		if err := r.task.Yield(ctx); err != nil {
			s.recycle()
			return err
		}
	}
	return r.out.send(ctx, s)
}

// organize puts a line into the block of its patient. A block begins a slab, so that a file can
// begin with it.
func (r *reader) organize(ctx context.Context, patient string, line []byte) error {
	s := r.open[kind{}]
	if patient != r.of || s != nil && len(s.data)+len(line) >= SlabBytes {
		if s != nil {
			if err := r.flush(ctx, s); err != nil {
				return err
			}
		}
		s = nil
	}
	if s == nil {
		s = newSlab(kind{})
		r.open[kind{}] = s
	}
	if patient != r.of {
		r.of, s.begins = patient, true
		s.add(header(patient))
	}
	return r.put(ctx, s, line)
}

// sharing shares the lines of a record out among those that observe it.
type sharing struct {
	in     mailbox // of the others; with nobody to receive from it where there are none
	own    *release.Observer
	record source.Record
	// open is the slab that is filled for the others; nil while they have no room for one.
	open  *slab
	bytes int // that are observed before it is looked for room again
}

// take takes one line, which is valid during the call only.
func (s *sharing) take(ctx context.Context, line []byte) error {
	if s.open != nil && s.open.lines > 0 && len(s.open.data)+len(line) >= SlabBytes {
		if err := s.send(ctx); err != nil {
			return err
		}
	}
	if s.open == nil && s.bytes <= 0 {
		s.look()
		if err := seek(ctx, s.record, s.own); err != nil {
			return err
		}
	}
	if s.open != nil {
		s.open.add(line)
		return nil
	}
	s.bytes -= len(line)
	return s.own.Observe(line)
}

// look begins a slab where there is room for it: nobody else sends any.
func (s *sharing) look() {
	if s.bytes = lookedFor; deciders() > 1 && len(s.in.slabs) < cap(s.in.slabs) {
		s.open = newSlab(kind{})
	}
}

// lookedFor is how many bytes are observed before it is looked for room again.
const lookedFor = SlabBytes / 8

func (s *sharing) send(ctx context.Context) error {
	full := s.open
	s.open, s.bytes = nil, 0
	return s.in.send(ctx, full)
}

// end ends with the last line, or with an error.
func (s *sharing) end(ctx context.Context, err error) error {
	switch {
	case s.open == nil:
		return err
	case err != nil:
		s.open.recycle()
		return err
	}
	return s.send(ctx)
}

// observer shows a review some lines of a record.
type observer struct {
	in     mailbox
	of     *release.Observer
	record source.Record
}

// Run ends with its mailbox.
func (o *observer) Run(ctx context.Context) error {
	return o.in.each(ctx, func(s *slab) error {
		defer s.recycle()
		for line := range s.added() {
			if err := o.of.Observe(line); err != nil {
				return err
			}
		}
		return seek(ctx, o.record, o.of)
	})
}

// releaser lets through what was selected and released, rewritten where it must be. It sends one
// slab on for each that it receives, be it an empty one, so that the order stays. Without
// decisions and selection it passes slabs on as they are.
type releaser struct {
	in       mailbox
	out      mailbox
	decide   release.Releaser
	selector *selection.Selector
	selected []byte
	cursor   fhir.Cursor
}

// Run ends with its mailbox, and closes the router's.
func (r *releaser) Run(ctx context.Context) error {
	defer close(r.out.slabs)
	return r.in.each(ctx, func(s *slab) error {
		if r.decide == nil && r.selector == nil || s.errors {
			return r.out.send(ctx, s)
		}
		kept, err := r.filter(s)
		if err != nil {
			kept.recycle()
			return err
		}
		return r.out.send(ctx, kept)
	})
}

// filter gives what may leave of s, and takes s: it is the same slab where that is all of it.
func (r *releaser) filter(s *slab) (*slab, error) {
	f := filtering{from: s, kept: s}
	defer f.end()
	for line := range s.added() {
		if s.begins && f.at == 0 { // the header of a patient's block
			f.take(line, line, true)
			continue
		}
		out, ok, err := r.line(s.typ, line)
		if err != nil {
			return f.kept, err
		}
		f.take(line, out, ok)
	}
	return f.kept, nil
}

// line is what may leave of a line; it is valid until the next call. What is decided is decided
// about all of the line: elements that nobody asked for may be what it depends on. A search
// finds nothing by what is masked.
func (r *releaser) line(typ string, line []byte) (out []byte, ok bool, err error) {
	if r.selector == nil {
		return r.decide.Release(line)
	}
	if typ == "" {
		if typ, _, err = r.cursor.Identify(line); err != nil {
			return nil, false, err
		}
	}
	if ok, err = r.selector.Finds(typ, line); err != nil || !ok {
		return nil, false, err
	}
	out = line
	if r.decide != nil {
		if out, ok, err = r.decide.Release(line); err != nil || !ok {
			return nil, false, err
		}
	}
	if !same(out, line) {
		if ok, err = r.selector.Finds(typ, out); err != nil || !ok {
			return nil, false, err
		}
	}
	r.selected, err = r.selector.Reduce(r.selected[:0], typ, out)
	return r.selected, err == nil, err
}

// filtering makes a slab of what is kept of another one. Nothing is copied before the first line
// that does not stay as it is, and the lines between two such are copied together.
type filtering struct {
	from, kept *slab
	lines      int64 // that were kept
	at         int   // behind the last line
	copied     int   // up to there kept has what it gets of from
}

// take keeps out in the place of the next line of from, or leaves it out.
func (f *filtering) take(line, out []byte, ok bool) {
	start := f.at
	f.at += len(line) + 1
	if ok {
		f.lines++
		if same(line, out) {
			return
		}
	}
	if f.kept == f.from {
		f.kept = newSlab(f.from.kind)
		f.kept.data = slices.Grow(f.kept.data, len(f.from.data))
	}
	f.kept.data = append(f.kept.data, f.from.data[f.copied:start]...)
	if ok {
		f.kept.data = append(append(f.kept.data, out...), '\n')
	}
	f.copied = f.at
}

// same reports whether two texts are the same piece of memory.
func same(a, b []byte) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// end copies what is left.
func (f *filtering) end() {
	if f.kept == f.from {
		return
	}
	f.kept.data = append(f.kept.data, f.from.data[f.copied:f.at]...)
	f.kept.lines, f.kept.begins = f.lines, f.from.begins
	f.kept.passage, f.from.passage = f.from.passage, nil
	f.from.recycle()
}

// router hands each slab of which something is left to the writer of its kind, and starts that
// writer when its first slab comes.
type router struct {
	in      *turns
	start   func(kind) mailbox
	writers map[kind]mailbox
	header  *slab // of a patient's block of which nothing was kept so far; nil for none
}

// Run ends with its mailboxes, and closes all writers'.
func (r *router) Run(ctx context.Context) error {
	defer func() {
		r.dropHeader()
		for _, w := range r.writers {
			close(w.slabs)
		}
	}()
	return r.in.each(ctx, func(s *slab) error {
		if s.lines == 0 {
			s.recycle()
			return nil
		}
		if s = r.headed(s); s == nil {
			return nil
		}
		w, started := r.writers[s.kind]
		if !started {
			w = r.start(s.kind)
			r.writers[s.kind] = w
		}
		return w.send(ctx, s)
	})
}

// headed keeps the header of a patient's block back until something of the block is kept: a
// block, or a file, of nothing but headers says nothing. It returns nil where there is nothing
// to send yet.
func (r *router) headed(s *slab) *slab {
	switch {
	case s.begins:
		r.dropHeader()
		if s.resources() == 0 {
			s.leave()
			r.header = s
			return nil
		}
	case r.header != nil && s.typ == "":
		whole := r.header
		whole.data, whole.lines = append(whole.data, s.data...), whole.lines+s.lines
		whole.passage, s.passage = s.passage, nil
		s.recycle()
		r.header = nil
		return whole
	}
	return s
}

func (r *router) dropHeader() {
	if r.header != nil {
		r.header.recycle()
		r.header = nil
	}
}

// writer owns the files of one kind: one after the other, none with more resources than the limit.
type writer struct {
	in mailbox
	kind
	batch       files.Batch
	compression ehi.Compression
	limit       int64
	files       []written
	out         io.WriteCloser // of the last file; nil before the first
}

// written is one file: its place in the batch, its resources, and the bytes of all its lines.
type written struct {
	output    int
	resources int64
	bytes     int64
}

// Run ends with its mailbox. What it wrote is durable only once the batch is committed.
func (w *writer) Run(ctx context.Context) error {
	resources := telemetry.PipelineResources.WithLabelValues(w.label())
	bytes := telemetry.PipelineBytes.WithLabelValues(w.label())
	err := w.in.each(ctx, func(s *slab) error {
		defer s.recycle()
		began := time.Now()
		if w.full(s) {
			if err := w.end(); err != nil {
				return err
			}
			out := w.batch.Create()
			w.out = encode(w.compression, out)
			w.files = append(w.files, written{output: out.Number()})
		}
		n, err := w.out.Write(s.data)
		if err != nil {
			return err
		}
		last := &w.files[len(w.files)-1]
		last.resources += s.resources()
		last.bytes += int64(n)
		telemetry.WriteSeconds.Observe(time.Since(began).Seconds())
		resources.Add(float64(s.resources()))
		bytes.Add(float64(n))
		return nil
	})
	if tracing.Traced(ctx) {
		w.note(ctx)
	}
	return errors.Join(err, w.end())
}

// label is what the writer's kind is called in metrics and traces.
func (w *writer) label() string {
	if w.typ == "" {
		return "by-patient"
	}
	return w.typ
}

// note adds to the trace what was written.
func (w *writer) note(ctx context.Context) {
	var resources, bytes int64
	for _, f := range w.files {
		resources, bytes = resources+f.resources, bytes+f.bytes
	}
	tracing.Note(ctx, attribute.Int("ehi.files", len(w.files)),
		attribute.Int64("ehi.resources", resources), attribute.Int64("ehi.bytes", bytes))
}

// end ends the file that is open.
func (w *writer) end() error {
	if w.out == nil {
		return nil
	}
	return w.out.Close()
}

// full reports whether s has to begin a new file. A patient's block is never divided between files.
func (w *writer) full(s *slab) bool {
	if w.out == nil {
		return true
	}
	return w.limit > 0 && w.files[len(w.files)-1].resources+s.resources() > w.limit &&
		(w.typ != "" || s.begins)
}
