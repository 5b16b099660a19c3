package release

import (
	"slices"
	"sync"
	"sync/atomic"

	"ehi-server/shared/ehi"
)

// Review is the decisions about one record. What it keeps of a resource is some 20 bytes.
type Review struct {
	policy    *Policy
	resolved  bool      // every local reference of the record resolves within it
	ambiguous bool      // a released resource and a withheld one have the same id
	types     bitmap    // the types of which some stay, or lose something of their own
	hiding    bitmap    // those of which some stay for more than that nothing uses them
	going     [256]bool // R4's types of which some go, or may
	notable   filter    // the ids of those
	concluded bool

	gathered  sync.Mutex // what the observers gather together
	indexing  sync.Mutex // index, while they observe
	index     verdicts   // of what stays, and of supporting resources and Binaries
	observers []*Observer
	secrets   secrets
	// identified is by what else References may name what stays, and hidden by the name of a field
	// whether it may refer to something that stays.
	identified identified
	hidden     map[string]bool
	forms      forms
	attached   attachedTo
	takers     map[resource]taker
	asked      map[resource]bool // about which of them is being decided
	copies     []copied
	stayed     map[resource]bool // what stays for that alone
	// stayingInner stay where they stand in another one.
	stayingInner []stayingInner
	holding      bitmap // the types of what holds other resources
	counts       map[string]int64
	support      support
	shorts       []resource             // that may be withheld, and have an id that is not looked for in texts
	gone         map[resource]goneLines // of bills
	anyGone      goneLines              // of any of them
	bills        map[resource]bool      // those that may go, where some lose lines
	billLines    map[lineOf][]resource  // what their lines tell of, where an answer asks
	short        bool                   // one of them is withheld
	alone        bool                   // nothing but the resource at hand is released, see Alone
	beside       *Observer              // of what is not in the record
	outside      map[resource]bool      // that, as far as it may stay; whether its id is a short number
	// irregular says that a resource has its type or id twice.
	irregular bool
	unsure    bool                     // nothing that was observed goes whatever comes, see Observer.settled
	patient   atomic.Pointer[resource] // the first on a line of its own, who goes; nil before
	relied    bool                     // it was relied on that some of it does
	twice     bool                     // some of that came once more, and stays
}

// Review starts the decisions about one record.
func (p *Policy) Review() *Review {
	x := verdicts{index: newIndex[verdict]()}
	return &Review{
		policy:  p,
		index:   x,
		secrets: secrets{index: x},
		support: newSupport(),
		counts:  map[string]int64{},
		takers:  map[resource]taker{},
	}
}

// Resolved tells that every local reference of the record resolves within it: so says its
// source, and nothing of it was left out. It is called before Conclude; each reference is looked
// at where it is not.
func (r *Review) Resolved() { r.resolved = true }

// pointers are resources that say nothing but what they refer to. One goes that is not in the
// index.
type pointers struct {
	selves  list
	ends    []int32 // of each one's targets
	why     []bool  // whether those are of whyPaths
	inside  []bool  // whether the resource stands in another one
	targets list
	left    []int32 // those that may fall yet; nil before they are gone over
}

func (p *pointers) begin(self resource, why bool) {
	p.selves.add(self)
	p.why = append(p.why, why)
	p.ends = append(p.ends, int32(p.targets.n))
}

func (p *pointers) add(target resource) {
	p.targets.add(target)
	p.ends[len(p.ends)-1] = int32(p.targets.n)
}

// of is where the targets of pointer i stand.
func (p *pointers) of(i int) (from, to int) {
	if i > 0 {
		from = int(p.ends[i-1])
	}
	return from, int(p.ends[i])
}

// forms are the presentedForms of reports, as pointers to what the reports are made of.
type forms struct {
	pointers
	groups []ehi.Category
}

// present keeps what the presentedForm of a report tells of.
func (o *Observer) present(self resource, f *facts) {
	r := o.review
	begun := false
	f.shown(func(t target) {
		if !begun {
			begun = true
			r.forms.begin(self, true)
			r.forms.groups = append(r.forms.groups, f.documentGroup())
		}
		r.forms.add(o.resource(t))
	})
}

// stripForms cuts the presentedForms out that tell of something that stays for more than an
// unticked line of the form.
func (r *Review) stripForms() {
	for i := range r.forms.selves.n {
		from, to := r.forms.of(i)
		for t := from; t < to; t++ {
			self, target := r.forms.selves.at(i), r.forms.targets.at(t)
			if r.tellsOf(target) && !r.isOccasion(self, target) {
				r.index.put(self, stripped)
				break
			}
		}
	}
}

// countForms counts those that stripForms cut out of what goes.
func (r *Review) countForms() {
	for i, group := range r.forms.groups {
		if v, known := r.index.at(r.forms.selves.at(i)); known && !v.withheld() && v&stripped != 0 {
			r.counts[presentedReason+string(group)]++
		}
	}
	r.forms = forms{}
}

// Conclude ends the first pass, after the last observer: resources whose only content is
// withheld are withheld too, until nothing changes. It returns nil; or a review in place of this
// one, which has to observe the record from its beginning: some resource came twice, and what
// was taken for certain after the first time was not. This one has no Releaser then.
func (r *Review) Conclude() (instead *Review) {
	for _, o := range r.observers {
		r.relied = r.relied || o.relied
		r.secrets.merge(&o.ids)
		r.secrets.numbers.merge(&o.numbers)
		r.support.merge(o.support) // of a large record it is several MB
		o.support, o.examine, o.cleaner, o.innerWalk = support{}, examiner{}, nil, walk{}
	}
	r.flush()
	r.index.sift()
	r.concludeInner()
	r.resolveLeads()
	r.resolveHolders()
	r.support.resolveNames()
	if !r.policy.everything { // EHI-8: else it all goes, whatever refers to what
		r.withholdMore()
	}
	r.countForms()
	for _, o := range r.observers {
		o.pointers.ends, o.pointers.why, o.pointers.targets = nil, nil, list{}
	}
	for _, self := range r.shorts {
		v, _ := r.index.at(self)
		r.short = r.short || v.withheld()
	}
	r.conclude()
	r.billLines = nil
	r.attached, r.support, r.takers, r.copies, r.stayed = attachedTo{}, support{}, nil, nil, nil
	if r.relied && r.twice {
		instead = r.policy.Review()
		instead.unsure = true
		return instead
	}
	r.concluded = true
	return nil
}

// withholdMore withholds what is only about, or for, or part of something that stays.
func (r *Review) withholdMore() {
	for again := true; again; {
		r.withholdPointers()
		r.stripForms()
		r.hidden = nil
		fell := false
		if r.attached.some() {
			r.followDocuments()
			fell = r.withholdPointers() // at a Binary; of what falls so, Binaries may be held
		}
		again = r.withholdUnused() || fell
	}
}

// conclude counts what stays, and prepares for the look-ups of the second pass.
func (r *Review) conclude() {
	r.index.sieve = nil
	r.notable = newFilter(r.countNotable())
	r.index.each(func(x resource, v verdict) {
		if v.notable() {
			r.notable.add(x.id.high)
		}
	})
	r.secrets.conclude(r.notable)
	r.concludeFields()
	r.concludeLines()
	r.concludeNumbers()
	r.concludeIdentifiers()
	r.concludeReleased()
	r.concludeTypes()
	r.observers = nil
}

// countNotable counts what stays, by reason, and is how much is notable.
func (r *Review) countNotable() (notable int) {
	var counts [1 << 8]int64
	r.index.each(func(x resource, v verdict) {
		if !v.withheld() {
			r.goes(x.typ)
		}
		if !v.notable() {
			return
		}
		notable++
		r.types.add(x.typ)
		if v.kept() {
			r.hiding.add(x.typ)
		}
		if !v.withheld() || r.isOutside(x) {
			return
		}
		counts[v.reason()]++
		if released, _ := r.index.of(x.id); released {
			r.ambiguous = true
		}
	})
	for number, n := range counts {
		switch {
		case n == 0:
		case verdict(number).unused():
			r.counts[referenceOnlyName] += n
		default:
			r.counts[reasons[number]] += n
		}
	}
	return notable
}

// goes notes that some of a type go.
func (r *Review) goes(typ uint16) {
	if int(typ) < len(r.going) {
		r.going[typ] = true
	}
}

// allStay reports whether nothing of a type goes: those of it need no look into the index.
func (r *Review) allStay(typ uint16) bool {
	return int(typ) < len(r.going) && !r.going[typ] && r.types.has(typ)
}

// concludeTypes notes the types of what goes and is not in the index.
func (r *Review) concludeTypes() {
	for _, o := range r.observers {
		for typ := range o.released.of {
			r.going[typ] = r.going[typ] || len(o.released.of[typ].chunks) > 0
		}
		o.inside.each(func(goes resource) { r.goes(goes.typ) })
		for _, i := range o.pointers.left {
			r.goes(o.pointers.selves.at(int(i)).typ)
		}
	}
}

// concludeReleased finds out what goes and is called like something notable, or may be; of a
// record in which not all references resolve it takes in all that goes.
func (r *Review) concludeReleased() {
	if patient := r.patient.Load(); patient != nil {
		v, _ := r.index.at(*patient)
		r.twice = v.withheld()
	}
	for _, l := range r.namesakes() {
		l.each(func(goes resource) {
			v, _ := r.index.at(goes)
			r.twice = r.twice || v.withheld()
			if r.resolved {
				r.known(goes)
			}
		})
	}
	if !r.resolved {
		r.eachReleased(r.known)
		return
	}
	take := func(goes resource) {
		if r.notable.has(goes.id.high) && !r.isOutside(goes) {
			r.known(goes)
		}
	}
	for _, o := range r.observers {
		for _, i := range o.pointers.left { // what fell does not go
			take(o.pointers.selves.at(int(i)))
		}
		o.inside.each(take)
	}
}

// namesakes are, by observer, the resources that go of their own and may have the id of
// something notable. Of a large record nearly all go: the observers' are gone through side by
// side.
func (r *Review) namesakes() []list {
	found := make([]list, len(r.observers))
	var group sync.WaitGroup
	for i, o := range r.observers {
		group.Go(func() {
			o.released.each(func(goes resource) {
				if r.notable.has(goes.id.high) {
					found[i].add(goes)
				}
			})
		})
	}
	group.Wait()
	return found
}

// eachReleased visits the resources that go and may have no place in the index; among the
// pointers are such that stay, and have one.
func (r *Review) eachReleased(visit func(resource)) {
	for _, o := range r.observers {
		o.pointers.selves.each(func(self resource) {
			if !r.isOutside(self) {
				visit(self)
			}
		})
		o.released.each(visit)
		o.inside.each(visit)
	}
}

// eachOfItsOwn is eachReleased for those that stand on a line of their own.
func (r *Review) eachOfItsOwn(visit func(resource)) {
	for _, o := range r.observers {
		for i, inside := range o.pointers.inside {
			if self := o.pointers.selves.at(i); !inside && !r.isOutside(self) {
				visit(self)
			}
		}
		o.released.each(visit)
	}
}

// known puts a released resource into the index: it is looked for by every reference where not
// all of them resolve, and what it is called is no secret.
func (r *Review) known(goes resource) {
	if r.resolved && !r.index.shares(goes.id) {
		return // the filter took it for another one
	}
	r.index.put(goes, 0)
	if released, withheld := r.index.of(goes.id); released && withheld {
		r.ambiguous = true
	}
}

// withholdPointers withholds the pointers of which all targets stay, and the copies of what
// does, until nothing changes. It reports whether one fell.
func (r *Review) withholdPointers() (fell bool) {
	fell = r.withholdThem()
	for r.withholdCopies() {
		fell = true
		r.withholdThem()
	}
	return fell
}

// withholdThem goes over the pointers that are left, forth and back, until nothing changes: a
// chain of them falls in one go, whichever way it leads.
func (r *Review) withholdThem() (fell bool) {
	for again := true; again; {
		again = false
		for _, o := range r.observers {
			again = o.pointers.fall(r.withholdPointer) || again
		}
		fell = fell || again
	}
	return fell
}

// fall asks about each pointer that is left whether it falls, and reports whether one did. The
// next time it begins with the last. About Binaries followDocuments may decide anew: those are
// asked about again.
func (p *pointers) fall(falls func(p *pointers, i int) bool) (some bool) {
	if p.left == nil {
		p.left = make([]int32, p.selves.n)
		for i := range p.left {
			p.left[i] = int32(i)
		}
	}
	p.left = slices.DeleteFunc(p.left, func(i int32) bool {
		fell := falls(p, int(i))
		some = some || fell
		return fell && p.selves.at(int(i)).typ != binaryNumber
	})
	slices.Reverse(p.left)
	return some
}

// withholdPointer withholds pointer i where all that it refers to stays, and reports whether it
// did.
func (r *Review) withholdPointer(p *pointers, i int) bool {
	self := p.selves.at(i)
	if !r.allWithheld(p, i) {
		return false
	}
	if v, _ := r.index.at(self); v.kept() {
		return false
	}
	r.index.put(self, because[referenceOnlyName])
	return true
}

// allWithheld reports whether the targets of pointer i stay; for more than an unticked line of
// the form where they say why it is.
func (r *Review) allWithheld(p *pointers, i int) (some bool) {
	self, why := p.selves.at(i), p.why[i]
	from, to := p.of(i)
	for ; from < to; from++ {
		target := p.targets.at(from)
		if r.isOccasion(self, target) {
			continue
		}
		if kept, telling := r.keeps(target); !kept || why && !telling {
			return false
		}
		some = true
	}
	return some
}

// flush puts all that was decided into the index.
func (r *Review) flush() {
	for _, o := range r.observers {
		o.flush()
	}
}

// Withheld is how many resources stay, by reason; it is complete after Conclude.
func (r *Review) Withheld() map[string]int64 { return r.counts }
