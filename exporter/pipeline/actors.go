package pipeline

import (
	"context"
	"sync/atomic"

	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/shared/telemetry"
)

// reader turns a record into slabs. It owns the slab that it fills.
type reader struct {
	record source.Record
	query  source.Query
	out    mailbox
	read   *atomic.Int64 // resources, for progress
	full   *slab
}

// Run ends when the record is read, and closes the releaser's mailbox in any case.
func (r *reader) Run(ctx context.Context) error {
	defer close(r.out.slabs)
	err := r.record.Scan(ctx, r.query, func(res source.Resource) error {
		if r.full != nil && (r.full.typ != res.Type || len(r.full.data)+len(res.Line) >= SlabBytes) {
			if err := r.flush(ctx); err != nil {
				return err
			}
		}
		if r.full == nil {
			r.full = newSlab(res.Type)
		}
		r.full.data = append(append(r.full.data, res.Line...), '\n')
		r.full.lines++
		r.read.Add(1)
		return nil
	})
	if err == nil && r.full != nil {
		err = r.flush(ctx)
	}
	if r.full != nil {
		r.full.recycle()
	}
	return err
}

func (r *reader) flush(ctx context.Context) error {
	s := r.full
	r.full = nil
	return r.out.send(ctx, s)
}

// releaser lets through what the review released, rewritten where it must be. Without a review it passes slabs on.
type releaser struct {
	in     mailbox
	out    mailbox
	review *release.Review
}

// Run ends with its mailbox, and closes the router's.
func (r *releaser) Run(ctx context.Context) error {
	defer close(r.out.slabs)
	return r.in.each(ctx, func(s *slab) error {
		if r.review == nil {
			return r.out.send(ctx, s)
		}
		kept, err := r.filter(s)
		s.recycle()
		if err != nil || kept.lines == 0 {
			kept.recycle()
			return err
		}
		return r.out.send(ctx, kept)
	})
}

// filter makes a new slab of what may leave of s.
func (r *releaser) filter(s *slab) (*slab, error) {
	kept := newSlab(s.typ)
	for line := range lines(s.data) {
		out, ok, err := r.review.Release(kept.data, line)
		if err != nil {
			return kept, err
		}
		if ok {
			kept.data = append(out, '\n')
			kept.lines++
		}
	}
	return kept, nil
}

// router hands each slab to the writer of its type, and starts that writer when its first slab comes.
type router struct {
	in      mailbox
	start   func(typ string) mailbox
	writers map[string]mailbox
}

// Run ends with its mailbox, and closes all writers'.
func (r *router) Run(ctx context.Context) error {
	defer func() {
		for _, w := range r.writers {
			close(w.slabs)
		}
	}()
	return r.in.each(ctx, func(s *slab) error {
		w, started := r.writers[s.typ]
		if !started {
			w = r.start(s.typ)
			r.writers[s.typ] = w
		}
		return w.send(ctx, s)
	})
}

// output is where a writer writes: one file of a batch.
type output interface {
	Write(p []byte) (int, error)
}

// writer owns the file of one type.
type writer struct {
	in    mailbox
	typ   string
	out   output
	lines int64
	bytes int64
}

// Run ends with its mailbox. What it wrote is durable only once the batch is committed.
func (w *writer) Run(ctx context.Context) error {
	resources := telemetry.PipelineResources.WithLabelValues(w.typ)
	bytes := telemetry.PipelineBytes.WithLabelValues(w.typ)
	return w.in.each(ctx, func(s *slab) error {
		defer s.recycle()
		n, err := w.out.Write(s.data)
		if err != nil {
			return err
		}
		w.lines += s.lines
		w.bytes += int64(n)
		resources.Add(float64(s.lines))
		bytes.Add(float64(n))
		return nil
	})
}
