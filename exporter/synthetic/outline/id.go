package outline

import (
	"encoding/binary"
	"encoding/hex"
)

// IDSize is the length of an ID.
const IDSize = 36

// ID is the ID of a resource, see package synthetic for its form.
type ID [IDSize]byte

// Nobody is the patient number in the IDs of shared resources.
const Nobody = 1<<48 - 1

// Mix is the finaliser of SplitMix64.
func Mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// NewID returns the ID of resource n of patient k.
func NewID(seed, k uint64, n uint32) (id ID) {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[8:], Mix(seed^Mix(k)))
	binary.BigEndian.PutUint64(raw[:8], k<<16)
	var digits [32]byte
	hex.Encode(digits[:], raw[:])
	copy(id[0:], digits[0:8])
	copy(id[9:], digits[8:12])
	copy(id[24:], digits[20:32])
	id[8], id[13], id[18], id[23] = '-', '-', '-', '-'
	id.Number(n)
	return id
}

// Number changes an ID to that of resource n of the same patient.
func (id *ID) Number(n uint32) {
	const digits = "0123456789abcdef"
	id[14], id[15], id[16], id[17] = '4', digits[n>>22&15], digits[n>>18&15], digits[n>>14&15]
	id[19], id[20], id[21], id[22] =
		digits[8+n>>12&3], digits[n>>8&15], digits[n>>4&15], digits[n&15]
}
