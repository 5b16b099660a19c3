package dataset

import (
	"context"
	"time"

	"ehi-server/exporter/synthetic"
)

// Generate writes n synthetic patients of a seed into the store. progress is told how many are done.
func (s *Store) Generate(ctx context.Context, seed uint64, n int, now time.Time, progress func(done, total int)) error {
	w := s.NewWriter(now)
	defer w.Close() // everything that counts was flushed by Settle
	put := func(line []byte) error { return w.Put(line, nil, "") }
	g := synthetic.New(seed)
	if err := g.Shared(put); err != nil {
		return err
	}
	for k := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := g.Patient(k, put); err != nil {
			return err
		}
		progress(k+1, n)
	}
	return w.Settle(ctx, func(int, int) {})
}
