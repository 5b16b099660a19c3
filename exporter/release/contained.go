package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// A contained resource is pruned like its container. It is left out if it is wholly about
// something withheld, as a resource of its own would be. References to a contained resource that
// is left out are masked and count like references to any withheld resource. A contained
// resource is also left out with the last Reference to it: if a line of a bill is left out, so
// is the clinic that only this line names, wherever it is contained.

// containedOut are the contained resources of one line that are left out.
type containedOut struct {
	places map[int]bool // their indexes in contained
	ids    map[string]bool
	more   bool // the last prune added some
}

// add marks a contained resource as left out.
func (c *containedOut) add(place int, id []byte) {
	if c.places[place] {
		return
	}
	if c.places == nil {
		c.places = map[int]bool{}
	}
	if c.ids == nil {
		c.ids = map[string]bool{}
	}
	c.places[place], c.more = true, true
	if len(id) > 0 {
		c.ids[string(id)] = true
	}
}

// concerns reports whether parts of a masked line may have to be left out.
func (p *pruner) concerns(typ, line []byte) bool {
	return p.told || entryPaths[string(typ)] != nil || wholeTexts[string(typ)] != nil ||
		sums[fhir.TypeNumber(typ)] || mayContain(line) || len(p.hits) > 0 && textName.in(line)
}

// mayContain reports whether a line may have contained resources.
func mayContain(line []byte) bool {
	return containedName.in(line) || hasCodedEscapes(line)
}

var textName = newNeedle(`"text"`)

var containedName = newNeedle(`"` + contained + `"`)

// pruneContained prunes the contained resources, and reports whether part of one is left out.
func (p *pruner) pruneContained(line []byte) (some bool, err error) {
	place := -1
	p.each(func(e *entry) {
		if e.field != contained || err != nil {
			return
		}
		place++
		part := line[e.start:e.end]
		typ, id, broken := p.walk.identify(part)
		if broken != nil {
			err = broken
			return
		}
		inner := p.within(e.start, e.end)
		if inner.tellsOfWithheldAlone(string(typ), part) {
			p.fallen.add(place, id)
		}
		e.out = p.fallen.places[place]
		inner.told, inner.inside = p.places[place], true
		if e.out || len(inner.hits) == 0 && !inner.told {
			return
		}
		left, broken := inner.prune(string(typ), part)
		err = broken
		if !bytes.Equal(left, part) {
			e.left, some = left, some || inner.lost
		}
	})
	return some, err
}

// tellsOfWithheldAlone applies the rules of aboutPaths and whyPaths to a contained resource
// whose References are masked, as Review does to others.
func (p *pruner) tellsOfWithheldAlone(typ string, line []byte) bool {
	var counts [groups]struct{ rank, all, masked, hits int }
	w := &p.walk
	for w.reset(line); len(p.masked) > 0 && w.next(); {
		if w.kind != opened || line[w.start] != '{' {
			continue
		}
		at, is := aboutPlaces[typ][string(w.appendPath(nil))]
		if !is {
			continue
		}
		c := &counts[at.group]
		if rank := int(at.rank); c.all == 0 || rank < c.rank {
			c.rank, c.all, c.masked, c.hits = rank, 0, 0, 0
		} else if rank > c.rank {
			continue
		}
		c.all++
		if slices.Contains(p.masked, w.start) {
			c.masked++
		}
		if slices.Contains(p.hits, w.start) {
			c.hits++
		}
	}
	for group, c := range counts {
		if c.all > 0 &&
			(c.hits == c.all || c.masked == c.all && !(place{group: uint8(group)}).why()) {
			return true
		}
	}
	return false
}

// orphan leaves out the contained resources that the line referred to before it was pruned and
// no longer refers to.
func (p *pruner) orphan(before, after []byte) error {
	used, err := p.used(before)
	if err != nil {
		return err
	}
	left, err := p.used(after)
	if err != nil || len(used) == len(left) {
		return err
	}
	place, depth := -1, 2
	w := &p.walk
	for w.reset(before); w.next(); {
		if string(w.keyAt(1)) != contained {
			continue
		}
		if w.kind == opened && w.depth == depth {
			place++
		}
		if w.isText && w.depth == depth+1 && string(w.key()) == "id" && used[string(w.text())] &&
			!left[string(w.text())] {
			p.fallen.add(place, w.text())
		}
	}
	return w.err
}

// used returns the ids of the contained resources that another part of the line refers to.
func (p *pruner) used(line []byte) (map[string]bool, error) {
	used := map[string]bool{}
	var own string // the id of the current contained resource
	var within []string
	w := &p.walk
	for w.reset(line); w.next(); {
		switch {
		case w.depth == 2 && w.kind == opened:
			own, within = "", within[:0]
		case w.isText && w.depth == 3 && string(w.keyAt(1)) == contained && string(w.key()) == "id":
			own = string(w.text())
		case w.isText && bytes.HasPrefix(w.content(), []byte("#")):
			within = append(within, string(w.content()[1:]))
		}
		if w.depth > 2 || w.depth == 2 && w.kind == opened {
			continue
		}
		for _, id := range within {
			used[id] = used[id] || id != own
		}
		own, within = "", within[:0]
	}
	for id, elsewhere := range used {
		if !elsewhere {
			delete(used, id)
		}
	}
	return used, w.err
}

// pruned returns the line without the parts that describe something withheld.
func (r *reviewed) pruned(line []byte, v verdict) (out []byte, err error) {
	p := &r.pruner
	p.partials = partials{}
	if v&partial != 0 {
		if err := p.findPartials(line, r.leadsToPartial, r.leadsToTelling); err != nil {
			return nil, err
		}
	}
	for {
		p.entries = moved(p.sources, r.edits)
		typ, _, err := r.walk.identify(r.out)
		if err != nil || !p.concerns(typ, r.out) {
			return r.out, err
		}
		p.fallen.more = false
		out, err := p.prune(string(typ), r.out)
		if err == nil && !p.fallen.more && mayContain(r.out) {
			err = p.orphan(r.out, out)
		}
		if err != nil || !p.fallen.more {
			return out, err
		}
		// mask references to what was just left out
		if err := r.plan(line, v); err != nil {
			return nil, err
		}
		r.out = fhir.Apply(r.out[:0], line, r.edits)
		p.find(r.edits)
	}
}
