//go:build cgo && linux

package dataset

/*
#include <malloc.h>

// With cgo, Pebble allocates its blocks from the C library. By default glibc uses a heap for each
// thread, and each heap keeps its freed blocks: a scan of 2 GB takes twice the memory that the
// cache is allowed. glibc reads the setting only once, when the first thread is created, so it must
// be set before Go starts.
//
// The block of a large resource has a mapping of its own, which is returned to the system when the
// block is freed. By default glibc then raises the threshold for such mappings, up to 32 MB, so
// that hundreds of freed blocks of 8 MB are kept.
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
