package synthetic

import (
	"encoding/base64"
	"strconv"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic/outline"
)

const day = 24 * time.Hour

// Emit receives one resource. Its line is valid during the call only.
type Emit func(source.Resource) error

// Generator generates the patients of a Config, numbered from 0. It is not safe for concurrent
// use.
type Generator struct {
	cfg  Config
	emit Emit
	// wants reports whether a type is emitted; nil means all. The rest of a record does not
	// depend on it.
	wants  func(typ string) bool
	err    error
	line   []byte
	shared *commons
	values [slots][]byte // the values of the slots
	drawer *outline.Drawer

	// The current patient.
	outline.Person
	name   string // the Patient's ID
	id     outline.ID
	number uint32 // of the last ID
	made   int    // resources so far, emitted or not
	at     time.Time
	used   sharedSet // the referenced shared resources
}

// NewGenerator returns a generator.
func NewGenerator(c Config) *Generator {
	return &Generator{cfg: c, shared: newCommons(c.Seed), drawer: outline.NewDrawer(c.outline())}
}

// PatientID returns the ID of patient k.
func (c Config) PatientID(k int) string {
	id := outline.NewID(c.Seed, uint64(k), outline.PatientAt)
	return string(id[:])
}

// Number returns the number of the patient with an ID. ok is false if there is none.
func (c Config) Number(id string) (k int, ok bool) {
	if len(id) != outline.IDSize {
		return 0, false
	}
	n, err := strconv.ParseUint(id[0:8]+id[9:13], 16, 64)
	return int(n), err == nil && n < uint64(c.Patients) && c.PatientID(int(n)) == id
}

// owner returns the number of the patient to whom a resource's ID belongs. ok is false for a
// shared resource.
func (c Config) owner(id string) (k int, ok bool) {
	if len(id) != outline.IDSize {
		return 0, false
	}
	n, err := strconv.ParseUint(id[0:8]+id[9:13], 16, 64)
	if err != nil || n >= uint64(c.Patients) {
		return 0, false
	}
	// Compare all but the number of the resource, see doc.go.
	of := c.PatientID(int(n))
	return int(n), id[:14] == of[:14] && id[23:] == of[23:]
}

// put emits the resource of a template. The first error suppresses all further ones.
func (g *Generator) put(t *template) {
	if g.err != nil || g.full() {
		return
	}
	g.made++
	if g.wants != nil && !g.wants(t.typ) {
		return
	}
	g.line = t.fill(g.line[:0], &g.values)
	if len(g.line) < g.cfg.Size {
		g.line = narrate(g.line, g.cfg.Size)
	}
	if g.cfg.Errors > 0 && g.unlucky() {
		g.line = spoil(g.line, g.made)
	}
	g.err = g.emit(source.Resource{
		Type:      t.typ,
		Line:      g.line,
		Updated:   g.at,
		Patient:   g.name,
		Unchecked: g.cfg.Errors > 0,
	})
}

// full reports whether the patient has all resources.
func (g *Generator) full() bool { return g.cfg.Resources > 0 && g.made >= g.cfg.Resources }

// unlucky draws whether a resource is malformed.
func (g *Generator) unlucky() bool {
	drawn := outline.Mix(g.cfg.Seed ^ outline.Mix(g.K) ^ uint64(g.made))
	return g.made > 1 && float64(drawn>>11)/(1<<53) < g.cfg.Errors
}

// spoil makes a line malformed in one of three ways.
func spoil(line []byte, way int) []byte {
	switch way % 3 {
	case 0:
		return line[:len(line)/2]
	case 1:
		line[0] = '['
		return line
	}
	return append(line, line...)
}

// The words of narratives.
const prose = "The patient was seen, examined and advised; the findings and the plan were " +
	"discussed, understood and agreed upon, and a next visit was arranged. "

// narrate extends a resource to a size with a narrative.
func narrate(line []byte, size int) []byte {
	const begin, finish = `,"text":{"status":"generated",` +
		`"div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">`, `</div>"}}`
	line = append(line[:len(line)-1], begin...)
	for missing := size - len(line) -
		len(finish); missing > 0; missing = size - len(line) - len(finish) {
		line = append(line, prose[:min(len(prose), missing)]...)
	}
	return append(line, finish...)
}

// text sets a slot to a word.
func (g *Generator) text(s slot, word string) { g.values[s] = append(g.values[s][:0], word...) }

// count sets a slot to a number.
func (g *Generator) count(s slot, n int) {
	g.values[s] = strconv.AppendInt(g.values[s][:0], int64(n), 10)
}

// time sets a slot to an instant.
func (g *Generator) time(s slot, t time.Time) {
	g.values[s] = t.AppendFormat(g.values[s][:0], "2006-01-02T15:04:05Z")
}

// dated sets the last update of the following resources.
func (g *Generator) dated(t time.Time) {
	g.at = t
	g.time(updated, t)
}

// next sets a slot to a new ID.
func (g *Generator) next(s slot) {
	g.number++
	g.id.Number(g.number)
	g.values[s] = append(g.values[s][:0], g.id[:]...)
}

// fresh emits a resource with a new ID, and also stores the ID in the given slots.
func (g *Generator) fresh(t *template, keep ...slot) {
	g.next(self)
	for _, s := range keep {
		g.values[s] = append(g.values[s][:0], g.values[self]...)
	}
	g.put(t)
}

// share sets a slot to the ID of a shared resource.
func (g *Generator) share(s slot, i int) {
	g.used[i] = true
	g.values[s] = g.shared.ids[i]
}

// begin starts a patient.
func (g *Generator) begin(p outline.Person) {
	g.Person, g.number, g.made, g.err = p, 0, 0, nil
	g.used = sharedSet{}
	g.id = p.ID
	g.name = string(g.id[:])
	g.text(patient, g.name)
	g.text(given, p.Given)
	g.text(family, p.Family)
}

// Patient emits the record of patient k, starting with the Patient. It references resources of
// Shared.
func (g *Generator) Patient(k int, emit Emit) error {
	g.begin(g.drawer.Person(uint64(k)))
	g.emit = emit
	g.person()
	g.history()
	g.drawer.Visits(&g.Person, outline.Parts{
		Visit: func(v *outline.Visit) (more bool) { g.visit(v); return g.err == nil },
		Others: func(uint32) {
			g.documents(g.Start.Add(800 * day))
			g.sensitive(g.Start.Add(1200 * day))
		},
	})
	return g.err
}

// person emits the Patient and the next of kin.
func (g *Generator) person() {
	g.time(since, g.Since)
	g.dated(g.Since)
	g.share(organization, g.Organization)
	g.share(role, g.Role)
	g.values[born] = g.Born.AppendFormat(g.values[born][:0], time.DateOnly)
	g.values[number] = strconv.AppendUint(g.values[number][:0], outline.FirstNumber+g.K, 10)
	g.text(gender, g.Gender)
	g.text(city, g.City)
	g.count(phone, g.Phone)
	g.count(street, g.Street)
	g.count(postal, g.Postal)
	g.text(relative, g.Relative)
	g.values[self] = append(g.values[self][:0], g.values[patient]...)
	g.put(patientT)
	g.fresh(relatedT)
}

// history emits the patient's long-lived resources.
func (g *Generator) history() {
	g.share(practitioner, g.Practitioner)
	g.fresh(coverageT, coverage)
	for i := range g.Conditions {
		g.fresh(chronicTs[(g.FirstChronic+i)%len(chronicTs)], condition)
	}
	g.fresh(careTeamT, careTeam)
	g.fresh(goalT, goal)
	g.fresh(planT)
	g.fresh(allergyT)
	g.fresh(familyT)
	g.fresh(deviceT)
}

// visit emits an encounter and what happened in it. Package outline knows how many resources
// that is.
func (g *Generator) visit(v *outline.Visit) {
	done := time.Unix(v.End, 0).UTC()
	g.time(start, time.Unix(v.Start, 0).UTC())
	g.time(end, done)
	g.dated(done)
	g.share(organization, int(v.Organization))
	g.share(practitioner, int(v.Practitioner))
	g.share(location, int(v.Location))
	g.fresh(encounterT, encounter, target)
	for i, n := range v.Vitals {
		g.count(value, int(n))
		g.fresh(vitalTs[i])
	}
	if v.Tested() {
		g.laboratory(v)
	}
	switch {
	case v.Treated():
		g.fresh(procedureT)
	case v.Vaccinated():
		g.fresh(immunizationT)
	case v.Prescribed():
		g.share(medication, int(v.Medication))
		g.fresh(prescriptionT, prescription)
		g.fresh(dispenseT)
	case v.Asked():
		g.fresh(smokingT)
	}
	g.count(value, int(v.Amount))
	g.fresh(claimT, claim)
	g.fresh(benefitT)
	g.fresh(aboutEncounterT)
}

// laboratory emits an order, a specimen, results and their report.
func (g *Generator) laboratory(v *outline.Visit) {
	g.fresh(orderT, order)
	g.fresh(specimenT, specimen)
	for i, n := range v.Labs {
		g.count(value, int(n))
		g.fresh(labTs[i], result+slot(i))
	}
	g.fresh(panelT)
}

// documents emits one document of each group, an imaging study with its report, and a
// photograph.
func (g *Generator) documents(at time.Time) {
	for i, d := range outline.Documents {
		then := at.Add(time.Duration(i) * 30 * day)
		g.dated(then)
		g.time(moment, then)
		g.write(d.Display + " of the visit on " + at.Format(time.DateOnly))
		g.fresh(documentTs[i])
	}
	g.time(moment, at)
	g.count(uid, g.Study)
	g.fresh(studyT, study)
	g.write("Chest X-ray, two views. No acute finding.")
	g.fresh(radiologyT)
	g.fresh(photographT)
}

// write sets the payload of a document.
func (g *Generator) write(text string) {
	g.values[payload] = base64.StdEncoding.AppendEncode(g.values[payload][:0], []byte(text))
}

// sensitive emits one item of every category that the release form withholds.
func (g *Generator) sensitive(at time.Time) {
	g.dated(at)
	g.time(moment, at)
	g.time(end, at)
	for _, t := range sensitiveTs {
		g.fresh(t, target)
		g.fresh(aboutConditionT)
	}
	g.fresh(infectionT)
	g.fresh(geneticT)
	g.fresh(conversationT)
}
