package dataset

// SortInPieces makes the imports of a store opened with Bulk sort in pieces of pile bytes. They
// stop sorting after all bytes in total, or after looks lookups of resources.
func SortInPieces(s *Store, pile int, all int64, looks int) {
	s.sorting = sorting{pile: pile, block: pile / 4, all: all, looks: looks, part: int64(pile)}
}

// Logged returns how many bytes of a store are only in its log, and in no table.
func Logged(s *Store) uint64 { return s.db.Metrics().WAL.Size }
