package dataset

import (
	"hash/maphash"
	"slices"
)

// owners caches the owners of the resources that were written last, because the following ones
// ask for them. It has a fixed size: each group of slots keeps its latest resources. A resource
// is identified by 88 bits of seeded hashes of its o key.
type owners struct {
	batch    uint8 // number of batches written
	lost     bool  // something of the current batch was dropped
	seeds    [2]maphash.Seed
	slots    []ownerSlot
	patients []string // by number; the first is "", the owner of shared resources
	numbers  map[string]uint32
}

type ownerSlot struct {
	first   uint64
	second  uint32 // 24 bits, and the batch that sets the o key
	patient uint32 // its number + 1; 0 for an empty slot
}

// batch returns the batch that sets the o key, modulo 256.
func (s *ownerSlot) batch() uint8 { return uint8(s.second) }

const (
	ownerSlots = 1 << 19 // of 16 bytes
	// ownerGroup is how many slots a resource may use: a cache line. With a single slot, half of
	// the resources of a full table would have displaced others.
	ownerGroup = 4
	// ownerPatients is how many patients can be numbered. Beyond that the cache is cleared.
	ownerPatients = 100_000
)

func newOwners() *owners {
	o := &owners{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	o.forget()
	return o
}

func (o *owners) forget() {
	o.slots, o.lost = make([]ownerSlot, ownerSlots), true
	o.patients, o.numbers = []string{""}, map[string]uint32{"": 0}
}

func (o *owners) hash(k []byte) uint64 { return maphash.Bytes(o.seeds[0], k) }

// near prefetches the slots of a resource, by the hash of its o key.
func (o *owners) near(h uint64) uint64 {
	return o.slots[h%(ownerSlots/ownerGroup)*ownerGroup].first
}

// group returns the slots of a resource, the latest first, and the slot to look for.
func (o *owners) group(k []byte) (slots []ownerSlot, want ownerSlot) {
	want.first = o.hash(k)
	want.second = uint32(maphash.Bytes(o.seeds[1], k))&^0xff | uint32(o.batch)
	at := want.first % (ownerSlots / ownerGroup) * ownerGroup
	return o.slots[at : at+ownerGroup], want
}

// slotOf returns the index of a resource's slot, or -1.
func slotOf(slots []ownerSlot, want ownerSlot) int {
	return slices.IndexFunc(slots, func(s ownerSlot) bool {
		return s.patient != 0 && s.first == want.first && s.second>>8 == want.second>>8
	})
}

// set caches the value of an o key.
func (o *owners) set(k []byte, patient string) {
	number, known := o.numbers[patient]
	if !known {
		if len(o.patients) >= ownerPatients {
			o.forget()
		}
		number = uint32(len(o.patients))
		o.numbers[patient] = number
		o.patients = append(o.patients, patient)
	}
	slots, want := o.group(k)
	at := slotOf(slots, want)
	if at < 0 {
		at = len(slots) - 1 // replaces the oldest
		o.lost = o.lost || slots[at].patient != 0 && slots[at].batch() == o.batch
	}
	copy(slots[1:at+1], slots[:at])
	want.patient = number + 1
	slots[0] = want
}

// delete removes an o key.
func (o *owners) delete(k []byte) {
	slots, want := o.group(k)
	if at := slotOf(slots, want); at >= 0 {
		slots[at] = ownerSlot{}
	}
}

// maySet reports whether the current batch may set an o key.
func (o *owners) maySet(k []byte) bool {
	slots, want := o.group(k)
	if at := slotOf(slots, want); at >= 0 {
		return slots[at].batch() == o.batch
	}
	return o.lost
}

// written records that the batch is in the store.
func (o *owners) written() { o.batch, o.lost = o.batch+1, false }

// get returns the value of an o key. ok is false if it is not cached.
func (o *owners) get(k []byte) (patient string, ok bool) {
	slots, want := o.group(k)
	at := slotOf(slots, want)
	if at < 0 {
		return "", false
	}
	return o.patients[slots[at].patient-1], true
}
