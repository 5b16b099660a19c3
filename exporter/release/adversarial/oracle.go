package adversarial

import (
	"slices"

	"ehi-server/shared/ehi"
)

// Decision says what may leave of a record by a patient's choices, and what must.
type Decision struct {
	record  *Record
	choices Choices
	goes    []bool
	unused  []bool // it stays for this alone: nothing uses it
	inside  []bool // it stays with another one, in which it stands
	secret  []bool // it is in no record, and stays for more than that
	types   []string
}

// Decide decides about a record.
func (r *Record) Decide(c Choices) *Decision {
	n := len(r.Resources)
	d := &Decision{r, c, make([]bool, n), make([]bool, n), make([]bool, n), make([]bool, n), nil}
	for i, m := range r.Resources {
		admitted := d.admits(m.category, m.when)
		if m.Type == binary { // as nothing else of it says, here, whose it is
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

// keeper is the resource itself, or the one that it stands in and is lost with.
func (d *Decision) keeper(i int) int {
	if d.inside[i] {
		return d.record.place(d.record.Resources[i].within)
	}
	return i
}

// kept reports whether a resource stays for more than that nothing uses it.
func (d *Decision) kept(i int) bool {
	return !d.goes[i] && !d.unused[i] && (!d.record.Resources[i].absent || d.secret[i])
}

// isSecret reports whether the store has a resource that is sensitive, or is wholly about
// something that stays, and the record does not: something of the record that goes, or may,
// leads to it.
func (d *Decision) isSecret(i int) bool {
	m := *d.record.Resources[i]
	if m.links = m.beyond; i == 0 || !d.sought(i) {
		return false
	}
	return !d.authorized(&m) || d.onlyWithheld(&m, m.kind.about, false) ||
		d.onlyWithheld(&m, m.kind.why, true) ||
		d.madeOfWithheld(&m) || d.sumOfWithheld(&m) || d.answersWithheld(&m)
}

// sought reports whether a Reference of the record may mean a resource that it does not hold.
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

// OfTypes is the decision about an export of some types alone; none means all. It withholds
// nothing more: what is of another type is not sent, and References to it stay as they are.
func (d *Decision) OfTypes(types []string) *Decision {
	of := *d
	of.types = types
	return &of
}

// Goes reports whether resource i of the record goes.
func (d *Decision) Goes(i int) bool {
	return d.goes[i] && (len(d.types) == 0 || slices.Contains(d.types, d.record.Resources[i].Type))
}

// Asked reports whether resource i goes where somebody asks for some categories of a record, or for
// all of it, and nobody withholds anything. What is in no patient's record goes too.
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

// formGoes reports whether the presentedForm of a report goes with it: it tells of all that the
// report is made of.
func (d *Decision) formGoes(i int) bool {
	m := d.record.Resources[i]
	return d.goes[i] && m.form != "" && d.admits(m.group, m.when) &&
		!slices.ContainsFunc(m.links, func(l *link) bool {
			return slices.Contains(m.kind.members, l.place.path) && l.shape != "display" &&
				!d.record.occasion(l.to) &&
				d.kept(l.to) && d.telling(l.to)
		})
}

// onlyWithheld reports whether all that a place of a resource leads to is withheld; for more
// than an unticked line of the form where that is asked.
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

// madeOfWithheld reports whether something that a resource is made of is withheld for more than an
// unticked line of the form.
func (d *Decision) madeOfWithheld(m *Resource) bool {
	return slices.ContainsFunc(m.links, func(l *link) bool {
		return l.place.path == m.kind.each && l.shape != "display" && d.kept(l.to) &&
			d.telling(l.to)
	})
}

// sumOfWithheld reports whether all of what a resource is made of is withheld for more than an
// unticked line of the form.
func (d *Decision) sumOfWithheld(m *Resource) bool {
	return slices.ContainsFunc(m.kind.members, func(place string) bool {
		return d.onlyWithheld(m, place, true)
	})
}

// holdsWithheld reports whether all that a resource holds is withheld for more than an unticked
// line, persons, places and things aside.
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

// answersWithheld reports whether a resource is an answer to, or a part of, what is withheld
// alone for more than an unticked line of the form.
func (d *Decision) answersWithheld(m *Resource) bool {
	return slices.ContainsFunc(m.kind.orders, func(place string) bool {
		return d.onlyWithheld(m, place, true)
	})
}

// occasion reports whether nothing is made of a resource.
func (r *Record) occasion(i int) bool {
	to := r.Resources[i]
	return to.kind.hangs() || to.Type == "Encounter" || to.Type == "Patient"
}

// tells reports whether a link only tells of its target, and does not use it.
func (m *Resource) tells(l *link) bool {
	return l.held || l.place.path == m.kind.about && !m.kind.uses || l.place.path == containedItem
}

// byID reports whether a link leads to its target by an id.
func (l *link) byID() bool {
	return l.shape != "display" && l.shape != "identifier" && l.shape != "conditional" &&
		l.shape != "nosystem"
}

// names reports whether a link may take a supporting resource along that it leads to.
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

// containedGoes reports whether a contained List goes, by the link to what it is about: with a
// display alone it is not said.
func (d *Decision) containedGoes(about *link) bool {
	switch {
	case about == nil:
		return true
	case about.shape == "display":
		return !d.mayHide(about.place.field)
	}
	return !d.kept(about.to)
}

// hangs reports whether resources of a kind may stay because of what refers to them.
func (k kind) hangs() bool { return k.supporting || k.part }

// reached are the resources that are used by what goes, by way of others that hang; and those to
// which nothing leads that stays, with what they use.
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

// told reports whether something that goes tells of a resource, and nothing that stays does.
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

// mentioned reports whether something that stays tells of a resource.
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

// reach goes on from what goes and does not hang, or is reached.
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

// denied searches backwards from a resource, by way of others that hang and are not reached, for
// something that stays: of a part, for more than an unticked line of the form. What nothing uses
// denies nothing.
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

// holds reports whether a link makes its resource a holder of its target, where that is a
// Binary: R4 has no element contentUrl.
func (d *Decision) holds(l *link) bool {
	if l.part != nil && !d.choices.Authorized[l.part.needs] {
		return false
	}
	return !l.place.mention && l.place.field != "contentUrl" && l.shape != "own" &&
		l.shape != "display"
}

// stays reports whether a link stands in what stays: a resource, an entry or a presentedForm.
func (d *Decision) stays(from int, l *link) bool {
	out := !d.takes(l.entry) ||
		l.entry != nil && l.shape == "own" && d.kept(l.to) && d.telling(l.to)
	out = out || l.shape == "own" && l.place.path == containedItem && !d.containedGoes(l)
	return d.kept(from) || d.goes[from] && (out || l.place.presented() && !d.formGoes(from))
}

// hinted reports whether something that stays may lead to a Binary: it holds the Binary's id.
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

// unread reports whether something that stays has a link that may lead to any Binary.
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

// shown reports whether a Binary goes with one of its holders: those that only tell of it count
// where there are no others, and its own line of the form is ticked.
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

// keptBy reports whether something that refers to a Binary keeps it: a resource that stays, an
// entry that is left out, or a presentedForm.
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

// signatureOut reports whether the Signature of a resource that goes is left out: with the first
// of what it is of.
func (d *Decision) signatureOut(m *Resource) certainty {
	out := no
	if m.form != "" && !d.formGoes(d.record.place(m)) {
		return yes
	}
	if slices.ContainsFunc(m.links, func(l *link) bool { return l.held }) || len(m.copies) > 0 {
		out = perhaps // what stands in it may go in part
	}
	if m.within != nil && d.signatureOut(m.within) != no {
		out = perhaps // every Signature in that goes
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

// masks reports whether a Reference is certainly masked, for whatever its target stays.
func (d *Decision) masks(l *link) bool {
	to := d.record.Resources[l.to]
	isReference := l.byID() && !l.textual() && !d.record.isOfTwins(l)
	return isReference && d.kept(l.to) && !to.absent && !to.beside && to.Type != binary
}

// textual reports whether a link is a text, and no Reference or Identifier.
func (l *link) textual() bool { return l.place.url || l.place.canonical || l.place.mention }

// certainty is of what may be one way or the other.
type certainty int

const (
	no certainty = iota
	perhaps
	yes
)

// out reports whether an entry is left out, because it refers to something that is withheld for
// more than an unticked line of the form, or names an entry that does.
func (d *Decision) out(e *entry) certainty {
	out := no
	if e.text != "" { // a section goes where nothing of it is left
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

// outByItself reports whether an entry is left out for what it refers to, or for what it names.
func (d *Decision) outByItself(e *entry) certainty {
	out := no
	for _, l := range e.allLinks() {
		out = max(out, d.betrays(l))
	}
	return out
}

// answerOut reports whether the answer to a line of a bill is left out: with the line, or, where
// it is not said which bill it answers, with a line of that number of any.
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

// lineOut reports whether a line of bill i is left out, as far as its answer is concerned.
func (d *Decision) lineOut(i int, line *entry) certainty {
	unnamed := slices.ContainsFunc(line.allLinks(), func(l *link) bool {
		return l.shape == "display"
	})
	if out := d.out(line); d.goes[i] && !unnamed {
		return out
	}
	return perhaps
}

// noteOut reports whether a note of a bill is left out: with any line that names it, or, where none
// does, with anything of the bill.
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

// takes reports whether an entry takes along what it refers to: where it is left out it does
// not. It is where it has, or names one that has, a Reference that has a display alone and may
// mean something withheld.
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

// lost reports whether an entry is left out, or may be, for what it refers to, or for what it
// names.
func (d *Decision) lost(e *entry) bool {
	return slices.ContainsFunc(e.allLinks(), func(l *link) bool {
		if l.shape == "display" {
			return d.mayHide(l.place.field)
		}
		return d.kept(l.to) && d.telling(l.to)
	})
}

// mayHide reports whether a field may lead to something withheld: R4 lets it lead to a type of
// which something is, or to more than persons, places and things while something else is.
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

// acts reports whether resources of a type are persons, places or things, or groups of persons.
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

// allLinks are those of an entry, and of what it names.
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

// telling reports whether a withheld resource is withheld for more than an unticked line of the
// form.
func (d *Decision) telling(i int) bool {
	m := d.record.Resources[d.keeper(i)]
	if d.secret[i] {
		return true
	}
	if m.Type == binary { // about which is decided by what holds it
		return !d.authorized(m)
	}
	return !d.authorized(m) || d.admits(m.category, m.when)
}

// betrays reports whether a Reference names something that is withheld for more than an unticked
// line.
func (d *Decision) betrays(l *link) certainty {
	to := d.record.Resources[l.to]
	switch {
	case d.isOfAnother(l), d.record.isOfTwins(l):
		return perhaps
	case (d.goes[l.to] || d.unused[l.to]) && l.shape != "display":
		return no
	case l.shape == "display" || to.Type == binary || to.absent:
		return perhaps // whether it means something withheld, or for which of several reasons
	case !d.telling(l.to):
		return no
	}
	return yes
}

// isOfTwins reports whether a link is a search by an id that resources of two types have: the
// other one may be more of a secret.
func (r *Record) isOfTwins(l *link) bool { return l.shape == "search" && r.Resources[l.to].twin }

// searchesTwins reports whether some link isOfTwins.
func (r *Record) searchesTwins() bool {
	return slices.ContainsFunc(r.Resources, func(m *Resource) bool {
		return slices.ContainsFunc(m.links, r.isOfTwins)
	})
}

// isOfAnother reports whether a link names by an identifier that is perhaps one of something
// that stays, which has it in an extension. That is no identifier of the Patient's.
func (d *Decision) isOfAnother(l *link) (is bool) {
	byNumber := slices.Contains([]string{"identifier", "conditional", "nosystem"}, l.shape)
	if l.to == 0 || !byNumber || d.record.follows(l) { // an import writes a type and an id for it
		return false
	}
	for i, m := range d.record.Resources {
		is = is || d.kept(i) && slices.ContainsFunc(m.links, func(o *link) bool {
			return o.place.field == foreign && o.to == l.to
		})
	}
	return is
}
