package dataset

import (
	"bufio"
	"context"
	"errors"
	"io"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
)

// Generate stores the synthetic patients of a configuration, with their shared resources and
// their group. No resource is malformed. progress is called with the number of patients.
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
		Now:    now,
		Strict: true,
	})
	return errors.Join(err, r.CloseWithError(io.ErrClosedPipe), <-made)
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
