package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// frozen manages the snapshots of a store. They are Pebble checkpoints: hard links to its files
// that take milliseconds and that later imports do not change. Each is a folder named after its
// job:
//
//	<records>.frozen/<name>/         a Pebble folder, opened read-only
//	<records>.frozen/<name>/TAKEN    the instant, RFC 3339
//	<records>.frozen/.<name>.<n>     an incomplete one, renamed when it is complete
type frozen struct {
	mu   sync.Mutex
	open map[string]*population
}

const takenFile = "TAKEN"

func (s *Store) frozenDir() string { return s.dir + ".frozen" }

func (s *Store) frozenPath(name string) string { return filepath.Join(s.frozenDir(), name) }

// Freeze implements source.Source.
func (s *Store) Freeze(_ context.Context, name string) (source.Population, error) {
	if !validName(name) {
		return nil, fmt.Errorf("%q cannot name a frozen population", name)
	}
	s.frozen.mu.Lock()
	defer s.frozen.mu.Unlock()
	if p := s.frozen.open[name]; p != nil {
		p.users++
		return p, nil
	}
	if _, err := os.Stat(s.frozenPath(name)); errors.Is(err, fs.ErrNotExist) {
		if err := s.checkpoint(name); err != nil {
			return nil, fmt.Errorf("freeze the record store: %w", err)
		}
	}
	p, err := s.openFrozen(name)
	if err != nil {
		return nil, fmt.Errorf("open frozen population: %w", err)
	}
	s.frozen.open[name] = p
	return p, nil
}

func validName(name string) bool {
	return name != "" && name[0] != '.' && name == filepath.Base(name)
}

// checkpoint creates the folder of a name. If another process is faster, its folder is used.
func (s *Store) checkpoint(name string) error {
	if err := os.MkdirAll(s.frozenDir(), 0o700); err != nil {
		return err
	}
	taken := time.Now().UTC() // writes from here on may or may not be included
	if err := s.db.Flush(); err != nil {
		return err
	}
	making := s.frozenPath(fmt.Sprintf(".%s.%d", name, taken.UnixNano()))
	err := s.db.Checkpoint(making, pebble.WithFlushedWAL())
	if err == nil {
		err = os.WriteFile(filepath.Join(making, takenFile), []byte(taken.Format(time.RFC3339Nano)),
			0o600)
	}
	if err == nil {
		err = os.Rename(making, s.frozenPath(name))
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	return errors.Join(err, os.RemoveAll(making))
}

// Checkpoint creates a snapshot of the store in a folder of its own, for a backup. remove
// deletes it. If the process dies first, the next opening of the store deletes it. For a
// read-only store, which does not change, it returns the store's own folder and writes nothing.
func (s *Store) Checkpoint() (dir string, remove func() error, err error) {
	if s.reads {
		return s.dir, func() error { return nil }, nil
	}
	dir = s.frozenPath(fmt.Sprintf(".backup.%d", time.Now().UnixNano()))
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", nil, err
	}
	release := s.pins.Pin() // of the blobs that it refers to
	remove = func() error {
		release()
		return os.RemoveAll(dir)
	}
	if err := s.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return "", nil, errors.Join(plainError(err), remove())
	}
	return dir, remove, nil
}

// Verify reads a whole checkpoint, which checks the checksums of its blocks. A damaged file is
// reported as the store's own. Errors: ErrDamaged, those of ctx.
func (s *Store) Verify(ctx context.Context, dir string) error {
	opts := options(s.log, s.harm)
	opts.ReadOnly, opts.FS = true, lockless{vfs.Default}
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return openError(dir, err)
	}
	err = readAll(ctx, db)
	return errors.Join(err, db.Close())
}

// readAll reads each key and value.
func readAll(ctx context.Context, db *pebble.DB) error {
	it, err := db.NewIterWithContext(ctx, nil)
	if err != nil {
		return readError(err)
	}
	defer it.Close() // what it has met is asked for before
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := it.ValueAndErr(); err != nil {
			return readError(err)
		}
	}
	return readError(it.Error())
}

// lockless opens a folder without its lock: any number of processes may read a snapshot.
type lockless struct{ vfs.FS }

// Lock does nothing.
func (lockless) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (s *Store) openFrozen(name string) (*population, error) {
	stamp, err := os.ReadFile(filepath.Join(s.frozenPath(name), takenFile))
	if err != nil {
		return nil, err
	}
	taken, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return nil, err
	}
	return s.openPopulation(name, taken)
}

func (s *Store) openPopulation(name string, taken time.Time) (*population, error) {
	opts := options(s.log, s.harm)
	opts.Cache, opts.ReadOnly, opts.FS = s.cache, true, lockless{vfs.Default}
	db, err := pebble.Open(s.frozenPath(name), opts)
	if err != nil {
		return nil, openError(s.frozenPath(name), err)
	}
	of, err := lineageOf(db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if of.changing { // an older layout, which a later version changes
		of.Version += "." + strconv.FormatInt(taken.UnixNano(), 36)
	}
	tables, err := s.dictionaryOf(db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &population{
		of:      s,
		name:    name,
		store:   &Store{db: db, log: s.log, harm: s.harm},
		tables:  tables,
		taken:   taken,
		records: of.Records,
		users:   1,
	}, nil
}

// Thaw implements source.Source. The last user of a population closes it.
func (s *Store) Thaw(name string) error {
	if !validName(name) {
		return nil
	}
	s.frozen.mu.Lock()
	defer s.frozen.mu.Unlock()
	if p := s.frozen.open[name]; p != nil {
		p.thawed = true
		return nil
	}
	return os.RemoveAll(s.frozenPath(name))
}

// Frozen implements source.Source.
func (s *Store) Frozen() ([]string, error) {
	entries, err := os.ReadDir(s.frozenDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if validName(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// removeUnfinished deletes incomplete checkpoints after a crash.
func (s *Store) removeUnfinished() error {
	left, err := filepath.Glob(filepath.Join(s.frozenDir(), ".*"))
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// population is one snapshot.
type population struct {
	of      *Store
	name    string
	store   *Store      // read-only, without a cache of its own
	tables  *dictionary // nil if there are none
	taken   time.Time
	records ehi.Records
	users   int  // under frozen.mu
	thawed  bool // under frozen.mu

	membersMu sync.Mutex
	membersOf map[string]source.Membership // by Group: all parts of an export need the same
}

// members returns the members of a Group at the population's instant.
func (p *population) members(group string) (source.Membership, error) {
	p.membersMu.Lock()
	defer p.membersMu.Unlock()
	if m, ok := p.membersOf[group]; ok {
		return m, nil
	}
	names := newResolver(p.store.db)
	m, err := source.Members(source.Groups{Read: p.store.group, Identified: names.patient}, group,
		p.taken)
	if err != nil {
		return m, err
	}
	if p.membersOf == nil {
		p.membersOf = map[string]source.Membership{}
	}
	p.membersOf[group] = m
	return m, nil
}

// TakenAt implements source.Population.
func (p *population) TakenAt() time.Time { return p.taken }

// Records implements source.Population.
func (p *population) Records() ehi.Records { return p.records }

// Close implements source.Population.
func (p *population) Close() error {
	f := &p.of.frozen
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.users--; p.users > 0 {
		return nil
	}
	delete(f.open, p.name)
	err := p.store.db.Close()
	if p.thawed {
		err = errors.Join(err, os.RemoveAll(p.of.frozenPath(p.name)))
	}
	return err
}

// Plan implements source.Population. It adds up the sizes of records in the directory of
// patients, and of their native content.
func (p *population) Plan(
	ctx context.Context, sel source.Selection, target int64,
) (_ []ehi.Part, err error) {
	chosen, err := p.chosen(sel)
	if err != nil {
		return nil, err
	}
	native, err := newSweep(p.store.db, kNative)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, native.close()) }()
	var parts []ehi.Part
	part := ehi.Part{}
	err = each(p.store.db, []byte{kPatient}, func(k, v []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		id := string(k[1:])
		if !chosen.has(id) {
			return nil
		}
		var e patientEntry
		if err := json.Unmarshal(v, &e); err != nil {
			return err
		}
		if sel.Native {
			size, err := native.get(key(kNative, id))
			if err != nil {
				return err
			}
			e.Bytes += nativeBytes(size)
		}
		if part.Bytes > 0 && part.Bytes+e.Bytes > target {
			part.To = id
			parts = append(parts, part)
			part = ehi.Part{From: id}
		}
		part.Bytes += e.Bytes
		part.Resources += e.Own
		return nil
	})
	if err != nil {
		return nil, err
	}
	parts = append(parts, part)
	if sel.ByPatient {
		return parts, nil
	}
	return append(parts, ehi.Part{Shared: true}), nil
}

// chosen holds the patients of a selection, sorted; nil for all.
type chosen []string

func (c chosen) has(id string) bool {
	if c == nil {
		return true
	}
	_, found := slices.BinarySearch(c, id)
	return found
}

func (p *population) chosen(sel source.Selection) (chosen, error) {
	var out chosen
	if sel.Level == ehi.OneGroup {
		m, err := p.members(sel.Group)
		if err != nil {
			return nil, err
		}
		out = chosen{}
		for _, id := range m.Patients {
			if len(sel.Patients) == 0 || slices.Contains(sel.Patients, id) {
				out = append(out, id)
			}
		}
	} else if len(sel.Patients) > 0 {
		out = slices.Clone(sel.Patients)
	}
	return p.withReplaced(out)
}

// withReplaced adds the patients that were merged into the chosen ones, see recordOf.
func (p *population) withReplaced(ids chosen) (chosen, error) {
	if ids == nil {
		return nil, nil
	}
	all := chosen{}
	for _, id := range ids {
		of, err := recordOf(p.store.db, id)
		if err != nil {
			return nil, err
		}
		all = append(all, of...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Absent implements source.Population.
func (p *population) Absent(_ context.Context, sel source.Selection) (absent []string, err error) {
	c, err := p.chosen(sel)
	if err != nil {
		return nil, err
	}
	for _, id := range sel.Patients {
		there := c.has(id)
		if there {
			gone, err := missing(p.store.db, key(kPatient, id))
			if err != nil {
				return nil, err
			}
			there = !gone
		}
		if !there {
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
	r := &partRecord{population: p, selection: sel, part: part, chosen: c}
	if sel.Level == ehi.OneGroup {
		m, err := p.members(sel.Group)
		if err != nil {
			return nil, err
		}
		r.groups = m.Groups
	}
	return r, nil
}

// partRecord is one part of a plan.
type partRecord struct {
	population *population
	selection  source.Selection
	part       ehi.Part
	chosen     chosen
	groups     []string // for ehi.OneGroup: the requested Group and those nested in it
	census     *census  // of the patients with native content; nil until needed
}

// TakenAt implements source.Record.
func (r *partRecord) TakenAt() time.Time { return r.population.taken }

// Records implements source.Record.
func (r *partRecord) Records() ehi.Records { return r.population.records }

// Total implements source.Record.
func (r *partRecord) Total() int64 { return r.part.Resources }

// Complete implements source.Record.
func (r *partRecord) Complete() bool { return true }

// Close implements source.Record.
func (r *partRecord) Close() error { return nil }

// Scan implements source.Record.
func (r *partRecord) Scan(
	ctx context.Context, q source.Query, visit func(source.Resource) error,
) error {
	v := scan{ctx: ctx, query: q, visit: visit, absent: true}
	if r.part.Shared {
		return r.scanShared(&v)
	}
	if r.chosen == nil && !r.selection.ByPatient {
		return r.scanRange(&v)
	}
	return r.scanPatients(&v)
}

// scanRange reads the compartments of all patients of the part in one sweep.
func (r *partRecord) scanRange(v *scan) error {
	db := r.population.store.db
	return between(db, compartmentsFrom(r.part.From), compartmentsTo(r.part.To),
		func(k, val []byte) error { return r.own(v, k, val) })
}

func compartmentsFrom(patient string) []byte { return key(kCompartment, patient) }

func compartmentsTo(patient string) []byte {
	if patient == "" {
		return []byte{kCompartment + 1}
	}
	return key(kCompartment, patient)
}

// own visits one resource of a compartment.
func (r *partRecord) own(v *scan, k, val []byte) error {
	rest := k[1:]
	end := bytes.IndexByte(rest, 0)
	if patient := rest[:end]; v.patient != string(patient) {
		if err := r.begin(v, string(patient)); err != nil {
			return err
		}
	}
	if v.absent {
		return nil
	}
	typ, id, _ := bytes.Cut(rest[end+1:], []byte{0})
	if isSeveral(val) {
		mine, err := r.countsHere(v.patient, string(typ), string(id))
		if err != nil || !mine {
			return err
		}
	}
	return v.resource(typ, val)
}

// begin starts the next patient. A patient without a Patient resource is only part of an export
// of the system.
func (r *partRecord) begin(v *scan, patient string) error {
	v.patient = patient
	store := r.population.store
	entry, err := store.patient(store.db, patient)
	if ehi.CodeOf(err) == ehi.NotFound {
		v.absent, v.loose = r.selection.Level != ehi.System, true
		return nil
	}
	if err != nil {
		return err
	}
	settled, err := missing(store.db, key(kTouched, patient))
	v.absent, v.loose = false, !entry.Whole || !settled
	return err
}

// countsHere decides which of its patients a resource with several patients is exported with:
// the first exported one. A patient without a Patient resource counts only in an export of the
// system.
func (r *partRecord) countsHere(patient, typ, id string) (bool, error) {
	if r.selection.ByPatient {
		return true, nil
	}
	owners, _, err := ownersIn(r.population.store.db, typ, id)
	if err != nil {
		return false, err
	}
	for _, o := range owners {
		if !r.chosen.has(o) {
			continue
		}
		absent, err := missing(r.population.store.db, key(kPatient, o))
		if err != nil {
			return false, err
		}
		if !absent || r.selection.Level == ehi.System {
			return o == patient, nil
		}
	}
	return true, nil
}

// scanPatients reads the chosen patients of the part one by one.
func (r *partRecord) scanPatients(v *scan) error {
	store := r.population.store
	one := func(id string) error {
		v.patient = ""
		if r.selection.ByPatient {
			return r.block(v, id)
		}
		return each(store.db, key(kCompartment, id, ""), func(k, val []byte) error {
			return r.own(v, k, val)
		})
	}
	if r.chosen != nil {
		for _, id := range r.chosen {
			if id < r.part.From || r.part.To != "" && id >= r.part.To {
				continue
			}
			if err := one(id); err != nil {
				return err
			}
		}
		return nil
	}
	upper := []byte{kPatient + 1}
	if r.part.To != "" {
		upper = key(kPatient, r.part.To)
	}
	return between(store.db, key(kPatient, r.part.From), upper, func(k, _ []byte) error {
		return one(string(k[1:]))
	})
}

// block reads one patient's whole record: the Patient, the compartment, and the shared resources
// that it references.
func (r *partRecord) block(v *scan, id string) error {
	store := r.population.store
	self := key(kCompartment, id, "Patient", id)
	val, err := get(store.db, self)
	if err != nil || val == nil {
		return err
	}
	if err := r.own(v, self, val); err != nil {
		return err
	}
	err = each(store.db, key(kCompartment, id, ""), func(k, val []byte) error {
		if bytes.Equal(k, self) {
			return nil
		}
		return r.own(v, k, val)
	})
	if err != nil {
		return err
	}
	shared, _, err := closure(store.db, id)
	if err != nil {
		return err
	}
	return r.sharedKeys(v, shared)
}

// sharedKeys visits shared resources by their keys.
func (r *partRecord) sharedKeys(v *scan, keys []string) error {
	store := r.population.store
	for _, k := range keys {
		val, err := get(store.db, []byte(k))
		if err != nil {
			return err
		}
		if val == nil {
			continue
		}
		typ, id, _ := strings.Cut(k[1:], "\x00")
		if err := r.sharedOne(v, typ, id, val); err != nil {
			return err
		}
	}
	return nil
}

func (r *partRecord) sharedOne(v *scan, typ, id string, val []byte) error {
	resolved, err := missing(r.population.store.db, key(kPending, typ, id))
	if err != nil {
		return err
	}
	v.loose = !resolved || typ == "Group"
	return v.resource([]byte(typ), val)
}

// scanShared reads what belongs to no patient, each resource once: everything, or for a Group
// what its members' records reference.
func (r *partRecord) scanShared(v *scan) error {
	store := r.population.store
	if r.chosen != nil {
		keys, err := r.closures()
		if err != nil {
			return err
		}
		if r.selection.Level == ehi.OneGroup {
			for _, id := range r.groups {
				keys = append(keys, string(key(kShared, "Group", id)))
			}
			slices.Sort(keys)
		}
		return r.sharedKeys(v, slices.Compact(keys))
	}
	return each(store.db, []byte{kShared}, func(k, val []byte) error {
		typ, id, _ := bytes.Cut(k[1:], []byte{0})
		if !r.admitsShared(string(typ)) {
			return nil
		}
		return r.sharedOne(v, string(typ), string(id), val)
	})
}

// admitsShared reports whether shared resources of a type are exported. A Group names patients:
// it is only part of an export of the system, or if it was requested or is nested in the
// requested one.
func (r *partRecord) admitsShared(typ string) bool {
	return r.selection.Level == ehi.System || typ != "Group"
}

// closures returns the shared resources of all chosen patients.
func (r *partRecord) closures() ([]string, error) {
	seen := map[string]bool{}
	var keys []string
	for _, id := range r.chosen {
		of, _, err := closure(r.population.store.db, id)
		if err != nil {
			return nil, err
		}
		for _, k := range of {
			if !seen[k] {
				seen[k] = true
				keys = append(keys, k)
			}
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// Find implements source.Record.
func (r *partRecord) Find(ctx context.Context, q source.Query, typ, id string) ([]byte, error) {
	if in, err := r.Resolves(typ, id); err != nil || !in {
		return nil, err
	}
	store := r.population.store
	owners, _, err := ownersIn(store.db, typ, id)
	if err != nil {
		return nil, err
	}
	k := key(kShared, typ, id)
	if len(owners) > 0 {
		k = key(kCompartment, owners[0], typ, id) // the line is the same for all owners
	}
	return admitted(ctx, q, typ, store.db, k)
}

// Beside implements source.Record.
func (r *partRecord) Beside(context.Context, []source.Name, func([]byte) error) error { return nil }

// Resolves implements source.Record.
func (r *partRecord) Resolves(typ, id string) (bool, error) {
	store := r.population.store
	absent, err := missing(store.db, key(kShared, typ, id))
	if err != nil {
		return false, err
	}
	if !absent {
		return typ == "Group" && slices.Contains(r.groups, id) || r.admitsShared(typ), nil
	}
	owners, _, err := ownersIn(store.db, typ, id)
	if err != nil {
		return false, err
	}
	for _, o := range owners {
		if !r.chosen.has(o) {
			continue
		}
		if r.selection.Level == ehi.System {
			return true, nil
		}
		if gone, err := missing(store.db, key(kPatient, o)); err != nil || !gone {
			return !gone, err
		}
	}
	return false, nil
}

// Has implements source.Record.
func (r *partRecord) Has(patient, typ, id string) (bool, error) {
	if another, err := r.Another(patient, typ, id); err != nil || another {
		return false, err
	}
	return r.Resolves(typ, id)
}

// Another implements source.Record. Most resources that rows name are their patient's.
func (r *partRecord) Another(patient, typ, id string) (bool, error) {
	store := r.population.store
	owners, _, err := ownersIn(store.db, typ, id)
	if err != nil || len(owners) == 0 || slices.Contains(owners, patient) {
		return false, err
	}
	mine, err := recordOf(store.db, patient)
	if err != nil {
		return false, err
	}
	for _, o := range owners {
		merged, err := recordOf(store.db, o)
		if err != nil || slices.Contains(mine, o) || slices.Contains(merged, patient) {
			return false, err
		}
	}
	return true, nil
}
