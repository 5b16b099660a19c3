package pipeline

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"ehi-server/exporter/native"
	"ehi-server/exporter/release"
	"ehi-server/exporter/selection"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// reader divides a record into slabs, one per type at a time.
type reader struct {
	task  *Task
	out   *turns
	open  map[kind]*slab
	last  *slab   // the slab filled last
	large passage // of a slab with a large line in the pipeline; created for the first
	read  int     // resources since the metrics were updated
	of    string  // the patient of the open block, if the files are organized by patient
	// stands is Resource.Moved of the resource that is being read.
	stands bool
	// targets decides whether the targets of a Provenance are released; created when first
	// needed.
	targets release.Releaser
	loose
}

// Run ends when the record has been read. It always closes the releasers' mailboxes.
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

// tell updates the metrics of what was read.
func (r *reader) tell() {
	telemetry.SourceResources.Add(float64(r.read))
	r.read = 0
}

// take adds one resource to its slab.
func (r *reader) take(ctx context.Context, res source.Resource) error {
	r.task.Read.Add(1)
	r.read++
	if res.Also {
		if ok, err := r.relevant(ctx, res); err != nil || !ok {
			return err
		}
	}
	r.stands = res.Moved
	line, k := res.Line, kind{typ: res.Type}
	if res.Unchecked && !wellFormed(res) {
		k, line = kind{"OperationOutcome", true}, malformed(res, r.task.Policy.Everything())
		r.stands = false
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

// put adds a line to an open slab. A line that fills a slab by itself is sent immediately, and
// the next such line waits until it is written: a pipeline holds at most one large resource,
// whatever the capacity of its mailboxes.
func (r *reader) put(ctx context.Context, s *slab, line []byte) error {
	s.stands = s.stands || r.stands
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

// relevant reports whether a resource that is read only for its targets has a target that is
// released.
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

// slab returns the slab for a line of a kind: the open one if the line fits.
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

// organize adds a line to the block of its patient. A block starts a slab, so that a file can
// start with it.
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

// sharing distributes the lines of a record among several observers.
type sharing struct {
	in     mailbox // of the other observers; without a receiver if there are none
	own    *release.Observer
	record source.Record
	// open is the slab being filled for the others; nil while their mailbox is full.
	open  *slab
	bytes int // observed here since the last check of the mailbox
}

// take processes one line, which is valid during the call only.
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

// look starts a slab if the mailbox has room. Only this goroutine sends to it.
func (s *sharing) look() {
	if s.bytes = lookedFor; deciders() > 1 && len(s.in.slabs) < cap(s.in.slabs) {
		s.open = newSlab(kind{})
	}
}

// lookedFor is how many bytes are observed between two checks of the mailbox.
const lookedFor = SlabBytes / 8

func (s *sharing) send(ctx context.Context) error {
	full := s.open
	s.open, s.bytes = nil, 0
	return s.in.send(ctx, full)
}

// end sends or observes the rest after the last line, or after an error.
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

// observer shows a review some of the lines of a record.
type observer struct {
	in     mailbox
	of     *release.Observer
	record source.Record
}

// Run ends when its mailbox is closed.
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

// releaser passes on what is selected and released, rewritten where necessary. It sends one slab
// for each that it receives, possibly an empty one, which preserves the order. Without decisions
// and selection it passes slabs on unchanged.
type releaser struct {
	in       mailbox
	out      mailbox
	decide   release.Releaser
	selector *selection.Selector
	selected []byte
	cursor   fhir.Cursor
}

// Run ends when its mailbox is closed, and closes the router's.
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

// filter returns what may leave of s and takes ownership of s. It returns s itself if everything
// may leave.
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

// line returns what may leave of a line; the result is valid until the next call. Decisions use
// the whole line, because they may depend on elements that were not requested. Searches apply
// after masking, so that they do not find masked content.
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

// filtering builds a slab of the kept parts of another one. It copies nothing before the first
// line that changes, and copies unchanged lines in between together.
type filtering struct {
	from, kept *slab
	lines      int64 // lines kept
	at         int   // offset after the last line
	copied     int   // offset up to which kept has its parts of from
}

// take replaces the next line of from by out, or drops it.
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

// same reports whether two slices share the same memory.
func same(a, b []byte) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// end copies the rest.
func (f *filtering) end() {
	if f.kept == f.from {
		return
	}
	f.kept.data = append(f.kept.data, f.from.data[f.copied:f.at]...)
	f.kept.lines, f.kept.begins, f.kept.stands = f.lines, f.from.begins, f.from.stands
	f.kept.passage, f.from.passage = f.from.passage, nil
	f.from.recycle()
}

// router sends each slab that is not empty to the writer of its kind, and starts the writer at
// its first slab.
type router struct {
	in      *turns
	start   func(kind) mailbox
	writers map[kind]mailbox
	header  *slab // the header of a patient's block of which nothing has been kept yet; nil if none
}

// Run ends when its mailboxes are closed, and closes those of all writers.
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

// headed holds back the header of a patient's block until something of the block is kept: a
// block or a file must not consist of headers alone. It returns nil if there is nothing to send
// yet.
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
		whole.stands = whole.stands || s.stands
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

// writer writes the files of one kind, one after the other, each with at most the limit of
// resources.
type writer struct {
	in mailbox
	kind
	batch       files.Batch
	compression ehi.Compression
	limit       int64
	files       []written
	out         io.WriteCloser // of the current file; nil before the first
	data        *native.Data
	dataFiles   map[string]native.DataFile // what the written lines name, by URL
}

// written is one file: its index in the batch, its resources, and the size of all its lines.
type written struct {
	output    int
	resources int64
	bytes     int64
}

// Run ends when its mailbox is closed. What it writes is durable only after the commit of the
// batch.
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
		if s.stands {
			if err := w.link(s); err != nil {
				return err
			}
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

// link replaces the stand-ins of a slab by URLs.
func (w *writer) link(s *slab) (err error) {
	if w.dataFiles == nil {
		w.dataFiles = map[string]native.DataFile{}
	}
	s.data, err = source.Link(make([]byte, 0, len(s.data)), s.data, func(m *source.Moved) string {
		f := native.DataFile{Type: w.typ, Moved: *m}
		url := w.data.URL(f)
		w.dataFiles[url] = f
		return url
	})
	return err
}

// label returns the name of the writer's kind in metrics and traces.
func (w *writer) label() string {
	if w.typ == "" {
		return "by-patient"
	}
	return w.typ
}

// note adds the result to the trace.
func (w *writer) note(ctx context.Context) {
	var resources, bytes int64
	for _, f := range w.files {
		resources, bytes = resources+f.resources, bytes+f.bytes
	}
	tracing.Note(ctx, attribute.Int("ehi.files", len(w.files)),
		attribute.Int64("ehi.resources", resources), attribute.Int64("ehi.bytes", bytes))
}

// end closes the open file.
func (w *writer) end() error {
	if w.out == nil {
		return nil
	}
	return w.out.Close()
}

// full reports whether s must start a new file. A patient's block is never split between files.
func (w *writer) full(s *slab) bool {
	if w.out == nil {
		return true
	}
	return w.limit > 0 && w.files[len(w.files)-1].resources+s.resources() > w.limit &&
		(w.typ != "" || s.begins)
}
