package release

import (
	"bytes"
	"slices"
	"strconv"

	"ehi-server/shared/fhir"
)

// A Bundle and a Parameters contain whole resources. The review treats each as a resource of the
// record, with its own type and id, as if it had a line of its own: it is released if that line
// would be, copies are withheld with their originals, and References point to it. The outer
// resource is decided without the inner ones. If an inner resource is withheld, so is its entry.
// Resources in `contained` are part of their container instead (contained.go).

// innerResource is a resource within another one.
type innerResource struct {
	start, end int
	parent     int    // the start of the enclosing object
	url        string // the fullUrl of the enclosing object
	typ, id    []byte
}

// innerResources finds the resources directly inside another one: objects with a resourceType,
// whether R4 allows them there or not. It skips contained resources and those inside the ones
// found. Errors: the line is not JSON.
func innerResources(w *walk, line []byte) (found []innerResource, err error) {
	type object struct {
		start int
		is    bool
		url   string
	}
	var open []object
	for w.reset(line); w.next(); {
		switch w.kind {
		case opened:
			open = append(open[:w.depth], object{start: w.start})
		case scalar:
			if !w.isText || w.depth == 0 || line[open[w.depth-1].start] != '{' {
				continue
			}
			switch in := &open[w.depth-1]; string(w.key()) {
			case resourceType:
				in.is = w.depth > 1 && string(w.keyAt(1)) != contained
			case "fullUrl":
				in.url = string(w.text())
			}
		case closed:
			o := open[w.depth]
			for i := len(found) - 1; i >= 0 && found[i].start > o.start; i-- {
				if o.is {
					found = found[:i]
				} else if found[i].parent == o.start {
					found[i].url = o.url
				}
			}
			if o.is {
				found = append(found, innerResource{
					start:  w.start,
					end:    w.end,
					parent: open[w.depth-1].start,
				})
			}
		}
	}
	return found, w.err
}

// identifyInner determines the ids of the inner resources: their own id, else the one in their
// fullUrl, else their position in the outer resource, whose id is of.
func identifyInner(w *walk, line, of []byte, found []innerResource) (err error) {
	for i := range found {
		in := &found[i]
		if in.typ, in.id, err = w.identify(line[in.start:in.end]); err != nil {
			return err
		}
		if len(in.id) > 0 {
			continue
		}
		typ, id, ok := follow([]byte(in.url))
		switch uuid, is := bytes.CutPrefix([]byte(in.url), []byte("urn:uuid:")); {
		case ok && bytes.Equal(typ, in.typ):
			in.id = id
		case is && fhir.ValidID(uuid):
			in.id = uuid
		default:
			in.id = strconv.AppendInt(append(slices.Clip(of), '#'), int64(i), 10)
		}
	}
	return nil
}

// calledInner maps the fullUrls that do not state the type and id of their resource.
func calledInner(found []innerResource) map[string]target {
	called := map[string]target{}
	for _, in := range found {
		typ, id, ok := follow([]byte(in.url))
		if in.url != "" && !(ok && bytes.Equal(typ, in.typ) && bytes.Equal(id, in.id)) {
			called[in.url] = target{in.typ, in.id}
		}
	}
	return called
}

// renamed replaces References by fullUrl with References by type and id.
func renamed(w *walk, line []byte, called map[string]target) ([]byte, error) {
	if len(called) == 0 {
		return line, nil
	}
	var edits []fhir.Edit
	for w.reset(line); w.next(); {
		if !w.isText || string(w.key()) != "reference" {
			continue
		}
		if to, is := called[string(w.text())]; is {
			name := slices.Concat([]byte(`"`), to.typ, []byte("/"), to.id, []byte(`"`))
			edits = append(edits, fhir.Edit{Start: w.start, End: w.end, With: name})
		}
	}
	return fhir.Apply(nil, line, edits), w.err
}

// withoutInner returns a resource without the inner ones.
func withoutInner(line []byte, found []innerResource) []byte {
	var edits []fhir.Edit
	for _, in := range found {
		edits = append(edits, fhir.Edit{Start: in.start, End: in.end, With: []byte("{}")})
	}
	return fhir.Apply(nil, line, edits)
}

// observeHolder observes a resource and its inner resources. in describes the resource's own
// place inside another one; nil if it is not inside one.
func (o *Observer) observeHolder(line []byte, typ, id []byte, in *innerResource) error {
	w := &o.innerWalk
	found, err := innerResources(w, line)
	if err == nil {
		err = identifyInner(w, line, id, found)
	}
	if err != nil {
		return err
	}
	f, v, err := o.facts(withoutInner(line, found))
	if err != nil {
		return err
	}
	f.id = id
	f.holds(found)
	f.standsIn(in)
	self := o.review.index.resource(typ, id)
	o.decided(self, f, v)
	r := o.review
	r.gathered.Lock()
	r.holding.add(self.typ)
	r.gathered.Unlock()
	called := calledInner(found)
	for i := range found {
		inner, err := renamed(w, line[found[i].start:found[i].end], called)
		if err == nil {
			err = o.observeInner(inner, &found[i], self, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// observeInner observes a resource inside holder, whose verdict is held.
func (o *Observer) observeInner(
	line []byte, in *innerResource, holder resource, held verdict,
) error {
	f, v, err := o.facts(line)
	switch {
	case err != nil:
		return err
	case f.inner && !held.withheld():
		return o.observeHolder(line, in.typ, in.id, in)
	}
	f.id = in.id
	if held.withheld() && !v.withheld() {
		o.stayInside(o.review.index.resource(in.typ, in.id), f, holder, held)
		return nil
	}
	f.standsIn(in)
	o.decided(o.review.index.resource(in.typ, in.id), f, v)
	return nil
}

// stayInside records a resource that is withheld because its holder is. Its references count as
// references of the holder.
func (o *Observer) stayInside(self resource, f *facts, holder resource, held verdict) {
	o.refer(f, held)
	o.tell(holder, f, held)
	o.relate(self, f, held, false)
	r := o.review
	r.gathered.Lock()
	defer r.gathered.Unlock()
	o.take(holder, f)
	o.attach(holder, f)
	o.keep(self, f)
	r.stayingInner = append(r.stayingInner, stayingInner{self, held &^ stripped})
}

// holds adds the inner resources to the facts: the outer resource describes them and consists of
// them.
func (f *facts) holds(found []innerResource) {
	for _, in := range found {
		to := target{in.typ, in.id}
		switch {
		case string(in.typ) == "Patient":
		case string(in.typ) == binaryType:
			f.binaries = append(f.binaries, attachment{target: to, tells: true})
			f.deeper = append(f.deeper, to)
		case isSupporting(in.typ):
			f.tells = append(f.tells, to)
			f.deeper = append(f.deeper, to)
		default:
			f.content = append(f.content, pointing{place{group: madeOfInner, part: true}, to})
		}
	}
}

// standsIn adds the facts of an inner resource: it is withheld with its original, which its
// fullUrl or an identifier names.
func (f *facts) standsIn(in *innerResource) {
	if in == nil {
		return
	}
	f.copies = true
	typ, id, ok := follow([]byte(in.url))
	uuid, is := bytes.CutPrefix([]byte(in.url), []byte("urn:uuid:"))
	switch {
	case is:
		typ, id, ok = in.typ, uuid, true
	case ok && !bytes.Equal(typ, in.typ):
		ok = false
	}
	if ok && !bytes.Equal(id, in.id) {
		f.content = append(f.content, pointing{place{group: copyOf}, target{typ, id}})
	}
	if in.url != "" {
		f.addIdentifier(ownIdentifier, []byte(in.url))
	}
}

// copied is an inner resource with identifiers.
type copied struct {
	self   resource
	values []idHash
}

// copy records the identifiers of an inner resource.
func (r *Review) copy(self resource, values [][]byte) {
	c := copied{self: self}
	for _, v := range values {
		c.values = append(c.values, r.index.hash(v))
	}
	r.copies = append(r.copies, c)
}

// stayingInner is an inner resource to be withheld, because its form line or that of its holder
// is not ticked.
type stayingInner struct {
	self resource
	v    verdict
}

// concludeInner withholds the resources of stayingInner. If one also has a line of its own, that
// line decides, because a copy may be shorter and lack a date.
func (r *Review) concludeInner() {
	alone := map[resource]bool{}
	for _, in := range r.stayingInner {
		alone[in.self] = true
	}
	if len(alone) > 0 {
		r.eachOfItsOwn(func(goes resource) { delete(alone, goes) })
	}
	r.stayed = map[resource]bool{}
	for _, in := range r.stayingInner {
		if v, known := r.index.at(in.self); alone[in.self] && (!known || v.withheld()) {
			r.index.put(in.self, in.v)
			// one with a line of its own has its own reason
			r.stayed[in.self] = !known || r.stayed[in.self]
		}
	}
	r.stayingInner = nil
}

// withholdCopies withholds the inner resources that share an identifier with a withheld resource
// of the same type, and reports whether there were any.
func (r *Review) withholdCopies() (some bool) {
	for _, c := range r.copies {
		v, _ := r.index.at(c.self)
		if v.kept() ||
			!slices.ContainsFunc(c.values,
				func(value idHash) bool { return r.isCopy(c.self, value) }) {
			continue
		}
		r.index.put(c.self, because[referenceOnlyName])
		some = true
	}
	return some
}

// isCopy reports whether another resource of the same type has the identifier and is withheld,
// for a reason other than its place inside a withheld one.
func (r *Review) isCopy(self resource, value idHash) bool {
	return slices.ContainsFunc(r.owners(value), func(of resource) bool {
		v, _ := r.index.at(of)
		return of.typ == self.typ && of != self && v.kept() && !r.stayed[of]
	})
}

// withInner returns a released resource with its inner resources as they are released; id is its
// own. The object around a withheld resource is removed too, up to the entry of a list.
func (r *reviewed) withInner(line, id []byte) ([]byte, error) {
	found, err := innerResources(&r.walk, line)
	if err == nil {
		err = identifyInner(&r.walk, line, id, found)
	}
	if err != nil || len(found) == 0 {
		return line, err
	}
	r.called = map[string]resource{}
	for url, to := range calledInner(found) {
		r.called[url] = r.index.resource(to.typ, to.id)
	}
	b := rebuilder{line: line, found: found}
	inside := &reviewed{Review: r.Review, called: r.called}
	for _, in := range found {
		out, ok, err := inside.releaseAs(line[in.start:in.end], in.typ, in.id)
		if err != nil {
			return nil, err
		}
		if !ok {
			out = nil
		}
		b.changed = b.changed || !bytes.Equal(out, line[in.start:in.end])
		b.left = append(b.left, bytes.Clone(out))
	}
	if r.changed = b.changed; !b.changed {
		return line, nil
	}
	out, _ := b.value(0, len(line), true)
	return out, nil
}

// releaseAs releases a resource under the given type and id.
func (r *reviewed) releaseAs(line, typ, id []byte) (out []byte, ok bool, err error) {
	self := r.index.resource(typ, id)
	v, known := r.index.at(self)
	if v.withheld() || !known && !r.resolved {
		return nil, false, nil
	}
	if own, err := r.ownVerdict(line); err != nil || own.withheld() {
		return nil, false, err
	}
	r.begin(self.typ, typ, id)
	return r.release(line, v)
}

// ownVerdict returns the policy's verdict on a resource by itself, without its inner resources.
func (r *reviewed) ownVerdict(line []byte) (verdict, error) {
	if r.examine == nil {
		x := r.policy.examiner()
		x.alone = true
		r.examine = &x
	}
	found, err := innerResources(&r.walk, line)
	if err != nil {
		return 0, err
	}
	f, err := r.examine.examine(withoutInner(line, found))
	return r.policy.verdict(f), err
}

// rebuilder assembles a resource from what remains of its inner resources.
type rebuilder struct {
	line    []byte
	found   []innerResource
	left    [][]byte // of each resource in found; nil if it is withheld
	changed bool
}

// value returns what remains of a value; lost reports that it is removed. whole is true for the
// resource itself.
func (b *rebuilder) value(start, end int, whole bool) (left []byte, lost bool) {
	i, is := slices.BinarySearchFunc(b.found, start, func(in innerResource, at int) int {
		return in.start - at
	})
	switch {
	case is && b.found[i].end == end:
		return b.left[i], b.left[i] == nil
	case i == len(b.found) || b.found[i].start >= end:
		return b.line[start:end], false
	case b.line[start] == '[':
		return b.list(start, end, whole)
	}
	var fields [][]byte
	for _, p := range children(b.line[start:end]) {
		left, lost := b.value(start+p.start, start+p.end, b.line[start+p.start] == '[' && whole)
		switch {
		case lost && !whole:
			return nil, true
		case lost:
			continue
		}
		fields = append(fields, slices.Concat(b.line[start+p.from:start+p.start], left))
	}
	return joined("{", fields, "}"), false
}

// list returns what remains of a list. In an entry of another list, elements without resources
// beside a removed one describe it, so they are removed too.
func (b *rebuilder) list(start, end int, whole bool) (left []byte, lost bool) {
	var all, holding [][]byte
	some := false
	for _, p := range children(b.line[start:end]) {
		left, lost := b.value(start+p.start, start+p.end, false)
		if lost {
			some = true
			continue
		}
		all = append(all, left)
		if b.holds(start+p.start, start+p.end) {
			holding = append(holding, left)
		}
	}
	if some && !whole {
		all = holding
	}
	return joined("[", all, "]"), some && len(all) == 0
}

// holds reports whether a value contains an inner resource.
func (b *rebuilder) holds(start, end int) bool {
	i, _ := slices.BinarySearchFunc(b.found, start, func(in innerResource, at int) int {
		return in.start - at
	})
	return i < len(b.found) && b.found[i].start < end
}

// children returns the fields of an object, or the entries of a list.
func children(value []byte) (of []piece) {
	var w walk
	for w.reset(value); w.next(); {
		switch {
		case w.depth != 1:
		case w.kind == closed:
			of[len(of)-1].end = w.end
		default:
			of = append(of, piece{
				name:  string(w.key()),
				from:  max(w.fieldStart(), 0),
				start: w.start,
				end:   w.end,
			})
		}
	}
	return of
}
