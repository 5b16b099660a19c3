package release

import (
	"slices"
	"strconv"

	"ehi-server/shared/fhir"
)

// What stands in an entry (entryPaths) takes the supporting resources and Binaries to which it refers
// along only where the entry stays: with a line of a bill that tells of a withheld diagnosis the
// clinic stays, too. So such an entry is a resource of its own to the review: it goes where the
// resource that it is part of goes, and where nothing that it refers to, or that entries refer to
// which it names, is withheld for more than an unticked line of the form. Where it has a Reference
// that names no resource by type and id, it takes nothing along.

// inside is an entry while its resource is walked.
type inside struct {
	entry
	targets  []target     // of its References
	supports []target     // those of them that are supporting resources
	binaries []attachment // the Binaries to which it refers
	values   [][]byte     // identifiers by which alone it names resources; normal
	unsure   bool         // some Reference names no resource by type and id
}

// taking is an entry that refers to supporting resources or Binaries beside something else.
type taking struct {
	supports []target
	binaries []attachment
	unless   []target // one of them is withheld
	values   [][]byte // or has one of these identifiers
	never    bool
}

// taker is such an entry in a review.
type taker struct {
	of     resource
	unless []resource
	values []idHash
	never  bool
}

// takerType is the type of the resources that entries are to a review; no type has that number.
const takerType uint16 = 1 << 14

var binaryNumber = uint16(fhir.TypeNumber([]byte(binaryType)))

// enter begins an entry, where the object that opens is one.
func (x *examiner) enter() {
	w := &x.walk
	if x.entryFields == nil || w.depth != 2 || !slices.Contains(x.entryFields, string(w.key())) {
		return
	}
	x.insides = append(x.insides, inside{entry: entry{field: string(w.key())}})
	x.in = &x.insides[len(x.insides)-1]
}

// leave ends it.
func (x *examiner) leave() {
	if x.in != nil && x.walk.depth == 2 {
		x.in = nil
	}
}

// refersInside takes a Reference of the entry at hand in.
func (x *examiner) refersInside(ref []byte, to target, ok, tells bool) {
	e := x.in
	switch {
	case ok:
		e.targets = append(e.targets, to)
	case len(ref) == 0 || ref[0] != '#': // what is contained stays where it is
		e.unsure = true
	}
	switch {
	case !ok:
	case string(to.typ) == binaryType:
		e.binaries = append(e.binaries, attachment{to, false, tells})
	case isSupporting(to.typ) && !tells:
		e.supports = append(e.supports, to)
	}
}

// names notes what an object of the entry at hand has that tells whether it is a Reference that names
// no resource by type and id.
func (c *coding) names(key []byte) {
	switch string(key) {
	case "reference":
		c.refers = true
	case "display", "identifier":
		c.named = true
	}
}

// anonymous reports whether an object is such a Reference.
func (c *coding) anonymous() bool {
	return c.named && !c.refers && c.called.value == nil && (c.code == nil || c.system == nil)
}

// settle turns the entries of a resource into facts.
func (x *examiner) settle(f *facts) {
	for i := range x.insides {
		e := &x.insides[i]
		if len(e.supports)+len(e.binaries) == 0 {
			continue
		}
		t := taking{e.supports, e.binaries, e.targets, e.values, e.unsure}
		for _, other := range x.namedBy(i) {
			t.unless = append(slices.Clip(t.unless), other.targets...)
			t.values = append(slices.Clip(t.values), other.values...)
			t.never = t.never || other.unsure
		}
		if len(t.unless) == 1 && len(t.values) == 0 && !t.never { // it refers to nothing else
			f.supports, f.binaries = append(f.supports, t.supports...), append(f.binaries, t.binaries...)
			continue
		}
		f.taking = append(f.taking, t)
	}
}

// namedBy are the entries that entry i names, and that those name.
func (x *examiner) namedBy(i int) (others []*inside) {
	seen := map[int]bool{i: true}
	for todo := []int{i}; len(todo) > 0; todo = todo[1:] {
		for _, n := range x.insides[todo[0]].names {
			for j := range x.insides {
				if other := &x.insides[j]; !seen[j] && other.field == n.list && other.sequence == n.value {
					seen[j] = true
					todo, others = append(todo, j), append(others, other)
				}
			}
		}
	}
	return others
}

// take keeps the entries of a resource that take something along.
func (o *Observer) take(self resource, f *facts) {
	r, s := o.review, &o.support
	for i, t := range f.taking {
		key := append(append(slices.Clone(f.id), '#'), strconv.Itoa(i)...)
		node := resource{takerType, r.index.hash(append(key, f.typ...))}
		k := taker{of: self, never: t.never}
		for _, u := range t.unless {
			k.unless = append(k.unless, r.index.resource(u.typ, u.id))
		}
		for _, v := range t.values {
			k.values = append(k.values, r.index.hash(v))
		}
		r.takers[node] = k
		for _, to := range t.supports {
			of := r.index.resource(to.typ, to.id)
			s.edges[0].add(node)
			s.edges[0].add(of)
		}
		for _, b := range t.binaries {
			r.attached.holders = append(r.attached.holders, holder{r.index.resource(b.typ, b.id), node, b.presented, b.tells})
		}
	}
}

// standing is what was decided about a resource, or about an entry that takes something along.
func (r *Review) standing(of resource) verdict {
	k, is := r.takers[of]
	if !is {
		v, _ := r.index.at(of) // it is in the record: where it is not in the index, it goes
		return v
	}
	if v, _ := r.index.at(k.of); v.withheld() {
		return v
	}
	if k.never || slices.ContainsFunc(k.values, r.hasWithheldOwner) || slices.ContainsFunc(k.unless, func(u resource) bool {
		v, _ := r.index.at(u)
		return v.telling(u)
	}) {
		return because[referenceOnlyName]
	}
	return 0
}
