package dataset

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sync/errgroup"
)

// imported records that a file was imported completely. The record is stored with the resources
// or after them.
func (w *writer) imported(file, mark []byte) error {
	if w.sorter == nil {
		return w.set(file, string(mark))
	}
	w.marks = append(w.marks, keyValue{file, mark})
	return nil
}

// unsort writes the sorter's content to the store unchanged if the import continues without it.
func (w *writer) unsort() error {
	sorted := w.sorter
	err := w.pour(context.Background(), nil)
	w.sorter = nil
	return errors.Join(err, sorted.close(), w.setMarks())
}

// setMarks records the files whose resources are now in the store.
func (w *writer) setMarks() error {
	marks := w.marks
	w.marks = nil
	for _, m := range marks {
		if err := w.set(m.key, string(m.value)); err != nil {
			return err
		}
	}
	return nil
}

// settleSorted settles all patients and stores their records in the final form. Meanwhile Pebble
// merges everything else.
func (w *writer) settleSorted(ctx context.Context, settled func(patients int)) error {
	group, merging := errgroup.WithContext(ctx)
	group.Go(func() error { return w.store.mergeOthers(merging) })
	var done atomic.Int64
	err := w.pour(ctx, func() { settled(int(done.Add(1))) })
	if err = errors.Join(err, group.Wait()); err != nil {
		return err
	}
	sorted := w.sorter
	w.sorter = nil
	return errors.Join(sorted.close(), w.setMarks(), w.flush(pebble.NoSync), w.store.db.Flush())
}

// pour writes the sorter's content to the store, part by part, on all processors. If done is not
// nil, it settles the patients on the way and calls done for each.
//
// The owner of a resource is written to disk before the resource, and what is derived about a
// patient after it: a record that a crash truncated counts as not imported.
func (w *writer) pour(ctx context.Context, done func()) (err error) {
	if err := errors.Join(w.flush(pebble.NoSync), w.store.db.Flush(), w.sorter.seal()); err != nil {
		return err
	}
	touched := w.store.db.NewSnapshot()
	defer func() { err = errors.Join(err, touched.Close()) }()
	processors := runtime.GOMAXPROCS(0)
	parts := w.sorter.parts(
		min(tableBytes, max(w.sorter.limits.part, w.sorter.bytes/int64(4*processors))))
	todo := make(chan part, len(parts))
	for _, p := range parts {
		todo <- p
	}
	close(todo)
	var waiting sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for range processors {
		group.Go(func() (err error) {
			pouring := pouring{writer: w, touched: touched, done: done}
			if done != nil {
				s := w.newSettler(&waiting)
				defer func() { err = errors.Join(err, s.close()) }()
				if err := s.begin(); err != nil {
					return err
				}
				s.resolver.record = w.sorter.get
				pouring.settler = s
			}
			for p := range todo {
				if err := pouring.part(ctx, p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// pouring writes parts. It is not safe for concurrent use.
type pouring struct {
	*writer
	settler *settler         // nil if the patients are settled later
	touched *pebble.Snapshot // source of the t keys
	done    func()
}

func (p *pouring) part(ctx context.Context, of part) (err error) {
	lower, upper := of.keys(kCompartment)
	from, err := p.sorter.merging(lower)
	if err != nil {
		return err
	}
	to := &tables{store: p.store}
	defer func() { err = errors.Join(err, to.close()) }()
	if p.settler == nil {
		err = from.before(upper, to.set)
	} else {
		err = p.settle(ctx, of, from, to)
	}
	if err == nil {
		err = to.ingest(ctx)
	}
	if err == nil && p.settler != nil {
		err = p.settler.flush()
	}
	return err
}

// settle settles the patients of a part.
func (p *pouring) settle(ctx context.Context, of part, from *merging, to *tables) error {
	p.settler.records, p.settler.out = from, to
	lower, upper := of.keys(kTouched)
	err := between(p.touched, lower, upper, func(k, _ []byte) error {
		patient := string(k[1:])
		if err := p.settler.settle(patient); err != nil {
			return fmt.Errorf("settle patient %s: %w", patient, err)
		}
		p.done()
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	_, end := of.keys(kCompartment)
	return from.before(end, func(_, _ []byte) error { return errUnsettled })
}

// ingest adds the tables to the store.
func (t *tables) ingest(ctx context.Context) error {
	if err := t.end(); err != nil || len(t.paths) == 0 {
		return err
	}
	if err := t.store.db.Ingest(ctx, t.paths); err != nil {
		return fmt.Errorf("write record store: %w", err)
	}
	return nil
}

// mergeOthers merges the tables of all keys except those of compartments.
func (s *Store) mergeOthers(ctx context.Context) error {
	err := s.db.Compact(ctx, []byte{0}, []byte{kCompartment}, true)
	return errors.Join(err, s.db.Compact(ctx, []byte{kCompartment + 1}, []byte{0xff}, true))
}
