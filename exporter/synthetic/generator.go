// Package synthetic makes up patients: plausible, linked FHIR R4 records of 300 to 900 resources and about 28 types each, with
// laboratory results, bills, documents and one item of every sensitive category. The same seed and number always make the
// same patient, whoever asks and in whatever order, and nothing is kept between two of them.
package synthetic

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Generator makes patients 0, 1, 2, ... of one seed. It is for one goroutine.
type Generator struct {
	seed uint64
	emit func(line []byte) error
	err  error
	line []byte

	// of the patient in the making
	rnd     *rand.Rand
	id      string
	serial  uint64
	subject string // the Reference, as JSON
}

// New makes a generator.
func New(seed uint64) *Generator { return &Generator{seed: seed} }

// Sizes of what all patients share.
const (
	organizations = 8
	practitioners = 24
	medications   = 8
)

// uuid derives an id from the seed and two numbers.
func (g *Generator) uuid(space, n uint64) string {
	a := mix(g.seed ^ mix(space^mix(n)))
	b := mix(a ^ 0x9e3779b97f4a7c15)
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>52, b&0xffffffffffff)
}

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Spaces of ids that do not belong to one patient.
const (
	spacePatient = iota
	spaceOrganization
	spacePractitioner
	spaceRole
	spaceLocation
	spaceMedication
	spaceOwn // + patient's number: its resources
)

// PatientID is the id of patient k.
func (g *Generator) PatientID(k int) string { return g.uuid(spacePatient, uint64(k)) }

// put emits one line of JSON made by a format. The first error ends all further ones.
func (g *Generator) put(format string, args ...any) {
	if g.err != nil {
		return
	}
	g.line = fmt.Appendf(g.line[:0], format, args...)
	g.err = g.emit(g.line)
}

func coding(system, code, display string) string {
	return fmt.Sprintf(`{"coding":[{"system":%q,"code":%q,"display":%q}],"text":%q}`, system, code, display, display)
}

func reference(typ, id string) string { return `{"reference":"` + typ + `/` + id + `"}` }

const (
	sct    = "http://snomed.info/sct"
	loinc  = "http://loinc.org"
	rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm"
	hl7    = "http://terminology.hl7.org/CodeSystem/"
	day    = 24 * time.Hour
)

// Shared emits the organizations, practitioners, locations and medications that the patients refer to. emit may keep nothing of
// its line.
func (g *Generator) Shared(emit func(line []byte) error) error {
	g.emit, g.err = emit, nil
	for i := range uint64(organizations) {
		city := cities[i%uint64(len(cities))]
		org := g.uuid(spaceOrganization, i)
		g.put(`{"resourceType":"Organization","id":%q,"active":true,"type":[%s],"name":"%s General Hospital","address":[{"city":%q,"state":"MA","country":"US"}]}`,
			org, coding(hl7+"organization-type", "prov", "Healthcare Provider"), city, city)
		g.put(`{"resourceType":"Location","id":%q,"status":"active","name":"%s General Hospital, main building","managingOrganization":%s}`,
			g.uuid(spaceLocation, i), city, reference("Organization", org))
	}
	for i := range uint64(practitioners) {
		p := g.uuid(spacePractitioner, i)
		g.put(`{"resourceType":"Practitioner","id":%q,"identifier":[{"system":"http://hl7.org/fhir/sid/us-npi","value":"%010d"}],"active":true,"name":[{"family":%q,"given":[%q],"prefix":["Dr."]}]}`,
			p, 9990000000+i, families[(i*7)%uint64(len(families))], givens[(i*5)%uint64(len(givens))])
		g.put(`{"resourceType":"PractitionerRole","id":%q,"active":true,"practitioner":%s,"organization":%s,"code":[%s]}`,
			g.uuid(spaceRole, i), reference("Practitioner", p), reference("Organization", g.uuid(spaceOrganization, i%organizations)),
			coding(sct, "59058001", "General physician"))
	}
	for i := range uint64(medications) {
		m := drugs[i]
		g.put(`{"resourceType":"Medication","id":%q,"status":"active","code":%s}`, g.uuid(spaceMedication, i), coding(rxnorm, m.code, m.display))
	}
	return g.err
}

// Patient emits the record of patient k, the Patient first. It refers to what Shared emits.
func (g *Generator) Patient(k int, emit func(line []byte) error) error {
	g.emit, g.err, g.serial = emit, nil, 0
	g.rnd = rand.New(rand.NewPCG(g.seed, uint64(k)))
	g.id = g.PatientID(k)
	g.subject = reference("Patient", g.id)
	born := time.Date(1940+g.rnd.IntN(65), time.Month(1+g.rnd.IntN(12)), 1+g.rnd.IntN(28), 0, 0, 0, 0, time.UTC)
	given, family := pick(g.rnd, givens), pick(g.rnd, families)
	g.put(`{"resourceType":"Patient","id":%q,"identifier":[{"system":"urn:oid:2.16.840.1.113883.19.5","value":"MRN%08d"}],"name":[{"use":"official","family":%q,"given":[%q]}],"telecom":[{"system":"phone","value":"555-%03d-%04d","use":"home"}],"gender":%q,"birthDate":%q,"address":[{"line":["%d Main Street"],"city":%q,"state":"MA","postalCode":"0%d","country":"US"}],"generalPractitioner":[%s],"managingOrganization":%s}`,
		g.id, k, family, given, g.rnd.IntN(1000), g.rnd.IntN(10000), pick(g.rnd, []string{"female", "male"}), born.Format(time.DateOnly),
		1+g.rnd.IntN(999), pick(g.rnd, cities), 1001+g.rnd.IntN(1700), reference("PractitionerRole", g.uuid(spaceRole, g.draw(practitioners))), g.organization())
	g.put(`{"resourceType":"RelatedPerson","id":%q,"active":true,"patient":%s,"relationship":[%s],"name":[{"family":%q,"given":[%q]}]}`,
		g.next(), g.subject, coding(hl7+"v3-RoleCode", "NOK", "next of kin"), family, pick(g.rnd, givens))
	h := g.history()
	visits := 18 + g.rnd.IntN(30)
	start := time.Date(2012, 1, 9, 8, 0, 0, 0, time.UTC).Add(time.Duration(g.rnd.IntN(300)) * day)
	for i := range visits {
		at := start.Add(time.Duration(i) * 3800 * day / time.Duration(visits)).Add(time.Duration(g.rnd.IntN(600)) * time.Minute)
		g.visit(h, i, at)
	}
	g.documents(start.Add(800 * day))
	g.sensitive(start.Add(1200 * day))
	return g.err
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func (g *Generator) draw(n int) uint64 { return uint64(g.rnd.IntN(n)) }

// next is a fresh id of the patient's own resources.
func (g *Generator) next() string {
	g.serial++
	return g.uuid(spaceOwn, mix(g.serial)^mix(g.idNumber()))
}

// idNumber turns the patient's id into a number, so that ids of two patients do not meet.
func (g *Generator) idNumber() (n uint64) {
	for _, c := range []byte(g.id) {
		n = n*131 + uint64(c)
	}
	return n
}

func (g *Generator) organization() string {
	return reference("Organization", g.uuid(spaceOrganization, g.draw(organizations)))
}

func (g *Generator) practitioner() string {
	return reference("Practitioner", g.uuid(spacePractitioner, g.draw(practitioners)))
}

func stamp(t time.Time) string { return t.Format("2006-01-02T15:04:05Z") }
