package release

import (
	"bytes"
	"slices"
	"strings"

	"ehi-server/shared/fhir"
)

// A Reference points to a resource in one of many ways: by type and id (follow), by an id alone
// (urn:uuid:, a search, a URL of the source's own), or by a business identifier. A reference by
// anything other than a type and id is a lead. Every rule resolves leads in the same way, so
// that no rule depends on the spelling of a Reference. The first pass keeps a lead as a name
// (nameType) until all its possible targets are known; the second pass resolves it at once.

// lead holds the possible targets of a Reference or URL.
type lead struct {
	words  []target // ids, with a type or, if typ is nil, of any type
	values [][]byte // business identifiers; normal
	exact  bool     // it is a resource's id or a search for one, not an id inside some URL
	named  bool     // by a type and id, or by a search
}

// leadMark begins the names that are leads. The reference, a zero byte and the value of the
// identifier beside it follow.
var leadMark = []byte("lead|")

// onlyIdentifier begins leads that have only an identifier.
var onlyIdentifier = append(slices.Clone(leadMark), 0)

// leadTo returns the target of a reference that names no type and id, of an identifier, or of
// both. It has no type for an empty reference and for one to a contained resource.
func leadTo(ref, value []byte) (to target) {
	if len(ref) > 0 && ref[0] == '#' {
		ref = nil
	}
	return hintTo(ref, value)
}

// hintTo is leadTo for a text that may not be a reference.
func hintTo(ref, value []byte) (to target) {
	if len(ref) == 0 && len(value) == 0 {
		return target{}
	}
	return target{nameTyp, slices.Concat(leadMark, ref, []byte{0}, value)}
}

// resolve returns the target of a reference: a resource if ok, else a lead, or nothing.
func resolve(ref []byte) (to target, ok bool) {
	if typ, id, ok := follow(ref); ok && !hasEnding(id) {
		return target{typ, id}, true
	}
	return leadTo(ref, nil), false
}

// hasEnding reports whether an id ends with a file extension.
func hasEnding(id []byte) bool {
	at := bytes.LastIndexByte(id, '.')
	if at < 0 || at+1 == len(id) {
		return false
	}
	for _, c := range id[at+1:] {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			return false
		}
	}
	return true
}

// parseLead parses the result of leadTo.
func parseLead(name []byte) (l lead, is bool) {
	rest, is := bytes.CutPrefix(name, leadMark)
	if !is {
		return l, false
	}
	end := bytes.LastIndexByte(rest, 0)
	ref, value := rest[:end], rest[end+1:]
	if len(ref) > 0 {
		l = leadOf(ref)
	}
	if len(value) > 0 {
		l.values = append(l.values, normal(value))
		if len(value) >= minSecret { // shorter ones are too common
			l.words = append(l.words, target{nil, value})
		}
	}
	return l, true
}

// supports reports whether a target may be a supporting resource that is released with the
// reference.
func (t target) supports() bool { return isSupporting(t.typ) || bytes.Equal(t.typ, nameTyp) }

// exactly reports whether a target is a lead that releases its targets.
func (t target) exactly() bool {
	l, is := parseLead(t.id)
	return is && l.exact
}

// urns are prefixes of lone ids.
var urns = []string{"urn:uuid:", "urn:oid:"}

// leadOf returns the possible targets of a reference.
func leadOf(ref []byte) (l lead) {
	ref = revealed(ref)
	for _, urn := range urns {
		if len(ref) >= len(urn) && strings.EqualFold(string(ref[:len(urn)]), urn) {
			id, _, _ := bytes.Cut(ref[len(urn):], []byte("#"))
			l.exact = true
			l.add(nil, id)
			l.values = append(l.values, normal(id))
			return l
		}
	}
	path, query, isSearch := bytes.Cut(ref, []byte("?"))
	var typ []byte // the last one named
	for _, word := range bytes.FieldsFunc(ref, outOfID) {
		if named := typeCalled(word); named != nil {
			typ = named
		}
		l.add(typ, word)
	}
	last := path[bytes.LastIndexByte(path, '/')+1:]
	for _, name := range []string{"_id=", "identifier="} {
		l.named = l.named ||
			isSearch && typeCalled(last) != nil && bytes.HasPrefix(query, []byte(name))
	}
	_, _, named := follow(ref)
	l.named = l.named || named
	l.exact = l.named || fhir.ValidID(ref) && typ == nil
	for _, part := range bytes.FieldsFunc(ref, betweenParts) {
		if part = normal(part); len(part) > 0 {
			l.values = append(l.values, part)
		}
	}
	return l
}

// add adds an id: as it is, in lower case as in UUIDs, and without file extensions.
func (l *lead) add(typ, id []byte) {
	for len(id) > 0 {
		l.words = append(l.words, target{typ, id})
		if lower := bytes.ToLower(id); !bytes.Equal(lower, id) {
			l.words = append(l.words, target{typ, lower})
		}
		id = id[:max(0, bytes.LastIndexByte(id, '.'))]
	}
}

// typesCalled maps lower-case names to R4 types.
var typesCalled = func() map[string][]byte {
	m := map[string][]byte{}
	for _, name := range fhir.Types() {
		m[strings.ToLower(name)] = []byte(name)
	}
	return m
}()

// typeCalled returns the type with a name in any case; nil if there is none.
func typeCalled(name []byte) []byte { return typesCalled[string(bytes.ToLower(name))] }

// leading is a lead with the hashes of its possible targets.
type leading struct {
	words  []resource // of type 0 for any type
	values []idHash
	exact  bool
	named  bool
	typ    uint16 // of an exact lead; 0 for any
}

// resource returns the key of a target in the index. It keeps leads until all their possible
// targets are known.
func (o *Observer) resource(t target) resource {
	index := o.review.index
	of := index.resource(t.typ, t.id)
	if of.typ != nameType {
		return of
	}
	if _, known := o.support.leads[of]; known {
		return of
	}
	if l, is := parseLead(t.id); is {
		o.support.leads[of] = hashed(index.index, l)
	}
	return of
}

// hashed returns a lead with hashes.
func hashed[V any](index *index[V], l lead) leading {
	kept := leading{exact: l.exact, named: l.named}
	for _, w := range l.words {
		word := resource{id: index.hash(w.id)}
		if w.typ != nil {
			word.typ = index.number(w.typ)
			kept.typ = word.typ
		}
		kept.words = append(kept.words, word)
	}
	for _, v := range l.values {
		kept.values = append(kept.values, index.hash(v))
	}
	return kept
}

// candidates visits the resources of the index that a lead may point to.
func (r *Review) candidates(l leading, visit func(of resource, v verdict)) {
	for _, w := range l.words {
		r.index.sharing(w.id, func(typ uint16, v verdict) {
			if of := (resource{typ, w.id}); (w.typ == 0 || w.typ == typ) && !r.outside[of] {
				visit(of, v)
			}
		})
	}
	for _, value := range l.values {
		for _, of := range r.owners(value) {
			v, _ := r.index.at(of)
			visit(of, v)
		}
	}
}

// keeps reports, during Conclude, whether the target of a Reference is kept, and whether for a
// reason other than an unticked form line.
func (r *Review) keeps(to resource) (kept, telling bool) {
	if to.typ != nameType {
		if !r.index.mayKeep(to) || r.outside[to] {
			return false, false
		}
		v, _ := r.index.at(to)
		return v.kept(), v.telling(to)
	}
	r.candidates(r.support.leads[to], func(of resource, v verdict) {
		kept, telling = kept || v.kept(), telling || v.telling(of)
	})
	return kept, telling
}

// isOccasion reports whether a lead of a resource in sums points only to occasions and
// supporting resources, which are never parts.
func (r *Review) isOccasion(self, to resource) bool {
	some, others := false, false
	if to.typ == nameType && int(self.typ) < len(sums) && sums[self.typ] {
		r.candidates(r.support.leads[to], func(of resource, v verdict) {
			if r.isOutside(of) && !v.kept() {
				return // treat it as unknown
			}
			is := int(of.typ) < len(occasions) && (occasions[of.typ] || supporting[of.typ])
			some, others = some || is, others || !is
		})
	}
	return some && !others
}

// resolveLeads adds released resources that a lead may point to to the index, and adds edges
// from exact leads to supporting resources.
func (r *Review) resolveLeads() {
	s := &r.support
	if len(s.leads) == 0 {
		return
	}
	wanted := map[idHash]bool{}
	for _, l := range s.leads {
		for _, w := range l.words {
			wanted[w.id] = true
		}
	}
	r.eachReleased(func(goes resource) {
		if wanted[goes.id] {
			r.index.put(goes, 0)
		}
	})
	edges := &list{}
	for from, l := range s.leads {
		if !l.exact {
			continue
		}
		r.candidates(l, func(of resource, _ verdict) {
			if _, is := s.selves[of]; is && (l.typ == 0 || l.typ == of.typ) {
				edges.add(from)
				edges.add(of)
			}
		})
	}
	if edges.n > 0 {
		s.names = append(s.names, edges)
	}
}

// leads masks a reference that is not by type and id if it may point to something withheld.
// known reports whether it points to something released.
func (r *reviewed) leads(ref []byte) (mask []byte, known bool) {
	l := leadOf(ref)
	take := func(m []byte) {
		if mask == nil || isTelling(m) || isUnused(mask) {
			mask = m
		}
	}
	for _, w := range l.words {
		hash := r.index.hash(w.id)
		if w.typ != nil {
			if v, is := r.index.at(resource{r.index.number(w.typ), hash}); is && !v.withheld() {
				known = true
				continue // the type tells which resource of that id is meant
			}
		}
		r.index.sharing(hash, func(_ uint16, v verdict) {
			if known = known || !v.withheld(); v.kept() || l.exact && v.withheld() {
				take(maskOf(v))
			}
		})
	}
	for _, value := range l.values {
		if withheld, telling := r.names(value); withheld {
			take(nameMask(telling))
		}
	}
	return mask, known && l.exact
}

// leadsToPartial reports whether a Reference, by its reference and the value of its identifier, may
// lead to a partial resource.
func (r *reviewed) leadsToPartial(ref, value []byte) (is bool) {
	if of, known := r.called[string(ref)]; known {
		v, _ := r.index.at(of)
		return v&partial != 0
	}
	if to, ok := resolve(ref); ok && len(value) == 0 {
		v, _ := r.decided(to.typ, to.id)
		return v&partial != 0
	}
	l, _ := parseLead(leadTo(ref, value).id)
	for _, w := range l.words {
		r.index.sharing(r.index.hash(w.id), func(typ uint16, v verdict) {
			is = is || v&partial != 0 && (w.typ == nil || r.index.number(w.typ) == typ)
		})
	}
	return is || slices.ContainsFunc(l.values, func(value []byte) bool {
		return r.identified.partial[r.index.hash(value)]
	})
}

// leadsToTelling reports whether a Reference, by its reference and the value of its identifier, may
// lead to something withheld for a reason other than an unticked form line.
func (r *reviewed) leadsToTelling(ref, value []byte) bool {
	if len(ref) > 0 && isTelling(r.mask(ref)) {
		return true
	}
	_, telling := r.names(value)
	return telling
}

// isTelling reports whether a mask is tellingMask.
func isTelling(mask []byte) bool { return len(mask) > 0 && &mask[0] == &tellingMask[0] }

// isUnused reports whether a mask is unusedMask.
func isUnused(mask []byte) bool { return len(mask) > 0 && &mask[0] == &unusedMask[0] }

// nameMask returns the mask for a Reference that names something withheld by an identifier.
func nameMask(telling bool) []byte {
	if telling {
		return tellingMask
	}
	return fhir.MaskedReference
}
