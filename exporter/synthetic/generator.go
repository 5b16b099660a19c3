package synthetic

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"time"

	"ehi-server/exporter/source"
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
	pcg    rand.PCG
	rnd    *rand.Rand

	// The current patient.
	k      uint64
	name   string // the Patient's ID
	id     [idSize]byte
	number uint32 // of the last ID
	made   int    // resources so far, emitted or not
	at     time.Time
	used   sharedSet // the referenced shared resources
}

// NewGenerator returns a generator.
func NewGenerator(c Config) *Generator {
	g := &Generator{cfg: c, shared: newCommons(c.Seed)}
	g.rnd = rand.New(&g.pcg)
	return g
}

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// idSize is the length of an id.
const idSize = 36

// nobody is the patient number in the IDs of shared resources.
const nobody = 1<<48 - 1

// makeID writes the ID of resource n of patient k, as drawn in doc.go.
func makeID(id *[idSize]byte, seed, k uint64, n uint32) {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[8:], mix(seed^mix(k)))
	binary.BigEndian.PutUint64(raw[:8], k<<16)
	var digits [32]byte
	hex.Encode(digits[:], raw[:])
	copy(id[0:], digits[0:8])
	copy(id[9:], digits[8:12])
	copy(id[24:], digits[20:32])
	id[8], id[13], id[18], id[23] = '-', '-', '-', '-'
	numberID(id, n)
}

// numberID changes an ID to that of resource n of the same patient.
func numberID(id *[idSize]byte, n uint32) {
	const digits = "0123456789abcdef"
	id[14], id[15], id[16], id[17] = '4', digits[n>>22&15], digits[n>>18&15], digits[n>>14&15]
	id[19], id[20], id[21], id[22] =
		digits[8+n>>12&3], digits[n>>8&15], digits[n>>4&15], digits[n&15]
}

// PatientID returns the ID of patient k.
func (c Config) PatientID(k int) string {
	var id [idSize]byte
	makeID(&id, c.Seed, uint64(k), 0)
	return string(id[:])
}

// Number returns the number of the patient with an ID. ok is false if there is none.
func (c Config) Number(id string) (k int, ok bool) {
	if len(id) != idSize {
		return 0, false
	}
	n, err := strconv.ParseUint(id[0:8]+id[9:13], 16, 64)
	return int(n), err == nil && n < uint64(c.Patients) && c.PatientID(int(n)) == id
}

// owner returns the number of the patient to whom a resource's ID belongs. ok is false for a
// shared resource.
func (c Config) owner(id string) (k int, ok bool) {
	if len(id) != idSize {
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
	return g.made > 1 && float64(mix(g.cfg.Seed^mix(g.k)^uint64(g.made))>>11)/(1<<53) < g.cfg.Errors
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

// draw sets a slot to a number from low to low+spread-1.
func (g *Generator) draw(s slot, low, spread int) {
	g.values[s] = strconv.AppendInt(g.values[s][:0], int64(low+g.rnd.IntN(spread)), 10)
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
	numberID(&g.id, g.number)
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

// share sets a slot to the ID of a random shared resource of a kind.
func (g *Generator) share(s slot, of kind) {
	i := of.first + g.rnd.IntN(of.count)
	g.used[i] = true
	g.values[s] = g.shared.ids[i]
}

func pick(r *rand.Rand, list []string) string { return list[r.IntN(len(list))] }

// others is the number of resources of documents and sensitive. A record of a given size
// reserves room for them.
const others = 22

// begin starts patient k and draws the person.
func (g *Generator) begin(k int) {
	g.k, g.number, g.made, g.err = uint64(k), 0, 0, nil
	g.used = sharedSet{}
	g.pcg.Seed(g.cfg.Seed, g.k)
	makeID(&g.id, g.cfg.Seed, g.k, 0)
	g.name = string(g.id[:])
	g.text(patient, g.name)
	g.text(given, pick(g.rnd, givens))
	g.text(family, pick(g.rnd, families))
}

// Patient emits the record of patient k, starting with the Patient. It references resources of
// Shared.
func (g *Generator) Patient(k int, emit Emit) error {
	g.begin(k)
	g.emit = emit
	start := g.drawStart()
	g.person()
	g.history()
	visits := 22 + g.rnd.IntN(40)
	if g.cfg.Resources > 0 {
		visits = g.cfg.Resources/12 + 1
	}
	visit := 0
	visitUntil := func(limit int) {
		for ; g.err == nil && (visit < visits && g.cfg.Resources == 0 || g.made < limit); visit++ {
			at := start.Add(time.Duration(visit) * (3800 * day / time.Duration(visits)))
			g.visit(visit, at.Add(time.Duration(g.rnd.IntN(600))*time.Minute))
		}
	}
	visitUntil(g.cfg.Resources - others)
	g.documents(start.Add(800 * day))
	g.sensitive(start.Add(1200 * day))
	visitUntil(g.cfg.Resources)
	return g.err
}

// drawStart draws the start of the record.
func (g *Generator) drawStart() time.Time {
	return time.Date(2012, 1, 9, 8, 0, 0, 0, time.UTC).Add(time.Duration(g.rnd.IntN(300)) * day)
}

// firstNumber is the record number of patient 0.
const firstNumber = 10_000_000

// person emits the Patient and the next of kin.
func (g *Generator) person() {
	since0 := time.Date(2011, 3, 1, 9, 0, 0, 0, time.UTC).Add(time.Duration(g.rnd.IntN(200)) * day)
	g.time(since, since0)
	g.dated(since0)
	g.share(organization, organizations)
	g.share(role, roles)
	g.values[born] = time.Date(1940+g.rnd.IntN(65), time.Month(1+g.rnd.IntN(12)), 1+g.rnd.IntN(28),
		0, 0, 0, 0, time.UTC).AppendFormat(g.values[born][:0], time.DateOnly)
	g.values[number] = strconv.AppendUint(g.values[number][:0], firstNumber+g.k, 10)
	g.text(gender, pick(g.rnd, genders))
	g.text(city, pick(g.rnd, cities))
	g.draw(phone, 2_000_000_000, 1_000_000_000)
	g.draw(street, 1, 999)
	g.draw(postal, 1001, 1700)
	g.text(relative, pick(g.rnd, givens))
	g.values[self] = append(g.values[self][:0], g.values[patient]...)
	g.put(patientT)
	g.fresh(relatedT)
}

// history emits the patient's long-lived resources.
func (g *Generator) history() {
	g.share(practitioner, practitioners)
	g.fresh(coverageT, coverage)
	first := g.rnd.IntN(len(chronicTs))
	for i := range 3 + g.rnd.IntN(3) {
		g.fresh(chronicTs[(first+i)%len(chronicTs)], condition)
	}
	g.fresh(careTeamT, careTeam)
	g.fresh(goalT, goal)
	g.fresh(planT)
	g.fresh(allergyT)
	g.fresh(familyT)
	g.fresh(deviceT)
}

// visit emits an encounter and what happened in it.
func (g *Generator) visit(n int, at time.Time) {
	done := at.Add(time.Duration(15+g.rnd.IntN(60)) * time.Minute)
	g.time(start, at)
	g.time(end, done)
	g.dated(done)
	g.share(organization, organizations)
	g.share(practitioner, practitioners)
	g.share(location, locations)
	g.fresh(encounterT, encounter, target)
	for i, m := range vitals {
		g.draw(value, m.low, m.spread)
		g.fresh(vitalTs[i])
	}
	if n%2 == 0 {
		g.laboratory()
	}
	switch n % 4 {
	case 0:
		g.fresh(procedureT)
	case 1:
		g.fresh(immunizationT)
	case 2:
		g.share(medication, medications)
		g.fresh(prescriptionT, prescription)
		g.fresh(dispenseT)
	case 3:
		g.fresh(smokingT)
	}
	g.draw(value, 80, 400)
	g.fresh(claimT, claim)
	g.fresh(benefitT)
	g.fresh(aboutEncounterT)
}

// laboratory emits an order, a specimen, results and their report.
func (g *Generator) laboratory() {
	g.fresh(orderT, order)
	g.fresh(specimenT, specimen)
	for i, m := range labs {
		g.draw(value, m.low, m.spread)
		g.fresh(labTs[i], result+slot(i))
	}
	g.fresh(panelT)
}

// documents emits one document of each group, an imaging study with its report, and a
// photograph.
func (g *Generator) documents(at time.Time) {
	for i, d := range documents {
		then := at.Add(time.Duration(i) * 30 * day)
		g.dated(then)
		g.time(moment, then)
		g.write(d.display + " of the visit on " + at.Format(time.DateOnly))
		g.fresh(documentTs[i])
	}
	g.time(moment, at)
	g.draw(uid, 1, 1e8)
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
