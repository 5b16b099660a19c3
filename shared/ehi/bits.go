package ehi

import "math/bits"

// Bits is a set of small numbers, eight a byte. It is a value: With returns another one.
type Bits []byte

// Has reports whether n is in the set.
func (b Bits) Has(n int) bool { return n/8 < len(b) && b[n/8]&(1<<(n%8)) != 0 }

// With returns the set with n in it; b is unchanged.
func (b Bits) With(n int) Bits {
	out := make(Bits, max(len(b), n/8+1))
	copy(out, b)
	out[n/8] |= 1 << (n % 8)
	return out
}

// Count is how many numbers are in the set.
func (b Bits) Count() (n int) {
	for _, x := range b {
		n += bits.OnesCount8(x)
	}
	return n
}
