package dataset

import "hash/maphash"

// owners remembers whose the resources are that were written last, since what follows them asks. It
// has a fixed size: of two resources that share a slot the later one is remembered. Resources of
// several patients are left out. A resource is known by 96 bits of seeded hashes of its o key.
type owners struct {
	seeds    [2]maphash.Seed
	slots    []ownerSlot
	patients []string // by number; the first is "", the owner of what is shared
	numbers  map[string]uint32
}

type ownerSlot struct {
	first   uint64
	second  uint32
	patient uint32 // its number + 1; 0 for an empty slot
}

const (
	ownerSlots = 1 << 19 // of 16 bytes
	// ownerPatients bounds the patients that are numbered; of more, all is forgotten.
	ownerPatients = 100_000
)

func newOwners() *owners {
	o := &owners{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	o.forget()
	return o
}

func (o *owners) forget() {
	o.slots = make([]ownerSlot, ownerSlots)
	o.patients, o.numbers = []string{""}, map[string]uint32{"": 0}
}

// slot is where a resource is remembered, and by what.
func (o *owners) slot(k []byte) (at *ownerSlot, want ownerSlot) {
	want.first = maphash.Bytes(o.seeds[0], k)
	want.second = uint32(maphash.Bytes(o.seeds[1], k))
	return &o.slots[want.first%ownerSlots], want
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
	at, want := o.slot(k)
	want.patient = number + 1
	*at = want
}

// delete forgets an o key.
func (o *owners) delete(k []byte) {
	if at, want := o.slot(k); at.first == want.first && at.second == want.second {
		*at = ownerSlot{}
	}
}

// get gives the value of an o key; ok is false where it is not remembered.
func (o *owners) get(k []byte) (patient string, ok bool) {
	at, want := o.slot(k)
	if at.patient == 0 || at.first != want.first || at.second != want.second {
		return "", false
	}
	return o.patients[at.patient-1], true
}
