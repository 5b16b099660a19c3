package release

import (
	"bytes"
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"ehi-server/shared/fhir"
)

// A Reference may point to a resource that is in the store but not in the record: a drug by
// another system's URL, a device by an identifier without a system. Such a resource is never
// released, but a reference to a sensitive one reveals it. So the first pass gathers references
// that do not certainly point into the record. The store finds their possible targets, and
// sensitive targets count as withheld: References to them are masked, and resources wholly about
// them are withheld.
//
// An id that is a short number occurs in every system. Such an id alone masks a Reference but
// withholds no other resource.

// Name is a possible name of a resource: an id, of a type or, if Type is "", of any type; or the
// value of an identifier in any system, as spelled in the reference.
type Name struct{ Type, ID, Value string }

// stray records a target that may be outside the record.
func (f *facts) stray(to target) {
	if to.typ != nil {
		f.strays = append(f.strays, to)
	}
}

// leadsOut reports whether a reference that names a target by type and id also names a server.
func leadsOut(ref []byte, to target) bool {
	return len(to.typ)+1+len(to.id) != len(ref) && bytes.IndexByte(ref, ':') >= 0
}

// seeking gathers strays. It is for one goroutine. Its size is bounded: once it holds too many,
// their possible targets are looked up early. Such a lookup decides nothing, because the record
// is incomplete; it keeps the names of targets that may be withheld, which are looked up again
// later. A stray that recurs after many others is looked up twice.
type seeking struct {
	found []target
	known []idHash // the most recent strays; nil until the first
	meant map[idHash]Name
	seeds [2]maphash.Seed
	key   []byte
	few   bool // tests only: look up each stray at once
	walk  walk // of lines with escapes, see addRelative
}

// mostSought is the number of gathered strays that triggers a lookup. mostKnown is the number of
// recent strays that are not gathered again.
const mostSought, mostKnown = 4096, 1 << 13

// add gathers strays. Their bytes are valid only until the next line.
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

// addRelative gathers what the relative References of a line lead to, which may be outside a record
// that is not complete, such as a resource of another patient. It reads the References of contained
// and inner resources, too.
func (s *seeking) addRelative(line []byte) {
	add := func(ref []byte) {
		to, ok := resolve(ref)
		if ok && string(to.typ) != "Patient" && !leadsOut(ref, to) {
			s.add([]target{to})
		}
	}
	if hasCodedEscapes(line) || bytes.Contains(line, []byte(`\/`)) {
		w := &s.walk
		for w.reset(line); w.next(); {
			if w.isText && string(w.key()) == "reference" {
				add(w.text())
			}
		}
		return
	}
	for {
		at := referenceName.index(line)
		if at < 0 {
			return
		}
		line = line[at+len(referenceName.text):]
		if text, rest, ok := textBehind(line); ok && text != nil {
			add(text)
			line = rest
		}
	}
}

var referenceName = newNeedle(`"reference"`)

// hash returns the hash of a target and leaves its spelling in key. The first call creates the
// table of known strays.
func (s *seeking) hash(t target) idHash {
	if s.known == nil {
		s.known, s.seeds = make([]idHash, mostKnown), [2]maphash.Seed{
			maphash.MakeSeed(), maphash.MakeSeed(),
		}
	}
	s.key = append(append(append(s.key[:0], t.typ...), '/'), t.id...)
	return idHash{maphash.Bytes(s.seeds[0], s.key), maphash.Bytes(s.seeds[1], s.key)}
}

// full reports whether a lookup is due.
func (s *seeking) full() bool { return len(s.found) >= mostSought || s.few && len(s.found) > 0 }

// early returns the names of the gathered strays if a lookup is due.
func (s *seeking) early() []Name {
	if !s.full() {
		return nil
	}
	return compactNames(s.foundNames())
}

// glance keeps the name of a resource outside the record that may be withheld.
func (s *seeking) glance(f *facts, stays authorizations) {
	if f.number == patientNumber || stays == 0 && !f.pointer() {
		return
	}
	if s.meant == nil {
		s.meant = map[idHash]Name{}
	}
	s.meant[s.hash(target{f.typ, f.id})] = Name{Type: string(f.typ), ID: string(f.id)}
}

// names returns the names of strays gathered since the last call, and the names kept from early
// lookups.
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

// names returns the possible names of a target.
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

// compactNames sorts names and removes duplicates.
func compactNames(names []Name) []Name {
	slices.SortFunc(names, func(a, b Name) int {
		return strings.Compare(a.Type+"/"+a.ID+"/"+a.Value, b.Type+"/"+b.ID+"/"+b.Value)
	})
	return slices.Compact(names)
}

// Sought returns the names, gathered since the last call, by which References may point outside
// the record; none if there are none. Call it after the observers are done, and again after
// Beside.
func (r *Review) Sought() (names []Name) {
	r.flush()
	for _, o := range r.observers {
		names = append(names, o.seeking.names()...)
	}
	return compactNames(names)
}

// Sought is Review.Sought before the observer is done. It returns nothing until there are many
// names. Call it regularly to bound memory.
func (o *Observer) Sought() []Name { return o.seeking.early() }

// Beside takes a possible target of a name of Sought. The Review looks it up again.
func (o *Observer) Beside(line []byte) error {
	f, err := o.examine.examine(line)
	if err == nil {
		o.seeking.glance(f, f.sensitive&^o.review.policy.authorised)
	}
	return err
}

// Beside takes a resource outside the record that a reference in the record may point to.
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
		f.groups(func(targets []target, at place) {
			o.point(self, targets, at, false)
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

// isOutside reports whether a resource was added by Beside and is not in the record.
func (r *Review) isOutside(of resource) bool {
	_, is := r.outside[of]
	return is
}
