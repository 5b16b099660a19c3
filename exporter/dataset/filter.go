package dataset

import (
	"hash/maphash"
	"math/bits"
)

// filter says which keys are certainly not in the store: a Bloom filter whose bits of one key
// lie in one cache line. Its size is bounded, so that what an import takes is; beyond some 15
// million keys it is wrong more often than once in a hundred times, and a look into the store
// decides.
//
// It begins small, since each look into a large one waits for the memory. Once it has enough
// keys, those that follow go into a large one beside it.
type filter struct {
	seed  maphash.Seed
	words []uint64
	older []uint64 // of the keys from before it grew; nil before
	room  int      // how many keys it takes until it grows; 0 where it does not
	some  bool     // whether any key was added
}

const (
	filterBytes      = 16 << 20
	smallFilterBytes = 2 << 20
	// smallFilterKeys has twenty bits for each key: the small one answers for ever, and so has
	// to be wrong more rarely than the large one.
	smallFilterKeys = smallFilterBytes * 8 / 20

	lineWords = 8 // a cache line of 64 bytes
	probes    = 6
)

func newFilter() *filter {
	f := newFilterOf(smallFilterBytes)
	f.room = smallFilterKeys
	return f
}

// newFilterOf makes a filter of a size in bytes: with ten bits a key it is wrong once in a
// hundred times.
func newFilterOf(size int) *filter {
	return &filter{seed: maphash.MakeSeed(), words: make([]uint64, size/8)}
}

// clear forgets all keys of a filter that does not grow.
func (f *filter) clear() {
	if f.some {
		clear(f.words)
		f.some = false
	}
}

func (f *filter) hash(k []byte) uint64 { return maphash.Bytes(f.seed, k) }

// line finds the words of a key, by its hash, and the bits to look at.
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

// lacks reports whether a key was never added.
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

// near loads the words of a key, by its hash.
func (f *filter) near(h uint64) uint64 {
	words, _ := line(f.words, h)
	if f.older == nil {
		return words[0]
	}
	older, _ := line(f.older, h)
	return words[0] + older[0]
}
