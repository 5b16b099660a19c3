package native

// spare keeps memory for the next who needs such. Its capacity is how much it keeps. A sync.Pool
// would keep none of it: what is used once in each task is used less often than garbage is
// collected.
type spare[T any] chan T

// take returns kept memory, or new memory.
func (s spare[T]) take(create func() T) T {
	select {
	case v := <-s:
		return v
	default:
		return create()
	}
}

// give keeps memory that is not used any more, if there is room.
func (s spare[T]) give(v T) {
	select {
	case s <- v:
	default:
	}
}
