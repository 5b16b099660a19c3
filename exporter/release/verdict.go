package release

import (
	"strings"

	"ehi-server/shared/ehi"
)

// verdict is what was decided about a resource: the number of the reason for which it stays, 0
// where it goes; and flags.
type verdict uint8

const (
	stripped  verdict = 0x80 // its presentedForm stays
	sensitive verdict = 0x40 // its own content keeps it
	held      verdict = 0x20 // it is a Binary, and something refers to it
	flags             = stripped | sensitive | held
)

func (v verdict) reason() int    { return int(v &^ flags) }
func (v verdict) withheld() bool { return v.reason() != 0 }

// unused reports whether a resource stays for this alone: nothing that goes uses it. Nothing that
// stays does, either, so that it counts as withheld for nothing that refers to it.
func (v verdict) unused() bool { return reasons[v.reason()] == unusedName }

// kept reports whether a resource stays for a reason of the form, or because of what does.
func (v verdict) kept() bool { return v.withheld() && !v.unused() }

// unticked reports whether a resource stays only because the form's line of it is not ticked, or of
// other dates.
func (v verdict) unticked() bool { return strings.HasPrefix(reasons[v.reason()], categoryReason) }

// telling reports whether a resource stays for more than an unticked line of the form.
func (v verdict) telling(of resource) bool {
	if of.typ == binaryNumber { // about which is decided by what holds it
		return v&sensitive != 0
	}
	return v.kept() && !v.unticked()
}

// notable reports whether a resource stays, or loses something of its own.
func (v verdict) notable() bool { return v.withheld() || v&stripped != 0 }

// reasons are the reasons for which resources stay, by their numbers; 0 is none.
var reasons = func() []string {
	names := []string{""}
	for _, a := range ehi.Authorizations() {
		names = append(names, sensitiveReason+string(a.Key))
	}
	for _, c := range ehi.Categories() {
		names = append(names, categoryReason+string(c.Key))
	}
	return append(names, referenceOnlyName, unusedName)
}()

// because is the verdict of each reason.
var because = func() map[string]verdict {
	m := map[string]verdict{}
	for number, name := range reasons {
		m[name] = verdict(number)
		if strings.HasPrefix(name, sensitiveReason) {
			m[name] |= sensitive
		}
	}
	return m
}()

// verdicts holds what was decided about each resource of a record.
type verdicts struct {
	*index[verdict]
	// sieve has the ids of all that is kept, and of little else: to most of what is asked about
	// it answers without a wait for memory. It is nil before there is one.
	sieve filter
}

// sift makes the sieve.
func (x *verdicts) sift() {
	x.sieve = newFilter(x.size())
	x.each(func(r resource, v verdict) { x.note(r, v) })
}

// note adds what is kept to the sieve.
func (x verdicts) note(r resource, v verdict) {
	if x.sieve != nil && v.kept() {
		x.sieve.add(r.id.high)
	}
}

// mayKeep reports whether a resource may be kept: it is certain where it is false.
func (x verdicts) mayKeep(r resource) bool { return x.sieve == nil || x.sieve.has(r.id.high) }

// put decides about a resource. What is in a record twice is withheld where one of the two is,
// and sensitive likewise; in whatever order they come. So are two resources that were taken for
// one another.
func (x verdicts) put(r resource, v verdict) {
	at, found := x.add(r)
	if found && !before(v, *at) {
		v, *at = *at, v
	}
	*at = v | *at&flags
	x.note(r, *at)
}

// before reports whether v says more about a resource than w: its sensitive content, another
// reason, none; of two reasons the first in the list.
func before(v, w verdict) bool {
	if (v^w)&sensitive != 0 {
		return v&sensitive != 0
	}
	return v.withheld() && (!w.withheld() || v.reason() < w.reason())
}

// set changes the reason of a resource that is there.
func (x verdicts) set(r resource, v verdict) {
	x.change(r, func(old verdict) verdict { return old&flags | v })
	x.note(r, v)
}

// mark adds flags to a resource that is there.
func (x verdicts) mark(r resource, v verdict) {
	x.change(r, func(old verdict) verdict { return old | v })
}

// shares reports whether something is known of any resource of an id.
func (x verdicts) shares(h idHash) bool {
	released, withheld := x.of(h)
	return released || withheld
}

// of tells about all resources of an id, of whatever type: whether some go, and whether some stay.
func (x verdicts) of(h idHash) (released, withheld bool) {
	x.sharing(h, func(_ uint16, v verdict) {
		withheld = withheld || v.withheld()
		released = released || !v.withheld()
	})
	return released, withheld
}
