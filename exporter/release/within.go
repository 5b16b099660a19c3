package release

import (
	"bytes"
	"slices"
)

// References of a contained resource count only if it remains: it is left out if it is wholly
// about something withheld, or if everything that refers to it is left out (contained.go). So
// the review treats one that may be left out as a resource of its own, like an entry
// (inside.go).

// mention is a Reference of a contained resource at a path inside it: to a target, to another
// contained resource, or with only a display in a field.
type mention struct {
	path  string
	to    target
	local string
	shown string
}

// mentions records a Reference of the current contained resource. It does nothing in an entry.
func (x *examiner) mentions(at []byte, m mention) {
	if x.in == nil || x.in.field != contained {
		return
	}
	if path, is := bytes.CutPrefix(at, []byte(contained+".")); is {
		m.path = string(path)
		x.in.mentioned = append(x.in.mentioned, m)
	}
}

// local records that a text names a contained resource.
func (x *examiner) local(id []byte) {
	in := -1
	if x.in != nil {
		in = len(x.insides) - 1
	}
	x.locals = append(x.locals, localRef{in, string(id)})
}

// localRef is a text that names a contained resource by its id. in is the index of the entry, or
// the contained resource, that contains the text; -1 for neither.
type localRef struct {
	in int
	id string
}

// calls records the type or id of the current contained resource.
func (x *examiner) calls() {
	w := &x.walk
	if x.in == nil || x.in.field != contained || w.depth != 3 {
		return
	}
	switch string(w.key()) {
	case resourceType:
		x.in.typ = string(w.text())
	case "id":
		x.in.id = string(w.text())
	}
}

// groupsOf returns the References that decide about a contained resource, see aboutPaths.
func (e *inside) groupsOf() (all []mentionGroup) {
	places := aboutPlaces[e.typ]
	for group := range uint8(groups) {
		first := place{group: group, rank: 255}
		for _, m := range e.mentioned {
			if at, is := places[m.path]; is && at.group == group && at.rank < first.rank {
				first = at
			}
		}
		g := mentionGroup{why: first.why()}
		for _, m := range e.mentioned {
			if at, is := places[m.path]; is && at == first {
				g.of = append(g.of, m)
			}
		}
		if len(g.of) > 0 {
			all = append(all, g)
		}
	}
	return all
}

// mentionGroup is a group of References that decide together. why is true for a group of
// whyPaths.
type mentionGroup struct {
	why bool
	of  []mention
}

// within holds the conditions under which an entry, or a contained resource, is left out because
// of contained ones.
type within struct {
	groups []mentionGroup // all References of one group point to something withheld
	by     []int          // or all of these, which refer to it, are left out
	locals []int          // or one of these, which it refers to, is left out
}

// containedUnsure returns which entries and contained resources may be left out because of
// contained ones, and under which conditions; nil for the others.
func (x *examiner) containedUnsure() map[int]*within {
	by, sure := map[int][]int{}, map[int]bool{-1: true}
	var all []int // contained resources
	for i := range x.insides {
		if e := &x.insides[i]; e.field == contained {
			all = append(all, i)
		}
	}
	for _, i := range all {
		for _, l := range x.locals {
			if id := x.insides[i].id; id != "" && id == l.id && i != l.in {
				by[i] = append(by[i], l.in)
			}
		}
	}
	for again := len(all) > 0; again; {
		again = false
		for _, i := range all {
			if sure[i] || len(x.insides[i].groupsOf()) > 0 {
				continue
			}
			if len(by[i]) == 0 ||
				slices.ContainsFunc(by[i], func(from int) bool { return sure[from] }) {
				sure[i], again = true, true
			}
		}
	}
	unsure := map[int]*within{}
	at := func(i int) *within {
		if unsure[i] == nil {
			unsure[i] = &within{}
		}
		return unsure[i]
	}
	for _, i := range all {
		if sure[i] {
			continue
		}
		at(i).groups = x.insides[i].groupsOf()
		if !slices.Contains(by[i], -1) {
			at(i).by = by[i]
		}
		for _, from := range by[i] {
			if from >= 0 && x.insides[from].field != contained {
				at(from).locals = append(at(from).locals, i)
			}
		}
	}
	return unsure
}

// leftWithin is within with hashes.
type leftWithin struct {
	groups []leftGroup
	by     []resource
	locals []resource
}

type leftGroup struct {
	why bool
	of  []leftMention
}

// leftMention is a mention with hashes. For another contained resource, to is the resource that
// stands for it in the review.
type leftMention struct {
	to       resource
	isLocal  bool
	shown    string
	anything bool // it has a target
}

// leftWithin converts the conditions of an entry, or a contained resource, of the resource with
// facts f.
func (o *Observer) leftWithin(f *facts, w *within) (l leftWithin) {
	if w == nil {
		return l
	}
	for _, i := range w.by {
		l.by = append(l.by, o.taker(f, i))
	}
	for _, i := range w.locals {
		l.locals = append(l.locals, o.taker(f, i))
	}
	for _, g := range w.groups {
		out := leftGroup{why: g.why}
		for _, m := range g.of {
			switch at := slices.IndexFunc(f.taking,
				func(t taking) bool { return m.local != "" && t.id == m.local }); {
			case at >= 0:
				out.of = append(out.of, leftMention{
					to:       o.taker(f, f.taking[at].place),
					isLocal:  true,
					anything: true,
				})
			case m.to.typ != nil:
				out.of = append(out.of, leftMention{to: o.resource(m.to), anything: true})
			default:
				out.of = append(out.of, leftMention{shown: m.shown})
			}
		}
		l.groups = append(l.groups, out)
	}
	return l
}

// fallsWithin reports whether an entry, or a contained resource, is left out because of
// contained ones, as far as is known.
func (r *Review) fallsWithin(l leftWithin) bool {
	left := func(of resource) bool { return r.standing(of).withheld() }
	if len(l.by) > 0 && !slices.ContainsFunc(l.by, func(of resource) bool { return !left(of) }) ||
		slices.ContainsFunc(l.locals, left) {
		return true
	}
	return slices.ContainsFunc(l.groups, func(g leftGroup) bool {
		return !slices.ContainsFunc(g.of, func(m leftMention) bool { return !r.isMasked(m, g.why) })
	})
}

// isMasked reports whether a Reference is masked; for why, only if its target is withheld for a
// reason other than an unticked form line.
func (r *Review) isMasked(m leftMention, why bool) bool {
	switch {
	case m.isLocal:
		return r.standing(m.to).withheld()
	case m.anything:
		kept, telling := r.keeps(m.to)
		return telling || kept && !why
	}
	return m.shown != "" && r.mayHide(m.shown)
}
