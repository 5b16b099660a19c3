package release

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// Observer takes the resources of a record for its Review. It is for one goroutine. Several
// Observers may share a record, in any order.
type Observer struct {
	review  *Review
	examine examiner
	cleaner *cleaner // for Patients; created on first use
	// innerWalk walks resources that contain others.
	innerWalk walk
	released  roll            // resources that are released unconditionally
	inside    list            // released resources inside others
	lines     lines           // of bills
	pointers  pointers        // resources that depend on what they refer to
	parts     pointers        // resources and those of their parts that pointers lack
	ids       idSpellings     // of the ids of resources that are, or may be, withheld
	numbers   numberSpellings // of their identifiers
	// the first halves of the hashes of released resources' distinctive identifiers
	published []uint64
	pending   []decided // decisions not yet in the index
	support   support   // references to supporting resources, while undecided
	recent    [256]name // some of support.used; most are referred to repeatedly
	// sure are some of released. They are certainly released, unless they occur again, see
	// settled.
	sure   [1 << 10]resource
	relied bool // something was skipped because of sure
	seeking
}

// decided is the policy's verdict on a resource.
type decided struct {
	of resource
	v  verdict
}

// mostPending is how many decisions an observer buffers. While it adds them to the index, other
// observers wait.
const mostPending = 256

// put adds a verdict, see verdicts.put.
func (o *Observer) put(self resource, v verdict) {
	if o.pending = append(o.pending, decided{self, v}); len(o.pending) >= mostPending {
		o.flush()
	}
}

// flush adds the pending verdicts to the index.
func (o *Observer) flush() {
	o.review.indexing.Lock()
	defer o.review.indexing.Unlock()
	for _, p := range o.pending {
		o.review.index.put(p.of, p.v)
	}
	o.pending = o.pending[:0]
}

// name is a type and id.
type name struct{ typ, id []byte }

// slot returns the slot of a resource in recent.
func (o *Observer) slot(t target) *name {
	return &o.recent[slotOf(t.id)%uint32(len(o.recent))]
}

// slotOf spreads ids over the slots of a table. It uses eight bytes each from the beginning,
// middle and end, because some systems vary only one of these.
func slotOf(id []byte) uint32 {
	n := len(id)
	if n < 8 {
		h := uint32(n)
		for _, c := range id {
			h = h*31 + uint32(c)
		}
		return h
	}
	middle := n/2 - 4
	h := binary.LittleEndian.Uint64(id) ^
		bits.RotateLeft64(binary.LittleEndian.Uint64(id[middle:]), 21) ^
		bits.RotateLeft64(binary.LittleEndian.Uint64(id[n-8:]), 42)
	return uint32(h * 0x9e3779b97f4a7c15 >> 32)
}

// is reports whether a name equals a target.
func (n *name) is(t target) bool {
	return string(n.id) == string(t.id) && string(n.typ) == string(t.typ)
}

// seen reports whether a resource is in recent, and adds it.
func (o *Observer) seen(t target) bool {
	slot := o.slot(t)
	if slot.is(t) {
		return true
	}
	slot.typ, slot.id = append(slot.typ[:0], t.typ...), append(slot.id[:0], t.id...)
	return false
}

// Observer returns a new observer. Conclude the review only after all its observers have seen
// their last resource.
func (r *Review) Observer() *Observer {
	o := &Observer{review: r, examine: r.policy.examiner(), support: newSupport()}
	r.gathered.Lock()
	defer r.gathered.Unlock()
	r.observers = append(r.observers, o)
	return o
}

// Observe takes one resource. Errors: the line is not JSON.
func (o *Observer) Observe(line []byte) error {
	r := o.review
	if r.loose {
		o.seeking.addRelative(line)
	}
	if q, ok := o.examine.quick(line); ok {
		o.decided(resource{q.number, r.index.hash(q.facts.id)}, q.facts, q.verdict)
		return nil
	}
	f, v, err := o.facts(line)
	if err != nil {
		return err
	}
	self := r.index.resource(f.typ, f.id)
	typ, id, ok := identify(line)
	irregular := ok && !(bytes.Equal(typ, f.typ) && bytes.Equal(id, f.id))
	if irregular {
		r.gathered.Lock()
		r.irregular = true
		r.gathered.Unlock()
	}
	if f.inner {
		return o.observeHolder(line, f.typ, f.id, nil)
	}
	o.decided(self, f, v)
	return nil
}

// facts returns the facts of a resource as released, and the policy's verdict on it alone.
func (o *Observer) facts(line []byte) (f *facts, v verdict, err error) {
	if f, err = o.examine.examine(line); err != nil {
		return nil, 0, err
	}
	v = o.review.policy.verdict(f)
	if o.review.policy.needsCleaning(f) {
		f, err = o.cleaned(line)
	}
	return f, v, err
}

// cleaned returns the facts of a Patient as released, except for the authorizations, which are
// those of the original.
func (o *Observer) cleaned(line []byte) (*facts, error) {
	if o.cleaner == nil {
		o.cleaner = o.review.policy.cleaner()
	}
	needs := o.examine.facts.sensitive
	left, _, err := o.cleaner.clean(line)
	if err != nil {
		return nil, err
	}
	f, err := o.examine.examine(left)
	f.sensitive = needs
	return f, err
}

// decided records the verdict on a resource.
func (o *Observer) decided(self resource, f *facts, v verdict) {
	if isBill[f.number] && !v.withheld() {
		o.bill(self)
	}
	if len(f.strays) > 0 && !v.withheld() {
		o.seeking.add(f.strays)
	}
	o.tell(self, f, v)
	open := !v.withheld() && o.open(f)
	pointer := open || !v.withheld() && f.copies
	hangs := f.hangs() && (!v.withheld() || string(f.typ) == "Binary")
	made := o.relate(self, f, v, pointer)
	if !v.withheld() && !pointer && !hangs {
		o.publish(f)
		if made {
			o.call(self, f)
		}
	}
	if pointer || hangs {
		o.hang(self, f)
	} else {
		o.refer(f, v)
	}
	if v == 0 && !pointer && !f.related() && f.number != patientNumber {
		o.released.add(self)
		if !made {
			o.sure[self.id.low%uint64(len(o.sure))] = self
		}
		return
	}
	o.gather(self, f, v, pointer, hangs)
	switch {
	case v != 0 || open || hangs:
	case f.copies:
		o.inside.add(self)
	default:
		o.released.add(self)
	}
}

// relate records what the resource is about, if it is a pointer, and its parts. It reports whether
// it has any that may make it partial. A resource that is withheld for more than an unticked form
// line needs no parts, because it counts as withheld itself.
func (o *Observer) relate(self resource, f *facts, v verdict, pointer bool) (made bool) {
	var pointed [groups]place // of the groups of consistsOf
	if pointer {
		f.groups(func(targets []target, at place) {
			if f.copies || !o.settled(targets) {
				o.point(self, targets, at, f.copies)
				pointed[at.group] = at
			}
		})
	}
	if len(f.content)+len(f.deeper) == 0 || v.withheld() && !v.unticked() {
		return false
	}
	return o.consist(self, f, func(at place) bool { return pointed[at.group] == at })
}

// call records by which identifiers others may name a released resource as their part.
func (o *Observer) call(self resource, f *facts) {
	if len(f.identifiers)+len(f.shared) > 0 {
		o.review.gathered.Lock()
		defer o.review.gathered.Unlock()
		o.review.own(self, f.identifiers)
		o.review.own(self, f.shared)
	}
}

// open reports whether the resource may be withheld because of what it is about, by what is
// known.
func (o *Observer) open(f *facts) (is bool) {
	if len(f.content) > 0 {
		f.abouts(func(targets []target, _ bool) { is = is || f.copies || !o.settled(targets) })
	}
	return is
}

// settled reports whether a group of targets withholds nothing, because one of them is certainly
// released. Most resources are about a recent one. A target that occurs again may be withheld
// after all: Conclude detects this, and when the record is observed again, nothing counts as
// settled.
func (o *Observer) settled(targets []target) bool {
	if o.review.unsure {
		return false
	}
	for _, t := range targets {
		if bytes.Equal(t.typ, nameTyp) {
			continue
		}
		to := o.review.index.resource(t.typ, t.id)
		patient := o.review.patient.Load()
		if o.sure[to.id.low%uint64(len(o.sure))] == to || patient != nil && *patient == to {
			o.relied = true
			return true
		}
	}
	return false
}

// verdict returns the policy's verdict on a resource alone.
func (p *Policy) verdict(f *facts) verdict {
	reason := p.withhold(f)
	if reason == "" && p.needsCleaning(f) {
		return stripped
	}
	if reason == "" && f.presents && string(f.typ) == "DiagnosticReport" &&
		!p.allows(f.documentGroup(), f) {
		return stripped
	}
	return because[reason]
}

// related reports whether the decision about the resource or another one may depend on its
// references, apart from what it is about.
func (f *facts) related() bool { return f.together() || f.hangs() }

// together reports whether facts of the resource go into data that all observers share. Few
// resources need that.
func (f *facts) together() bool {
	return f.copies || f.presents || len(f.binaries) > 0 || len(f.taking) > 0 ||
		string(f.typ) == binaryType
}

// hangs reports whether the decision about the resource depends on what refers to it.
func (f *facts) hangs() bool { return supporting[f.number] || string(f.typ) == "Binary" }

// refer records the references of a decided resource to supporting resources.
func (o *Observer) refer(f *facts, v verdict) {
	for _, t := range f.supports {
		if v.withheld() {
			if o.slot(t).is(t) {
				continue // released in any case
			}
			if to := o.resource(t); !v.unticked() {
				o.support.denied[to] = struct{}{}
			} else if !isPart(to.typ) {
				o.support.unticked[to] = struct{}{}
			}
		} else if !o.seen(t) {
			o.support.used[o.resource(t)] = struct{}{}
		}
	}
}

// tell records the supporting resources that a resource only describes.
func (o *Observer) tell(self resource, f *facts, v verdict) {
	for _, t := range f.tells {
		switch to := o.resource(t); {
		case v.withheld():
			o.support.mentioned[to] = struct{}{}
		default:
			o.support.tells[0].add(self)
			o.support.tells[0].add(to)
		}
	}
}

// hang records the references of an undecided resource to supporting resources.
func (o *Observer) hang(self resource, f *facts) {
	s := &o.support
	for _, t := range f.supports {
		if o.slot(t).is(t) {
			continue // released in any case
		}
		to := o.resource(t)
		if _, goes := s.used[to]; goes {
			continue
		}
		s.edges[0].add(self)
		s.edges[0].add(to)
	}
	if supporting[f.number] {
		s.selves[self] = struct{}{}
		for _, name := range f.names {
			s.names[0].add(o.review.index.resource(nameTyp, name))
			s.names[0].add(self)
		}
	}
	if f.owned {
		s.owned[self] = struct{}{}
	}
}

// isCalled reports whether a resource has names other than its type and an id long enough to be
// searched in texts.
func (f *facts) isCalled() bool {
	return len(f.identifiers)+len(f.shared)+len(f.extended) > 0 || f.url || len(f.id) < minSecret
}

// keep records the names of a resource that is, or may be, withheld.
func (o *Observer) keep(self resource, f *facts) {
	o.ids.consider(f.id)
	if !f.isCalled() {
		return
	}
	o.considerNumbers(f)
	r := o.review
	if len(f.id) < minSecret {
		r.shorts = append(r.shorts, self)
	}
	r.own(self, f.identifiers)
	r.own(self, f.shared)
	if f.url {
		r.identified.definitions = append(r.identified.definitions, self)
	}
	for _, v := range f.extended {
		r.identified.weak = append(r.identified.weak, owned{r.index.hash(v), self})
	}
}

// gather records a resource that is, or may be, withheld, or that relates to Binaries. Most data
// stays in the observer, so that observers rarely wait for one another.
func (o *Observer) gather(self resource, f *facts, v verdict, pointer, hangs bool) {
	keeps := v.withheld() || pointer || hangs
	switch {
	case f.together(), v&stripped != 0, f.number == patientNumber, keeps && f.isCalled():
		o.gatherTogether(self, f, v, pointer, keeps)
	case keeps:
		o.keep(self, f)
	}
	if !(f.copies && v.unticked()) && (v != 0 || hangs) {
		o.put(self, v)
	}
}

// gatherTogether records the data that all observers share.
func (o *Observer) gatherTogether(self resource, f *facts, v verdict, pointer, keeps bool) {
	r := o.review
	r.gathered.Lock()
	defer r.gathered.Unlock()
	o.take(self, f)
	if pointer && f.copies {
		r.copy(self, f.identifiers)
	}
	if v == 0 {
		o.present(self, f)
	}
	switch {
	case keeps:
		o.keep(self, f)
	case f.number == patientNumber: // it is an occasion, even if named by an identifier
		r.own(self, f.identifiers)
	}
	o.attach(self, f)
	if f.number == patientNumber && !f.copies && !v.withheld() {
		r.patient.CompareAndSwap(nil, &self)
	}
	switch {
	case v&stripped != 0 && f.number == patientNumber:
		r.counts[sensitiveReason+string((f.sensitive&^r.policy.authorised).first())]++
	case v&stripped != 0:
		r.counts[presentedReason+string(f.documentGroup())]++
	}
	if f.copies && v.unticked() {
		r.stayingInner = append(r.stayingInner, stayingInner{self, v})
	}
}

// point records what a resource is about, or why it exists.
func (o *Observer) point(self resource, targets []target, at place, inside bool) {
	o.pointers.begin(self, at.why())
	o.pointers.inside = append(o.pointers.inside, inside)
	o.pointers.parts = append(o.pointers.parts, at.part)
	for _, t := range targets {
		o.pointers.add(o.resource(t))
	}
}
