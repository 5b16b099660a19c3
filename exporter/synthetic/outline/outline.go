// Package outline draws what a seed says about a synthetic patient: the person, the visits with
// their times and values, and the numbers of the resources that the record has. It emits nothing.
// Package synthetic makes FHIR resources of an outline, and package native tables and documents,
// so that they agree without reading each other.
package outline

import (
	"math/rand/v2"
	"time"
)

const day = 24 * time.Hour

// Config selects outlines, as synthetic.Config.
type Config struct {
	Seed      uint64
	Resources int
}

// Person is what the seed draws about a patient.
type Person struct {
	K             uint64
	ID            ID
	Given, Family string
	Start         time.Time // of the record
	// Since is the instant of the registration. Born is a date.
	Since, Born              time.Time
	Organization, Role       int // indexes of shared resources
	Gender, City, Relative   string
	Phone, Street, Postal    int
	Practitioner             int // index of a shared resource
	FirstChronic, Conditions int // in Chronic, cyclically
	Visits                   int // how many visits a record without Config.Resources has
	Study                    int // the last number of the imaging study's UID
}

// Drawer draws patients. It is not safe for concurrent use.
type Drawer struct {
	cfg Config
	pcg rand.PCG
	rnd *rand.Rand
}

// NewDrawer returns a Drawer.
func NewDrawer(c Config) *Drawer {
	d := &Drawer{cfg: c}
	d.rnd = rand.New(&d.pcg)
	return d
}

// share draws a shared resource of a kind.
func (d *Drawer) share(of Kind) int { return of.First + d.rnd.IntN(of.Count) }

func (d *Drawer) pick(list []string) string { return list[d.rnd.IntN(len(list))] }

// Name draws only the ID and the name of patient k.
func (d *Drawer) Name(k uint64) (p Person) {
	p.K = k
	d.pcg.Seed(d.cfg.Seed, k)
	p.ID = NewID(d.cfg.Seed, k, PatientAt)
	p.Given, p.Family = d.pick(Givens), d.pick(Families)
	return p
}

// Person draws patient k without the visits, which Visits then draws.
func (d *Drawer) Person(k uint64) Person {
	p := d.Name(k)
	p.Start = time.Date(2012, 1, 9, 8, 0, 0, 0, time.UTC).Add(d.days(300))
	p.Since = time.Date(2011, 3, 1, 9, 0, 0, 0, time.UTC).Add(d.days(200))
	p.Organization, p.Role = d.share(Organizations), d.share(Roles)
	year := 1940 + d.rnd.IntN(65)
	month := time.Month(1 + d.rnd.IntN(12))
	p.Born = time.Date(year, month, 1+d.rnd.IntN(28), 0, 0, 0, 0, time.UTC)
	p.Gender, p.City = d.pick(Genders), d.pick(Cities)
	p.Phone = 2_000_000_000 + d.rnd.IntN(1_000_000_000)
	p.Street = 1 + d.rnd.IntN(999)
	p.Postal = 1001 + d.rnd.IntN(1700)
	p.Relative = d.pick(Givens)
	p.Practitioner = d.share(Practitioners)
	p.FirstChronic = d.rnd.IntN(len(Chronic))
	p.Conditions = 3 + d.rnd.IntN(3)
	p.Visits = 22 + d.rnd.IntN(40)
	if d.cfg.Resources > 0 {
		p.Visits = d.cfg.Resources/12 + 1
	}
	return p
}

func (d *Drawer) days(n int) time.Duration { return time.Duration(d.rnd.IntN(n)) * day }

// Parts receives the parts of a record in their order. Each may be nil.
type Parts struct {
	// Visit receives a visit, and reports whether to go on. It is valid during the call only.
	Visit func(*Visit) (more bool)
	// Others is called where the documents and the sensitive items belong. first is the number
	// of the first one.
	Others func(first uint32)
}

// Visits draws the rest of the patient that Person drew last. It sets p.Study before it calls
// Others.
func (d *Drawer) Visits(p *Person, parts Parts) {
	next, visit, limit := p.after(historyAfter), 0, d.cfg.Resources
	step := 3800 * day / time.Duration(p.Visits)
	until := func(limit int) (more bool) {
		for ; visit < p.Visits && d.cfg.Resources == 0 || int(next) < limit; visit++ {
			v := d.visit(visit, p.Start.Add(time.Duration(visit)*step))
			v.First = next
			next = v.After()
			if parts.Visit != nil && !parts.Visit(&v) {
				return false
			}
		}
		return true
	}
	if !until(limit - Others) {
		return
	}
	p.Study = 1 + d.rnd.IntN(1e8)
	if parts.Others != nil {
		parts.Others(next)
	}
	next += Others
	until(limit)
}
