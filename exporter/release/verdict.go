package release

import (
	"strings"

	"ehi-server/shared/ehi"
)

// verdict is the decision about a resource: the number of the reason why it is withheld, 0 if it
// is released; and flags.
type verdict uint16

const (
	// partial means that a part of it, or of one of its parts, is withheld for a reason other than
	// an unticked form line, see consistsOf.
	partial   verdict = 0x100
	stripped  verdict = 0x80 // its presentedForm is removed
	sensitive verdict = 0x40 // withheld for its own content
	held      verdict = 0x20 // a Binary that something refers to
	flags             = partial | stripped | sensitive | held
)

func (v verdict) reason() int    { return int(v &^ flags) }
func (v verdict) withheld() bool { return v.reason() != 0 }

// unused reports whether a resource is withheld only because no released resource uses it. No
// withheld resource uses it either, so it does not count as withheld for resources that refer to
// it.
func (v verdict) unused() bool { return reasons[v.reason()] == unusedName }

// kept reports whether a resource is withheld because of the form, or because of another kept
// resource.
func (v verdict) kept() bool { return v.withheld() && !v.unused() }

// unticked reports whether a resource is withheld only because its form line is not ticked, or
// does not include its date.
func (v verdict) unticked() bool { return strings.HasPrefix(reasons[v.reason()], categoryReason) }

// telling reports whether a resource is withheld for a reason other than an unticked form line.
func (v verdict) telling(of resource) bool {
	if of.typ == binaryNumber { // its verdict follows from its holders
		return v&sensitive != 0
	}
	return v.kept() && !v.unticked()
}

// hidesForm reports whether the presentedForm of a resource, or of a report that it contains, is
// removed, or may be. A Patient is stripped of other things.
func (v verdict) hidesForm(of resource) bool {
	return v&partial != 0 || v&stripped != 0 && of.typ != patientNumber
}

// notable reports whether a resource is withheld, or loses a part of its own.
func (v verdict) notable() bool { return v.withheld() || v&(stripped|partial) != 0 }

// reasons are the reasons why resources are withheld, by number; 0 means none.
var reasons = func() []string {
	names := []string{""}
	for _, a := range ehi.Authorizations() {
		names = append(names, sensitiveReason+string(a.Key))
	}
	for _, c := range ehi.Categories() {
		names = append(names, categoryReason+string(c.Key))
	}
	names = append(names, referenceOnlyName, unusedName)
	if len(names) > int(^flags)+1 {
		panic("release: a verdict has too few bits for the number of a reason")
	}
	return names
}()

// because maps each reason to its verdict.
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

// verdicts holds the verdict on each resource of a record.
type verdicts struct {
	*index[verdict]
	// sieve contains the ids of all kept resources and few others. It answers most look-ups
	// without waiting for memory. It is nil until sift.
	sieve filter
}

// sift builds the sieve.
func (x *verdicts) sift() {
	x.sieve = newFilter(x.size())
	x.each(func(r resource, v verdict) { x.note(r, v) })
}

// note adds a kept resource to the sieve.
func (x verdicts) note(r resource, v verdict) {
	if x.sieve != nil && v.kept() {
		x.sieve.add(r.id.high)
	}
}

// mayKeep reports whether a resource may be kept. false is certain.
func (x verdicts) mayKeep(r resource) bool { return x.sieve == nil || x.sieve.has(r.id.high) }

// put sets the verdict on a resource. If a resource occurs twice, it is withheld if either
// occurrence is, and sensitive likewise, in any order. The same holds for two resources whose
// hashes collide.
func (x verdicts) put(r resource, v verdict) {
	at, found := x.add(r)
	if found && !before(v, *at) {
		v, *at = *at, v
	}
	*at = v | *at&flags
	x.note(r, *at)
}

// before reports whether v has precedence over w: sensitive content first, then other reasons in
// the order of reasons, then none.
func before(v, w verdict) bool {
	if (v^w)&sensitive != 0 {
		return v&sensitive != 0
	}
	return v.withheld() && (!w.withheld() || v.reason() < w.reason())
}

// set changes the reason of a resource in the index.
func (x verdicts) set(r resource, v verdict) {
	x.change(r, func(old verdict) verdict { return old&flags | v })
	x.note(r, v)
}

// mark adds flags to a resource in the index.
func (x verdicts) mark(r resource, v verdict) {
	x.change(r, func(old verdict) verdict { return old | v })
}

// shares reports whether the index contains any resource with an id.
func (x verdicts) shares(h idHash) bool {
	released, withheld := x.of(h)
	return released || withheld
}

// of reports whether some resources with an id are released, and whether some are withheld, of
// any type.
func (x verdicts) of(h idHash) (released, withheld bool) {
	x.sharing(h, func(_ uint16, v verdict) {
		withheld = withheld || v.withheld()
		released = released || !v.withheld()
	})
	return released, withheld
}
