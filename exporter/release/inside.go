package release

import (
	"bytes"
	"slices"
	"strconv"

	"ehi-server/shared/fhir"
)

// What stands in an entry (entryPaths) takes the supporting resources and Binaries to which it
// refers along only where the entry stays: with a line of a bill that tells of a withheld
// diagnosis the clinic stays, too. So such an entry is a resource of its own to the review: it
// goes where the resource that it is part of goes, and where nothing that it refers to, or that
// entries refer to which it names, is withheld for more than an unticked line of the form. Nor
// does it go where it has a Reference that is masked as it may mean something withheld: an
// identifier, or a display alone.

// inside is an entry while its resource is walked.
type inside struct {
	entry
	targets  []target     // of its References
	supports []target     // those of them that are supporting resources
	binaries []attachment // the Binaries to which it refers
	tells    []target     // supporting resources of which it only tells
	shown    []string     // the fields of References that have a display alone

	// of a contained resource
	typ, id   string
	mentioned []mention
	at        []string // the paths of supports
	bound     []string // the paths of binaries
}

// placed tells that what a contained resource took along last, of n, stands at a path.
func (e *inside) placed(paths []string, n int, at []byte) []string {
	for e.field == contained && len(paths) < n {
		paths = append(paths, string(bytes.TrimPrefix(at, []byte(contained+"."))))
	}
	return paths
}

// onlyTells is onlyTells of a path of the contained resource.
func (e *inside) onlyTells(path string) bool {
	where, isAbout := aboutPlaces[e.typ][path]
	return isAbout && onlyTells(uint16(fhir.TypeNumber([]byte(e.typ))), where, []byte(path))
}

// told tells apart what a contained resource uses and what it only tells of, as a resource of
// its own does. It is known what it is only at its end.
func (e *inside) told() {
	var used []target
	for i, to := range e.supports {
		if e.onlyTells(e.at[i]) {
			e.tells = append(e.tells, to)
		} else {
			used = append(used, to)
		}
	}
	e.supports = used
	for i, path := range e.bound {
		e.binaries[i].tells = e.binaries[i].tells || e.onlyTells(path)
	}
}

// taking is an entry that refers to supporting resources or Binaries beside something else.
type taking struct {
	supports []target
	tells    []target
	binaries []attachment
	leaving
	place   int    // among the entries and the contained resources
	id      string // of a contained resource; "" for an entry
	*within        // nil where no contained resource concerns it
	// it goes with the last of these, see subordinate; none where one of them stays
	namers  []leaving
	answers []string // the numbers of the lines of a bill to which it is the answer
}

// leaving says when an entry is left out.
type leaving struct {
	unless []target // one of them is withheld
	shown  []string // or may be meant in one of these fields
}

// taker is such an entry in a review.
type taker struct {
	of resource
	left
	leftWithin
	namers  []left
	answers []string
	bill    resource // of those; of nameType where it is not said which
}

// left is leaving by hashes.
type left struct {
	unless []resource
	shown  []string
}

// takerType is the type of the resources that entries are to a review; no type has that number.
const takerType uint16 = 1 << 14

var binaryNumber = uint16(fhir.TypeNumber([]byte(binaryType)))

// enter begins an entry, where the object that opens is one.
func (x *examiner) enter() {
	w := &x.walk
	if w.depth != 2 || x.alone {
		return
	}
	field := string(w.key())
	if field != contained && !slices.Contains(x.entryFields, field) {
		return
	}
	x.insides = append(x.insides, inside{entry: entry{field: field}})
	x.in = &x.insides[len(x.insides)-1]
}

// leave ends it.
func (x *examiner) leave() {
	if x.in != nil && x.walk.depth == 2 {
		x.in = nil
	}
}

// refersInside takes a Reference of the entry at hand in.
func (x *examiner) refersInside(at []byte, to target, ok, tells bool) {
	e := x.in
	defer func() {
		e.at, e.bound = e.placed(e.at, len(e.supports), at), e.placed(e.bound, len(e.binaries), at)
	}()
	if to.typ != nil { // what is contained stays where it is
		e.targets = append(e.targets, to)
	}
	switch {
	case to.typ == nil:
	case !ok:
		e.binaries = append(e.binaries, attachmentsTo(to, false, tells)...)
	case string(to.typ) == binaryType:
		e.binaries = append(e.binaries, attachment{target: to, tells: tells})
	}
	switch {
	case !ok && !to.exactly():
	case to.supports() && tells:
		e.tells = append(e.tells, to)
	case to.supports():
		e.supports = append(e.supports, to)
	}
}

// names notes what an object of the entry at hand has that tells whether it is a Reference that
// names no resource by type and id.
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
	unsure := x.containedUnsure()
	for i := range x.insides {
		e := &x.insides[i]
		if e.field == contained {
			e.told()
		}
		in := unsure[i]
		if len(e.supports)+len(e.tells)+len(e.binaries) == 0 && in == nil {
			continue
		}
		t := taking{
			supports: e.supports,
			tells:    e.tells,
			binaries: e.binaries,
			place:    i,
			within:   in,
		}
		if e.field == contained {
			if t.id = e.id; in == nil {
				f.supports, f.binaries =
					append(f.supports, t.supports...), append(f.binaries, t.binaries...)
				f.tells = append(f.tells, t.tells...)
			} else {
				f.taking = append(f.taking, t)
			}
			continue
		}
		t.leaving, t.namers, t.answers = x.leaves(i), x.namers(i), x.answered(f, i)
		hints := slices.ContainsFunc(t.binaries, func(a attachment) bool { return a.hint })
		// it refers to nothing else
		if in == nil && len(t.unless) == 1 && len(t.shown)+len(t.namers)+len(t.answers) == 0 &&
			!hints {
			f.supports, f.binaries =
				append(f.supports, t.supports...), append(f.binaries, t.binaries...)
			f.tells = append(f.tells, t.tells...)
			continue
		}
		f.taking = append(f.taking, t)
	}
}

// leaves says when entry i is left out.
func (x *examiner) leaves(i int) leaving {
	l := leaving{x.insides[i].targets, x.insides[i].shown}
	for _, other := range x.namedBy(i) {
		l.unless = append(slices.Clip(l.unless), other.targets...)
		l.shown = append(slices.Clip(l.shown), other.shown...)
	}
	return l
}

// namers are the entries that name entry i, if it goes with the last of them.
func (x *examiner) namers(i int) (all []leaving) {
	e := &x.insides[i]
	if !subordinate[e.field] {
		return nil
	}
	for j := range x.insides {
		if !slices.Contains(x.insides[j].names, number{e.field, e.sequence}) {
			continue
		}
		l := x.leaves(j)
		if len(l.unless)+len(l.shown) == 0 { // it stays
			return nil
		}
		all = append(all, l)
	}
	return all
}

// namedBy are the entries that entry i names, and that those name.
func (x *examiner) namedBy(i int) (others []*inside) {
	seen := map[int]bool{i: true}
	for todo := []int{i}; len(todo) > 0; todo = todo[1:] {
		for _, n := range x.insides[todo[0]].names {
			for j := range x.insides {
				other := &x.insides[j]
				if !seen[j] && other.field == n.list && other.sequence == n.value {
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
	for _, t := range f.taking {
		node := o.taker(f, t.place)
		k := taker{of: self, left: o.left(t.leaving), leftWithin: o.leftWithin(f, t.within)}
		for _, n := range t.namers {
			k.namers = append(k.namers, o.left(n))
		}
		if len(t.answers) > 0 {
			k.answers, k.bill = t.answers, o.answeredBill(f)
		}
		r.takers[node] = k
		for _, to := range t.tells {
			s.tells[0].add(node)
			s.tells[0].add(o.resource(to))
		}
		for _, to := range t.supports {
			s.edges[0].add(node)
			s.edges[0].add(o.resource(to))
		}
		for _, b := range t.binaries {
			o.holds(node, b)
		}
	}
}

// taker is what an entry, or a contained resource, is to the review, by its place among them.
func (o *Observer) taker(f *facts, place int) resource {
	key := append(append(slices.Clone(f.id), '#'), strconv.Itoa(place)...)
	return resource{takerType, o.review.index.hash(append(key, f.typ...))}
}

func (o *Observer) left(l leaving) left {
	hashed := left{shown: l.shown}
	for _, u := range l.unless {
		hashed.unless = append(hashed.unless, o.resource(u))
	}
	return hashed
}

// isLeft reports whether an entry is left out, as far as is known.
func (r *Review) isLeft(l left) bool {
	return slices.ContainsFunc(l.shown, r.mayHide) || slices.ContainsFunc(l.unless, r.tellsOf)
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
	if r.asked[of] { // by itself
		return 0
	}
	if r.asked == nil {
		r.asked = map[resource]bool{}
	}
	r.asked[of] = true
	defer delete(r.asked, of)
	if r.fallsWithin(k.leftWithin) || r.isLeft(k.left) || r.losesLine(k) ||
		len(k.namers) > 0 &&
			!slices.ContainsFunc(k.namers, func(n left) bool { return !r.isLeft(n) }) {
		return because[referenceOnlyName]
	}
	return 0
}

// keptStanding is standing for what asks only about what is kept: of most others it is 0.
func (r *Review) keptStanding(of resource) verdict {
	if len(r.takers) == 0 && !r.index.mayKeep(of) {
		return 0
	}
	return r.standing(of)
}

// tellsOf reports whether a Reference leads to what stays for more than an unticked line of the
// form, before Conclude is through.
func (r *Review) tellsOf(to resource) bool {
	_, telling := r.keeps(to)
	return telling
}

// mayHide reports whether a Reference in a field that has a display alone may lead to something
// withheld, before Conclude is through: what is known by then is taken in.
func (r *Review) mayHide(field string) bool {
	if r.hidden == nil {
		var types bitmap
		r.index.each(func(x resource, v verdict) {
			if v.kept() && (x.typ != binaryNumber || v&sensitive != 0) {
				types.add(x.typ)
			}
		})
		r.hidden = r.hiddenBy(&types)
	}
	return r.hidden[field]
}
