package release

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// Observer takes resources of a record in, for its Review. It is for one goroutine; several may
// share a record out among themselves, in any order.
type Observer struct {
	review  *Review
	examine examiner
	cleaner *cleaner // of Patients; made where there is one
	// innerWalk goes over what holds other resources.
	innerWalk walk
	released  roll            // resources that go, and are nothing else
	inside    list            // those that stand in another one
	lines     lines           // of bills
	pointers  pointers        // resources that say nothing but what they refer to
	ids       idSpellings     // of the ids of what stays, or may
	numbers   numberSpellings // of its identifiers
	published []uint64        // the first halves of the hashes of distinctive identifiers of what goes
	pending   []decided       // what is not in the index yet
	support   support         // who refers to supporting resources, where that is decided
	recent    [256]name       // some that are in support.used: most are referred to again and again
	// sure are some of released: they go, whatever comes, unless they come once more, see settled.
	sure   [1 << 10]resource
	relied bool // something was left out because of them
	seeking
}

// decided is what the policy says of a resource.
type decided struct {
	of resource
	v  verdict
}

// mostPending is how many decisions an observer keeps to itself: while one puts its own into the
// index, the others wait.
const mostPending = 256

// put decides about a resource, see verdicts.
func (o *Observer) put(self resource, v verdict) {
	if o.pending = append(o.pending, decided{self, v}); len(o.pending) >= mostPending {
		o.flush()
	}
}

// flush puts what is pending into the index.
func (o *Observer) flush() {
	o.review.indexing.Lock()
	defer o.review.indexing.Unlock()
	for _, p := range o.pending {
		o.review.index.put(p.of, p.v)
	}
	o.pending = o.pending[:0]
}

// name is how a resource is called.
type name struct{ typ, id []byte }

// slot is where a resource stands that is among the recent ones.
func (o *Observer) slot(t target) *name {
	return &o.recent[slotOf(t.id)%uint32(len(o.recent))]
}

// slotOf spreads ids over the slots of a table: by eight bytes of the middle and of either end,
// since some systems count within one of those.
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

// is reports whether a name is that of a target.
func (n *name) is(t target) bool {
	return string(n.id) == string(t.id) && string(n.typ) == string(t.typ)
}

// seen reports whether a resource is among the recent ones, and makes it one of them.
func (o *Observer) seen(t target) bool {
	slot := o.slot(t)
	if slot.is(t) {
		return true
	}
	slot.typ, slot.id = append(slot.typ[:0], t.typ...), append(slot.id[:0], t.id...)
	return false
}

// Observer makes one. The review is concluded after the last of them has seen its last resource.
func (r *Review) Observer() *Observer {
	o := &Observer{review: r, examine: r.policy.examiner(), support: newSupport()}
	r.gathered.Lock()
	defer r.gathered.Unlock()
	r.observers = append(r.observers, o)
	return o
}

// Observe takes one resource in. Errors: the line is not JSON.
func (o *Observer) Observe(line []byte) error {
	r := o.review
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

// facts are those of a resource as it goes, and what the policy says of it by itself.
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

// cleaned are the facts of a Patient as it goes, but for what it needs.
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

// decided keeps what was decided about a resource.
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
	if !v.withheld() && !pointer && !hangs {
		o.publish(f)
	}
	if pointer || hangs {
		o.hang(self, f)
	} else {
		o.refer(f, v)
	}
	if v == 0 && !pointer && !f.related() && f.number != patientNumber {
		o.released.add(self)
		o.sure[self.id.low%uint64(len(o.sure))] = self
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

// open reports whether what a resource is about may keep it, for all that is known.
func (o *Observer) open(f *facts) (is bool) {
	if len(f.content) > 0 {
		f.abouts(func(targets []target, _ bool) { is = is || f.copies || !o.settled(targets) })
	}
	return is
}

// settled reports whether a group of targets keeps nothing, because one of them goes, whatever
// comes. Most resources are about one of those that came just before. What comes once more may
// stay after all: then Conclude finds that out, and nothing is settled when the record is
// observed again.
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

// verdict is what the policy says of a resource by itself.
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

// related reports whether the decision about a resource, or that about another one, may depend
// on what it refers to, besides what it is about.
func (f *facts) related() bool { return f.together() || f.hangs() }

// together reports whether the observers gather together what depends on a resource: few are
// like that.
func (f *facts) together() bool {
	return f.copies || f.presents || len(f.binaries) > 0 || len(f.taking) > 0 ||
		string(f.typ) == binaryType
}

// hangs reports whether it depends on others whether a resource goes.
func (f *facts) hangs() bool { return supporting[f.number] || string(f.typ) == "Binary" }

// refer keeps the references of a resource about which is decided to supporting ones.
func (o *Observer) refer(f *facts, v verdict) {
	for _, t := range f.supports {
		if v.withheld() {
			if o.slot(t).is(t) {
				continue // it goes in any case
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

// tell keeps the references of a resource to supporting ones of which it only tells.
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

// hang keeps the references of a resource about which is not decided yet to supporting ones.
func (o *Observer) hang(self resource, f *facts) {
	s := &o.support
	for _, t := range f.supports {
		if o.slot(t).is(t) {
			continue // it goes in any case
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

// isCalled reports whether a resource is called by more than its type and an id that is looked
// for in texts.
func (f *facts) isCalled() bool {
	return len(f.identifiers)+len(f.shared)+len(f.extended) > 0 || f.url || len(f.id) < minSecret
}

// keep keeps what a resource is called that stays, or may.
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

// gather keeps what has to be known of a resource that stays, or may, or has to do with
// Binaries: most of it for itself, so that observers seldom wait for one another.
func (o *Observer) gather(self resource, f *facts, v verdict, pointer, hangs bool) {
	if pointer {
		f.abouts(func(targets []target, why bool) {
			if f.copies || !o.settled(targets) {
				o.point(self, targets, why, f.copies)
			}
		})
	}
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

// gatherTogether keeps what the observers gather together.
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
	case f.number == patientNumber: // which is an occasion, by an identifier too
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

// point keeps what a resource refers to that says nothing else, or why it is.
func (o *Observer) point(self resource, targets []target, why, inside bool) {
	o.pointers.begin(self, why)
	o.pointers.inside = append(o.pointers.inside, inside)
	for _, t := range targets {
		o.pointers.add(o.resource(t))
	}
}
