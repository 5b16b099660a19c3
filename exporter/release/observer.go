package release

import (
	"bytes"
)

// Observer takes resources of a record in, for its Review. It is for one goroutine; several may share a record out among themselves,
// in any order.
type Observer struct {
	review   *Review
	examine  examiner
	released released  // resources that go, and are nothing else
	support  support   // who refers to supporting resources, where that is decided
	recent   [256]name // some that are in support.used: most are referred to again and again
}

// name is how a resource is called.
type name struct{ typ, id string }

// seen reports whether a resource is among the recent ones, and makes it one of them.
func (o *Observer) seen(t target) bool {
	n := len(t.id)
	slot := &o.recent[(int(t.id[n-1])*31+int(t.id[n/2])*7+int(t.id[0])+n)%len(o.recent)]
	if slot.id == string(t.id) && slot.typ == string(t.typ) {
		return true
	}
	*slot = name{string(t.typ), string(t.id)}
	return false
}

// Observer makes one. The review is concluded after the last of them has seen its last resource.
func (r *Review) Observer() *Observer {
	o := &Observer{review: r, examine: r.policy.examiner(), support: newSupport()}
	r.gathered.Lock()
	defer r.gathered.Unlock()
	r.released = append(r.released, &o.released)
	r.supports = append(r.supports, o.support)
	return o
}

// Observe takes one resource in. Errors: the line is not JSON.
func (o *Observer) Observe(line []byte) error {
	r := o.review
	if q, ok := o.examine.quick(line); ok {
		o.decided(resource{q.number, r.index.hash(q.facts.id)}, q.facts, q.verdict)
		return nil
	}
	f, err := o.examine.examine(line)
	if err != nil {
		return err
	}
	self, v := r.index.resource(f.typ, f.id), r.policy.verdict(f)
	typ, id, ok := identify(line)
	irregular := ok && !(bytes.Equal(typ, f.typ) && bytes.Equal(id, f.id))
	if irregular {
		r.gathered.Lock()
		r.irregular = true
		r.gathered.Unlock()
	}
	o.decided(self, f, v)
	return nil
}

// decided keeps what was decided about a resource.
func (o *Observer) decided(self resource, f *facts, v verdict) {
	o.refer(f, v)
	if v == 0 && !f.related() {
		o.released.add(self)
		return
	}
	r := o.review
	r.gathered.Lock()
	defer r.gathered.Unlock()
	if !r.gather(self, f, v) {
		o.released.add(self)
	}
}

// verdict is what the policy says of a resource by itself.
func (p *Policy) verdict(f *facts) verdict {
	reason := p.withhold(f)
	if reason == "" && f.presents && string(f.typ) == "DiagnosticReport" && !p.allows(f.documentGroup(), f) {
		return stripped
	}
	return because[reason]
}

// related reports whether the decision about a resource, or that about another one, may depend on what it refers to.
func (f *facts) related() bool {
	return len(f.content) > 0 || len(f.binaries) > 0 || f.hangs()
}

// hangs reports whether it depends on others whether a resource goes.
func (f *facts) hangs() bool { return supporting[f.number] || string(f.typ) == "Binary" }

// refer keeps the references of a resource about which is decided to supporting ones.
func (o *Observer) refer(f *facts, v verdict) {
	index, into := o.review.index, o.support.used
	switch {
	case string(f.typ) == "Binary": // what withholds it is what refers to it
		return
	case v.withheld():
		into = o.support.denied
	case f.hangs() || f.pointer():
		return
	}
	for _, t := range f.supports {
		if !v.withheld() && !o.seen(t) || v.withheld() && string(t.typ) == "Device" {
			into[index.resource(t.typ, t.id)] = struct{}{}
		}
	}
}

// hang keeps the references of a resource about which is not decided yet to supporting ones.
func (r *Review) hang(self resource, f *facts) {
	for _, t := range f.supports {
		r.support.edges = append(r.support.edges, edge{self, r.index.resource(t.typ, t.id)})
		if string(t.typ) == "Device" {
			r.support.denied[r.index.resource(t.typ, t.id)] = struct{}{}
		}
	}
	if supporting[f.number] {
		r.support.selves[self] = struct{}{}
	}
	if f.owned {
		r.support.owned[self] = struct{}{}
	}
}

// gather keeps what has to be known of a resource. decided is false where it goes, and is nothing else.
func (r *Review) gather(self resource, f *facts, v verdict) (decided bool) {
	binary := string(f.typ) == "Binary"
	pointer := !v.withheld() && f.pointer()
	if pointer {
		f.abouts(func(targets []target) { r.point(self, targets) })
	}
	hangs := pointer || f.hangs() && (!v.withheld() || binary)
	if hangs {
		r.hang(self, f)
	}
	if v.withheld() || hangs {
		r.secrets.consider(f.id)
		if len(f.id) < minSecret {
			r.shorts = append(r.shorts, self)
		}
		r.own(self, f.identifiers)
	}
	r.attach(self, f)
	if v&stripped != 0 {
		r.counts[presentedReason+string(f.documentGroup())]++
	}
	if v == 0 && !hangs {
		return false
	}
	r.index.put(self, v)
	return true
}

// point keeps what a resource refers to that says nothing else.
func (r *Review) point(self resource, targets []target) {
	r.pointers.begin(self)
	for _, t := range targets {
		r.pointers.add(r.index.resource(t.typ, t.id))
	}
}
