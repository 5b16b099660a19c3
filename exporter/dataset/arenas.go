//go:build cgo && linux

package dataset

/*
#include <malloc.h>

// Pebble's blocks are the C library's memory where cgo is in use. With a heap for each thread, which is glibc's habit, the freed blocks of
// each of them stay behind, and a scan of 2 GB takes twice the memory that the cache is allowed. glibc reads the setting once, at the first
// thread: it has to be there before Go starts.
//
// A block of a large resource has a mapping of its own, which goes back to the system when the block is freed. glibc's habit is to raise
// the size from which that is so as soon as one is freed, up to 32 MB: then blocks of 8 MB stay behind, hundreds of them.
__attribute__((constructor)) static void one_arena(void) {
#ifdef M_ARENA_MAX
	mallopt(M_ARENA_MAX, 1);
#endif
#ifdef M_MMAP_THRESHOLD
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}
*/
import "C"
