package adversarial

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"ehi-server/shared/ehi"
)

// Options configure the generation of records.
type Options struct {
	// Prefix is a number that distinguishes the markers of records that are searched together.
	Prefix string
	// Least is the minimum number of resources.
	Least int
	// Imported means that the record is stored before it is exported. The import resolves
	// conditional references by identifier.
	Imported bool
}

const binary = "Binary"

// Base is the server in absolute references.
const Base = "https://ehr.example.org/r4"

// Elsewhere is another system's server. It uses the same ids as the store for resources outside
// the record.
const Elsewhere = "https://elsewhere.example.com/fhir"

// Record is an adversarial record of one patient, who is its first resource.
type Record struct {
	Resources []*Resource
	options   Options
}

// Resource is one resource of a record.
type Resource struct {
	Type, ID, Marker string
	// Line is the resource as JSON.
	Line string

	kind      kind
	inner     *inner    // the contained resource of a Patient, or nil
	parts     []*part   // of a Patient
	form      string    // the marker of a DiagnosticReport's presentedForm; "" if there is none
	signed    bool      // it has a Signature with a marker of its own
	twin      bool      // a resource of another type has the same id
	secured   int       // the target of a Binary's securityContext; -1 if there is none
	securedBy string    // the shape of that reference
	within    *Resource // the resource that contains it; nil if it has a line of its own
	// the fullUrl by which other inner resources refer to it; "" if there is none
	alias       string
	copies      []copied // the copies of other resources that it contains
	needs       ehi.Authorization
	coding      string // needs the authorization
	label       bool
	labelled    string // the place of that label; "" for meta
	category    ehi.Category
	group       ehi.Category // of a DiagnosticReport's presentedForm
	groupCode   string
	laboratory  bool
	identified  bool   // it has an identifier
	requisition bool   // its identifier is a requisition, which it shares with others
	when        string // a date; "" if there is none
	absent      bool   // the store has it in no record, see Keep
	beside      bool   // it is in the store but not in the record
	links       []*link
	beyond      []*link // the links of an absent resource, instead of links
	entries     []*entry
}

// inner is a sensitive resource contained in the Patient, who is always released.
type inner struct {
	marker, coding string
	label          bool
	needs          ehi.Authorization
}

// part is a sensitive element of a Patient, possibly with a reference.
type part struct {
	marker, coding, field string
	needs                 ehi.Authorization
	link                  *link
}

// copied is a copy of a resource inside another one.
type copied struct {
	of int
	by string // how it is identified: by its id, its url, or an identifier
}

// link is a reference to another resource. It is released if its target is.
type link struct {
	held  bool  // its target is inside the resource
	with  *link // the link of the same contained List, or nil
	part  *part // the part of a Patient that contains it, or nil
	place place
	to    int
	shape string
	token string
	entry *entry
}

// place is where a link is, see kinds.
type place struct {
	path                      string
	outer                     []string
	field                     string
	list, entry, url, mention bool
	canonical                 bool
}

func placeOf(text string) place {
	p := place{path: text}
	text, p.mention = strings.CutSuffix(text, "~")
	text, p.list = strings.CutSuffix(text, "[]")
	p.entry = strings.Contains(text, "!")
	p.url, p.canonical = strings.Contains(text, "@"), strings.Contains(text, "^")
	p.outer = strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("/!@^", r) })
	p.field, p.outer = p.outer[len(p.outer)-1], p.outer[:len(p.outer)-1]
	return p
}

// single reports whether a place has room for only one link.
func (p place) single() bool { return len(p.outer) == 0 && !p.list }

// presented reports whether a place is in a report's presentedForm, which may be removed when
// the report is released.
func (p place) presented() bool { return len(p.outer) > 0 && p.outer[0] == "presentedForm" }

// entry is an element that describes its targets, and is removed with them.
type entry struct {
	outer    string
	token    string
	text     string // of a section: removed with its first removed entry
	links    []*link
	sequence int
	names    []*entry // other entries that it names by their number
	namers   []*entry // the lines that name it, if it serves them
	answers  int      // the number of the bill line that it answers; 0 if there is none
	notes    []*entry // notes that it names by their number
}

// inLimits and outOfLimits are dates inside and outside the limits in forms.
const inLimits, outOfLimits = "2020-05-01", "2010-05-01"

// Draw draws a record and its spelling.
func Draw(t *rapid.T, o Options) *Record {
	r := &Record{options: o}
	n := rapid.IntRange(max(2, o.Least), max(10, o.Least)).Draw(t, "resources")
	r.Resources = append(r.Resources,
		r.drawResource(t, 0, kind{
			typ:    "Patient",
			places: []string{"generalPractitioner[]", "managingOrganization"},
		}))
	some := o.kinds()
	if about := rapid.IntRange(0, len(themes)+3).Draw(t, "theme"); about < len(themes) {
		some = slices.DeleteFunc(some, func(k kind) bool {
			return !slices.Contains(themes[about], k.typ)
		})
	}
	for i := 1; i < n; i++ {
		r.Resources = append(r.Resources,
			r.drawResource(t, i, rapid.SampledFrom(some).Draw(t, "type")))
	}
	r.drawTwins(t)
	r.drawBeside(t)
	for i, m := range r.Resources {
		r.drawLinks(t, i, m)
		r.drawSecured(t, m)
	}
	r.drawParts(t)
	r.drawHeld(t)
	for _, m := range slices.Backward(r.Resources) { // inner resources first
		m.Line = r.spell(t, m)
	}
	return r
}

// themes are groups of types that refer to each other. Most records use only one, which makes
// long chains of references likely.
var themes = [][]string{
	{"Appointment", "Slot", "Schedule", "Practitioner"},
	{"Claim", "ExplanationOfBenefit", "ClaimResponse", "Condition", "Encounter", "Organization"},
	{"ExplanationOfBenefit", "Task", "Condition", "Practitioner"},
	{"DocumentReference", "DiagnosticReport", "Communication", "Observation", "Binary"},
	{
		"QuestionnaireResponse", "CarePlan", "Procedure", "Condition", "Questionnaire",
		"PlanDefinition",
	},
	{"MedicationRequest", "Medication", "Basic", "Organization"},
	{"Communication", "Organization", "Practitioner", "Condition"},
	{"MessageHeader", "Provenance", "Condition", "Practitioner"},
	{"Bundle", "Parameters", "Condition", "Provenance", "Procedure", "Organization"},
	{"Questionnaire", "PlanDefinition", "QuestionnaireResponse", "CarePlan"},
}

// kinds returns the types for a record. A store has the resources of a Bundle on lines of their
// own.
func (o Options) kinds() []kind {
	return slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool {
		return o.Imported && k.holds != ""
	})
}

// besideKinds are the types of resources outside a record: things that belong to no patient.
var besideKinds = slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool {
	return !k.defines && (!k.supporting || k.patient != "")
})

// drawTwins gives two resources of different types the same id, which is then not secret.
func (r *Record) drawTwins(t *rapid.T) {
	i := rapid.IntRange(1, 3*len(r.Resources)).Draw(t, "twin")
	if i+1 >= len(r.Resources) {
		return
	}
	one, other := r.Resources[i], r.Resources[i+1]
	for _, m := range []*Resource{one, other} {
		if one.Type == other.Type || m.Type == binary || m.kind.holds != "" {
			return
		}
	}
	one.ID = fmt.Sprintf("Tw%sz%d", r.options.Prefix, i)
	other.ID, one.twin, other.twin = one.ID, true, true
}

// drawBeside draws resources in the store but outside the record. The Patient, who is always
// released, refers to each.
func (r *Record) drawBeside(t *rapid.T) {
	for n := range max(0, rapid.IntRange(-3, 2).Draw(t, "beside")) {
		i := len(r.Resources)
		m := r.drawResource(t, i, rapid.SampledFrom(besideKinds).Draw(t, "type beside"))
		m.beside = true
		r.Resources = append(r.Resources, m)
		l := &link{
			place: placeOf("generalPractitioner[]"),
			to:    i,
			shape: r.besideShape(t, i),
			token: fmt.Sprintf("Tok%sz%dx%dBe", r.options.Prefix, 0, n),
		}
		r.Resources[0].links = append(r.Resources[0].links, l)
	}
}

// besideShape draws the shape of a link to resource i, which is outside the record.
func (r *Record) besideShape(t *rapid.T, i int) string {
	if r.Resources[i].identified && rapid.Bool().Draw(t, "by value") {
		return "nosystem"
	}
	return "elsewhere"
}

// drawMadeOf draws an ingredient for a drug outside the record.
func (r *Record) drawMadeOf(t *rapid.T, i int, m *Resource) {
	all := r.all(m.Type)
	if m.kind.each == "" || len(all) == 0 || rapid.Bool().Draw(t, "of nothing") {
		return
	}
	l := &link{
		place: placeOf(m.kind.each),
		to:    rapid.SampledFrom(all).Draw(t, "made of"),
		shape: "relative",
		token: fmt.Sprintf("Tok%sz%dx0Of", r.options.Prefix, i),
	}
	m.links = append(m.links, l)
}

// drawHeld moves some resources into others, and copies some.
func (r *Record) drawHeld(t *rapid.T) {
	for b, holder := range r.Resources {
		if holder.kind.holds == "" {
			continue
		}
		for i := b + 1; i < len(r.Resources); i++ {
			m := r.Resources[i]
			if m.beside || m.within != nil || m.kind.holds != "" || m.Type == binary ||
				rapid.Bool().Draw(t, "on its own") {
				continue
			}
			m.within = holder
			holder.links = append(holder.links, &link{
				held:  true,
				place: place{path: "held"},
				to:    i,
				shape: "bare",
			})
			if holder.Type == "Bundle" && rapid.Bool().Draw(t, "alias") {
				way := rapid.SampledFrom([]string{
					"urn:uuid:",
					"https://ehr.example.org/entries/",
				}).Draw(t, "fullUrl")
				m.alias = way + strings.Replace(m.Marker, "Mark", "Alias", 1)
			}
		}
	}
	// most resources refer to those beside them by alias
	for _, m := range r.Resources {
		for _, l := range m.links {
			to := r.Resources[l.to]
			besides := m.within != nil && m.within == to.within && to.alias != ""
			if besides && l.byID() && !l.textual() && rapid.IntRange(0, 3).Draw(t, "by alias") > 0 {
				l.shape = "relative"
			}
		}
	}
	for _, holder := range r.Resources {
		if holder.kind.holds == "" {
			continue
		}
		for i, m := range r.Resources {
			if i > 0 && m.within == nil && m.copyable() &&
				rapid.IntRange(0, 3).Draw(t, "copy") == 0 {
				holder.copies = append(holder.copies, copied{i, r.drawCopy(t, i, holder)})
			}
		}
	}
}

// copyable reports whether a copy with less content has the same form line.
func (m *Resource) copyable() bool {
	return m.kind.holds == "" && !m.kind.hangs() && m.kind.when == "" && m.Type != binary
}

// drawCopy draws how a copy of resource i is identified. If a copy with another id is withheld,
// references by the shared identifier are masked. So a copy has the identifier only if no link
// uses it.
func (r *Record) drawCopy(t *rapid.T, i int, holder *Resource) string {
	ways := []string{"id"}
	if holder.Type == "Bundle" {
		ways = append(ways, "url", "urn")
	}
	named := slices.ContainsFunc(r.Resources, func(m *Resource) bool {
		return slices.ContainsFunc(m.links, func(l *link) bool {
			return l.to == i && (l.shape == "identifier" || l.shape == "conditional")
		})
	})
	if m := r.Resources[i]; m.identified && !m.requisition && !named {
		ways = append(ways, "identifier")
	}
	return rapid.SampledFrom(ways).Draw(t, "copied by")
}

// Lines returns the resources that have a line of their own.
func (r *Record) Lines() (lines []string) {
	for _, m := range r.Resources {
		if m.within == nil && !m.beside {
			lines = append(lines, m.Line)
		}
	}
	return lines
}

// Keep marks the resources that are in no record after an import, such as a Binary without
// references. Nothing absent is withheld.
func (r *Record) Keep(has func(typ, id string) bool) {
	for _, m := range r.Resources {
		if m.beside {
			continue
		}
		if m.absent = !has(m.Type, m.ID); m.absent {
			m.beyond, m.links, m.entries = m.links, nil, nil
		}
	}
}

// Patient returns the id of the record's patient.
func (r *Record) Patient() string { return r.Resources[0].ID }

func (r *Record) drawResource(t *rapid.T, i int, k kind) *Resource {
	m := &Resource{
		Type:     k.typ,
		Marker:   fmt.Sprintf("Mark%sz%dEr", r.options.Prefix, i),
		kind:     k,
		category: k.category,
	}
	m.ID = m.Marker + strings.Repeat("-0", rapid.SampledFrom([]int{0, 4, 9}).Draw(t, "length"))
	// an import resolves these by urn:uuid:
	if !r.options.Imported && rapid.IntRange(0, 3).Draw(t, "small letters") == 0 {
		m.ID = strings.ToLower(m.ID)
	}
	m.identified = k.typ != binary && rapid.IntRange(0, 3).Draw(t, "identified") > 0
	m.signed = k.mayBeSigned() && rapid.Bool().Draw(t, "signed")
	m.requisition = k.typ == "ServiceRequest" && m.identified && rapid.Bool().Draw(t, "requisition")
	if rapid.IntRange(0, 2).Draw(t, "sensitive") == 0 {
		s := rapid.SampledFrom(sensitives).Draw(t, "kind of sensitive")
		m.coding, m.label, m.needs = s.coding, s.label, s.needs
	}
	in := labelPlaces[k.typ]
	mayStand := m.label && in != "" && (k.typ != "Composition" || m.needs == ehi.Confidential)
	if mayStand && rapid.Bool().Draw(t, "labelled") {
		m.labelled = in
	}
	if k.typ == "Patient" && rapid.Bool().Draw(t, "contains") {
		s := rapid.SampledFrom(sensitives).Draw(t, "sensitive within")
		m.inner = &inner{strings.Replace(m.Marker, "Er", "In", 1), s.coding, s.label, s.needs}
	}
	switch k.typ {
	case "Observation", "DiagnosticReport":
		m.laboratory = rapid.IntRange(0, 2).Draw(t, "laboratory") == 0
		if m.laboratory {
			m.category = ehi.Labs
		}
	case "DocumentReference":
		g := rapid.SampledFrom(groups).Draw(t, "group")
		m.groupCode, m.category = g.coding, g.category
	}
	if k.typ == "DiagnosticReport" {
		m.form, m.group = fmt.Sprintf("Mark%sz%dFr", r.options.Prefix, i), ehi.OtherDocuments
		if !m.laboratory && rapid.Bool().Draw(t, "radiology") {
			m.group = ehi.Radiology
		}
	}
	if k.when != "" {
		m.when = rapid.SampledFrom([]string{"", inLimits, inLimits, outOfLimits}).Draw(t, "when")
	}
	return m
}

// mayBeSigned reports whether resources of a kind may have a Signature, in a field of R4 or in
// an extension.
func (k kind) mayBeSigned() bool {
	others := []string{"Bundle", "Provenance", "MessageHeader", "Basic"}
	return k.holds == "" && k.patient != "" || slices.Contains(others, k.typ)
}

// labelPlaces are the elements with labels, in addition to meta.
var labelPlaces = map[string]string{
	"Composition":       "confidentiality",
	"DocumentReference": "securityLabel",
}

// partFields are the elements of a Patient that may be sensitive, with the field of their
// reference; "" if they have none.
var partFields = map[string]string{
	"extension":     "valueReference",
	"contact":       "organization",
	"communication": "",
	"maritalStatus": "",
	"_birthDate":    "",
	"security":      "",
}

// drawParts adds sensitive elements to the Patient.
func (r *Record) drawParts(t *rapid.T) {
	m, seen := r.Resources[0], map[string]bool{}
	for n := range rapid.IntRange(0, 2).Draw(t, "parts") {
		field := rapid.SampledFrom(slices.Sorted(maps.Keys(partFields))).Draw(t, "part")
		s := rapid.SampledFrom(sensitives).Draw(t, "sensitive part")
		if seen[field] && field[0] != 'e' && field[0] != 'c' || s.label && field != "security" {
			continue
		}
		seen[field] = true
		p := &part{
			marker: strings.Replace(m.Marker, "Er", fmt.Sprintf("Pa%dRt", n), 1),
			coding: s.coding,
			field:  field,
			needs:  s.needs,
		}
		if refers := partFields[field]; refers != "" && rapid.Bool().Draw(t, "refers") {
			p.link = &link{
				part:  p,
				place: placeOf("part/" + refers),
				to:    rapid.IntRange(0, len(r.Resources)-1).Draw(t, "to of part"),
				shape: rapid.SampledFrom([]string{"relative", "absolute", "display"}).Draw(t,
					"shape of part"),
				token: fmt.Sprintf("Tok%sz%dx%dPa", r.options.Prefix, 0, n),
			}
			if p.link.to = r.thing(t, p.link.to); r.Resources[p.link.to].beside {
				p.link.to = 0
			}
			m.links = append(m.links, p.link)
		}
		m.parts = append(m.parts, p)
	}
}

var shapes = []string{
	"relative", "bare", "versioned", "absolute", "percent", "identifier", "display", "conditional",
	"urn", "id", "search", "own",
}

func (r *Record) drawLinks(t *rapid.T, i int, m *Resource) {
	if m.beside {
		r.drawMadeOf(t, i, m)
		return
	}
	places := m.kind.places
	if m.kind.about != "" {
		places = append([]string{m.kind.about, m.kind.about}, places...)
	}
	if m.kind.why != "" {
		places = append([]string{m.kind.why}, places...)
	}
	if len(places) == 0 {
		return
	}
	taken := map[string]bool{}
	for n := range rapid.IntRange(0, 5).Draw(t, "links") {
		l := &link{
			place: placeOf(rapid.SampledFrom(places).Draw(t, "place")),
			to:    rapid.IntRange(0, len(r.Resources)-1).Draw(t, "to"),
			shape: rapid.SampledFrom(shapes).Draw(t, "shape"),
			token: fmt.Sprintf("Tok%sz%dx%dEn", r.options.Prefix, i, n),
		}
		if l.place.entry && rapid.IntRange(0, 2).Draw(t, "a thing") == 0 {
			l.to = r.thing(t, l.to)
		}
		if l.place.single() && taken[l.place.path] ||
			l.place.path == "claim" && r.Resources[l.to].Type == binary {
			continue // a bill for a Binary would be withheld in any case; no real record has one
		}
		if defined := r.definitions(); l.place.canonical && len(defined) == 0 {
			continue
		} else if l.place.canonical {
			l.to = rapid.SampledFrom(defined).Draw(t, "which definition")
		}
		taken[l.place.path] = true
		bills := r.all("Claim")
		if l.place.path == "request" && len(bills) > 0 &&
			rapid.IntRange(0, 3).Draw(t, "a bill") > 0 {
			l.to = rapid.SampledFrom(bills).Draw(t, "which bill")
		}
		switch {
		case l.place.canonical:
			l.shape = "canonical"
		case (l.place.url || l.place.path == "request") && r.Resources[l.to].beside:
			continue
		case l.place.url:
			l.shape = rapid.SampledFrom([]string{
				"relative", "absolute", "urn", "own",
			}).Draw(t, "shape of url")
			if binaries := r.all(binary); len(binaries) > 0 && rapid.Bool().Draw(t, "a Binary") {
				l.to = rapid.SampledFrom(binaries).Draw(t, "which")
			}
			// too common in texts
			if l.place.field != "url" || len(r.Resources[l.to].ID) < secretLength {
				l.shape = "relative"
			}
		case l.place.mention:
			if l.shape = "mention"; len(r.Resources[l.to].ID) < secretLength {
				continue // too common in texts
			}
		case l.place.isNumber() && !r.Resources[l.to].identified:
			continue
		case r.Resources[l.to].beside && !l.place.isNumber():
			l.shape = r.besideShape(t, l.to)
		case l.place.isNumber():
			l.shape = "identifier"
		case !r.Resources[l.to].identified && (l.shape == "identifier" || l.shape == "conditional"):
			l.shape = "relative"
		}
		to := r.Resources[l.to]
		if to.twin && slices.Contains([]string{"urn", "id", "own"}, l.shape) {
			l.shape = "search" // its id alone would be ambiguous
			if l.place.url {
				l.shape = "absolute"
			}
		}
		m.links = append(m.links, l)
		if slices.Contains(l.place.outer, "contained") && l.place.field == "item" {
			r.drawAlong(t, m, l)
		}
		if l.place.entry {
			r.drawEntry(t, i, m, l)
		}
	}
	m.drawNames(t)
}

// drawSecured draws the target of a Binary's securityContext.
func (r *Record) drawSecured(t *rapid.T, m *Resource) {
	m.secured = -1
	if m.Type != binary {
		return
	}
	m.securedBy = rapid.SampledFrom([]string{"relative", "absolute", "urn"}).Draw(t,
		"shape of securityContext")
	switch rapid.IntRange(0, 3).Draw(t, "secured") {
	case 0, 1:
		m.secured = 0
	case 2:
		to := rapid.IntRange(0, len(r.Resources)-1).Draw(t, "secured by")
		if of := r.Resources[to]; of.Type != binary && !of.kind.hangs() && !of.twin {
			m.secured = to
		}
	}
}

// drawAlong adds a reference to a thing to a contained List.
func (r *Record) drawAlong(t *rapid.T, m *Resource, l *link) {
	along := &link{
		with:  l,
		place: placeOf("contained/source"),
		to:    r.thing(t, 0),
		shape: "relative",
		token: strings.Replace(l.token, "Tok", "Src", 1),
	}
	if to := r.Resources[along.to]; to.kind.supporting && !to.beside {
		m.links = append(m.links, along)
	}
}

// thing returns the index of a thing, or other if there is none.
func (r *Record) thing(t *rapid.T, other int) int {
	var things []int
	for i, m := range r.Resources {
		if m.kind.supporting && !m.beside {
			things = append(things, i)
		}
	}
	if len(things) == 0 {
		return other
	}
	return rapid.SampledFrom(things).Draw(t, "which thing")
}

// all returns the indexes of the resources of a type.
func (r *Record) all(typ string) (places []int) {
	for i, m := range r.Resources {
		if m.Type == typ {
			places = append(places, i)
		}
	}
	return places
}

// definitions returns the indexes of forms and plans. In an import, only those in the record can
// be named.
func (r *Record) definitions() (places []int) {
	for i, m := range r.Resources {
		if m.kind.defines && !(m.beside && r.options.Imported) {
			places = append(places, i)
		}
	}
	return places
}

// secretLength is the minimum length of an id that is searched in texts.
const secretLength = 12

// hasRoom reports whether an entry can contain a further link.
func (e *entry) hasRoom(l *link) bool {
	return e.outer == l.place.outer[0] &&
		(l.place.list ||
			!slices.ContainsFunc(e.links, func(o *link) bool {
				return o.place.field == l.place.field
			}))
}

// drawEntry adds a link to an entry: a new one, or the previous one.
func (r *Record) drawEntry(t *rapid.T, i int, m *Resource, l *link) {
	last := len(m.entries) - 1
	if last >= 0 && m.entries[last].hasRoom(l) && rapid.Bool().Draw(t, "same entry") {
		l.entry = m.entries[last]
		to := r.Resources[l.to]
		if to.identified && !to.beside && rapid.Bool().Draw(t, "by identifier") {
			l.shape = "identifier"
		}
	} else {
		n := len(m.entries)
		l.entry = &entry{
			outer:    l.place.outer[0],
			token:    fmt.Sprintf("Ent%sz%dx%dRy", r.options.Prefix, i, n),
			sequence: n + 1,
		}
		if l.place.list {
			l.entry.text = fmt.Sprintf("Tex%sz%dx%dRy", r.options.Prefix, i, n)
		}
		m.entries = append(m.entries, l.entry)
	}
	l.entry.links = append(l.entry.links, l)
}

// drawNames makes lines of a bill name other entries.
func (m *Resource) drawNames(t *rapid.T) {
	for _, e := range m.entries {
		for _, other := range m.entries {
			if e.mayName(other) && rapid.Bool().Draw(t, "names") {
				e.names = append(e.names, other)
				if other.outer != "item" {
					other.namers = append(other.namers, e)
				}
			}
		}
	}
	for i := 0; m.Type == "ClaimResponse" && i < 3; i++ {
		token := strings.Replace(m.Marker, "Mark", "Answer", 1) + fmt.Sprint("x", i)
		outer := rapid.SampledFrom([]string{
			"item", "item", "addItem", "error",
		}).Draw(t, "answers in")
		answers := rapid.IntRange(1, 4).Draw(t, "answers")
		m.entries = append(m.entries, &entry{outer: outer, token: token, answers: answers})
	}
	if m.Type == "ExplanationOfBenefit" || m.Type == "ClaimResponse" {
		m.drawNotes(t)
	}
}

// mayName reports whether R4 allows an entry of a bill to name another one by its number.
func (e *entry) mayName(other *entry) bool {
	switch e.outer {
	case "item":
		return !slices.Contains([]string{"item", "addItem", "related"}, other.outer)
	case "addItem":
		return other.outer == "item"
	}
	return false
}

// note is the list of a bill's notes.
const note = "processNote"

// drawNotes adds notes about some lines to a bill.
func (m *Resource) drawNotes(t *rapid.T) {
	lines := m.entries
	for i := range rapid.IntRange(0, 2).Draw(t, "notes") {
		n := &entry{
			outer:    note,
			token:    strings.Replace(m.Marker, "Mark", "Note", 1) + fmt.Sprint("x", i),
			sequence: i + 1,
		}
		m.entries = append(m.entries, n)
		for _, e := range lines {
			if strings.HasSuffix(strings.ToLower(e.outer), "item") &&
				rapid.Bool().Draw(t, "noted") {
				e.notes = append(e.notes, n)
			}
		}
	}
}

// Choices are a patient's choices in the form.
type Choices struct {
	// Ticked are the ticked form lines, and whether each has the date limits From and To.
	Ticked     map[ehi.Category]bool
	Authorized map[ehi.Authorization]bool
}

// From and To are the date limits.
const From, To = "2019", "2021-06"

// DrawChoices draws a patient's choices: most lines, some of them with date limits, and few
// kinds of sensitive information.
func DrawChoices(t *rapid.T) Choices {
	c := Choices{map[ehi.Category]bool{}, map[ehi.Authorization]bool{}}
	if rapid.IntRange(0, 7).Draw(t, "everything") == 0 { // then nothing may be missing
		return Everything()
	}
	for _, info := range ehi.Categories() {
		if rapid.IntRange(0, 3).Draw(t, string(info.Key)) > 0 {
			c.Ticked[info.Key] = info.Dated && rapid.IntRange(0, 2).Draw(t, "dates") == 0
		}
	}
	for _, info := range ehi.Authorizations() {
		if rapid.IntRange(0, 4).Draw(t, "a."+string(info.Key)) == 0 {
			c.Authorized[info.Key] = true
		}
	}
	return c
}

// Asked is an application's request at kick-off.
type Asked struct {
	// Categories are form lines; none means all.
	Categories []ehi.Category
	// Dated applies the date limits From and To.
	Dated bool
	// Types are resource types; none means all.
	Types []string
}

// DrawAsked draws an application's request, which is always less than everything.
func DrawAsked(t *rapid.T, r *Record) (a Asked) {
	for _, info := range ehi.Categories() {
		if rapid.IntRange(0, 2).Draw(t, "ask for "+string(info.Key)) > 0 {
			a.Categories = append(a.Categories, info.Key)
		}
	}
	a.Dated = rapid.IntRange(0, 2).Draw(t, "ask for dates") == 0
	for _, m := range r.Resources {
		if !slices.Contains(a.Types, m.Type) && rapid.Bool().Draw(t, "ask for a type") {
			a.Types = append(a.Types, m.Type)
		}
	}
	switch rapid.IntRange(0, 2).Draw(t, "ask by") {
	case 0:
		a.Types = nil
	case 1:
		a.Categories = nil
	}
	a.Dated = a.Dated || len(a.Categories)+len(a.Types) == 0
	return a
}

// Within combines choices with an application's request.
func (c Choices) Within(a Asked) Choices {
	both := Choices{map[ehi.Category]bool{}, c.Authorized}
	for _, info := range ehi.Categories() {
		dated, ticked := c.Ticked[info.Key]
		if ticked && (len(a.Categories) == 0 || slices.Contains(a.Categories, info.Key)) {
			both.Ticked[info.Key] = dated || a.Dated && info.Dated
		}
	}
	return both
}

// Everything returns all possible choices.
func Everything() Choices {
	c := Choices{map[ehi.Category]bool{}, map[ehi.Authorization]bool{}}
	for _, info := range ehi.Categories() {
		c.Ticked[info.Key] = false
	}
	for _, info := range ehi.Authorizations() {
		c.Authorized[info.Key] = true
	}
	return c
}

// Form returns the form with the choices.
func (c Choices) Form() *ehi.ReleaseForm {
	f := &ehi.ReleaseForm{
		Parameters:     map[ehi.Category]ehi.Choice{},
		Authorizations: map[ehi.Authorization]string{},
	}
	for key, dated := range c.Ticked {
		choice := ehi.Choice{}
		if dated {
			choice.From, choice.To = From, To
		}
		f.Parameters[key] = choice
	}
	for key := range c.Authorized {
		f.Authorize(key)
	}
	return f
}

// follows reports whether a link names its target by type and id, or by an identifier that an
// import resolves. A requisition is a different search parameter, which the import does not
// resolve.
func (r *Record) follows(l *link) bool {
	return slices.Contains([]string{"relative", "bare", "versioned", "absolute", "percent"},
		l.shape) ||
		l.shape == "conditional" && r.options.Imported && !r.Resources[l.to].requisition
}

// possible reports whether R4 allows a Reference at a link's place to refer to its target.
func (r *Record) possible(l *link) bool {
	to := r.Resources[l.to]
	targets := targetsOf(l.place.field)
	if slices.Contains(targets, "*") || slices.Contains(targets, to.Type) {
		return true
	}
	return !to.kind.supporting && to.Type != "Patient" && !toActors[l.place.field]
}
