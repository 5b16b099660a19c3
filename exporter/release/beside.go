package release

import (
	"bytes"
	"slices"
	"strings"

	"ehi-server/shared/fhir"
)

// A Reference may mean a resource that the store holds and the record does not: a drug by another
// system's URL, a device by an identifier without a system. Nothing of such a resource goes, but what
// leads to a sensitive one shows it. So the first pass gathers what leads to nothing that is certainly
// of the record; the store tells what that may mean, and of this what is sensitive counts as withheld:
// References to it are masked, and what is wholly about it stays.
//
// An id that is a short number is one of every system's. By that alone a Reference is masked, and no
// other resource stays.

// Name is what may name a resource: an id, of a type or, where that is "", of any; or the value of an
// identifier, in whatever system, as it is spelled where it names one.
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

// seeking gathers strays. It is for one goroutine.
type seeking struct {
	found []target
	known map[string]struct{}
}

// add takes in what a line says that is valid until the next one.
func (s *seeking) add(strays []target) {
	for _, t := range strays {
		key := string(t.typ) + "/" + string(t.id)
		if _, known := s.known[key]; known {
			continue
		}
		if s.known == nil {
			s.known = map[string]struct{}{}
		}
		s.known[key] = struct{}{}
		at := len(t.typ) + 1
		s.found = append(s.found, target{[]byte(key)[:at-1], []byte(key)[at:]})
	}
}

// names are what was found since the last call.
func (s *seeking) names() (names []Name) {
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

// Sought are names by which References may mean what is not in the record, since the last call; none
// where there are none. It is called when the observers are through, and again after Beside.
func (r *Review) Sought() (names []Name) {
	for _, o := range r.observers {
		names = append(names, o.seeking.names()...)
	}
	return compactNames(names)
}

// Beside takes a resource in that the record does not hold, and that something of it may mean. Errors:
// the line is not JSON.
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
	if _, known := r.index.at(self); known || f.number == patientNumber {
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
