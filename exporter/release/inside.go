package release

import (
	"bytes"
	"slices"
	"strconv"

	"ehi-server/shared/fhir"
)

// References in an entry (entryPaths) release supporting resources and Binaries only if the
// entry remains: if a line of a bill is removed because it refers to a withheld diagnosis, the
// clinic that it names is withheld too. So the review treats such an entry as a resource of its
// own. It is released with its resource, unless something that it refers to, or that the entries
// named by it refer to, is withheld for a reason other than an unticked form line. It is also
// removed if it has a Reference that is masked because it may mean something withheld: an
// identifier, or a lone display.

// inside is an entry while its resource is walked.
type inside struct {
	entry
	targets  []target     // of its References
	supports []target     // the supporting resources among them
	binaries []attachment // the Binaries that it refers to
	tells    []target     // supporting resources that it only describes
	shown    []string     // the fields of References with only a display

	// The following fields are for contained resources.
	typ, id   string
	mentioned []mention
	at        []string // the paths of supports
	bound     []string // the paths of binaries
}

// placed records the path of the last of n references of a contained resource.
func (e *inside) placed(paths []string, n int, at []byte) []string {
	for e.field == contained && len(paths) < n {
		paths = append(paths, string(bytes.TrimPrefix(at, []byte(contained+"."))))
	}
	return paths
}

// onlyTells applies the function onlyTells to a path of the contained resource.
func (e *inside) onlyTells(path string) bool {
	where, isAbout := aboutPlaces[e.typ][path]
	return isAbout && onlyTells(uint16(fhir.TypeNumber([]byte(e.typ))), where, []byte(path))
}

// told separates what a contained resource uses from what it only describes, as for other
// resources. Its type is known only at its end.
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

// taking is an entry that refers to supporting resources or Binaries, and to something else.
type taking struct {
	supports []target
	tells    []target
	binaries []attachment
	leaving
	place   int    // its index among the entries and contained resources
	id      string // of a contained resource; "" for an entry
	*within        // nil if it depends on no contained resource
	// it is removed with the last of these, see subordinate; empty if one of them remains
	namers  []leaving
	answers []string // the numbers of the bill lines that it answers
}

// leaving holds the conditions under which an entry is removed.
type leaving struct {
	unless []target // if one of these is withheld
	shown  []string // if one of these fields may mean something withheld
}

// taker is such an entry in a review.
type taker struct {
	of resource
	left
	leftWithin
	namers  []left
	answers []string
	bill    resource // the bill of answers; of nameType if unknown
}

// left is leaving with hashes.
type left struct {
	unless []resource
	shown  []string
}

// takerType is the type number of the resources that stand for entries. No FHIR type has this
// number.
const takerType uint16 = 1 << 14

var binaryNumber = uint16(fhir.TypeNumber([]byte(binaryType)))

// enter begins an entry, if the object that opens is one.
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

// leave ends the entry.
func (x *examiner) leave() {
	if x.in != nil && x.walk.depth == 2 {
		x.in = nil
	}
}

// refersInside adds a Reference to the current entry.
func (x *examiner) refersInside(at []byte, to target, ok, tells bool) {
	e := x.in
	defer func() {
		e.at, e.bound = e.placed(e.at, len(e.supports), at), e.placed(e.bound, len(e.binaries), at)
	}()
	if to.typ != nil { // contained resources stay in place
		e.targets = append(e.targets, to)
	}
	presented := bytes.HasPrefix(at, []byte(containedForm))
	switch {
	case to.typ == nil:
	case !ok:
		e.binaries = append(e.binaries, attachmentsTo(to, presented, tells)...)
	case string(to.typ) == binaryType:
		e.binaries = append(e.binaries, attachment{
			target:    to,
			presented: presented,
			tells:     tells,
		})
	}
	switch {
	case !ok && !to.exactly():
	case to.supports() && tells:
		e.tells = append(e.tells, to)
	case to.supports():
		e.supports = append(e.supports, to)
	}
}

// containedForm is the path of what a contained report presents.
const containedForm = contained + "." + presentedForm + "."

// names notes the fields of an object that tell whether it is a Reference without a type and id.
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

// leaves returns the conditions under which entry i is removed.
func (x *examiner) leaves(i int) leaving {
	l := leaving{x.insides[i].targets, x.insides[i].shown}
	for _, other := range x.namedBy(i) {
		l.unless = append(slices.Clip(l.unless), other.targets...)
		l.shown = append(slices.Clip(l.shown), other.shown...)
	}
	return l
}

// namers returns the entries that name entry i, if it is removed with the last of them.
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
		if len(l.unless)+len(l.shown) == 0 { // it remains
			return nil
		}
		all = append(all, l)
	}
	return all
}

// namedBy returns the entries that entry i names, directly or through others.
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

// take records the entries of a resource that refer to supporting resources or Binaries.
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

// taker returns the resource that stands for an entry, or a contained resource, by its index.
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

// isLeft reports whether an entry is removed, as far as is known.
func (r *Review) isLeft(l left) bool {
	return slices.ContainsFunc(l.shown, r.mayHide) || slices.ContainsFunc(l.unless, r.tellsOf)
}

// standing returns the verdict on a resource, or on an entry of takers.
func (r *Review) standing(of resource) verdict {
	k, is := r.takers[of]
	if !is {
		v, _ := r.index.at(of) // released resources of the record may be missing from the index
		return v
	}
	if v, _ := r.index.at(k.of); v.withheld() {
		return v
	}
	if r.asked[of] { // it depends on itself
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
	v, _ := r.index.at(k.of)
	return v & partial
}

// keptStanding is standing for callers that only need kept verdicts. For most other resources it
// returns 0 quickly.
func (r *Review) keptStanding(of resource) verdict {
	if len(r.takers) == 0 && !r.index.mayKeep(of) {
		return 0
	}
	return r.standing(of)
}

// tellsOf reports, during Conclude, whether a Reference points to something withheld for a
// reason other than an unticked form line.
func (r *Review) tellsOf(to resource) bool {
	_, telling := r.keeps(to)
	return telling
}

// mayHide reports, during Conclude, whether a Reference in a field that has only a display may
// point to something withheld, by what is known so far.
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
