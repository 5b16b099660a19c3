package release

import (
	"bytes"
	"slices"
)

// finder returns a resource of the record as a line; nil if the record has none of a type and id.
type finder = func(typ, id string) ([]byte, error)

// mostWholes is how many answers are kept from one resource to the next.
const mostWholes = 1 << 16

// narrative is what Describes adds to a resource, to see whether the form lets it go.
const narrative = `,"text":{"div":"x"}}`

// Describes decides about something that belongs to a resource of the record, which is a line of
// JSON: a document, or a row of a table. It tells as much as the resource's own narrative does, so
// it leaves only if that does, and if those of everything do that the resource consists of. A
// narrative does not leave with a partial resource, see parts.go. What belongs to the Patient
// leaves, because he always does.
func (n *Native) Describes(line []byte, find finder) (reason string, err error) {
	if n.review == nil || n.policy.everything {
		return "", nil
	}
	if n.plain == nil {
		n.wholes, n.plain = map[resource]bool{}, &reviewed{Review: n.review.Review}
	}
	typ, id, err := n.plain.walk.identify(line)
	if err != nil {
		return "", err
	}
	self := n.review.index.resource(typ, id)
	whole, known := n.wholes[self]
	if !known {
		if whole, err = n.whole(self, line, find); err != nil {
			return "", err
		}
	}
	if !whole {
		return referenceOnlyName, nil
	}
	return "", nil
}

// whole reports whether a resource, and each that it consists of, keeps its narrative. Resources
// may consist of each other.
func (n *Native) whole(self resource, line []byte, find finder) (whole bool, err error) {
	if len(n.wholes) >= mostWholes {
		clear(n.wholes)
	}
	seen, todo := map[resource]bool{self: true}, []Name(nil)
	for line != nil {
		if whole, err = n.keepsNarrative(line); err != nil || !whole {
			break
		}
		if todo, err = n.parts(todo, line); err != nil {
			break
		}
		for line = nil; len(todo) > 0 && line == nil && whole && err == nil; {
			part := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			of := n.review.index.resource([]byte(part.Type), []byte(part.ID))
			is, known := n.wholes[of]
			switch {
			case known:
				whole = is
			case !seen[of]:
				seen[of] = true
				line, err = find(part.Type, part.ID)
			}
		}
	}
	if err != nil {
		return false, err
	}
	n.wholes[self] = whole
	for of := range seen {
		if whole { // otherwise one of them is not, and the others may be
			n.wholes[of] = true
		}
	}
	return whole, nil
}

// keepsNarrative reports whether a narrative of a resource would be released with it. One that is
// withheld does not matter here if it tells nothing, as if its form line is not ticked.
func (n *Native) keepsNarrative(line []byte) (keeps bool, err error) {
	r := n.plain
	end := bytes.LastIndexByte(line, '}')
	if end < 0 {
		return false, errSyntax
	}
	line = slices.Concat(line[:end], []byte(narrative))
	v, known, err := r.verdict(line)
	if err == nil && r.allStay(r.typ) { // the reason of each matters here
		if why, is := r.index.at(resource{r.typ, r.index.hash(r.id)}); is {
			v = why
		}
	}
	switch {
	case err != nil || !known || r.typ == patientNumber:
		return true, err
	case v.withheld():
		return !v.telling(resource{r.typ, r.index.hash(r.id)}), nil
	}
	if r.holding.has(r.typ) {
		if keeps, err = n.keepsInner(line, bytes.Clone(r.id)); err != nil || !keeps {
			return false, err
		}
		if v, _, err = r.verdict(line); err != nil {
			return false, err
		}
	}
	out, ok, err := r.release(line, v)
	if err != nil || !ok {
		return false, err
	}
	return hasNarrative(&r.walk, out), r.walk.err
}

// keepsInner is keepsNarrative for the resources within a resource.
func (n *Native) keepsInner(line, id []byte) (keeps bool, err error) {
	r := &reviewed{Review: n.review.Review}
	found, err := innerResources(&r.walk, line)
	if err == nil {
		err = identifyInner(&r.walk, line, id, found)
	}
	for i := 0; i < len(found) && err == nil; i++ {
		in := &found[i]
		self := r.index.resource(in.typ, in.id)
		if v, _ := r.index.at(self); v.withheld() {
			if v.telling(self) {
				return false, nil
			}
			continue
		}
		inner := slices.Concat(line[in.start:in.end-1], []byte(narrative))
		out, ok, failed := r.releaseAs(inner, in.typ, in.id)
		if err = failed; err == nil && ok && !hasNarrative(&r.walk, out) {
			return false, r.walk.err
		}
	}
	return err == nil, err
}

// hasNarrative reports whether a resource has a text.
func hasNarrative(w *walk, line []byte) (has bool) {
	for w.reset(line); w.next(); {
		has = has || w.depth == 1 && string(w.key()) == "text"
	}
	return has
}

// parts adds the resources that a resource consists of. One that is named by an id alone may be of
// each type that consists of others.
func (n *Native) parts(to []Name, line []byte) ([]Name, error) {
	f, err := n.examiner().examine(line)
	if err != nil {
		return to, err
	}
	f.eachPart(func(of target) {
		for _, name := range of.names() {
			switch {
			case name.ID == "":
			case name.Type != "":
				to = append(to, name)
			default:
				for typ := range consistsOf {
					to = append(to, Name{Type: typ, ID: name.ID})
				}
			}
		}
	})
	return to, nil
}
