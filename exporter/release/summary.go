package release

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Summary tells what any form would release of a record, without reading the record again: for a
// patient who fills in the form, and for as many forms as needed. It counts resources together
// that every form treats alike, with a resolution of one day, as on the form's page. It is
// read-only and may be shared.
type Summary struct {
	kinds     []facts // without times
	nodes     []node
	relations []relations
	unread    holders      // nodes with a link that may point to any Binary
	times     []fhir.Spans // of nodes that happened several times
	native    []nativeGroup
}

// node stands for the resources of one kind and time that are related to the same nodes.
type node struct {
	kind        int32
	first, last int32 // days since 1970; notDated and anything if unknown
	times       int32 // index in Summary.times, or none
	relations   int32 // index in Summary.relations, or none
	excluded    bool  // not requested by the application (EHI-6)
	bare        bool  // its presentedForm was not requested by the application
	counted     int64
}

// relations are the targets of a pointer, or the holders of a Binary.
type relations struct {
	binary     bool
	supporting bool      // released if one of the users is
	owned      bool      // or if none of the users withholds it, see denial
	targets    [][]int32 // nodes, by group of aboutPaths; groups outside the record are omitted
	whys       [][]int32 // by group of whyPaths
	shown      []int32   // described by its presentedForm
	parts      []int32   // that it consists of
	users      []int32
	tellers    []int32 // nodes that only describe it
	holders    []int32
	presented  []int32 // holders that have it in their presentedForm
	hints      holders // nodes that may refer to it
	secured    int32   // the target of a Binary's securityContext, or none
	patient    bool    // that target is the Patient
}

// holders are nodes that refer to a Binary, and nodes that do so in their presentedForm.
type holders struct{ nodes, presented []int32 }

func (h *holders) add(by holding) {
	if by.presented {
		h.presented = append(h.presented, mapped(by.by))
	} else {
		h.nodes = append(h.nodes, mapped(by.by))
	}
}

// keep reports whether some of the holders are withheld.
func (d *decision) keep(h holders) bool {
	keeps := func(at int32) bool { return !d.notKept(at) }
	strips := func(at int32) bool {
		return at != none && !d.verdicts[at].withheld() && d.verdicts[at].hidesForm(resource{})
	}
	return slices.ContainsFunc(h.nodes, keeps) || slices.ContainsFunc(h.presented, keeps) ||
		slices.ContainsFunc(h.presented, strips)
}

const (
	none     = -1
	notDated = math.MinInt32
)

// ErrTooVaried is returned for a record with more than maxNodes different kinds of resources.
var ErrTooVaried = errors.New("the record is too varied to be summed up")

// maxNodes bounds the size of a summary to about 20 MB.
const maxNodes = 200_000

// Tally counts resources of one kind: how many the record has, and how many would be released.
type Tally struct {
	Stored, Released int64
	// Undated counts resources that are withheld only because the form limits the line by date
	// and they have no date.
	Undated int64
	// AtMost means that fewer may be released: native content also stays with what it mentions
	// or refers to, which is not counted.
	AtMost bool
}

func (t *Tally) add(n int64, goes, undated bool) {
	t.Stored += n
	if goes {
		t.Released += n
	}
	if undated {
		t.Undated += n
	}
}

// Counts is what a form would release, by form line.
type Counts struct {
	All Tally
	// Categories are the form's first part. The key "" is for resources that are always
	// released.
	Categories map[ehi.Category]Tally
	// Authorizations are the form's second part. A resource may count under several of them, in
	// addition to its category.
	Authorizations map[ehi.Authorization]Tally
	// Waiting counts native content that an administrator decides about (NAT-4). It counts in
	// no category.
	Waiting int64
	// Unread means that an authorization may have more than is counted, because not all that
	// native content says was read.
	Unread bool
}

// Count counts what a form's policy would release. form must be Rules.Policy of the form without
// the kick-off, which the Summary already includes. Errors: a limit is not a whole day.
func (s *Summary) Count(form *Policy) (Counts, error) {
	out := Counts{
		Categories:     map[ehi.Category]Tally{},
		Authorizations: map[ehi.Authorization]Tally{},
	}
	if !form.daily() {
		return out, errors.New("a date limit is no whole day")
	}
	d := decision{summary: s, form: form, verdicts: make([]verdict, len(s.nodes))}
	d.decide()
	for i := range s.nodes {
		n := &s.nodes[i]
		if n.counted == 0 {
			continue
		}
		f := d.facts(n)
		goes := !d.verdicts[i].withheld()
		key := category(f)
		undated := !n.excluded && form.undated(key, f)
		out.All.add(n.counted, goes, undated)
		t := out.Categories[key]
		t.add(n.counted, goes, undated)
		out.Categories[key] = t
		for _, a := range f.needs().list() {
			t := out.Authorizations[a]
			t.add(n.counted, goes, undated)
			out.Authorizations[a] = t
		}
	}
	d.countNative(&out)
	return out, nil
}

// Nodes returns the number of nodes. Each takes some 100 bytes.
func (s *Summary) Nodes() int { return len(s.nodes) + len(s.native) }

// daily reports whether all limits are at the beginning of a day in UTC.
func (p *Policy) daily() bool {
	for _, c := range p.narrow {
		for _, l := range c {
			if !l.from.Truncate(day).Equal(l.from) || !l.to.Truncate(day).Equal(l.to) {
				return false
			}
		}
	}
	return true
}

const day = 24 * time.Hour

// undated reports whether a resource is withheld only because it has no date.
func (p *Policy) undated(key ehi.Category, f *facts) bool {
	if key == "" || len(f.happened) > 0 || f.needs()&^p.authorised != 0 {
		return false
	}
	limited := false
	for _, c := range p.narrow {
		l, on := c[key]
		if !on {
			return false
		}
		limited = limited || !l.from.IsZero() || !l.to.IsZero()
	}
	return limited
}

// decision makes the decisions of Review about nodes instead of resources, in the same steps.
type decision struct {
	summary  *Summary
	form     *Policy
	verdicts []verdict
	wholes   [][]int32 // what each node is a part of; nil until first needed
	at       facts
	span     [1]fhir.Span
}

// someReason stands for any reason. Here reasons need not be distinguished further.
const someReason verdict = 1

// notUsed is the verdict on resources that nothing uses.
var notUsed = because[unusedName]

// notTicked is the verdict on resources that are withheld only because of an unticked form line.
var notTicked = because[categoryReason+string(ehi.MedicalRecord)]

// facts returns the facts of a node; valid until the next call.
func (d *decision) facts(n *node) *facts {
	d.at = d.summary.kinds[n.kind]
	switch {
	case n.times != none:
		d.at.happened = d.summary.times[n.times]
	case n.first != notDated:
		d.span[0] = daysSpan(n.first, n.last)
		d.at.happened = d.span[:]
	}
	return &d.at
}

func (d *decision) decide() {
	for i := range d.summary.nodes {
		n := &d.summary.nodes[i]
		f := d.facts(n)
		switch {
		case f.needs()&^d.form.authorised != 0:
			d.verdicts[i] = someReason | sensitive
		case n.excluded || d.form.withhold(f) != "":
			d.verdicts[i] = notTicked
		case f.presents && (n.bare || !d.form.allows(f.documentGroup(), f)):
			d.verdicts[i] = stripped
		}
	}
	for again := true; again; {
		d.withholdPointers()
		d.markPartial()
		d.stripForms()
		d.followDocuments()
		fell := d.withholdPointers()
		again = d.withholdUnused() || fell
	}
}

// withholdUnused withholds the supporting resources that no released resource refers to.
func (d *decision) withholdUnused() (some bool) {
	reached := make([]bool, len(d.verdicts))
	confers := func(user int32) bool {
		r := d.supporting(user)
		return d.goes(user) && (r == nil || reached[user])
	}
	d.spread(reached, func(_ int, r *relations) bool {
		return slices.ContainsFunc(r.users, confers)
	})
	denied := make([]bool, len(d.verdicts))
	d.spread(denied, func(at int, r *relations) bool {
		thing := isThing(d.summary.kinds[d.summary.nodes[at].kind].typ)
		return slices.ContainsFunc(r.users, func(user int32) bool {
			v, of := d.verdicts[user], d.supporting(user)
			if !v.kept() && of != nil && !reached[user] && denied[user] {
				v = because[referenceOnlyName]
			}
			return v.kept() && (thing || !v.unticked())
		})
	})
	d.related(func(at int, r *relations) {
		told := len(r.tellers) > 0 &&
			!slices.ContainsFunc(r.tellers, func(teller int32) bool { return !d.goes(teller) })
		reached[at] = reached[at] || r.supporting && (r.owned || told) && !denied[at]
	})
	d.spread(reached, func(_ int, r *relations) bool {
		return slices.ContainsFunc(r.users, confers)
	})
	d.related(func(at int, r *relations) {
		v := d.verdicts[at]
		if !r.supporting || reached[at] || v.kept() {
			return
		}
		reason := someReason
		if !denied[at] &&
			!slices.ContainsFunc(r.tellers, func(teller int32) bool { return !d.goes(teller) }) {
			reason = notUsed
		}
		if d.verdicts[at] = v&flags | reason; d.verdicts[at] != v {
			some = true
		}
	})
	return some
}

// supporting returns the relations of a supporting node; nil for other nodes.
func (d *decision) supporting(at int32) *relations {
	if n := d.summary.nodes[at].relations; n != none && d.summary.relations[n].supporting {
		return &d.summary.relations[n]
	}
	return nil
}

// spread adds the supporting nodes that pass to a set, until nothing changes.
func (d *decision) spread(set []bool, pass func(at int, r *relations) bool) {
	for again := true; again; {
		again = false
		d.related(func(at int, r *relations) {
			if r.supporting && !set[at] && pass(at, r) {
				set[at], again = true, true
			}
		})
	}
}

// related visits the nodes that have relations.
func (d *decision) related(visit func(at int, r *relations)) {
	for i := range d.summary.nodes {
		if n := &d.summary.nodes[i]; n.relations != none {
			visit(i, &d.summary.relations[n.relations])
		}
	}
}

// withholdPointers withholds nodes that are only about withheld nodes, and reports whether there
// were any.
func (d *decision) withholdPointers() (fell bool) {
	for again := true; again; {
		again = false
		d.related(func(at int, r *relations) {
			stays := func(group []int32) bool {
				return len(group) > 0 && !slices.ContainsFunc(group, d.notKept)
			}
			if !d.verdicts[at].kept() &&
				(slices.ContainsFunc(r.targets, stays) || slices.ContainsFunc(r.whys, d.allTell)) {
				d.verdicts[at] = d.verdicts[at]&flags | someReason
				fell, again = true, true
			}
		})
	}
	return fell
}

// markPartial marks the nodes that are partial, see Review.markPartial.
func (d *decision) markPartial() {
	var todo []int32
	mark := func(at int32) {
		if d.verdicts[at]&partial == 0 {
			d.verdicts[at] |= partial
			todo = append(todo, at)
		}
	}
	d.related(func(at int, r *relations) {
		if slices.ContainsFunc(r.parts, func(of int32) bool { return d.allTell([]int32{of}) }) {
			mark(int32(at))
		}
	})
	if len(todo) > 0 && d.wholes == nil {
		d.wholes = make([][]int32, len(d.verdicts))
		d.related(func(at int, r *relations) {
			for _, of := range r.parts {
				if n := d.summary.nodes[of].relations; n != none &&
					len(d.summary.relations[n].parts) > 0 {
					d.wholes[of] = append(d.wholes[of], int32(at))
				}
			}
		})
	}
	for len(todo) > 0 {
		of := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, whole := range d.wholes[of] {
			mark(whole)
		}
	}
}

// stripForms removes the presentedForms of partial reports, and those that describe something
// withheld for a reason other than an unticked form line.
func (d *decision) stripForms() {
	d.related(func(at int, r *relations) {
		presents := d.summary.kinds[d.summary.nodes[at].kind].presents
		tells := func(of int32) bool { return d.allTell([]int32{of}) }
		if presents && d.verdicts[at]&partial != 0 || slices.ContainsFunc(r.shown, tells) {
			d.verdicts[at] |= stripped
		}
	})
}

// allTell reports whether all nodes of a group are withheld for a reason other than an unticked
// form line.
func (d *decision) allTell(group []int32) bool {
	return len(group) > 0 && !slices.ContainsFunc(group, func(at int32) bool {
		if at == none {
			return true
		}
		v, n := d.verdicts[at], &d.summary.nodes[at]
		// its verdict follows from its holders
		if string(d.summary.kinds[n.kind].typ) == binaryType {
			return v&sensitive == 0
		}
		return !v.telling(resource{})
	})
}

// goes reports whether a node's resources are released, or not in the record.
func (d *decision) goes(at int32) bool { return at == none || !d.verdicts[at].withheld() }

// notKept reports whether a node's resources are released, not in the record, or withheld only
// because nothing uses them.
func (d *decision) notKept(at int32) bool { return at == none || !d.verdicts[at].kept() }

func (d *decision) followDocuments() {
	d.related(func(at int, r *relations) {
		if len(r.holders)+len(r.presented) > 0 && d.verdicts[at]&sensitive == 0 {
			d.verdicts[at] = d.verdicts[at]&flags | notUsed | held
		}
	})
	for again := true; again; {
		again = false
		d.related(func(at int, r *relations) {
			v := d.verdicts[at]
			if v&held == 0 || v&sensitive != 0 || !v.withheld() {
				return
			}
			shows := func(h int32) bool {
				return d.goes(h) && (h == none || !d.verdicts[h].hidesForm(resource{}))
			}
			if slices.ContainsFunc(r.holders, d.goes) || slices.ContainsFunc(r.presented, shows) {
				d.verdicts[at] = v & flags
				again = true
			}
		})
	}
	for again := true; again; {
		again = false
		d.related(func(at int, r *relations) {
			v := d.verdicts[at]
			keeps := func(h int32) bool { return !d.notKept(h) }
			strips := func(h int32) bool { return h != none && !d.verdicts[h].withheld() }
			if v&held != 0 && v.unused() &&
				(slices.ContainsFunc(r.holders, keeps) || slices.ContainsFunc(r.presented, keeps) ||
					slices.ContainsFunc(r.presented, strips)) {
				d.verdicts[at] = v&flags | someReason
				again = true
			}
		})
	}
	unread := d.keep(d.summary.unread)
	d.related(func(at int, r *relations) {
		if v := d.verdicts[at]; (v&held == 0 || v.withheld()) && d.keep(r.hints) {
			if d.verdicts[at] |= held; !v.kept() {
				d.verdicts[at] = d.verdicts[at]&flags | someReason
			}
		}
		switch {
		case !r.binary || d.verdicts[at]&(held|sensitive) != 0:
		case r.secured == none && !d.verdicts[at].withheld():
			d.verdicts[at] |= notUsed
		case r.secured == none:
		case !r.patient:
			d.verdicts[at] = d.verdicts[at]&flags | verdict(d.verdicts[r.secured].reason())
		case unread && !d.verdicts[at].kept():
			d.verdicts[at] = d.verdicts[at]&flags | someReason
		}
	})
}

// Summarizer makes a Summary of one record. It is for one goroutine.
//
//	s := rules.Summarize(kickOff)
//	for each resource { s.Observe(line) }
//	s.Conclude()
//	if the application selected some { for each of them { s.Select(line) } }
//	s.Summary()
type Summarizer struct {
	asked   *Policy // what the application requested
	examine examiner
	index   *index[int32] // the node of each resource, or the complement of its index in relatives
	kinds   map[kindKey]int32
	nodes   map[nodeKey]int32
	types   map[string]string
	out     Summary

	relatives []relative
	holders   []holder
	hints     []hint
	leads     map[resource]leading
	pointers  pointers
	parts     list
	uses      map[use]struct{}
	tells     map[use]struct{}
	called    map[resource][]int32 // the relatives that have a name

	seeking
	loose          bool                  // see Loose
	values, owners list                  // pairs: an identifier, and a resource that has it
	named          map[idHash][]resource // built from the pairs by Conclude
	outside        map[resource]bool     // see Review.Beside
}

// use is a reference to a supporting resource, from a node or the complement of a relative's
// index.
type use struct {
	of resource
	by int32
}

// kindKey holds the properties of a resource that decisions depend on, except time and
// relations.
type kindKey struct {
	typ        string
	laboratory bool
	radiology  bool
	document   ehi.Category
	sensitive  authorizations
	presents   bool
}

type nodeKey struct {
	kind, first, last int32
	excluded, bare    bool
	rest              string // further times, or relations
}

// relative is a resource that has, or may have, relations.
type relative struct {
	base       int32  // its node if it had no relations
	inner      bool   // it is inside another one, and does not count
	pointers   [2]int // its range in pointers
	parts      [2]int // its range in parts
	shown      []resource
	binary     bool
	supporting bool
	owned      bool     // released without references too
	secured    resource // zero if there is none
}

// Summarize starts the summary of a record for an application's kick-off.
func (r *Rules) Summarize(asked ehi.KickOff) (*Summarizer, error) {
	p, err := r.Policy(nil, asked)
	if err != nil {
		return nil, err
	}
	return &Summarizer{
		asked:   p,
		examine: examiner{policy: p, dated: true},
		index:   newIndex[int32](),
		kinds:   map[kindKey]int32{},
		nodes:   map[nodeKey]int32{},
		types:   map[string]string{},
		uses:    map[use]struct{}{},
		tells:   map[use]struct{}{},
		called:  map[resource][]int32{}, leads: map[resource]leading{},
	}, nil
}

// Loose is Review.Loose.
func (s *Summarizer) Loose() { s.loose = true }

// Observe takes one resource of the record. Errors: the line is not JSON; ErrTooVaried.
func (s *Summarizer) Observe(line []byte) error {
	if s.loose {
		s.addRelative(line)
	}
	f, err := s.examine.examine(line)
	switch {
	case err != nil:
		return err
	case f.inner:
		return s.observeHolder(line, f.typ, f.id, false)
	}
	return s.observe(f, false)
}

// observeHolder observes a resource and its inner resources, which count as part of it. inner
// means that it is inside another one itself.
func (s *Summarizer) observeHolder(line, typ, id []byte, inner bool) error {
	found, err := innerResources(&s.examine.walk, line)
	if err == nil {
		err = identifyInner(&s.examine.walk, line, id, found)
	}
	if err != nil {
		return err
	}
	f, err := s.examine.examine(withoutInner(line, found))
	if err != nil {
		return err
	}
	f.id = id
	f.holds(found)
	if err := s.observe(f, inner); err != nil {
		return err
	}
	called := calledInner(found)
	for _, in := range found {
		part, err := renamed(&s.examine.walk, line[in.start:in.end], called)
		if err != nil {
			return err
		}
		if f, err = s.examine.examine(part); err == nil && f.inner {
			err = s.observeHolder(part, in.typ, in.id, true)
		} else if err == nil {
			f.id = in.id
			err = s.observe(f, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// observe adds a resource. An inner one does not count, and a resource with its own line
// replaces it.
func (s *Summarizer) observe(f *facts, inner bool) error {
	self := s.index.resource(f.typ, f.id)
	s.seeking.add(f.strays)
	s.own(self, f, false)
	at := s.node(f)
	for _, b := range f.binaries {
		if string(f.typ) != binaryType || string(b.typ) != binaryType || !bytes.Equal(b.id, f.id) {
			s.holds(self, b)
		}
	}
	for _, t := range f.taking { // as if each entry remained: the counts may be slightly too high
		f.supports, f.tells = append(f.supports, t.supports...), append(f.tells, t.tells...)
		for _, b := range t.binaries {
			s.holds(self, b)
		}
	}
	presenting, made := false, false
	f.shown(func(target) { presenting = true })
	f.eachPart(func(target) { made = true })
	if presenting || made || f.pointer() || f.hangs() {
		at = s.relative(self, at, f)
		s.relatives[^at].inner = inner
	} else if !inner {
		s.out.nodes[at].counted++
	}
	for _, t := range f.supports {
		s.uses[use{s.resource(t), at}] = struct{}{}
	}
	for _, t := range f.tells {
		s.tells[use{s.resource(t), at}] = struct{}{}
	}
	if place, found := s.index.add(self); !found || !inner {
		*place = at
	}
	if len(s.out.nodes)+len(s.out.kinds) > maxNodes {
		return ErrTooVaried
	}
	return nil
}

// own records the names of a resource. Short numbers of resources outside the record decide
// nothing.
func (s *Summarizer) own(self resource, f *facts, outside bool) {
	for _, values := range [][][]byte{f.identifiers, f.shared} {
		for _, v := range values {
			if !outside || telling(v) {
				s.values.add(resource{id: s.index.hash(v)})
				s.owners.add(self)
			}
		}
	}
}

// Sought is Review.Sought for a Summarizer.
func (s *Summarizer) Sought() []Name { return compactNames(s.seeking.names()) }

// Early gives a Summarizer the Sought and Beside of an Observer, for use before the record is
// complete.
type Early struct{ of *Summarizer }

// Early returns the view for regular use while the Summarizer observes a record.
func (s *Summarizer) Early() Early { return Early{s} }

// Sought is Observer.Sought.
func (e Early) Sought() []Name { return e.of.seeking.early() }

// Beside is Observer.Beside.
func (e Early) Beside(line []byte) error {
	f, err := e.of.examine.examine(line)
	if err == nil {
		e.of.seeking.glance(f, f.sensitive)
	}
	return err
}

// Beside is Review.Beside. The resource is not counted.
func (s *Summarizer) Beside(line []byte) error {
	f, err := s.examine.examine(line)
	if err != nil {
		return err
	}
	self := s.index.resource(f.typ, f.id)
	_, known := s.index.at(self)
	if known || f.number == patientNumber || f.sensitive == 0 && !f.pointer() {
		return nil
	}
	at := s.node(&facts{typ: []byte(besideType), sensitive: f.sensitive})
	if f.sensitive == 0 {
		at = s.relative(self, at, f)
		r := &s.relatives[^at]
		r.inner, r.binary, r.supporting, r.owned, r.secured = true, false, false, false, resource{}
		f.abouts(func(targets []target, _ bool) { s.seeking.add(targets) })
	}
	place, _ := s.index.add(self)
	*place = at
	s.own(self, f, true)
	if s.outside == nil {
		s.outside = map[resource]bool{}
	}
	s.outside[self] = !telling(f.id)
	return nil
}

// besideType is the type of the nodes that Beside adds for sensitive resources. It has no form
// line.
const besideType = "Medication"

// resource returns the key of a target in the index. Leads are kept until the record is
// complete.
func (s *Summarizer) resource(t target) resource {
	of := s.index.resource(t.typ, t.id)
	if l, is := parseLead(t.id); of.typ == nameType && is {
		s.leads[of] = hashed(s.index, l)
	}
	return of
}

// holds records that a resource refers to a Binary, see Observer.holds.
func (s *Summarizer) holds(self resource, b attachment) {
	to := s.resource(b.target)
	if to.typ == nameType {
		s.hints = append(s.hints, hint{to, self, b.presented, b.link})
	}
	if !b.hint {
		s.holders = append(s.holders, holder{to, self, b.presented, b.tells})
	}
}

// leadsTo visits the resources that a key points to, with their nodes.
func (s *Summarizer) leadsTo(to resource, visit func(of resource, at int32)) {
	if to.typ != nameType {
		if at, known := s.index.at(to); known && !s.outside[to] {
			visit(to, at)
		}
		return
	}
	for _, w := range s.leads[to].words {
		s.index.sharing(w.id, func(typ uint16, at int32) {
			if of := (resource{typ, w.id}); (w.typ == 0 || w.typ == typ) && !s.outside[of] {
				visit(of, at)
			}
		})
	}
	for _, v := range s.leads[to].values {
		for _, of := range s.ownersOf(v) {
			if at, known := s.index.at(of); known {
				visit(of, at)
			}
		}
	}
}

// ownersOf returns the resources with an identifier.
func (s *Summarizer) ownersOf(value idHash) []resource {
	if s.named == nil {
		wanted := map[idHash]bool{}
		for _, l := range s.leads {
			for _, v := range l.values {
				wanted[v] = true
			}
		}
		s.named = map[idHash][]resource{}
		for i := range s.values.n {
			if v := s.values.at(i).id; wanted[v] {
				s.named[v] = append(s.named[v], s.owners.at(i))
			}
		}
	}
	return s.named[value]
}

// resolve replaces leads by the Binaries that they point to, and determines which links may
// point to any Binary. The hints are by the relative index of the Binary.
func (s *Summarizer) resolve() (hints map[int32][]holding) {
	var resolved []holder
	for _, h := range s.holders {
		s.leadsTo(h.binary, func(of resource, _ int32) {
			if h.binary = of; of.typ == binaryNumber && of != h.self {
				resolved = append(resolved, h)
			}
		})
	}
	s.holders, hints = resolved, map[int32][]holding{}
	for _, h := range s.hints {
		by, _ := s.index.at(h.self)
		l, read := s.leads[h.lead], !h.link
		for _, w := range l.words {
			binary := resource{binaryNumber, w.id}
			if at, known := s.index.at(binary); known {
				read = true
				if at < 0 && binary != h.self {
					hints[^at] = append(hints[^at], holding{by, h.presented})
				}
			}
		}
		s.leadsTo(h.lead, func(resource, int32) { read = read || l.exact })
		if !read && !l.named {
			s.out.unread.add(holding{by, h.presented})
		}
	}
	return hints
}

// relative records a resource with relations until the record is complete.
func (s *Summarizer) relative(self resource, base int32, f *facts) (at int32) {
	r := relative{base: base, binary: string(f.typ) == "Binary", supporting: isSupporting(f.typ),
		owned: f.owned || roles[f.number] >= part}
	r.pointers[0] = s.pointers.selves.n
	f.abouts(func(targets []target, why bool) {
		s.pointers.begin(self, why)
		for _, t := range targets {
			s.pointers.add(s.resource(t))
		}
	})
	r.pointers[1] = s.pointers.selves.n
	f.shown(func(t target) { r.shown = append(r.shown, s.resource(t)) })
	r.parts[0] = s.parts.n
	f.eachPart(func(t target) {
		if string(t.typ) != "Patient" {
			s.parts.add(s.resource(t))
		}
	})
	r.parts[1] = s.parts.n
	if r.binary && f.context.typ != nil {
		r.secured = s.resource(f.context)
	}
	for _, name := range f.names {
		of := s.index.resource(nameTyp, name)
		s.called[of] = append(s.called[of], int32(len(s.relatives)))
	}
	s.relatives = append(s.relatives, r)
	return ^int32(len(s.relatives) - 1)
}

// node returns the node of a resource without relations.
func (s *Summarizer) node(f *facts) int32 {
	typ, known := s.types[string(f.typ)]
	if !known {
		typ = string(f.typ)
		s.types[typ] = typ
	}
	key := kindKey{
		typ,
		f.laboratory,
		f.radiology,
		f.document,
		f.sensitive,
		f.presents && typ == "DiagnosticReport",
	}
	kind, known := s.kinds[key]
	if !known {
		kind = int32(len(s.out.kinds))
		s.kinds[key] = kind
		s.out.kinds = append(s.out.kinds, facts{
			typ:        []byte(typ),
			laboratory: f.laboratory,
			radiology:  f.radiology,
			document:   f.document,
			sensitive:  f.sensitive,
			presents:   key.presents,
		})
	}
	at := nodeKey{kind: kind, first: notDated, excluded: s.asked.withhold(f) != ""}
	at.bare = key.presents && !s.asked.allows(f.documentGroup(), f)
	if len(f.happened) > 0 {
		at.first, at.last = days(f.happened[0])
	}
	if len(f.happened) > 1 {
		at.rest = spansKey(f.happened)
	}
	n, known := s.nodes[at]
	if !known {
		n = s.add(at, f.happened)
		s.nodes[at] = n
	}
	return n
}

func (s *Summarizer) add(at nodeKey, happened fhir.Spans) int32 {
	n := node{
		kind:      at.kind,
		first:     at.first,
		last:      at.last,
		times:     none,
		relations: none,
		excluded:  at.excluded,
		bare:      at.bare,
	}
	if len(happened) > 1 {
		n.times = int32(len(s.out.times))
		s.out.times = append(s.out.times, happened)
	}
	s.out.nodes = append(s.out.nodes, n)
	return int32(len(s.out.nodes) - 1)
}

// days returns the first and last day of a span.
func days(s fhir.Span) (first, last int32) {
	return int32(floor(s.Start.Unix())), int32(floor(s.End.Add(-time.Nanosecond).Unix()))
}

// daysSpan is the reverse of days.
func daysSpan(first, last int32) fhir.Span {
	return fhir.Span{
		Start: time.Unix(int64(first)*86400, 0),
		End:   time.Unix((int64(last)+1)*86400, 0),
	}
}

func floor(seconds int64) int64 {
	if seconds < 0 {
		seconds -= 86399
	}
	return seconds / 86400
}

func spansKey(spans fhir.Spans) string {
	var k []byte
	for _, s := range spans {
		k = binary.AppendVarint(binary.AppendVarint(k, s.Start.Unix()), s.End.Unix())
	}
	return string(k)
}

// Conclude ends the pass over the record. Errors: ErrTooVaried.
func (s *Summarizer) Conclude() error {
	hints := s.resolve()
	holders, users, tellers := s.holdersByBinary(), s.bySupport(s.uses), s.bySupport(s.tells)
	at := make([]int32, len(s.relatives)) // the nodes of the relatives
	byKey := map[nodeKey]int32{}
	for i := range s.relatives {
		at[i] = s.place(i, holders[int32(i)], hints[int32(i)], users[int32(i)], tellers[int32(i)],
			byKey)
		if !s.relatives[i].inner {
			s.out.nodes[at[i]].counted++
		}
		if len(s.out.nodes) > maxNodes {
			return ErrTooVaried
		}
	}
	for i := range s.out.relations {
		s.out.relations[i].settle(at)
	}
	unread := relations{hints: s.out.unread, secured: none}
	unread.settle(at)
	s.index.replace(func(what int32) int32 {
		if what < 0 {
			what = at[^what]
		}
		return what
	})
	s.hints, s.leads, s.values, s.owners, s.named = nil, nil, list{}, list{}, nil
	s.relatives, s.holders, s.pointers, s.parts, s.nodes, s.uses, s.tells, s.called =
		nil, nil, pointers{}, list{}, nil, nil, nil, nil
	return nil
}

// holding is a holder of a Binary: a node, or the complement of a relative's index.
type holding struct {
	by        int32
	presented bool
}

func (s *Summarizer) holdersByBinary() map[int32][]holding {
	out := map[int32][]holding{}
	for _, h := range deciding(s.holders) {
		if at, known := s.index.at(h.binary); known && at < 0 {
			by, _ := s.index.at(h.self)
			out[^at] = append(out[^at], holding{by, h.presented})
		}
	}
	return out
}

// bySupport returns the references to supporting resources, by relative index.
func (s *Summarizer) bySupport(uses map[use]struct{}) map[int32][]int32 {
	out := map[int32][]int32{}
	for u := range uses {
		for _, owner := range s.called[u.of] {
			out[owner] = append(out[owner], u.by)
		}
		if u.of.typ == nameType && !s.leads[u.of].exact {
			continue
		}
		typ := s.leads[u.of].typ
		s.leadsTo(u.of, func(of resource, at int32) {
			if at < 0 && (typ == 0 || typ == of.typ) {
				out[^at] = append(out[^at], u.by)
			}
		})
	}
	return out
}

// place finds or creates the node of a relative.
func (s *Summarizer) place(
	i int, holders, hints []holding, users, tellers []int32, byKey map[nodeKey]int32,
) int32 {
	r := s.relatives[i]
	found := s.relationsOf(r, holders)
	for _, by := range hints {
		found.hints.add(by)
	}
	for _, by := range users {
		found.users = append(found.users, mapped(by))
	}
	for _, by := range tellers {
		found.tellers = append(found.tellers, mapped(by))
	}
	found.supporting = r.supporting && (len(users) > 0 || !r.owned)
	found.owned = r.owned
	if len(found.targets)+len(found.whys)+len(found.shown)+len(found.parts)+len(found.holders)+
		len(found.presented) == 0 && found.secured == none && !found.supporting && !found.binary {
		return r.base
	}
	base := s.out.nodes[r.base]
	key := nodeKey{kind: r.base, rest: found.key()}
	if n, known := byKey[key]; known {
		return n
	}
	base.relations, base.counted = int32(len(s.out.relations)), 0
	s.out.relations = append(s.out.relations, found)
	s.out.nodes = append(s.out.nodes, base)
	n := int32(len(s.out.nodes) - 1)
	byKey[key] = n
	return n
}

// relationsOf returns the relations of a relative.
func (s *Summarizer) relationsOf(r relative, holders []holding) relations {
	out := relations{binary: r.binary, secured: none}
	typ := s.out.kinds[s.out.nodes[r.base].kind].typ
	for i := r.pointers[0]; i < r.pointers[1]; i++ {
		switch group := s.groupOf(typ, i); {
		case group == nil:
		case s.pointers.why[i]:
			out.whys = append(out.whys, group)
		default:
			out.targets = append(out.targets, group)
		}
	}
	for _, of := range r.shown {
		if s.isOccasion(typ, of) {
			continue
		}
		s.leadsTo(of, func(_ resource, at int32) { out.shown = append(out.shown, mapped(at)) })
	}
	for i := r.parts[0]; i < r.parts[1]; i++ {
		if s.isOccasion(typ, s.parts.at(i)) {
			continue
		}
		s.leadsTo(s.parts.at(i), func(_ resource, at int32) {
			out.parts = append(out.parts, mapped(at))
		})
	}
	for _, h := range holders {
		if h.presented {
			out.presented = append(out.presented, mapped(h.by))
		} else {
			out.holders = append(out.holders, mapped(h.by))
		}
	}
	s.leadsTo(r.secured, func(of resource, at int32) {
		out.secured, out.patient = mapped(at), of.typ == patientNumber
	})
	return out
}

// isOccasion is Review.isOccasion for a resource of a type.
func (s *Summarizer) isOccasion(typ []byte, to resource) bool {
	some, others := false, false
	if to.typ == nameType && sums[fhir.TypeNumber(typ)] {
		s.leadsTo(to, func(of resource, _ int32) {
			is := int(of.typ) < len(occasions) && (occasions[of.typ] || supporting[of.typ])
			some, others = some || is, others || !is
		})
	}
	return some && !others
}

// groupOf returns the nodes of a pointer's targets, of a resource of a type; nil if a target is not
// in the record, because then the group never withholds the pointer.
func (s *Summarizer) groupOf(typ []byte, pointer int) (group []int32) {
	for i, end := s.pointers.of(pointer); i < end; i++ {
		known, to := false, s.pointers.targets.at(i)
		if s.isOccasion(typ, to) {
			continue
		}
		s.leadsTo(to, func(_ resource, at int32) {
			if !known {
				known, group = true, append(group, mapped(at))
			}
		})
		if !known {
			return nil
		}
	}
	return group
}

// mapped keeps the complement of a relative's index distinct from none until settle: it returns
// -2 or less for a relative.
func mapped(at int32) int32 {
	if at < 0 {
		return at - 1
	}
	return at
}

// settle replaces relatives by nodes.
func (r *relations) settle(at []int32) {
	for _, list := range append(slices.Concat(r.targets, r.whys), r.shown, r.parts, r.users,
		r.tellers, r.holders, r.presented, r.hints.nodes, r.hints.presented) {
		for i, n := range list {
			if n < none {
				list[i] = at[^(n + 1)]
			}
		}
	}
	if r.secured < none {
		r.secured = at[^(r.secured + 1)]
	}
}

// key returns a unique key of the relations. It sorts them.
func (r *relations) key() string {
	k := binary.AppendVarint(binary.AppendVarint(nil, int64(len(r.targets))), int64(len(r.whys)))
	lists := []*[]int32{
		&r.shown, &r.parts, &r.users, &r.tellers, &r.holders, &r.presented, &r.hints.nodes,
		&r.hints.presented,
	}
	for i := range r.targets {
		lists = append(lists, &r.targets[i])
	}
	for i := range r.whys {
		lists = append(lists, &r.whys[i])
	}
	for _, list := range lists {
		slices.Sort(*list)
		*list = slices.Compact(*list)
		k = binary.AppendVarint(k, int64(len(*list)))
		for _, n := range *list {
			k = binary.AppendVarint(k, int64(n))
		}
	}
	if r.supporting {
		k = append(k, 1)
	}
	if r.owned {
		k = append(k, 2)
	}
	return string(binary.AppendVarint(k, int64(r.secured)))
}

// Narrow restricts the counts to resources that are selected from here on. Without it, the whole
// record counts.
func (s *Summarizer) Narrow() {
	for i := range s.out.nodes {
		s.out.nodes[i].counted = 0
	}
}

// Select counts a resource of the record, after Conclude and Narrow. Errors: the line is not
// JSON.
func (s *Summarizer) Select(line []byte) error {
	typ, id, err := s.examine.walk.identify(line)
	if err != nil {
		return err
	}
	if at, known := s.index.find(typ, id); known {
		s.out.nodes[at].counted++
	}
	return nil
}

// Summary returns the result.
func (s *Summarizer) Summary() *Summary { return &s.out }
