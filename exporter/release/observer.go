package release

import (
	"bytes"
)

// Observer takes resources of a record in, for its Review. It is for one goroutine; several may share a record out among themselves,
// in any order.
type Observer struct {
	review   *Review
	examine  examiner
	released released // resources that go, and are nothing else
}

// Observer makes one. The review is concluded after the last of them has seen its last resource.
func (r *Review) Observer() *Observer {
	o := &Observer{review: r, examine: r.policy.examiner()}
	r.gathered.Lock()
	defer r.gathered.Unlock()
	r.released = append(r.released, &o.released)
	return o
}

// Observe takes one resource in. Errors: the line is not JSON.
func (o *Observer) Observe(line []byte) error {
	r := o.review
	if q, ok := o.examine.quick(line); ok {
		o.decided(resource{q.number, r.index.hash(q.id)}, &facts{typ: q.typ, id: q.id}, q.verdict)
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
	return len(f.content) > 0 || len(f.binaries) > 0 || string(f.typ) == "Binary"
}

// gather keeps what has to be known of a resource. decided is false where it goes, and is nothing else.
func (r *Review) gather(self resource, f *facts, v verdict) (decided bool) {
	pointer := !v.withheld() && len(f.content) > 0 && !f.other
	if pointer {
		r.point(self, f.content)
	}
	binary := string(f.typ) == "Binary"
	if v.withheld() || pointer || binary {
		r.secrets.consider(f.id)
		r.short = r.short || len(f.id) < minSecret
		r.own(self, f.identifiers)
	}
	r.attach(self, f)
	if v&stripped != 0 {
		r.counts[presentedReason+string(f.documentGroup())]++
	}
	if v == 0 && !pointer && !binary {
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
