package release

import (
	"bytes"
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"ehi-server/shared/fhir"
)

// A Reference may mean a resource that the store holds and the record does not: a drug by
// another system's URL, a device by an identifier without a system. Nothing of such a resource
// goes, but what leads to a sensitive one shows it. So the first pass gathers what leads to
// nothing that is certainly of the record; the store tells what that may mean, and of this what
// is sensitive counts as withheld: References to it are masked, and what is wholly about it
// stays.
//
// An id that is a short number is one of every system's. By that alone a Reference is masked,
// and no other resource stays.

// Name is what may name a resource: an id, of a type or, where that is "", of any; or the value
// of an identifier, in whatever system, as it is spelled where it names one.
type Name struct{ Type, ID, Value string }

// stray is a target that may be of no record.
func (f *facts) stray(to target) {
	if to.typ != nil {
		f.strays = append(f.strays, to)
	}
}

// leadsOut reports whether a reference that names a target by type and id names it on a server.
func leadsOut(ref []byte, to target) bool {
	return len(to.typ)+1+len(to.id) != len(ref) && bytes.IndexByte(ref, ':') >= 0
}

// seeking gathers strays. It is for one goroutine. What it holds does not grow with their
// number: before there are too many it is looked for what they may mean. Nothing is decided by
// that, since the record is not through: of what may stay the name is kept, by which it is
// looked for again. What is found twice, with many others between, is looked for twice.
type seeking struct {
	found []target
	known []idHash // those that were found last; nil before the first is
	meant map[idHash]Name
	seeds [2]maphash.Seed
	key   []byte
	few   bool // it is looked for each at once, for tests
}

// mostSought is how many strays are gathered before it is looked for what they may mean, and
// mostKnown how many are not gathered again.
const mostSought, mostKnown = 4096, 1 << 13

// add takes in what a line says that is valid until the next one.
func (s *seeking) add(strays []target) {
	for _, t := range strays {
		hash := s.hash(t)
		if slot := &s.known[hash.low%mostKnown]; *slot != hash {
			*slot = hash
		} else {
			continue
		}
		name, at := bytes.Clone(s.key), len(t.typ)
		s.found = append(s.found, target{name[:at:at], name[at+1:]})
	}
}

// hash is that of a target, which is spelled in key from then on. Before the first, nothing is
// known.
func (s *seeking) hash(t target) idHash {
	if s.known == nil {
		s.known, s.seeds = make([]idHash, mostKnown), [2]maphash.Seed{
			maphash.MakeSeed(), maphash.MakeSeed(),
		}
	}
	s.key = append(append(append(s.key[:0], t.typ...), '/'), t.id...)
	return idHash{maphash.Bytes(s.seeds[0], s.key), maphash.Bytes(s.seeds[1], s.key)}
}

// full reports whether it is time to look for what was found.
func (s *seeking) full() bool { return len(s.found) >= mostSought || s.few && len(s.found) > 0 }

// early are the names of what was found, where it is time to look for it.
func (s *seeking) early() []Name {
	if !s.full() {
		return nil
	}
	return compactNames(s.foundNames())
}

// glance keeps the name of what is not in the record, where that may stay for something.
func (s *seeking) glance(f *facts, stays authorizations) {
	if f.number == patientNumber || stays == 0 && !f.pointer() {
		return
	}
	if s.meant == nil {
		s.meant = map[idHash]Name{}
	}
	s.meant[s.hash(target{f.typ, f.id})] = Name{Type: string(f.typ), ID: string(f.id)}
}

// names are what was found since the last call, and what that meant of what was looked for early.
func (s *seeking) names() (names []Name) {
	names = slices.AppendSeq(s.foundNames(), maps.Values(s.meant))
	s.meant = nil
	return names
}

func (s *seeking) foundNames() (names []Name) {
	for _, t := range s.found {
		names = append(names, t.names()...)
	}
	s.found = nil
	return names
}

// names are what may name a target.
func (t target) names() (names []Name) {
	rest, is := bytes.CutPrefix(t.id, leadMark)
	if !bytes.Equal(t.typ, nameTyp) || !is {
		return []Name{{Type: string(t.typ), ID: string(t.id)}}
	}
	end := bytes.LastIndexByte(rest, 0)
	l, _ := parseLead(t.id)
	for _, w := range l.words {
		if fhir.ValidID(w.id) && (w.typ != nil || len(w.id) >= minSecret || l.exact) {
			names = append(names, Name{Type: string(w.typ), ID: string(w.id)})
		}
	}
	values := append(l.values, rest[end+1:])
	for _, v := range values {
		if len(v) > 0 && typeCalled(v) == nil {
			names = append(names, Name{Value: string(v)})
		}
	}
	return names
}

// compactNames are names, each once.
func compactNames(names []Name) []Name {
	slices.SortFunc(names, func(a, b Name) int {
		return strings.Compare(a.Type+"/"+a.ID+"/"+a.Value, b.Type+"/"+b.ID+"/"+b.Value)
	})
	return slices.Compact(names)
}

// Sought are names by which References may mean what is not in the record, since the last call;
// none where there are none. It is called when the observers are through, and again after
// Beside.
func (r *Review) Sought() (names []Name) {
	r.flush()
	for _, o := range r.observers {
		names = append(names, o.seeking.names()...)
	}
	return compactNames(names)
}

// Sought is that of a Review before the observer is through: none before there are many. It is
// called now and then, so that very many take no memory.
func (o *Observer) Sought() []Name { return o.seeking.early() }

// Beside takes in what Sought may mean. It is looked for again by the Review.
func (o *Observer) Beside(line []byte) error {
	f, err := o.examine.examine(line)
	if err == nil {
		o.seeking.glance(f, f.sensitive&^o.review.policy.authorised)
	}
	return err
}

// Beside takes a resource in that the record does not hold, and that something of it may mean.
// Errors: the line is not JSON.
func (r *Review) Beside(line []byte) error {
	if r.beside == nil {
		r.beside, r.outside = r.Observer(), map[resource]bool{}
	}
	o := r.beside
	f, err := o.examine.examine(line)
	if err != nil {
		return err
	}
	self := r.index.resource(f.typ, f.id)
	if _, known := r.index.at(self); known || f.number == patientNumber || r.isOutside(self) {
		return nil
	}
	missing := f.sensitive &^ r.policy.authorised
	switch {
	case missing != 0:
		r.index.put(self, because[sensitiveReason+string(missing.first())])
	case f.pointer():
		f.abouts(func(targets []target, why bool) {
			o.point(self, targets, why, false)
			o.seeking.add(targets)
		})
	default:
		return nil
	}
	r.outside[self] = !telling(f.id)
	o.keep(self, &facts{typ: f.typ, id: f.id, number: f.number, url: f.url})
	o.considerNumbers(f)
	for _, value := range slices.Concat(f.identifiers, f.shared) {
		own := owned{r.index.hash(value), self}
		if telling(value) {
			r.identified.owned = append(r.identified.owned, own)
		} else {
			r.identified.weak = append(r.identified.weak, own)
		}
	}
	return nil
}

// isOutside reports whether a resource is not of the record, see Beside.
func (r *Review) isOutside(of resource) bool {
	_, is := r.outside[of]
	return is
}
