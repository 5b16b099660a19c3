//go:build cgo && linux

package dataset

/*
#include <malloc.h>

// Pebble's blocks are the C library's memory where cgo is in use. With a heap for each thread, which is glibc's habit, the freed blocks of
// each of them stay behind, and a scan of 2 GB takes twice the memory that the cache is allowed. glibc reads the setting once, at the first
// thread: it has to be there before Go starts.
__attribute__((constructor)) static void one_arena(void) {
#ifdef M_ARENA_MAX
	mallopt(M_ARENA_MAX, 1);
#endif
}
*/
import "C"
