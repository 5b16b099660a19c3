package dataset

import (
	"hash/maphash"
	"math/bits"
)

// filter says which keys are certainly not in the store: a Bloom filter whose bits of one key lie in one cache line. It has a fixed
// size, so that what an import takes is bounded; beyond some 15 million keys it is wrong more often than once in a hundred times, and
// a look into the store decides.
type filter struct {
	seed  maphash.Seed
	words []uint64
	some  bool // whether any key was added
}

const (
	filterBytes = 16 << 20
	lineWords   = 8 // a cache line of 64 bytes
	probes      = 6
)

func newFilter() *filter { return newFilterOf(filterBytes) }

// newFilterOf makes a filter of a size in bytes: with ten bits a key it is wrong once in a hundred times.
func newFilterOf(size int) *filter {
	return &filter{seed: maphash.MakeSeed(), words: make([]uint64, size/8)}
}

// clear forgets all keys.
func (f *filter) clear() {
	if f.some {
		clear(f.words)
		f.some = false
	}
}

// line finds the words of a key, and the bits to look at.
func (f *filter) line(k []byte) (words []uint64, h uint64) {
	h = maphash.Bytes(f.seed, k)
	at, _ := bits.Mul64(h, uint64(len(f.words)/lineWords))
	return f.words[at*lineWords : (at+1)*lineWords], h * 0x9e3779b97f4a7c15
}

func (f *filter) add(k []byte) {
	f.some = true
	words, h := f.line(k)
	for range probes {
		words[h>>6&(lineWords-1)] |= 1 << (h & 63)
		h = bits.RotateLeft64(h, -9)
	}
}

// lacks reports whether a key was never added.
func (f *filter) lacks(k []byte) bool {
	if !f.some {
		return true
	}
	words, h := f.line(k)
	for range probes {
		if words[h>>6&(lineWords-1)]&(1<<(h&63)) == 0 {
			return true
		}
		h = bits.RotateLeft64(h, -9)
	}
	return false
}
