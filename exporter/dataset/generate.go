package dataset

import (
	"context"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
)

// Generate writes the synthetic patients of a configuration into the store, what they share and their group included. What is
// malformed on purpose stays out. progress is told how many patients are done.
func (s *Store) Generate(ctx context.Context, c synthetic.Config, now time.Time, progress func(done, total int)) error {
	w := s.NewWriter(now)
	defer w.Close() // everything that counts was flushed by Settle
	c.Errors = 0
	put := func(r source.Resource) error { return w.Put(r.Line, nil, "") }
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
	if err := w.Put(c.CohortGroup(), nil, ""); err != nil {
		return err
	}
	return w.Settle(ctx, func(int, int) {})
}
