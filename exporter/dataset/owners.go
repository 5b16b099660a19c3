package dataset

import (
	"hash/maphash"
	"slices"
)

// owners remembers whose the resources are that were written last, since what follows them asks. It
// has a fixed size: of the resources that share a group of slots it remembers the latest ones. A
// resource is known by 88 bits of seeded hashes of its o key.
type owners struct {
	batch    uint8 // counts those that were written
	lost     bool  // something of the present batch is not remembered
	seeds    [2]maphash.Seed
	slots    []ownerSlot
	patients []string // by number; the first is "", the owner of what is shared
	numbers  map[string]uint32
}

type ownerSlot struct {
	first   uint64
	second  uint32 // 24 bits, and the batch that sets the o key
	patient uint32 // its number + 1; 0 for an empty slot
}

// batch is the one that sets the o key, or set it 256 batches ago.
func (s *ownerSlot) batch() uint8 { return uint8(s.second) }

const (
	ownerSlots = 1 << 19 // of 16 bytes
	// ownerGroup is how many slots a resource may have: a cache line. With one slot for each,
	// half of the resources of a full table would have pushed others out.
	ownerGroup = 4
	// ownerPatients bounds the patients that are numbered; of more, all is forgotten.
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

// near loads the slots where a resource is remembered, by the hash of its o key.
func (o *owners) near(h uint64) uint64 {
	return o.slots[h%(ownerSlots/ownerGroup)*ownerGroup].first
}

// group is the slots where a resource is remembered, the latest first, and by what.
func (o *owners) group(k []byte) (slots []ownerSlot, want ownerSlot) {
	want.first = o.hash(k)
	want.second = uint32(maphash.Bytes(o.seeds[1], k))&^0xff | uint32(o.batch)
	at := want.first % (ownerSlots / ownerGroup) * ownerGroup
	return o.slots[at : at+ownerGroup], want
}

// slotOf is the index of a resource's slot; -1 where it is not remembered.
func slotOf(slots []ownerSlot, want ownerSlot) int {
	return slices.IndexFunc(slots, func(s ownerSlot) bool {
		return s.patient != 0 && s.first == want.first && s.second>>8 == want.second>>8
	})
}

// set remembers the value of an o key.
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
		at = len(slots) - 1 // the oldest one goes
		o.lost = o.lost || slots[at].patient != 0 && slots[at].batch() == o.batch
	}
	copy(slots[1:at+1], slots[:at])
	want.patient = number + 1
	slots[0] = want
}

// delete forgets an o key.
func (o *owners) delete(k []byte) {
	slots, want := o.group(k)
	if at := slotOf(slots, want); at >= 0 {
		slots[at] = ownerSlot{}
	}
}

// maySet reports whether the present batch may set an o key.
func (o *owners) maySet(k []byte) bool {
	slots, want := o.group(k)
	if at := slotOf(slots, want); at >= 0 {
		return slots[at].batch() == o.batch
	}
	return o.lost
}

// written takes in that the batch is in the store.
func (o *owners) written() { o.batch, o.lost = o.batch+1, false }

// get gives the value of an o key; ok is false where it is not remembered.
func (o *owners) get(k []byte) (patient string, ok bool) {
	slots, want := o.group(k)
	at := slotOf(slots, want)
	if at < 0 {
		return "", false
	}
	return o.patients[slots[at].patient-1], true
}
