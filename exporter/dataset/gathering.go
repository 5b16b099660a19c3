package dataset

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// gathering is a batch whose writes are put in the order of their keys' kinds before they go
// into the store, all at once. A memtable finds the place of a key fast where that is beside the
// key before: resources come in the order of their patients, but each of them writes keys of
// several kinds.
type gathering struct {
	store *Store
	all   *pebble.Batch // writes of compartments' keys, and at a commit all others
	kinds ['z' + 1]*pebble.Batch
	used  []*pebble.Batch // those of kinds that are there
}

func (s *Store) newGathering() gathering { return gathering{store: s, all: s.newBatch()} }

// of is where the writes of a key go. Those of one key stay in their order.
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

// size is how much is gathered, in bytes.
func (g *gathering) size() int {
	n := g.all.Len()
	for _, b := range g.used {
		n += b.Len()
	}
	return n
}

// commit writes all of it to the store, or nothing, and begins anew.
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

// close gives its memory back.
func (g *gathering) close() error {
	err := g.all.Close()
	for _, b := range g.used {
		err = errors.Join(err, b.Close())
	}
	return err
}
