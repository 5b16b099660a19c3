package release

import (
	"slices"
	"sync"
	"sync/atomic"

	"ehi-server/shared/ehi"
)

// Review makes the decisions about one record. It stores about 20 bytes for each resource.
type Review struct {
	policy    *Policy
	resolved  bool      // every local reference of the record resolves within it
	loose     bool      // a relative Reference may lead out of the record
	ambiguous bool      // a released resource and a withheld one have the same id
	types     bitmap    // the types of notable resources
	hiding    bitmap    // the types of kept resources
	going     [256]bool // R4's types of which some are, or may be, released
	notable   filter    // the ids of notable resources
	concluded bool

	gathered  sync.Mutex // for data that the observers share
	indexing  sync.Mutex // guards index while observers run
	index     verdicts   // withheld resources, supporting resources and Binaries
	observers []*Observer
	secrets   secrets
	// identified are the other names by which References may point to withheld resources. hidden
	// tells by field name whether a Reference may point to a withheld resource.
	identified identified
	hidden     map[string]bool
	forms      forms
	attached   attachedTo
	takers     map[resource]taker
	asked      map[resource]bool // those that standing is evaluating
	copies     []copied
	stayed     map[resource]bool // withheld for that reason only
	// stayingInner are inner resources that are withheld together with their place.
	stayingInner []stayingInner
	holding      bitmap // the types of resources that contain others
	// wholes are the resources that a resource is a part of, for parts that have parts themselves;
	// built on first use
	wholes  map[resource][]resource
	counts  map[string]int64
	support support
	// those that may be withheld and whose id is too short to be searched in texts
	shorts  []resource
	gone    map[resource]goneLines // of bills
	anyGone goneLines              // of all bills
	// those that may be released; filled only if some bill loses lines
	bills     map[resource]bool
	billLines map[lineOf][]resource // the targets of their lines; built on first use
	short     bool                  // one of shorts is withheld
	alone     bool                  // only the current resource is released, see Alone
	beside    *Observer             // for resources outside the record
	// resources outside the record that may be withheld; true if the id is a short number
	outside map[resource]bool
	// irregular reports that a resource has its type or id twice.
	irregular bool
	unsure    bool // no observed resource counts as certainly released, see Observer.settled
	// the first released Patient with its own line; nil until then
	patient atomic.Pointer[resource]
	relied  bool // something was skipped because some resources are certainly released
	twice   bool // one of these occurred again, and is withheld
}

// Review returns a new Review for one record.
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

// Resolved declares that every local reference of the record resolves within it, as its source
// promises, and that no resource was left out. Call it before Conclude. Without it, each
// reference is looked up.
func (r *Review) Resolved() { r.resolved = true }

// Loose declares that relative References of the record may lead out of it, to another patient's
// resource or to nothing. Call it before the first observer. With it, the store is asked about
// each.
func (r *Review) Loose() { r.loose = !r.policy.everything }

// pointers are resources that may be withheld because of what they refer to. A pointer that is
// not in the index is released.
type pointers struct {
	selves  list
	ends    []int32 // where each pointer's targets end
	why     []bool  // the targets are of whyPaths
	parts   []bool  // they are of consistsOf; only of pointers that point adds
	inside  []bool  // the resource is inside another one
	targets list
	left    []int32 // those that may still be withheld; nil until the first pass over them
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

// of returns where the targets of pointer i begin and end.
func (p *pointers) of(i int) (from, to int) {
	if i > 0 {
		from = int(p.ends[i-1])
	}
	return from, int(p.ends[i])
}

// forms are the presentedForms of reports, as pointers to the parts of the reports.
type forms struct {
	pointers
	groups []ehi.Category
}

// present records what the presentedForm of a report describes.
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

// stripForms removes the presentedForms of partial reports, and those that describe something
// withheld for a reason other than an unticked form line.
func (r *Review) stripForms() {
	for i := range r.forms.selves.n {
		from, to := r.forms.of(i)
		if v, _ := r.index.at(r.forms.selves.at(i)); v&partial != 0 {
			r.index.put(r.forms.selves.at(i), stripped)
			continue
		}
		for t := from; t < to; t++ {
			self, target := r.forms.selves.at(i), r.forms.targets.at(t)
			if r.tellsOf(target) && !r.isOccasion(self, target) {
				r.index.put(self, stripped)
				break
			}
		}
	}
}

// countForms counts the presentedForms that stripForms removed from released reports.
func (r *Review) countForms() {
	for i, group := range r.forms.groups {
		if v, known := r.index.at(r.forms.selves.at(i)); known && !v.withheld() && v&stripped != 0 {
			r.counts[presentedReason+string(group)]++
		}
	}
	r.forms = forms{}
}

// Conclude ends the first pass, after the last observer. It withholds resources whose only
// content is withheld, until nothing changes. It usually returns nil. If a resource occurred
// twice and its first occurrence was wrongly relied on, it returns a new review, which must
// observe the record from its beginning; then the old one has no Releaser.
func (r *Review) Conclude() (instead *Review) {
	for _, o := range r.observers {
		r.relied = r.relied || o.relied
		r.secrets.merge(&o.ids)
		r.secrets.numbers.merge(&o.numbers)
		r.support.merge(o.support) // several MB for a large record
		o.support, o.examine, o.cleaner, o.innerWalk = support{}, examiner{}, nil, walk{}
	}
	r.flush()
	r.index.sift()
	r.concludeInner()
	r.resolveLeads()
	r.resolveHolders()
	r.support.resolveNames()
	if !r.policy.everything { // EHI-8: otherwise everything is released, whatever its references
		r.withholdMore()
	}
	r.countForms()
	for _, o := range r.observers {
		o.pointers.ends, o.pointers.why, o.pointers.targets = nil, nil, list{}
		o.pointers.parts, o.parts = nil, pointers{}
	}
	for _, self := range r.shorts {
		v, _ := r.index.at(self)
		r.short = r.short || v.withheld()
	}
	r.conclude()
	r.billLines = nil
	r.attached, r.support, r.takers, r.copies, r.stayed = attachedTo{}, support{}, nil, nil, nil
	r.wholes = nil
	if r.relied && r.twice {
		instead = r.policy.Review()
		instead.unsure = true
		return instead
	}
	r.concluded = true
	return nil
}

// withholdMore withholds resources that are only about, for, or part of something withheld.
func (r *Review) withholdMore() {
	for again := true; again; {
		r.withholdPointers()
		r.markPartial()
		r.stripForms()
		r.hidden = nil
		fell := false
		if r.attached.some() {
			r.followDocuments()
			// pointers to Binaries; those withheld now may hold other Binaries
			fell = r.withholdPointers()
		}
		again = r.withholdUnused() || fell
	}
}

// conclude counts the withheld resources, and prepares the look-ups of the second pass.
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

// countNotable counts withheld resources by reason, and returns the number of notable resources.
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

// goes records that some resources of a type are released.
func (r *Review) goes(typ uint16) {
	if int(typ) < len(r.going) {
		r.going[typ] = true
	}
}

// allStay reports whether nothing of a type is released, so that resources of the type need no
// look-up.
func (r *Review) allStay(typ uint16) bool {
	return int(typ) < len(r.going) && !r.going[typ] && r.types.has(typ)
}

// concludeTypes records the types of released resources that are not in the index.
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

// concludeReleased adds the released resources to the index that share an id with a notable
// resource, or may. If not all references resolve, it adds all released resources.
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
		for _, i := range o.pointers.left { // withheld pointers are no longer in left
			take(o.pointers.selves.at(int(i)))
		}
		o.inside.each(take)
	}
}

// namesakes returns, for each observer, the independently released resources that may share the
// id of a notable one. In a large record nearly all resources are released, so this runs in
// parallel.
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

// eachReleased visits the released resources that may be missing from the index. It also visits
// withheld pointers, which are in the index.
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

// eachOfItsOwn is eachReleased for resources with a line of their own.
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

// known adds a released resource to the index. If not all references resolve, every reference
// looks for its target there; and an id that a released resource has is not secret.
func (r *Review) known(goes resource) {
	if r.resolved && !r.index.shares(goes.id) {
		return // a false positive of the filter
	}
	r.index.put(goes, 0)
	if released, withheld := r.index.of(goes.id); released && withheld {
		r.ambiguous = true
	}
}

// withholdPointers withholds the pointers whose targets are all withheld, and copies of withheld
// resources, until nothing changes. It reports whether it withheld any.
func (r *Review) withholdPointers() (fell bool) {
	fell = r.withholdThem()
	for r.withholdCopies() {
		fell = true
		r.withholdThem()
	}
	return fell
}

// withholdThem passes over the remaining pointers in alternating directions until nothing
// changes. So a chain of pointers is withheld in one pass, whatever its direction.
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

// fall asks for each remaining pointer whether it is withheld, and reports whether any was. The
// next call starts at the other end. Binaries remain, because followDocuments may change their
// verdicts.
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

// withholdPointer withholds pointer i if all its targets are withheld, and reports whether it
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

// allWithheld reports whether all targets of pointer i are withheld; if they are of whyPaths,
// for a reason other than an unticked form line.
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

// flush adds all pending verdicts to the index.
func (r *Review) flush() {
	for _, o := range r.observers {
		o.flush()
	}
}

// Withheld returns the number of withheld resources by reason. It is complete after Conclude.
func (r *Review) Withheld() map[string]int64 { return r.counts }
