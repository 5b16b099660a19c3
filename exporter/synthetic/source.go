package synthetic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic/native"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Source generates its patients while they are read. It stores nothing but a few buffers for
// each open record. It estimates sizes from the first patients.
type Source struct {
	cfg Config
	// averages per patient
	bytes, resources int64
	nativeBytes      int64           // of bytes
	native           *native.Content // nil if there is none
}

var _ source.Source = (*Source)(nil)

// sampled is how many patients the averages are computed from.
const sampled = 32

// NewSource returns a source.
func NewSource(c Config) (*Source, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	s := &Source{cfg: c}
	quick := c
	quick.Resources, quick.Errors = min(c.Resources, 1000), 0
	g, n := NewGenerator(quick), min(sampled, c.Patients)
	for k := range n {
		err := g.Patient(k, func(r source.Resource) error {
			s.bytes += int64(len(r.Line)) + 1
			s.resources++
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	s.bytes, s.resources = max(s.bytes/int64(n), 1), max(s.resources/int64(n), 1)
	if c.Resources > 0 {
		s.bytes, s.resources = s.bytes*int64(c.Resources)/s.resources, int64(c.Resources)
	}
	if c.Native != "" {
		s.native = native.New(c.native())
		s.nativeBytes = s.native.Estimate(c.Patients)
		s.bytes += s.nativeBytes
	}
	return s, nil
}

var (
	errNoPatient = ehi.Errorf(ehi.NotFound, "Patient not found")
	errNoGroup   = ehi.Errorf(ehi.NotFound, "Group not found")
)

// Patient implements source.Source.
func (s *Source) Patient(_ context.Context, id string) (ehi.Patient, error) {
	k, ok := s.cfg.Number(id)
	if !ok {
		return ehi.Patient{}, errNoPatient
	}
	g := NewGenerator(s.cfg)
	return g.who(k), nil
}

// who returns the ID and name of patient k.
func (g *Generator) who(k int) ehi.Patient {
	p := g.drawer.Name(uint64(k))
	return ehi.Patient{ID: string(p.ID[:]), Name: p.Given + " " + p.Family}
}

// Patients implements source.Source.
func (s *Source) Patients(_ context.Context, limit int) ([]ehi.Patient, error) {
	g := NewGenerator(s.cfg)
	out := make([]ehi.Patient, min(limit, s.cfg.Patients))
	for k := range out {
		out[k] = g.who(k)
	}
	return out, nil
}

// Open implements source.Source.
func (s *Source) Open(_ context.Context, id string) (source.Record, error) {
	k, ok := s.cfg.Number(id)
	if !ok {
		return nil, errNoPatient
	}
	return &record{
		source:   s,
		taken:    time.Now().UTC(),
		of:       chosen{list: []int{k}},
		to:       1,
		own:      true,
		referred: true,
	}, nil
}

// Resource implements source.Source. It generates the patient's resources of the type until it
// finds the resource. Without a patient it finds none, since it would have to generate all of
// them.
func (s *Source) Resource(ctx context.Context, patient, typ, id string) (line []byte, err error) {
	r, err := s.Open(ctx, patient)
	if err != nil {
		return nil, err
	}
	err = r.Scan(ctx, source.Query{Types: []string{typ}}, func(res source.Resource) error {
		var c fhir.Cursor
		if _, found, err := c.Identify(res.Line); err != nil || found != id {
			return nil // a malformed one does not count
		}
		line = bytes.Clone(res.Line)
		return errFound
	})
	if errors.Is(err, errFound) {
		return line, nil
	}
	return nil, errors.Join(err, errNoResource)
}

// Moved implements source.Source: all data stays in its resource.
func (s *Source) Moved(context.Context, string, string) (*source.MovedContent, error) {
	return nil, errNoResource
}

var (
	errFound      = errors.New("found")
	errNoResource = ehi.Errorf(ehi.NotFound, "Resource not found")
)

// Cohort is the ID of the only Group: the first tenth of the patients, at most 10,000.
const Cohort = "cohort"

func (c Config) cohort() int { return min((c.Patients+9)/10, 10_000) }

// CohortGroup returns the Group resource.
func (c Config) CohortGroup() []byte {
	line := []byte(`{"resourceType":"Group","id":"` + Cohort + `","meta":{"lastUpdated":"` +
		founded.Format(time.RFC3339) +
		`"},"type":"person","actual":true,"name":"The first tenth of the patients","member":[`)
	for k := range c.cohort() {
		if k > 0 {
			line = append(line, ',')
		}
		line = append(line, `{"entity":{"reference":"Patient/`...)
		line = append(append(line, c.PatientID(k)...), `"}}`...)
	}
	return append(line, `]}`...)
}

// Groups implements source.Source.
func (s *Source) Groups(context.Context) ([]string, error) { return []string{Cohort}, nil }

// Group implements source.Source.
func (s *Source) Group(_ context.Context, id string) ([]byte, error) {
	if id != Cohort {
		return nil, errNoGroup
	}
	return s.cfg.CohortGroup(), nil
}

// Size implements source.Source, using the average.
func (s *Source) Size(_ context.Context, patients []string, native bool) (n int64, err error) {
	each := s.bytes
	if !native {
		each -= s.nativeBytes
	}
	if patients == nil {
		return each * int64(s.cfg.Patients), nil
	}
	for _, id := range patients {
		if _, there := s.cfg.Number(id); there {
			n += each
		}
	}
	return n, nil
}

// Freeze implements source.Source. The population never changes, so nothing is stored.
func (s *Source) Freeze(context.Context, string) (source.Population, error) {
	return &population{source: s, taken: time.Now().UTC()}, nil
}

// Thaw implements source.Source.
func (s *Source) Thaw(string) error { return nil }

// Frozen implements source.Source.
func (s *Source) Frozen() ([]string, error) { return nil, nil }

// Records implements source.Source. The settings and the generator identify the records.
func (s *Source) Records() ehi.Records {
	return ehi.Records{Identity: "synthetic:" + s.cfg.Canonical(), Version: generator()}
}

// OnRecords implements source.Source. The records never change.
func (s *Source) OnRecords(func()) (stop func()) { return func() {} }

// Check implements source.Source.
func (s *Source) Check(context.Context) error { return nil }

// Close implements source.Source.
func (s *Source) Close() error { return nil }

// population is the snapshot of all patients.
type population struct {
	source *Source
	taken  time.Time
}

// TakenAt implements source.Population.
func (p *population) TakenAt() time.Time { return p.taken }

// Records implements source.Population.
func (p *population) Records() ehi.Records { return p.source.Records() }

// Close implements source.Population.
func (p *population) Close() error { return nil }

// chosen is the selected patients by number: the first of all, or a sorted list.
type chosen struct {
	first int
	list  []int
}

func (c chosen) len() int { return max(c.first, len(c.list)) }

// at returns the number of the i-th patient.
func (c chosen) at(i int) int {
	if c.list != nil {
		return c.list[i]
	}
	return i
}

func (c chosen) has(k int) bool {
	_, found := slices.BinarySearch(c.list, k)
	return found || k < c.first
}

func (p *population) chosen(sel source.Selection) (chosen, error) {
	all := p.source.cfg.Patients
	if sel.Level == ehi.OneGroup {
		if sel.Group != Cohort {
			return chosen{}, errNoGroup
		}
		all = p.source.cfg.cohort()
	}
	if len(sel.Patients) == 0 {
		return chosen{first: all}, nil
	}
	c := chosen{list: []int{}}
	for _, id := range sel.Patients {
		if k, ok := p.source.cfg.Number(id); ok && k < all {
			c.list = append(c.list, k)
		}
	}
	slices.Sort(c.list)
	c.list = slices.Compact(c.list)
	return c, nil
}

// Plan implements source.Population. The bounds of a part are positions in the selection, in
// decimal.
func (p *population) Plan(
	_ context.Context, sel source.Selection, target int64,
) ([]ehi.Part, error) {
	c, err := p.chosen(sel)
	if err != nil {
		return nil, err
	}
	s := p.source
	step := int(max(1, target/s.bytes))
	var parts []ehi.Part
	for from := 0; from == 0 || from < c.len(); from += step {
		to := min(from+step, c.len())
		n := int64(to - from)
		parts = append(parts, ehi.Part{
			From:      strconv.Itoa(from),
			To:        strconv.Itoa(to),
			Resources: s.resources * n,
			Bytes:     s.bytes * n,
		})
	}
	if !sel.ByPatient {
		parts = append(parts, ehi.Part{Shared: true})
	}
	return parts, nil
}

// Absent implements source.Population.
func (p *population) Absent(_ context.Context, sel source.Selection) (absent []string, err error) {
	c, err := p.chosen(sel)
	if err != nil {
		return nil, err
	}
	for _, id := range sel.Patients {
		if k, ok := p.source.cfg.Number(id); !ok || !c.has(k) {
			absent = append(absent, id)
		}
	}
	return absent, nil
}

// Open implements source.Population.
func (p *population) Open(
	_ context.Context, sel source.Selection, part ehi.Part,
) (source.Record, error) {
	c, err := p.chosen(sel)
	if err != nil {
		return nil, err
	}
	r := &record{source: p.source, taken: p.taken, of: c, to: c.len()}
	if part.Shared {
		some := len(sel.Patients) > 0
		r.all = sel.Level != ehi.OneGroup && !some
		r.referred = !r.all
		r.group = sel.Level == ehi.OneGroup || sel.Level == ehi.System && !some
		return r, nil
	}
	r.own, r.blocks = true, sel.ByPatient
	var errFrom, errTo error
	r.from, errFrom = strconv.Atoi(part.From)
	r.to, errTo = strconv.Atoi(part.To)
	if errFrom != nil || errTo != nil || r.from < 0 || r.from > r.to || r.to > c.len() {
		return nil,
			fmt.Errorf("the part from %q to %q is of another population", part.From, part.To)
	}
	return r, nil
}

// record is what is generated for one export, or for one task of it.
type record struct {
	source   *Source
	reader   *native.Reader // of the native content; nil before its first use
	taken    time.Time
	of       chosen // the patients of the whole export
	from, to int    // the positions of this record's patients
	own      bool   // include the patients' own resources
	blocks   bool   // after each patient, include the shared resources that it references
	referred bool   // at the end, include the shared resources that any of them references
	all      bool   // include all shared resources
	group    bool   // include the cohort
}

// TakenAt implements source.Record.
func (r *record) TakenAt() time.Time { return r.taken }

// Moved implements source.Native: all data stays in its resource.
func (r *record) Moved(*source.Moved) (*source.Document, error) { return nil, errNoResource }

// Records implements source.Record.
func (r *record) Records() ehi.Records { return r.source.Records() }

// Total implements source.Record. It is unknown before generation.
func (r *record) Total() int64 { return 0 }

// Complete implements source.Record. The record contains everything that a patient references.
func (r *record) Complete() bool { return true }

// Beside implements source.Record. There is nothing outside of a record.
func (r *record) Beside(context.Context, []source.Name, func([]byte) error) error { return nil }

// Resolves implements source.Record. It knows what patients have, by the IDs: only references of
// the cohort are checked.
func (r *record) Resolves(_, id string) (bool, error) {
	k, ok := r.source.cfg.owner(id)
	return ok && r.of.has(k), nil
}

// Has implements source.Record.
func (r *record) Has(patient, typ, id string) (bool, error) {
	k, owned := r.source.cfg.owner(id)
	of, ok := r.source.cfg.owner(patient)
	if owned && (!ok || k != of) {
		return false, nil
	}
	return r.Resolves(typ, id)
}

// Another implements source.Record.
func (r *record) Another(patient, _, id string) (bool, error) {
	k, owned := r.source.cfg.owner(id)
	of, ok := r.source.cfg.owner(patient)
	return owned && (!ok || k != of), nil
}

// Find implements source.Record. It generates the patient of the resource's ID again, or the
// shared resources.
func (r *record) Find(
	ctx context.Context, q source.Query, typ, id string,
) (line []byte, err error) {
	one := *r
	one.own, one.blocks, one.referred, one.all, one.group = true, false, false, false, false
	k, owned := r.source.cfg.owner(id)
	switch {
	case owned && r.of.has(k):
		one.of, one.from, one.to = chosen{list: []int{k}}, 0, 1
	case owned:
		return nil, nil
	default:
		one.own, one.all = false, true
	}
	q.Types, q.Also = []string{typ}, ""
	err = one.Scan(ctx, q, func(res source.Resource) error {
		if bytes.Contains(res.Line, []byte(`"id":"`+id+`"`)) {
			line = bytes.Clone(res.Line)
		}
		return nil
	})
	return line, err
}

// Close implements source.Record.
func (r *record) Close() error { return nil }

// Scan implements source.Record.
func (r *record) Scan(
	ctx context.Context, q source.Query, visit func(source.Resource) error,
) error {
	emit := func(res source.Resource) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		res.Also = !q.Names(res.Type)
		if q.Timed() && !q.AdmitsTime(res.Updated) {
			if res.Type != q.Also {
				return nil
			}
			res.Also = true
		}
		return visit(res)
	}
	g := NewGenerator(r.source.cfg)
	wanted := func(typ string) bool { return r.own && q.AdmitsType(typ) }
	if !r.own || len(q.Types) > 0 {
		g.wants = wanted
	}
	used, err := r.patients(ctx, g, q, emit)
	if err != nil {
		return err
	}
	if r.all {
		used = whole
	}
	if r.all || r.referred {
		if err := g.emitShared(used, q.AdmitsType, emit); err != nil {
			return err
		}
	}
	if r.group && q.AdmitsType("Group") {
		return emit(source.Resource{
			Type:    "Group",
			Line:    r.source.cfg.CohortGroup(),
			Updated: founded,
			Loose:   true,
		})
	}
	return nil
}

// patients emits the patients and records what they reference.
func (r *record) patients(
	ctx context.Context, g *Generator, q source.Query, emit Emit,
) (used sharedSet, err error) {
	if !r.own && !r.referred {
		return used, nil
	}
	for i := r.from; i < r.to && (r.own || used != whole); i++ {
		if err := pause(ctx, r.source.cfg.Delay); err != nil {
			return used, err
		}
		if err := g.Patient(r.of.at(i), emit); err != nil {
			return used, err
		}
		used.add(&g.used)
		if !r.blocks {
			continue
		}
		err := g.emitShared(g.used, q.AdmitsType, func(res source.Resource) error {
			res.Patient = g.name
			return emit(res)
		})
		if err != nil {
			return used, err
		}
	}
	return used, nil
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
