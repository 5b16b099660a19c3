package ehi

import (
	"math/bits"
	"slices"
)

// Bits is a set of small non-negative numbers, stored as one bit each. It is a value: With
// returns a new set.
type Bits []byte

// Has reports whether n is in the set.
func (b Bits) Has(n int) bool { return n/8 < len(b) && b[n/8]&(1<<(n%8)) != 0 }

// With returns a copy of the set that includes n.
func (b Bits) With(n int) Bits {
	out := make(Bits, max(len(b), n/8+1))
	copy(out, b)
	out[n/8] |= 1 << (n % 8)
	return out
}

// Without returns a copy of the set that does not include n.
func (b Bits) Without(n int) Bits {
	if !b.Has(n) {
		return b
	}
	out := slices.Clone(b)
	out[n/8] &^= 1 << (n % 8)
	return out
}

// Count returns how many numbers are in the set.
func (b Bits) Count() (n int) {
	for _, x := range b {
		n += bits.OnesCount8(x)
	}
	return n
}
