package dataset

import (
	"hash/maphash"
	"math/bits"
)

// filter is a Bloom filter whose bits for a key are in one cache line. It reports keys that are
// certainly not in the store. Its size is bounded, which bounds the memory of an import. Beyond
// 15 million keys it has more than 1 % false positives, for which the store is read.
//
// It starts small, because each access to a large filter waits for memory. When it is full,
// later keys go into a large one beside it.
type filter struct {
	seed  maphash.Seed
	words []uint64
	older []uint64 // the keys from before it grew; nil before
	room  int      // how many more keys fit before it grows; 0 if it does not grow
	some  bool     // whether a key was added
}

const (
	filterBytes      = 16 << 20
	smallFilterBytes = 2 << 20
	// smallFilterKeys allows twenty bits for each key: the small filter is used forever and
	// needs fewer false positives than the large one.
	smallFilterKeys = smallFilterBytes * 8 / 20

	lineWords = 8 // a cache line of 64 bytes
	probes    = 6
)

func newFilter() *filter {
	f := newFilterOf(smallFilterBytes)
	f.room = smallFilterKeys
	return f
}

// newFilterOf returns a filter of a size in bytes. With ten bits per key it has 1 % false
// positives.
func newFilterOf(size int) *filter {
	return &filter{seed: maphash.MakeSeed(), words: make([]uint64, size/8)}
}

// clear removes all keys of a filter that does not grow.
func (f *filter) clear() {
	if f.some {
		clear(f.words)
		f.some = false
	}
}

func (f *filter) hash(k []byte) uint64 { return maphash.Bytes(f.seed, k) }

// line returns the words of a key and the bits to test, by its hash.
func line(all []uint64, h uint64) (words []uint64, probe uint64) {
	at, _ := bits.Mul64(h, uint64(len(all)/lineWords))
	return all[at*lineWords : (at+1)*lineWords], h * 0x9e3779b97f4a7c15
}

func (f *filter) add(k []byte) {
	f.some = true
	words, h := line(f.words, f.hash(k))
	added := false
	for range probes {
		word, bit := &words[h>>6&(lineWords-1)], uint64(1)<<(h&63)
		added = added || *word&bit == 0
		*word |= bit
		h = bits.RotateLeft64(h, -9)
	}
	if !added || f.room == 0 {
		return
	}
	if f.room--; f.room == 0 {
		f.words, f.older = make([]uint64, filterBytes/8), f.words
	}
}

// lacks reports whether a key was certainly never added.
func (f *filter) lacks(k []byte) bool {
	if !f.some {
		return true
	}
	h := f.hash(k)
	return lacks(f.words, h) && (f.older == nil || lacks(f.older, h))
}

func lacks(all []uint64, h uint64) bool {
	words, h := line(all, h)
	for range probes {
		if words[h>>6&(lineWords-1)]&(1<<(h&63)) == 0 {
			return true
		}
		h = bits.RotateLeft64(h, -9)
	}
	return false
}

// near prefetches the words of a key, by its hash.
func (f *filter) near(h uint64) uint64 {
	words, _ := line(f.words, h)
	if f.older == nil {
		return words[0]
	}
	older, _ := line(f.older, h)
	return words[0] + older[0]
}
