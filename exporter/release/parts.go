package release

import (
	"bytes"
	"maps"
	"slices"
)

// A text about a resource describes what the resource consists of, too: the conclusion of a report
// describes its results, and the members of a panel among them. So a resource of which a part is
// withheld for more than an unticked form line is partial, and so is one of which a part is
// partial, or is a part of which is, and so on (EHI-9). Nothing leaves that describes a partial
// resource as a whole: its narrative, its wholeTexts, its presentedForm, its Signatures, and the
// documents and rows that belong to it (whole.go).
//
// The first pass gathers which resources are parts of which. The targets of pointers are not
// gathered again.

// consistsOf are the elements of aboutPaths and whyPaths that name the parts of a resource, by the
// definitions of R4: the results of a report, the members of a group, the content of a message.
// What a resource is for, ordered by, or takes place in is no part of it. A section within another
// one counts as a section. What a resource has inside it is also a part of it, see innerResource.
var consistsOf = map[string][]string{
	"Communication":        {"payload.contentReference"},
	"CommunicationRequest": {"payload.contentReference"},
	"Composition":          {"section.entry", "event.detail", "relatesTo.targetReference"},
	"DiagnosticReport":     {"result", "imagingStudy", "media.link"},
	"DocumentManifest":     {"content"},
	"DocumentReference":    {"relatesTo.target", "context.related"},
	"Group":                {"member.entity"},
	"List":                 {"entry.item"},
	"MessageHeader":        {"focus"},
	"Observation":          {"hasMember", "derivedFrom"},
}

// hasParts are the types of consistsOf.
var hasParts = typeSet(slices.Collect(maps.Keys(consistsOf))...)

// markParts marks the places of consistsOf.
func markParts(places map[string]map[string]place) {
	for typ, paths := range consistsOf {
		for _, path := range paths {
			if at, is := places[typ][path]; is {
				at.part = true
				places[typ][path] = at
			}
		}
	}
}

// partPaths are the paths of all types, for contained resources, whose type may follow their
// References. Other types have a focus that is no part of them.
var partPaths = func() map[string]bool {
	all := map[string]bool{}
	for _, paths := range consistsOf {
		for _, path := range paths {
			all[path], all[codeable(path)] = path != "focus", path != "focus"
		}
	}
	return all
}()

const (
	sectionPath, containedPath = "section.", contained + "."
	entryOfSection             = sectionPath + "entry"
)

// namesDeeperPart reports whether a path of a type names parts, and is not in aboutPaths: in a
// section within another one, or in a contained resource.
func namesDeeperPart(typ, path []byte) bool {
	if within, is := bytes.CutPrefix(path, []byte(containedPath)); is {
		return partPaths[string(flat(within))]
	}
	return string(typ) == "Composition" && string(flat(path)) == entryOfSection
}

// namesPart reports whether a path of a type names parts.
func namesPart(typ string, path []byte) bool {
	at := aboutPlaces[typ][string(path)]
	return at.part || typ == "Composition" && string(flat(path)) == entryOfSection
}

// flat returns the path that a section would have if it were in no other section.
func flat(path []byte) []byte {
	for bytes.HasPrefix(path, []byte(sectionPath+sectionPath)) {
		path = path[len(sectionPath):]
	}
	return path
}

// eachPart calls visit with each part of the resource.
func (f *facts) eachPart(visit func(target)) {
	for _, p := range f.content {
		if p.at.part && p.to.typ != nil {
			visit(p.to)
		}
	}
	for _, to := range f.deeper {
		visit(to)
	}
}

// consist records the parts of a resource, except those that pointed says are targets of its
// pointers. It reports whether the resource has any that may make it partial.
func (o *Observer) consist(self resource, f *facts, pointed func(place) bool) (some bool) {
	add := func(to target) {
		part := o.resource(to)
		if o.isSound(part) {
			return
		}
		if !some {
			some = true
			o.parts.begin(self, true)
		}
		o.parts.add(part)
	}
	among := false
	for _, p := range f.content {
		switch {
		case !p.at.part || p.to.typ == nil:
		case pointed(p.at):
			among = true
		default:
			add(p.to)
		}
	}
	for _, to := range f.deeper {
		add(to)
	}
	return some || among
}

// isSound reports whether a part is certainly released and not partial. As in settled, Conclude
// detects a resource that occurs again.
func (o *Observer) isSound(to resource) bool {
	switch {
	case to.typ == patientNumber:
		return true
	case o.review.unsure, to.typ == nameType:
		return false
	}
	is := o.sure[to.id.low%uint64(len(o.sure))] == to
	o.relied = o.relied || is
	return is
}

// eachPart calls visit with each resource and each of its parts.
func (r *Review) eachPart(visit func(of, part resource)) {
	each := func(p *pointers, i int) {
		of := p.selves.at(i)
		if r.isOutside(of) {
			return
		}
		for from, to := p.of(i); from < to; from++ {
			visit(of, p.targets.at(from))
		}
	}
	for _, o := range r.observers {
		for i, names := range o.pointers.parts {
			if names {
				each(&o.pointers, i)
			}
		}
		for i := range o.parts.selves.n {
			each(&o.parts, i)
		}
	}
}

// markPartial marks the resources that are partial by what is known so far. The time depends only
// on the number of parts: a resource is followed once, whatever its place in a chain or circle.
func (r *Review) markPartial() {
	var todo []resource
	mark := func(of resource) {
		if v, _ := r.index.at(of); v&partial == 0 {
			r.index.put(of, partial)
			todo = append(todo, of)
		}
	}
	r.eachPart(func(of, part resource) {
		if r.tellsOf(part) && !r.isOccasion(of, part) {
			mark(of)
		}
	})
	if len(todo) == 0 {
		return
	}
	if r.wholes == nil {
		r.wholes = r.containers()
	}
	for len(todo) > 0 {
		of := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, whole := range r.wholes[of] {
			mark(whole)
		}
	}
}

// containers returns the resources that resources with parts are parts of.
func (r *Review) containers() map[resource][]resource {
	wholes := map[resource][]resource{}
	r.eachPart(func(of, _ resource) { wholes[of] = nil })
	add := func(of, part resource) {
		all, is := wholes[part]
		if is && part != of && (len(all) == 0 || all[len(all)-1] != of) {
			wholes[part] = append(all, of)
		}
	}
	r.eachPart(func(of, part resource) {
		if part.typ != nameType {
			add(of, part)
			return
		}
		r.candidates(r.support.leads[part], func(to resource, _ verdict) { add(of, to) })
	})
	return wholes
}
