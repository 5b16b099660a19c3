package dataset

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// gathering is a batch that orders its writes by kind of key before it commits them together.
// Inserting into a memtable is fast if a key is next to the previous one; resources arrive
// ordered by patient, but each writes keys of several kinds.
type gathering struct {
	store *Store
	all   *pebble.Batch // writes of compartment keys; at a commit, all writes
	kinds ['z' + 1]*pebble.Batch
	used  []*pebble.Batch // those of the kinds in use
}

func (s *Store) newGathering() gathering { return gathering{store: s, all: s.newBatch()} }

// of returns the batch for a key. Writes of one key keep their order.
func (g *gathering) of(k []byte) *pebble.Batch {
	if k[0] == kCompartment {
		return g.all
	}
	b := g.kinds[k[0]]
	if b == nil {
		b = g.store.db.NewBatch(pebble.WithMaxRetainedSizeBytes(2 * batchBytes))
		g.kinds[k[0]], g.used = b, append(g.used, b)
	}
	return b
}

func (g *gathering) set(k, v []byte) error { return g.of(k).Set(k, v, nil) }

func (g *gathering) delete(k []byte) error { return g.of(k).Delete(k, nil) }

// size returns the size of the writes in bytes.
func (g *gathering) size() int {
	n := g.all.Len()
	for _, b := range g.used {
		n += b.Len()
	}
	return n
}

// commit writes everything to the store atomically and starts again.
func (g *gathering) commit(opt *pebble.WriteOptions) error {
	for _, b := range g.used {
		if err := g.all.Apply(b, nil); err != nil {
			return err
		}
		b.Reset()
	}
	if err := g.all.Commit(opt); err != nil {
		return err
	}
	g.all.Reset()
	return nil
}

// close releases the memory.
func (g *gathering) close() error {
	err := g.all.Close()
	for _, b := range g.used {
		err = errors.Join(err, b.Close())
	}
	return err
}
