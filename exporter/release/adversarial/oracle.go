package adversarial

import (
	"slices"

	"ehi-server/shared/ehi"
)

// Decision says what may and what must be released of a record for a patient's choices.
type Decision struct {
	record  *Record
	choices Choices
	goes    []bool
	unused  []bool // withheld only because nothing uses it
	inside  []bool // withheld with the resource that contains it
	secret  []bool // outside the record, and withheld for a reason other than that
	types   []string
}

// Decide decides about a record.
func (r *Record) Decide(c Choices) *Decision {
	n := len(r.Resources)
	d := &Decision{r, c, make([]bool, n), make([]bool, n), make([]bool, n), make([]bool, n), nil}
	for i, m := range r.Resources {
		admitted := d.admits(m.category, m.when)
		if m.Type == binary { // no other field says whose it is
			d.unused[i] = d.authorized(m) && admitted && !m.absent && !d.held(i) && m.secured < 0
			admitted = d.held(i) || m.secured > 0 || m.secured == 0 && admitted
		}
		d.goes[i] = i == 0 || !m.absent && d.authorized(m) && admitted
		if m.beside {
			d.goes[i], d.unused[i] = false, d.authorized(m)
		}
		if in := m.within; in != nil && !(d.authorized(in) && d.admits(in.category, "")) {
			d.goes[i], d.inside[i] = false, d.goes[i]
		}
	}
	for before := []bool(nil); !slices.Equal(before, slices.Concat(d.goes, d.unused, d.secret)); {
		before = slices.Concat(d.goes, d.unused, d.secret)
		for i := range r.Resources {
			m := r.Resources[i]
			d.secret[i] = d.secret[i] || m.absent && d.isSecret(i)
			if d.onlyWithheld(m, m.kind.about, false) || d.onlyWithheld(m, m.kind.why, true) ||
				d.madeOfWithheld(m) || d.sumOfWithheld(m) || d.holdsWithheld(m) ||
				d.answersWithheld(m) {
				d.goes[i], d.unused[i] = false, false
			}
		}
		reached := d.reached()
		for i, m := range r.Resources {
			switch {
			case m.beside:
			case m.kind.hangs():
				if (d.goes[i] || d.unused[i]) && !reached[i] {
					d.goes[i], d.unused[i] = false, !d.mentioned(i) &&
						!d.denied(i, reached, map[int]bool{})
				}
			case m.Type == binary && d.held(i):
				if (d.goes[i] || d.unused[i]) && !d.shown(i) {
					d.goes[i], d.unused[i] = false, !d.keptBy(i)
				}
			case m.Type == binary:
				unread := m.secured == 0 && d.unread()
				if d.hinted(i) || unread || m.secured > 0 && !d.goes[m.secured] {
					d.goes[i], d.unused[i] = false, false
				}
			}
		}
	}
	return d
}

// keeper returns the resource itself, or the one that contains it and is withheld with it.
func (d *Decision) keeper(i int) int {
	if d.inside[i] {
		return d.record.place(d.record.Resources[i].within)
	}
	return i
}

// kept reports whether a resource is withheld for a reason other than that nothing uses it.
func (d *Decision) kept(i int) bool {
	return !d.goes[i] && !d.unused[i] && (!d.record.Resources[i].absent || d.secret[i])
}

// isSecret reports whether a resource is in the store but not in the record, is sensitive or
// wholly about something withheld, and may be the target of a released reference.
func (d *Decision) isSecret(i int) bool {
	m := *d.record.Resources[i]
	if m.links = m.beyond; i == 0 || !d.sought(i) {
		return false
	}
	return !d.authorized(&m) || d.onlyWithheld(&m, m.kind.about, false) ||
		d.onlyWithheld(&m, m.kind.why, true) ||
		d.madeOfWithheld(&m) || d.sumOfWithheld(&m) || d.answersWithheld(&m)
}

// sought reports whether a Reference in the record may point to a resource outside it.
func (d *Decision) sought(i int) (is bool) {
	for _, m := range d.record.Resources {
		if m.absent || m.beside ||
			m != d.record.Resources[0] && !(d.authorized(m) && d.admits(m.category, m.when)) {
			continue
		}
		for _, l := range m.links {
			leads := l.shape != "display" &&
				(l.shape != "own" || len(d.record.Resources[i].ID) >= secretLength)
			goes := l.part == nil || d.choices.Authorized[l.part.needs]
			is = is || l.to == i && leads && goes && !l.place.url && !l.place.mention
		}
	}
	return is
}

// OfTypes returns the decision for an export of some types only; none means all. It withholds
// nothing more: resources of other types are not sent, and References to them remain.
func (d *Decision) OfTypes(types []string) *Decision {
	of := *d
	of.types = types
	return &of
}

// Goes reports whether resource i of the record is released.
func (d *Decision) Goes(i int) bool {
	return d.goes[i] && (len(d.types) == 0 || slices.Contains(d.types, d.record.Resources[i].Type))
}

// Asked reports whether resource i is part of an export of some categories, or of everything,
// from which nothing is withheld. Resources that belong to no patient are included.
func (r *Record) Asked(i int, categories []ehi.Category) bool {
	m := r.Resources[i]
	return len(categories) == 0 || m.category == "" || slices.Contains(categories, m.category)
}

func (d *Decision) authorized(m *Resource) bool {
	return m.needs == "" || d.choices.Authorized[m.needs]
}

func (d *Decision) admits(c ehi.Category, when string) bool {
	dated, ticked := d.choices.Ticked[c]
	return c == "" || ticked && (!dated || when == inLimits)
}

// formGoes reports whether the presentedForm of a report is released: it describes all parts of
// the report.
func (d *Decision) formGoes(i int) bool {
	m := d.record.Resources[i]
	return d.goes[i] && m.form != "" && d.admits(m.group, m.when) && !d.partial(i) &&
		!slices.ContainsFunc(m.links, func(l *link) bool {
			return slices.Contains(m.kind.members, l.place.path) && l.shape != "display" &&
				!d.record.occasion(l.to) &&
				d.kept(l.to) && d.telling(l.to)
		})
}

// partial reports whether anything that a text about resource i also describes is withheld for a
// reason other than an unticked form line: something that it consists of, or that this consists of,
// and so on.
func (d *Decision) partial(i int) bool {
	seen := map[int]bool{i: true}
	for todo := []int{i}; len(todo) > 0; todo = todo[1:] {
		m := d.record.Resources[todo[0]]
		for _, l := range m.links {
			if !m.consistsOf(l) || l.shape == "display" ||
				m.Type != "DocumentReference" && len(m.kind.members) > 0 && d.record.occasion(l.to) {
				continue
			}
			if d.kept(l.to) && d.telling(l.to) {
				return true
			}
			if !seen[l.to] && !d.record.Resources[l.to].absent {
				seen[l.to], todo = true, append(todo, l.to)
			}
		}
		for _, c := range m.copies {
			if d.kept(c.of) && d.telling(c.of) {
				return true
			}
		}
	}
	return false
}

// consistsOf reports whether a link names what the resource, or a List that it contains, consists
// of.
func (m *Resource) consistsOf(l *link) bool {
	return l.held || slices.Contains(m.kind.consists, l.place.path) ||
		l.place.path == containedItem
}

// onlyWithheld reports whether all targets at a place are withheld; with telling, for a reason
// other than an unticked form line.
func (d *Decision) onlyWithheld(m *Resource, place string, telling bool) bool {
	withheld, others := 0, 0
	for _, l := range m.links {
		switch {
		case l.place.path != place:
		case l.shape == "display":
		case slices.Contains(m.kind.members, place) && d.record.occasion(l.to) &&
			(l.byID() || l.to == 0 || d.kept(l.to) ||
				d.record.Resources[l.to].kind.hangs() && !d.record.Resources[l.to].beside):
		case d.kept(l.to) && (!telling || d.telling(l.to)):
			withheld++
		default:
			others++
		}
	}
	return withheld > 0 && others == 0
}

// madeOfWithheld reports whether an ingredient of a resource is withheld for a reason other than
// an unticked form line.
func (d *Decision) madeOfWithheld(m *Resource) bool {
	return slices.ContainsFunc(m.links, func(l *link) bool {
		return l.place.path == m.kind.each && l.shape != "display" && d.kept(l.to) &&
			d.telling(l.to)
	})
}

// sumOfWithheld reports whether all parts at one place are withheld for a reason other than an
// unticked form line.
func (d *Decision) sumOfWithheld(m *Resource) bool {
	return slices.ContainsFunc(m.kind.members, func(place string) bool {
		return d.onlyWithheld(m, place, true)
	})
}

// holdsWithheld reports whether all inner resources, except persons, places and things, are
// withheld for a reason other than an unticked form line.
func (d *Decision) holdsWithheld(m *Resource) bool {
	some := len(m.copies) > 0
	for _, l := range m.links {
		if !l.held || d.record.Resources[l.to].kind.hangs() {
			continue
		}
		if some = true; !d.kept(l.to) || !d.telling(l.to) {
			return false
		}
	}
	for _, c := range m.copies {
		of := d.record.Resources[c.of]
		if !d.kept(c.of) || !d.telling(c.of) ||
			c.by != "id" && c.by != "urn" && !d.admits(of.category, "") {
			return false
		}
	}
	return some
}

// answersWithheld reports whether a resource only answers, or is only a part of, resources that
// are withheld for a reason other than an unticked form line.
func (d *Decision) answersWithheld(m *Resource) bool {
	return slices.ContainsFunc(m.kind.orders, func(place string) bool {
		return d.onlyWithheld(m, place, true)
	})
}

// occasion reports whether a resource never counts as a part of another one.
func (r *Record) occasion(i int) bool {
	to := r.Resources[i]
	return to.kind.hangs() || to.Type == "Encounter" || to.Type == "Patient"
}

// tells reports whether a link only describes its target and does not use it.
func (m *Resource) tells(l *link) bool {
	return l.held || l.place.path == m.kind.about && !m.kind.uses || l.place.path == containedItem
}

// byID reports whether a link names its target by an id.
func (l *link) byID() bool {
	return l.shape != "display" && l.shape != "identifier" && l.shape != "conditional" &&
		l.shape != "nosystem"
}

// names reports whether a link can release a supporting resource.
func (l *link) names() bool {
	switch l.shape {
	case "display", "own":
		return false
	case "identifier", "nosystem":
		return !toStatements[l.place.field]
	}
	return true
}

// uses reports whether a link is a Reference by which a resource uses its target.
func (d *Decision) uses(m *Resource, l *link) bool {
	if l.part != nil && !d.choices.Authorized[l.part.needs] {
		return false
	}
	elsewhere := l.place.url || l.place.mention ||
		l.place.canonical && slices.Contains(l.place.outer, "extension")
	return l.names() && !elsewhere && !m.tells(l)
}

// containedGoes reports whether a contained List is released, given the link to what it is
// about. A display alone does not say what that is.
func (d *Decision) containedGoes(about *link) bool {
	switch {
	case about == nil:
		return true
	case about.shape == "display":
		return !d.mayHide(about.place.field)
	}
	return !d.kept(about.to)
}

// hangs reports whether the release of resources of a kind depends on what refers to them.
func (k kind) hangs() bool { return k.supporting || k.part }

// reached returns the resources that released resources use, directly or through others that
// hang, and those that no withheld resource refers to, with what they use.
func (d *Decision) reached() []bool {
	reached := make([]bool, len(d.goes))
	d.reach(reached)
	var free []int
	for i, m := range d.record.Resources {
		owned := m.kind.part || m.Type == "Device" || m.kind.hangs() && d.told(i)
		if d.goes[i] && owned && !d.denied(i, reached, map[int]bool{}) {
			free = append(free, i)
		}
	}
	for _, i := range free {
		reached[i] = true
	}
	d.reach(reached)
	return reached
}

// told reports whether a released resource describes resource i, and no withheld one does.
func (d *Decision) told(i int) (is bool) {
	for _, m := range d.record.Resources {
		for _, l := range m.links {
			if l.to != i || !m.tells(l) || !l.names() || l.place.url || m.absent {
				continue
			}
			is = true
		}
	}
	return is && !d.mentioned(i)
}

// mentioned reports whether a withheld resource describes resource i.
func (d *Decision) mentioned(i int) bool {
	for from, m := range d.record.Resources {
		for _, l := range m.links {
			tells := l.to == i && m.tells(l) && l.names() && !l.place.url && !m.absent
			if tells && (!d.goes[from] || !d.takes(l.entry)) {
				return true
			}
		}
	}
	return false
}

// reach adds everything that released resources use, if they do not hang or are reached.
func (d *Decision) reach(reached []bool) {
	for range d.goes {
		for i, m := range d.record.Resources {
			if !d.goes[i] || m.kind.hangs() && !reached[i] {
				continue
			}
			for _, l := range m.links {
				if d.uses(m, l) && d.takes(l.entry) && d.containedGoes(l.with) {
					reached[l.to] = true
				}
			}
		}
	}
}

// denied searches for a withheld resource that refers to resource i, directly or through others
// that hang and are not reached; for a part, one withheld for a reason other than an unticked
// form line. Resources that nothing uses do not count.
func (d *Decision) denied(i int, reached []bool, seen map[int]bool) bool {
	if reached[i] || seen[i] {
		return false
	}
	seen[i] = true
	for from, m := range d.record.Resources {
		for _, l := range m.links {
			if l.to != i || m.beside || !d.uses(m, l) {
				continue
			}
			switch {
			case !d.goes[from]:
				if d.kept(from) && (d.telling(from) || d.record.Resources[i].kind.supporting) ||
					d.unused[from] && d.denied(from, reached, seen) {
					return true
				}
			case !d.takes(l.entry), !d.containedGoes(l.with), m.kind.hangs() &&
				d.denied(from, reached, seen):
				return true
			}
		}
	}
	return false
}

// holds reports whether a link makes its resource the holder of a Binary. R4 has no element
// contentUrl.
func (d *Decision) holds(l *link) bool {
	if l.part != nil && !d.choices.Authorized[l.part.needs] {
		return false
	}
	return !l.place.mention && l.place.field != "contentUrl" && l.shape != "own" &&
		l.shape != "display"
}

// stays reports whether a link is in something withheld: a resource, an entry or a
// presentedForm.
func (d *Decision) stays(from int, l *link) bool {
	out := !d.takes(l.entry) ||
		l.entry != nil && l.shape == "own" && d.kept(l.to) && d.telling(l.to)
	out = out || l.shape == "own" && l.place.path == containedItem && !d.containedGoes(l)
	return d.kept(from) || d.goes[from] && (out || l.place.presented() && !d.formGoes(from))
}

// hinted reports whether something withheld may point to a Binary, because it contains the
// Binary's id.
func (d *Decision) hinted(i int) (is bool) {
	for from, m := range d.record.Resources {
		for _, l := range m.links {
			is = is ||
				l.to == i && !l.place.mention &&
					(l.shape == "own" || l.place.field == "contentUrl") && d.stays(from, l)
		}
	}
	return is
}

// unread reports whether something withheld has a link that may point to any Binary.
func (d *Decision) unread() (is bool) {
	for from, m := range d.record.Resources {
		for _, l := range m.links {
			to := d.record.Resources[l.to]
			unknown := to.absent && !d.secret[l.to] &&
				slices.Contains([]string{"own", "urn", "id"}, l.shape)
			unknown = unknown || l.shape == "own" && to.Type != binary
			is = is || unknown && d.stays(from, l)
		}
	}
	return is
}

// held reports whether anything refers to a Binary.
func (d *Decision) held(i int) bool {
	return slices.ContainsFunc(d.record.Resources, func(m *Resource) bool {
		return slices.ContainsFunc(m.links, func(l *link) bool { return l.to == i && d.holds(l) })
	})
}

// shown reports whether a Binary is released with one of its holders. Holders that only describe
// it count only if there are no others and the Binary's own form line is ticked.
func (d *Decision) shown(i int) bool {
	used, told := 0, 0
	for from, m := range d.record.Resources {
		for _, l := range m.links {
			if l.to != i || !d.holds(l) {
				continue
			}
			goes := d.goes[from] && d.takes(l.entry) && (!l.place.presented() || d.formGoes(from))
			switch {
			case m.tells(l) && goes:
				told++
			case m.tells(l):
			case goes:
				return true
			default:
				used++
			}
		}
	}
	return used == 0 && told > 0 && d.admits(d.record.Resources[i].category, "")
}

// keptBy reports whether a holder withholds a Binary: a withheld resource, a removed entry, or a
// removed presentedForm.
func (d *Decision) keptBy(i int) (is bool) {
	used, kept, mentioned := false, false, false
	for from, m := range d.record.Resources {
		for _, l := range m.links {
			if l.to != i || !d.holds(l) || m.absent {
				continue
			}
			keeps := d.stays(from, l)
			if m.tells(l) {
				mentioned = mentioned || keeps
			} else {
				used, kept = true, kept || keeps
			}
		}
	}
	return kept || !used && mentioned
}

// signatureOut reports whether the Signature of a released resource is removed, because any part
// that it covers is.
func (d *Decision) signatureOut(m *Resource) certainty {
	out := no
	if m.form != "" && !d.formGoes(d.record.place(m)) || d.partial(d.record.place(m)) {
		return yes
	}
	if slices.ContainsFunc(m.links, func(l *link) bool { return l.held }) || len(m.copies) > 0 {
		out = perhaps // inner resources may be released in part
	}
	if m.within != nil && d.signatureOut(m.within) != no {
		out = perhaps // all Signatures in the outer resource are removed
	}
	for _, l := range m.links {
		switch {
		case l.held && !d.goes[l.to], l.place.path == containedItem && !d.containedGoes(l):
			return yes
		case l.held:
		case d.masks(l):
			return yes
		case !d.goes[l.to] && (l.textual() || d.kept(l.to)):
			out = perhaps
		default:
			out = max(out, d.betrays(l))
		}
	}
	if slices.ContainsFunc(m.copies, func(c copied) bool { return !d.goes[c.of] }) {
		return yes
	}
	for _, e := range m.entries {
		out = max(out, d.out(e))
	}
	return out
}

// masks reports whether a Reference is certainly masked, whatever the reason is.
func (d *Decision) masks(l *link) bool {
	to := d.record.Resources[l.to]
	isReference := l.byID() && !l.textual() && !d.record.isOfTwins(l)
	return isReference && d.kept(l.to) && !to.absent && !to.beside && to.Type != binary
}

// textual reports whether a link is a text, not a Reference or Identifier.
func (l *link) textual() bool { return l.place.url || l.place.canonical || l.place.mention }

// certainty is the degree to which the oracle knows an outcome.
type certainty int

const (
	no certainty = iota
	perhaps
	yes
)

// out reports whether an entry is removed, because it refers to something that is withheld for a
// reason other than an unticked form line, or names an entry that does.
func (d *Decision) out(e *entry) certainty {
	out := no
	if e.text != "" { // a section is removed if nothing of it remains
		out = yes
		for _, l := range e.links {
			out = min(out, d.betrays(l))
		}
		return out
	}
	switch {
	case e.outer == note:
		return d.noteOut(e)
	case e.answers > 0:
		return d.answerOut(e)
	}
	if out = d.outByItself(e); out == yes || len(e.namers) == 0 {
		return out
	}
	last := yes
	for _, n := range e.namers {
		last = min(last, d.outByItself(n))
	}
	return max(out, last)
}

// outByItself reports whether an entry is removed because of what it refers to or names.
func (d *Decision) outByItself(e *entry) certainty {
	out := no
	for _, l := range e.allLinks() {
		out = max(out, d.betrays(l))
	}
	return out
}

// answerOut reports whether the answer to a bill line is removed: with the line, or, if the bill
// is unknown, with a line of that number in any bill.
func (d *Decision) answerOut(e *entry) certainty {
	at := slices.IndexFunc(d.record.Resources, func(m *Resource) bool {
		return slices.Contains(m.entries, e)
	})
	bill := -1
	for _, l := range d.record.Resources[at].links {
		if l.place.path == "request" && d.record.follows(l) {
			bill = l.to
		}
	}
	out := no
	for i, m := range d.record.Resources {
		if m.Type != "Claim" || bill >= 0 && i != bill {
			continue
		}
		for _, line := range m.entries {
			if line.outer == "item" && line.sequence == e.answers {
				out = max(out, d.lineOut(i, line))
			}
		}
	}
	if bill >= 0 && d.record.Resources[bill].absent {
		return perhaps
	}
	return out
}

// lineOut reports whether a line of bill i is removed, as far as its answer depends on it.
func (d *Decision) lineOut(i int, line *entry) certainty {
	unnamed := slices.ContainsFunc(line.allLinks(), func(l *link) bool {
		return l.shape == "display"
	})
	if out := d.out(line); d.goes[i] && !unnamed {
		return out
	}
	return perhaps
}

// noteOut reports whether a note of a bill is removed: with any line that names it, or, if none
// does, with any part of the bill.
func (d *Decision) noteOut(n *entry) certainty {
	all, named, isNamed := no, no, false
	for _, m := range d.record.Resources {
		if !slices.Contains(m.entries, n) {
			continue
		}
		for _, e := range m.entries {
			if e.outer == note {
				continue
			}
			out := d.out(e)
			all = max(all, out)
			if slices.Contains(e.notes, n) {
				named, isNamed = max(named, out), true
			}
		}
	}
	if isNamed {
		return named
	}
	return all
}

// takes reports whether an entry releases its targets, which it does unless it is removed. It
// may be removed because of a Reference, in it or in an entry that it names, with only a display
// that may mean something withheld.
func (d *Decision) takes(e *entry) bool {
	if e == nil {
		return true
	}
	if len(e.namers) > 0 &&
		!slices.ContainsFunc(e.namers, func(n *entry) bool { return !d.lost(n) }) {
		return false
	}
	return len(e.allLinks()) == 1 || !d.lost(e)
}

// lost reports whether an entry is, or may be, removed because of what it refers to or names.
func (d *Decision) lost(e *entry) bool {
	return slices.ContainsFunc(e.allLinks(), func(l *link) bool {
		if l.shape == "display" {
			return d.mayHide(l.place.field)
		}
		return d.kept(l.to) && d.telling(l.to)
	})
}

// mayHide reports whether a field may refer to something withheld: R4 allows it to refer to the
// type of a withheld resource, or to more than persons, places and things while another kind of
// resource is withheld.
func (d *Decision) mayHide(field string) bool {
	types, statements := map[string]bool{}, false
	for i, m := range d.record.Resources {
		if d.kept(i) && (m.Type != binary || !d.authorized(m)) {
			types[m.Type], statements = true, statements || !m.kind.supporting
		}
	}
	return slices.ContainsFunc(targetsOf(field), func(t string) bool {
		return t == "*" && len(types) > 0 || types[t] || statements && !acts(t)
	})
}

// acts reports whether resources of a type are persons, places, things, or groups of persons.
func acts(typ string) bool {
	switch typ {
	case "Patient", "RelatedPerson", "Person", "CareTeam", "Group", "PractitionerRole",
		"OrganizationAffiliation", "Location",
		"HealthcareService", "Endpoint", "InsurancePlan", "DeviceDefinition", "DeviceMetric",
		"MedicationKnowledge", "Substance":
		return true
	}
	return slices.ContainsFunc(kinds, func(k kind) bool { return k.typ == typ && k.supporting })
}

// allLinks returns the links of an entry, and of the entries that it names.
func (e *entry) allLinks() []*link {
	links := slices.Clone(e.links)
	for _, other := range e.names {
		for _, l := range other.allLinks() {
			if !slices.Contains(links, l) {
				links = append(links, l)
			}
		}
	}
	return links
}

// telling reports whether a withheld resource is withheld for a reason other than an unticked
// form line.
func (d *Decision) telling(i int) bool {
	m := d.record.Resources[d.keeper(i)]
	if d.secret[i] {
		return true
	}
	if m.Type == binary { // its holders decide about it
		return !d.authorized(m)
	}
	return !d.authorized(m) || d.admits(m.category, m.when)
}

// betrays reports whether a Reference names something that is withheld for a reason other than
// an unticked form line.
func (d *Decision) betrays(l *link) certainty {
	to := d.record.Resources[l.to]
	switch {
	case d.isOfAnother(l), d.record.isOfTwins(l):
		return perhaps
	case (d.goes[l.to] || d.unused[l.to]) && l.shape != "display":
		return no
	case l.shape == "display" || to.Type == binary || to.absent:
		return perhaps // it may mean something withheld, or several reasons are possible
	case !d.telling(l.to):
		return no
	}
	return yes
}

// isOfTwins reports whether a link is a search by an id that resources of two types share. The
// other one may be more secret.
func (r *Record) isOfTwins(l *link) bool { return l.shape == "search" && r.Resources[l.to].twin }

// searchesTwins reports whether isOfTwins holds for any link.
func (r *Record) searchesTwins() bool {
	return slices.ContainsFunc(r.Resources, func(m *Resource) bool {
		return slices.ContainsFunc(m.links, r.isOfTwins)
	})
}

// isOfAnother reports whether a link uses an identifier that may also be in an extension of a
// withheld resource. Identifiers of the Patient are exempt.
func (d *Decision) isOfAnother(l *link) (is bool) {
	byNumber := slices.Contains([]string{"identifier", "conditional", "nosystem"}, l.shape)
	if l.to == 0 || !byNumber || d.record.follows(l) { // an import replaces it by a type and id
		return false
	}
	for i, m := range d.record.Resources {
		is = is || d.kept(i) && slices.ContainsFunc(m.links, func(o *link) bool {
			return o.place.field == foreign && o.to == l.to
		})
	}
	return is
}
