package native

import (
	"math"
	"strconv"

	"ehi-server/exporter/synthetic/outline"
)

// row is what the cells of one row are made of.
type row struct {
	*patient
	cfg   *Config
	visit *visit     // nil if the row belongs to no visit
	n     int        // the number of the row among the patient's rows of the table
	sub   int        // the number of the row among those of its visit, problem or document
	item  int        // the number of the problem or document
	draw  uint64     // random, of this row
	id    outline.ID // an ID of the patient
	at    int64      // Unix time of the start
	start [instantSize]byte
	end   [instantSize]byte
}

// patient is the outline of a patient, with the visits if they are few.
type patient struct {
	outline.Person
	visits []visit
	few    bool
	others uint32 // the number of the first document
	limit  uint32 // resources from this number on are not in the record
	since  [instantSize]byte
	born   [instantSize]byte
	shared *[outline.SharedResources]outline.ID
}

// visit is a visit with its times as text.
type visit struct {
	outline.Visit
	start, end [instantSize]byte
}

func newVisit(of *outline.Visit) visit {
	v := visit{Visit: *of}
	instant(&v.start, v.Start)
	instant(&v.end, v.End)
	return v
}

// put appends the text of a cell.
type put func(dst []byte, r *row) []byte

// resource appends the ID of a resource of the patient, or nothing if the record has none of the
// number.
func (r *row) resource(dst []byte, n uint32) []byte {
	if n >= r.limit {
		return dst
	}
	r.id.Number(n)
	return append(dst, r.id[:]...)
}

// key returns a number for row n of a table, unique among all patients.
func (r *row) key(n int) int64 { return int64(r.K<<rowBits | uint64(n)) }

// rowBits is the number of bits of a key that tell the rows of a patient apart.
const rowBits = 23

// random returns a number below n, different for each salt.
func (r *row) random(salt uint64, n int) int {
	return int(outline.Mix(r.draw+salt) >> 32 * uint64(n) >> 32)
}

// instantSize is the length of an instant, such as 2012-01-09T08:00:00Z.
const instantSize = 20

// dateSize is the length of its date.
const dateSize = 10

const (
	day  = 24 * 60 * 60
	year = 365 * day
)

// instant writes a Unix time.
func instant(dst *[instantSize]byte, unix int64) {
	days, rest := unix/day, unix%day
	// Civil from days, by Howard Hinnant: eras of 400 years that begin in March.
	z := days + 719_468
	era := z / 146_097
	ofEra := z - era*146_097
	years := (ofEra - ofEra/1460 + ofEra/36_524 - ofEra/146_096) / 365
	ofYear := ofEra - (365*years + years/4 - years/100)
	m := (5*ofYear + 2) / 153
	d := ofYear - (153*m+2)/5 + 1
	y := years + era*400
	if m += 3; m > 12 {
		m -= 12
		y++
	}
	copy(dst[:], "2000-01-01T00:00:00Z")
	dst[0], dst[1] = '0'+byte(y/1000), '0'+byte(y/100%10)
	two(dst[2:], y%100)
	two(dst[5:], m)
	two(dst[8:], d)
	two(dst[11:], rest/3600)
	two(dst[14:], rest/60%60)
	two(dst[17:], rest%60)
}

func two(dst []byte, n int64) { dst[0], dst[1] = '0'+byte(n/10), '0'+byte(n%10) }

// outlines draws patients, and keeps the last ones: the tables of a population are read one after
// the other over the same patients.
type outlines struct {
	drawer *outline.Drawer
	limit  uint32
	shared *[outline.SharedResources]outline.ID
	kept   [keptOutlines]*patient
}

const (
	// keptOutlines is a power of two. An outline has about 5 KB.
	keptOutlines = 512
	// fewVisits is how many visits an outline keeps. The visits of a larger one are drawn again
	// for each table.
	fewVisits = 256
)

func newOutlines(c Config, shared *[outline.SharedResources]outline.ID) *outlines {
	limit := uint32(math.MaxUint32)
	if c.Resources > 0 {
		limit = uint32(c.Resources)
	}
	of := outline.Config{Seed: c.Seed, Resources: c.Resources}
	return &outlines{drawer: outline.NewDrawer(of), limit: limit, shared: shared}
}

// of returns patient k. It is valid until the next call.
func (o *outlines) of(k uint64) *patient {
	place := &o.kept[k%keptOutlines]
	if *place == nil {
		*place = &patient{limit: o.limit, shared: o.shared}
	} else if (*place).K == k {
		return *place
	}
	p := *place
	p.Person, p.few, p.visits = o.drawer.Person(k), true, p.visits[:0]
	p.others = p.limit
	o.drawer.Visits(&p.Person, outline.Parts{
		Visit: func(v *outline.Visit) bool {
			if p.few = len(p.visits) < fewVisits; p.few {
				p.visits = append(p.visits, newVisit(v))
			}
			return true
		},
		Others: func(first uint32) { p.others = first },
	})
	instant(&p.since, p.Since.Unix())
	instant(&p.born, p.Born.Unix())
	return p
}

// each calls f for each visit of a patient that of returned last, until f returns false.
func (o *outlines) each(p *patient, f func(*visit) (more bool)) {
	if !p.few {
		again := o.drawer.Person(p.K)
		o.drawer.Visits(&again, outline.Parts{Visit: func(v *outline.Visit) (more bool) {
			timed := newVisit(v)
			return f(&timed)
		}})
		return
	}
	for i := range p.visits {
		if !f(&p.visits[i]) {
			return
		}
	}
}

// number appends an integer.
func number(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
