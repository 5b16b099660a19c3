package dataset

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
)

// Generate stores the synthetic patients of a configuration, with their shared resources, their
// group and their native content. No resource is malformed. progress is called with the number
// of patients.
func (s *Store) Generate(
	ctx context.Context, c synthetic.Config, now time.Time, progress func(done, total int),
) error {
	c.Errors = 0
	r, w := io.Pipe()
	made := make(chan error, 1)
	go func() {
		err := generate(ctx, w, c, progress)
		made <- errors.Join(err, w.CloseWithError(err))
	}()
	_, err := s.ImportFrom(ctx, "synthetic patients", r, source.ImportOptions{
		Now:      now,
		Strict:   true,
		MoveFrom: nothingMoves,
	})
	err = errors.Join(err, r.CloseWithError(io.ErrClosedPipe), <-made)
	if err != nil || c.Native == "" {
		return err
	}
	from, err := synthetic.NewSource(c)
	if err != nil {
		return err
	}
	_, err = s.load(ctx, source.ImportOptions{Now: now, Strict: true}, func(im *importer) error {
		im.generated = from
		return nil
	})
	return errors.Join(err, from.Close())
}

// generated names generated content in problems.
const generated = "synthetic patients"

// copy stores the native content of a source.
func (n *native) copy(ctx context.Context, from *synthetic.Source) error {
	tables, err := from.Tables(ctx)
	if err != nil {
		return err
	}
	if tables != nil {
		d, _, err := n.learn(ctx, generated, generated, tables)
		if err != nil {
			return err
		}
		n.rows = n.newRows(d)
	}
	all, err := from.Freeze(ctx, generated)
	if err != nil {
		return err
	}
	return errors.Join(n.copyAll(ctx, all), all.Close())
}

// copyAll stores the native content of a population: the rows of one table after the other, and
// then the documents.
func (n *native) copyAll(ctx context.Context, from source.Population) error {
	everything := source.Selection{Level: ehi.System}
	parts, err := from.Plan(ctx, everything, math.MaxInt64)
	if err != nil {
		return err
	}
	var open []source.Record
	defer func() {
		for _, r := range open {
			_ = r.Close() // read only
		}
	}()
	for _, part := range parts {
		r, err := from.Open(ctx, everything, part)
		if err != nil {
			return err
		}
		open = append(open, r)
	}
	if n.rows != nil {
		for _, t := range n.rows.dictionary.order {
			if err := n.rows.copy(ctx, t, open); err != nil {
				return fmt.Errorf("table %s: %w", t.of.Name, err)
			}
		}
	}
	for _, r := range open {
		err := r.Documents(ctx, source.Query{}, func(d *source.Document) error {
			return n.copyDocument(ctx, d)
		})
		if err != nil {
			return err
		}
	}
	return n.publish(ctx)
}

// copy stores the rows of a table.
func (r *rows) copy(ctx context.Context, t *table, from []source.Record) error {
	if from[0].Tables().Table(t.of.Name) == nil { // of an earlier import
		return nil
	}
	if err := r.begin(passFile{Name: generated + ", table " + t.of.Name}); err != nil {
		return err
	}
	line := 1
	for _, record := range from {
		err := record.Rows(ctx, t.of.Name, func(block source.Rows) error {
			for raw := range t.codec.Rows(block.Data) {
				values, err := t.codec.Fields(raw, r.fields)
				if err != nil {
					return err
				}
				r.fields = values
				line++
				at := sequenceOf(r.pass, line)
				err = errors.Join(r.put(t, raw, values, at), r.check(t, values, at))
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// copyDocument stores a document.
func (n *native) copyDocument(ctx context.Context, d *source.Document) error {
	content, err := d.Open()
	if err != nil {
		return err
	}
	blob, err := n.blobs.Add(content)
	if err := errors.Join(err, content.Close()); err != nil {
		return err
	}
	return n.document(ctx, newDocument{d.ID, documentEntry{
		Name: d.Name, ContentType: d.ContentType, Title: d.Title, Created: d.Created,
		Updated: n.now(),
		marks: marks{
			Code: d.Type, Codings: slices.Clone(d.Codings), Category: d.Category,
			Labels: slices.Clone(d.Labels), Resource: d.Resource,
			Related: slices.Clone(d.Related), Unread: d.Unread,
		},
		Blob: blob.Name.String(), Size: blob.Size, SHA1: blob.SHA1, Sum: blob.Sum,
		Owner: owner{ID: d.Patient},
	}})
}

// generate writes the patients as NDJSON.
func generate(
	ctx context.Context, w io.Writer, c synthetic.Config, progress func(done, total int),
) error {
	out := bufio.NewWriterSize(w, chunkBytes)
	put := func(r source.Resource) error {
		_, err := out.Write(append(r.Line, '\n'))
		return err
	}
	g := synthetic.NewGenerator(c)
	if err := g.Shared(put); err != nil {
		return err
	}
	for k := range c.Patients {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := g.Patient(k, put); err != nil {
			return err
		}
		progress(k+1, c.Patients)
	}
	return errors.Join(put(source.Resource{Line: c.CohortGroup()}), out.Flush())
}
