package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// partials says which parts of a line tell of partial resources. It is zero for a line whose
// resource is not partial.
type partials struct {
	told    bool         // the resource is partial
	places  map[int]bool // the contained resources that are, by their indexes
	sources []int        // where entries of sections begin that lead to partial resources
	entries []int        // the same in the masked line
}

// findPartials finds them in a line before it is masked, because a mask hides where a Reference
// leads. leads and tells report whether a Reference, by its reference and the value of its
// identifier, may lead to a partial resource, and to one that is withheld for more than an unticked
// form line.
func (p *pruner) findPartials(line []byte, leads, tells func(ref, value []byte) bool) error {
	p.told, p.places = true, map[int]bool{}
	ids, err := p.findContained(line, func(ref, value []byte) bool {
		return leads(ref, value) || tells(ref, value)
	})
	if err != nil {
		return err
	}
	p.eachReference(line, func(path []byte, at int, ref, value []byte) {
		path = flat(bytes.TrimPrefix(path, []byte(containedPath)))
		isInside := bytes.HasPrefix(ref, []byte("#")) && ids[string(ref[1:])]
		if string(path) == entryOfSection && (isInside || leads(ref, value)) {
			p.sources = append(p.sources, at)
		}
	})
	slices.Sort(p.sources)
	return p.walk.err
}

// findContained fills places, and returns the ids of these resources. They may refer to each other.
func (p *pruner) findContained(
	line []byte, leads func(ref, value []byte) bool,
) (ids map[string]bool, err error) {
	if err := p.gather([]string{contained}, line); err != nil {
		return nil, err
	}
	var all []entry
	p.each(func(e *entry) { all = append(all, *e) })
	names, wholes, todo := make([]string, len(all)), map[string][]int{}, []int(nil)
	for place, e := range all {
		part := line[e.start:e.end]
		typ, id, err := p.walk.identify(part)
		if err != nil {
			return nil, err
		}
		names[place] = string(id)
		of := string(typ)
		p.eachReference(part, func(path []byte, _ int, ref, value []byte) {
			switch {
			case !namesPart(of, path):
			case bytes.HasPrefix(ref, []byte("#")):
				wholes[string(ref[1:])] = append(wholes[string(ref[1:])], place)
			case leads(ref, value):
				todo = append(todo, place)
			}
		})
	}
	ids = map[string]bool{}
	for ; len(todo) > 0; todo = todo[1:] {
		if place := todo[0]; !p.places[place] {
			p.places[place], ids[names[place]] = true, true
			todo = append(todo, wholes[names[place]]...)
		}
	}
	return ids, p.walk.err
}

// eachReference calls visit with the objects of a line that have a reference or an identifier:
// their paths, where they begin, the reference and the value of the identifier.
func (p *pruner) eachReference(line []byte, visit func(path []byte, at int, ref, value []byte)) {
	type named struct{ ref, value []byte }
	var open []named // the open containers, by depth
	w := &p.walk
	for w.reset(line); w.next(); {
		key := string(w.key())
		switch {
		case w.kind == opened:
			open = append(open[:w.depth], named{})
		case w.isText && key == "reference" && w.depth > 0:
			open[w.depth-1].ref = bytes.Clone(w.text())
		case w.isText && key == "value" && w.depth > 1 &&
			string(w.keyAt(w.depth-1)) == "identifier":
			open[w.depth-2].value = bytes.Clone(w.text())
		case w.kind == closed:
			if in := open[w.depth]; in.ref != nil || in.value != nil {
				visit(w.appendPath(nil), w.start, in.ref, in.value)
			}
		}
	}
}

// moved returns where positions of a line are after edits. Both are in order. Positions of what the
// edits replace are those of the replacement, and what they remove has none.
func moved(sources []int, edits []fhir.Edit) (all []int) {
	at, by := 0, 0
	for _, source := range sources {
		for len(edits) > 0 && (edits[0].Start < at || edits[0].End <= source) {
			if e := edits[0]; e.Start >= at {
				at, by = e.End, by+len(e.With)-(e.End-e.Start)
			}
			edits = edits[1:]
		}
		if len(edits) == 0 || source <= edits[0].Start {
			all = append(all, source+by)
		}
	}
	return all
}

// tells reports whether a section is, or has, an entry that leads to a partial resource.
func (p *pruner) tells(start, end int) bool {
	at, _ := slices.BinarySearch(p.entries, start)
	return at < len(p.entries) && p.entries[at] < end
}
