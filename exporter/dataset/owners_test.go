package dataset

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// owners remembers what was written last, or nothing.
func TestOwnersRememberTheLastOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := newOwners()
		truth := map[string]string{}
		for range 200 {
			k := fmt.Sprint("o", rapid.IntRange(0, 20).Draw(t, "resource"))
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				o.delete([]byte(k))
				delete(truth, k)
			case 1:
				patient := rapid.SampledFrom([]string{"", "p", "q", "r s"}).Draw(t, "patient")
				o.set([]byte(k), patient)
				truth[k] = patient
			}
			want, there := truth[k]
			if got, ok := o.get([]byte(k)); ok && (!there || got != want) {
				t.Fatalf("%s is %q's, want %q, %v", k, got, want, there)
			}
		}
	})
}

// For any number of resources and patients, the remembered owners are correct, and the size is
// constant.
func TestOwnersAreBounded(t *testing.T) {
	o := newOwners()
	of := func(n int) (k []byte, patient string) {
		return fmt.Append(nil, "o", n), fmt.Sprint("p", n/2)
	}
	remembered := 0
	const many = 3 * ownerPatients
	for n := range many {
		o.set(of(n))
	}
	for n := range many {
		k, want := of(n)
		got, ok := o.get(k)
		if ok && got != want {
			t.Fatalf("%s is %q's, want %q", k, got, want)
		}
		if ok {
			remembered++
		}
	}
	if remembered < ownerPatients/2 || len(o.patients) > ownerPatients ||
		len(o.slots) != ownerSlots {
		t.Errorf("%d remembered, %d patients, %d slots", remembered, len(o.patients), len(o.slots))
	}
}

// Resources displace each other late: with half as many resources as slots, nearly all are
// remembered. With one slot for each, it would be four of five.
func TestOwnersFillTheirSlots(t *testing.T) {
	o := newOwners()
	remembered := 0
	const some = ownerSlots / 2
	for n := range some {
		o.set(fmt.Append(nil, "o", n), "p")
	}
	for n := range some {
		if _, ok := o.get(fmt.Append(nil, "o", n)); ok {
			remembered++
		}
	}
	if remembered < some*9/10 {
		t.Errorf("%d of %d remembered", remembered, some)
	}
}
