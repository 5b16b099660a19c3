package dataset

// SortInPieces makes the imports of a store that is opened with Bulk sort in pieces of so many
// bytes, and go on without sorting after so many in all, or when so many resources were looked up.
func SortInPieces(s *Store, pile int, all int64, looks int) {
	s.sorting = sorting{pile: pile, block: pile / 4, all: all, looks: looks, part: int64(pile)}
}
