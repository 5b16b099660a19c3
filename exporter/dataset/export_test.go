package dataset

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/segmentio/encoding/json"
)

// SortInPieces makes the imports of a store opened with Bulk sort in pieces of pile bytes. They
// stop sorting after all bytes in total, or after looks lookups of resources.
func SortInPieces(s *Store, pile int, all int64, looks int) {
	s.sorting = sorting{pile: pile, block: pile / 4, all: all, looks: looks, part: int64(pile)}
}

// Logged returns how many bytes of a store are only in its log, and in no table.
func Logged(s *Store) uint64 { return s.db.Metrics().WAL.Size }

// ForgetPatientsOfNotes makes the notes of a store those of an earlier version.
func ForgetPatientsOfNotes(s *Store) error {
	return each(s.db, indexKey(isNote), func(k, v []byte) error {
		var n note
		if err := json.Unmarshal(v, &n); err != nil {
			return err
		}
		n.Owner = owner{}
		text, err := json.Marshal(n)
		return errors.Join(err, s.db.Set(k, text, pebble.NoSync))
	})
}
