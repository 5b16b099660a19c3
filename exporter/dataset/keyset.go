package dataset

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// keyset holds the keys of the rows in a table's files, to find those that occur twice before
// anything of the table is stored. It keeps them as digests below kScratch in the store, so that
// it needs no memory for each row. Nobody else reads these: what a process leaves that was killed
// has no meaning, and the next import removes it.
type keyset struct {
	store *Store
	batch *pebble.Batch // is read, too
	met   *filter
}

// newKeyset returns an empty set. The caller closes it.
func (s *Store) newKeyset() (*keyset, error) {
	k := &keyset{store: s, batch: s.db.NewIndexedBatch(), met: newFilter()}
	if err := s.dropScratch(); err != nil {
		return nil, errors.Join(err, k.batch.Close())
	}
	return k, nil
}

// close removes all keys.
func (k *keyset) close() error { return errors.Join(k.batch.Close(), k.store.dropScratch()) }

// dropScratch removes the keys that sets had, also those of a process that was killed.
func (s *Store) dropScratch() error {
	there, err := some(s.db, []byte{kScratch})
	if err != nil || !there {
		return err
	}
	err = s.db.DeleteRange([]byte{kScratch}, []byte{kScratch + 1}, pebble.NoSync)
	if err != nil {
		return fmt.Errorf("write record store: %w", plainError(err))
	}
	return nil
}

// rowAt is where a row is: in the file with a number, and in a line.
type rowAt struct{ file, line int }

// add adds the digest of a key of an index. If the set has it, it returns where that row is.
func (k *keyset) add(index int, d digest, at rowAt) (first rowAt, twice bool, err error) {
	of := append([]byte{kScratch, byte(index)}, d[:]...)
	if !k.met.lacks(of) {
		v, err := get(k.batch, of)
		if err != nil {
			return first, false, err
		}
		if v != nil {
			file, n := binary.Uvarint(v)
			line, _ := binary.Uvarint(v[n:])
			return rowAt{int(file), int(line)}, true, nil
		}
	}
	k.met.add(of)
	v := binary.AppendUvarint(nil, uint64(at.file))
	err = k.batch.Set(of, binary.AppendUvarint(v, uint64(at.line)), nil)
	if err != nil || k.batch.Len() < batchBytes {
		return first, false, err
	}
	if err := k.batch.Commit(pebble.NoSync); err != nil {
		return first, false, fmt.Errorf("write record store: %w", plainError(err))
	}
	k.batch.Reset()
	return first, false, nil
}
