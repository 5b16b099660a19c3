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

// With returns a copy of the set that includes some numbers.
func (b Bits) With(numbers ...int) Bits {
	size := len(b)
	for _, n := range numbers {
		size = max(size, n/8+1)
	}
	out := make(Bits, size)
	copy(out, b)
	for _, n := range numbers {
		out[n/8] |= 1 << (n % 8)
	}
	return out
}

// Without returns a copy of the set that does not include some numbers.
func (b Bits) Without(numbers ...int) Bits {
	out := slices.Clone(b)
	for _, n := range numbers {
		if out.Has(n) {
			out[n/8] &^= 1 << (n % 8)
		}
	}
	return out
}

// Count returns how many numbers are in the set.
func (b Bits) Count() (n int) {
	for _, x := range b {
		n += bits.OnesCount8(x)
	}
	return n
}
