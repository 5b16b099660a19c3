package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/segmentio/encoding/json"
	"golang.org/x/sync/errgroup"

	"ehi-server/shared/fhir"
)

// settle updates everything derived from resources that changed, or that waited for new ones. It
// may be interrupted and repeated. The store is durable when it returns. settled is called with
// the number of settled patients.
func (w *writer) settle(ctx context.Context, settled func(patients int)) error {
	if err := w.flush(pebble.NoSync); err != nil {
		return err
	}
	w.forget()
	for _, step := range []func() error{w.unite, w.place, w.miss, w.relink} {
		if err := step(); err != nil {
			return err
		}
	}
	if w.sorter != nil {
		return w.settleSorted(ctx, settled)
	}
	group, ctx := errgroup.WithContext(ctx)
	if w.store.bulk {
		group.Go(func() error { return w.store.merge(ctx) })
	}
	group.Go(func() error { return w.settlePatients(ctx, settled) })
	if err := group.Wait(); err != nil {
		return err
	}
	if w.store.bulk { // there is no log to sync
		return errors.Join(w.flush(pebble.NoSync), w.store.db.Flush())
	}
	return errors.Join(w.flush(pebble.NoSync), w.store.sync())
}

// miss marks everything that references shared resources that no longer exist.
func (w *writer) miss() error {
	if len(w.gone) == 0 {
		return nil
	}
	err := each(w.store.db, []byte{kLink}, func(k, _ []byte) error {
		if patient, target, _ := bytes.Cut(k[1:], []byte{0}); w.gone[string(target)] {
			return w.touch(string(patient))
		}
		return nil
	})
	err = errors.Join(err, each(w.store.db, []byte{kSharedLink}, func(k, _ []byte) error {
		if parts := split(k); w.gone[string(parts[2])+"\x00"+string(parts[3])] {
			return w.set(key(kRelink, string(parts[0]), string(parts[1])), "")
		}
		return nil
	}))
	clear(w.gone)
	return errors.Join(err, w.flush(pebble.NoSync))
}

// relink updates the references of shared resources that changed, or that waited for new ones.
func (w *writer) relink() error {
	for {
		targets, err := first(w.store.db, []byte{kRelink}, placeAtOnce)
		if err != nil || len(targets) == 0 {
			return err
		}
		for _, t := range targets {
			typ, id, _ := strings.Cut(t, "\x00")
			err := errors.Join(w.delete(key(kRelink, typ, id)), w.relinkOne(typ, id))
			if err != nil {
				return err
			}
		}
		if err := w.flush(pebble.NoSync); err != nil {
			return err
		}
	}
}

func (w *writer) relinkOne(typ, id string) error {
	k := key(kShared, typ, id)
	b, err := get(w.store.db, k)
	if err != nil || b == nil {
		return err
	}
	v := decode(b)
	var targets []target
	l := linker{resolver: &w.resolver, local: func(typ, id []byte) {
		if t := (target{string(typ), string(id)}); !slices.Contains(targets, t) {
			targets = append(targets, t)
		}
	}}
	changed, err := l.link(&v)
	if err != nil {
		return err
	}
	err = w.clearLinks(typ, id)
	unresolved := l.strange
	for _, t := range targets {
		there, e := has(w.store.db, key(kShared, t.typ, t.id))
		err = errors.Join(err, e, w.set(key(kSharedLink, typ, id, t.typ, t.id), ""))
		w.linked[string(key(kSharedLink, typ, id, ""))] = true
		unresolved = unresolved || !there
		if !there && t.typ != "Patient" || fhir.CompartmentPaths(t.typ) != nil {
			l.names = append(l.names, literalDigest(t.typ, t.id))
		}
	}
	err = errors.Join(err, w.waitFor(l.names, typ, id), w.batch.set(key(kGeneration), w.gen))
	if unresolved {
		err = errors.Join(err, w.set(key(kPending, typ, id), ""))
	} else {
		err = errors.Join(err, w.delete(key(kPending, typ, id)))
	}
	if changed && err == nil {
		v.at = w.now
		w.pending.add(k)
		err = w.setValue(k, &v)
	}
	return err
}

// some reports whether there is a key with a prefix.
func some(r pebble.Reader, prefix []byte) (bool, error) {
	ends, err := first(r, prefix, 1)
	return len(ends) > 0, err
}

// target is a referenced resource.
type target struct{ typ, id string }

// linker resolves the references of stored resources. It is not safe for concurrent use.
type linker struct {
	*resolver
	local func(typ, id []byte) // called with each reference that resolves

	// The current resource.
	names   []digest // the names that it uses for other resources
	strange bool     // some Reference does not resolve
	table   refTable
	edits   []fhir.Edit
}

// link resolves a resource's references again. changed means that its line has changed.
func (l *linker) link(v *value) (changed bool, err error) {
	l.names, l.strange, l.edits, l.table = l.names[:0], false, l.edits[:0], l.table[:0]
	shift, last := 0, 0
	refTable(v.refs).each(func(r ref) {
		before := v.line[r.start:r.end]
		now := before
		switch r.kind.base() {
		case refStrange:
			l.strange = true
		case refLogical:
			err = errors.Join(err, l.logical(r.original))
		case refName:
			if err == nil {
				now, err = l.name(&r, before)
			}
		case refCanonical:
			if err == nil {
				err = l.canonical(string(fhir.Unquote(before)), string(r.original))
			}
		case refShown:
			if err == nil {
				err = l.shared(string(r.original))
			}
		}
		if typ, id, ok := fhir.Local(fhir.Unquote(now)); ok && r.kind < refCanonical {
			l.local(typ, id)
		}
		if !bytes.Equal(now, before) {
			l.edits = append(l.edits, fhir.Edit{Start: r.start, End: r.end, With: now})
		}
		r.start += shift
		r.end = r.start + len(now)
		shift += len(now) - len(before)
		l.table = l.table.append(last, r)
		last = r.end
	})
	if err != nil || len(l.edits) == 0 {
		return false, err
	}
	v.line, v.refs = fhir.Apply(nil, v.line, l.edits), slices.Clone(l.table)
	return true, nil
}

// logical processes a Reference with an identifier only.
func (l *linker) logical(named []byte) error {
	n, _ := parseName(string(named)) // it was one when it came
	l.names = append(l.names, n.digest())
	target, err := l.resolve(string(named))
	if typ, id, ok := fhir.Local([]byte(target)); ok {
		l.local(typ, id)
	}
	return err
}

// name returns the replacement of a reference by name.
func (l *linker) name(r *ref, before []byte) (now []byte, err error) {
	as := r.original
	if len(as) == 0 {
		as = before
	}
	text := string(fhir.Unquote(as))
	n, _ := parseName(text) // it was one when it came
	l.names = append(l.names, n.digest())
	target, err := l.resolve(text)
	if err != nil || target == "" {
		r.original = nil
		l.strange = l.strange || !r.kind.url()
		return as, err
	}
	r.original = as
	return []byte(`"` + target + n.behind + `"`), nil
}

// settlePatients settles all patients who changed, or who waited for new resources, on all
// processors.
func (w *writer) settlePatients(ctx context.Context, settled func(patients int)) error {
	group, ctx := errgroup.WithContext(ctx)
	patients := make(chan string, 64)
	group.Go(func() error {
		defer close(patients)
		return w.unsettled(func(p string) error {
			select {
			case patients <- p:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	var done atomic.Int64
	var waiting sync.Mutex
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() (err error) {
			s := w.newSettler(&waiting)
			defer func() { err = errors.Join(err, s.close()) }()
			return s.run(patients, func() { settled(int(done.Add(1))) })
		})
	}
	return group.Wait()
}

// unsettled visits each changed patient once, ordered by ID. Patients that are settled meanwhile
// are not repeated.
func (w *writer) unsettled(visit func(patient string) error) (err error) {
	snapshot := w.store.db.NewSnapshot()
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	return each(snapshot, []byte{kTouched}, func(k, _ []byte) error { return visit(string(k[1:])) })
}

// settler settles patients. It is not safe for concurrent use. Different settlers write
// different keys.
type settler struct {
	store   *Store
	batch   *pebble.Batch
	now     time.Time
	gen     []byte
	network *network
	waiting *sync.Mutex // of store.waiting
	sweeps  map[byte]*sweep
	records records // c keys
	out     *tables // the destination of c keys that are not in the store yet, or nil
	resolver
	linker linker

	// The current patient.
	patient string
	own     keyList             // of the compartment, by type and id as in a key
	linked  map[string]struct{} // the resources that it references, likewise
	names   []digest            // the names that the record uses for resources
	strange bool                // some reference does not resolve
	self    []byte              // the Patient's line
	merged  []merge             // the merges that it declares
	total   int64
	bytes   int64
	changed []keyValue
	key     []byte
}

// keyList is a sorted list of keys, or of their ends.
type keyList struct {
	all  []byte
	ends []int
}

func (l *keyList) reset() { l.all, l.ends = l.all[:0], l.ends[:0] }

func (l *keyList) add(k []byte) {
	l.all = append(l.all, k...)
	l.ends = append(l.ends, len(l.all))
}

func (l *keyList) has(k []byte) bool {
	_, found := sort.Find(len(l.ends), func(i int) int {
		from := 0
		if i > 0 {
			from = l.ends[i-1]
		}
		return bytes.Compare(k, l.all[from:l.ends[i]])
	})
	return found
}

// keyValue is a pending write. It owns its bytes, because those of a sweep do not last.
type keyValue struct{ key, value []byte }

// newSettler returns a settler. The caller closes it.
func (w *writer) newSettler(waiting *sync.Mutex) *settler {
	s := &settler{
		store:   w.store,
		batch:   w.store.newBatch(),
		now:     w.now,
		network: newNetwork(w.store.db),
		waiting: waiting,
		sweeps:  map[byte]*sweep{},
		linked:  map[string]struct{}{},
	}
	s.resolver = newResolver(w.store.db)
	s.linker = linker{resolver: &s.resolver, local: s.refer}
	return s
}

func (s *settler) close() error {
	err := s.batch.Close()
	for _, sweep := range s.sweeps {
		err = errors.Join(err, sweep.close())
	}
	return err
}

// records reads c keys. Patients must be requested in order.
type records interface {
	// each calls f for every key with a prefix. The arguments of f are valid during the call
	// only.
	each(prefix []byte, f func(k, v []byte) error) error
}

// begin prepares a settler. From here on only the settler changes what it reads.
func (s *settler) begin() (err error) {
	if s.gen, err = get(s.store.db, key(kGeneration)); err != nil {
		return err
	}
	for _, kind := range []byte{kCompartment, kLink, kWaitsFor, kPatient, kEntries} {
		if s.sweeps[kind], err = newSweep(s.store.db, kind); err != nil {
			return err
		}
	}
	s.records = s.sweeps[kCompartment]
	return nil
}

// run settles the patients of a channel, which are ordered by ID.
func (s *settler) run(patients <-chan string, done func()) (err error) {
	if err := s.begin(); err != nil {
		return err
	}
	for p := range patients {
		if err := s.settle(p); err != nil {
			return fmt.Errorf("settle patient %s: %w", p, err)
		}
		if s.batch.Len() >= batchBytes {
			if err := s.flush(); err != nil {
				return err
			}
		}
		done()
	}
	return s.flush()
}

func (s *settler) flush() error {
	if err := s.batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("write record store: %w", err)
	}
	s.batch.Reset()
	return nil
}

func (s *settler) settle(patient string) error {
	s.own.reset()
	clear(s.linked)
	s.patient, s.strange, s.self, s.total, s.bytes = patient, false, nil, 0, 0
	s.merged = nil
	s.names, s.changed = s.names[:0], s.changed[:0]
	prefix := key(kCompartment, patient, "")
	self := key(kCompartment, patient, "Patient", patient)
	err := s.records.each(prefix, func(k, v []byte) error {
		s.own.add(k[len(prefix):])
		line, err := s.resource(k, v)
		if err == nil && bytes.Equal(k, self) {
			s.self = bytes.Clone(line)
		}
		return err
	})
	if err != nil {
		return err
	}
	if s.self != nil {
		said, names, err := s.merges(patient, s.self)
		if err != nil {
			return err
		}
		s.merged, s.names = said, append(s.names, names...)
	}
	return s.write()
}

// resource processes one resource of the compartment and returns its line.
func (s *settler) resource(k, b []byte) ([]byte, error) {
	v := decode(b)
	changed, err := s.linker.link(&v)
	if err != nil {
		return nil, err
	}
	s.names = append(s.names, s.linker.names...)
	if len(s.names) > namesAtOnce {
		s.names = compactDigests(s.names)
	}
	s.strange = s.strange || s.linker.strange
	if changed {
		v.at = s.now
		b = v.encode(make([]byte, 0, v.size()))
	}
	if s.out != nil {
		err = s.out.set(k, b)
	} else if changed {
		s.changed = append(s.changed, keyValue{bytes.Clone(k), b})
	}
	s.total++
	s.bytes += int64(len(v.line)) + 1
	return v.line, err
}

// namesAtOnce is how many names are collected before duplicates are removed.
const namesAtOnce = 4096

// refer records that the record references a resource.
func (s *settler) refer(typ, id []byte) {
	s.key = append(append(append(s.key[:0], typ...), 0), id...)
	if _, known := s.linked[string(s.key)]; !known {
		s.linked[string(s.key)] = struct{}{}
	}
}

// links returns the referenced resources outside of the compartment, sorted.
func (s *settler) links() (out []string) {
	for target := range s.linked {
		if s.key = append(s.key[:0], target...); !s.own.has(s.key) {
			out = append(out, target)
		}
	}
	slices.Sort(out)
	return out
}

// write stores the results for the patient.
func (s *settler) write() error {
	for _, c := range s.changed {
		if err := s.batch.Set(c.key, c.value, nil); err != nil {
			return err
		}
	}
	prefix := key(kLink, s.patient, "")
	var before []string
	err := s.sweeps[kLink].each(prefix, func(k, _ []byte) error {
		before = append(before, string(k[len(prefix):]))
		return nil
	})
	if err != nil {
		return err
	}
	links := s.links()
	for _, t := range before {
		if _, found := slices.BinarySearch(links, t); !found {
			err = errors.Join(err,
				s.batch.Delete(append(prefix[:len(prefix):len(prefix)], t...), nil))
		}
	}
	missing := false
	for _, t := range links {
		if _, found := slices.BinarySearch(before, t); !found {
			err = errors.Join(err,
				s.batch.Set(append(prefix[:len(prefix):len(prefix)], t...), nil, nil))
		}
		at, e := s.network.node(t)
		err = errors.Join(err, e)
		missing = missing || !at.there
		typ, id, _ := strings.Cut(t, "\x00")
		if !at.there || fhir.CompartmentPaths(typ) != nil { // needed by unplaced
			s.names = append(s.names, literalDigest(typ, id))
		}
	}
	err = errors.Join(err,
		s.waitFor(),
		s.batch.Delete(key(kTouched, s.patient), nil),
		s.mark(key(kDangling, s.patient), s.strange),
		s.mark(key(kStray, s.patient), s.self == nil && s.total > 0))
	if err != nil {
		return err
	}
	return s.enter(links, s.strange || missing)
}

// mark sets or deletes a key without a value.
func (s *settler) mark(k []byte, on bool) error {
	if on {
		return s.batch.Set(k, nil, nil)
	}
	return s.batch.Delete(k, nil)
}

// waitFor records the names that the record depends on.
func (s *settler) waitFor() error {
	k := key(kWaitsFor, s.patient)
	old, err := s.sweeps[kWaitsFor].get(k)
	add, gone, list := waits(old, s.names)
	for _, d := range gone {
		err = errors.Join(err, s.batch.Delete(digestKey(kWaiting, d, s.patient), nil))
	}
	s.waiting.Lock()
	defer s.waiting.Unlock()
	for _, d := range add {
		s.store.waiting.add(d[:])
		err = errors.Join(err, s.batch.Set(digestKey(kWaiting, d, s.patient), nil, nil))
	}
	switch {
	case err != nil || len(add)+len(gone) == 0:
		return err
	case list == "":
		return s.batch.Delete(k, nil)
	}
	return s.batch.Set(k, []byte(list), nil)
}

// enter adds the patient to the directory, or removes it if there is no Patient resource: other
// resources may arrive before it and remain after it.
func (s *settler) enter(links []string, dangling bool) error {
	old, indexed, err := s.entered()
	if err != nil {
		return err
	}
	if err := s.merge(old.Merges, s.merged); err != nil {
		return err
	}
	if s.self == nil {
		return errors.Join(s.batch.Delete(key(kPatient, s.patient), nil),
			s.batch.Delete(key(kSharedOf, s.patient), nil),
			reindex(s.batch, s.patient, indexed, nil))
	}
	shared, whole, err := s.network.closure(links)
	if err != nil {
		return err
	}
	entry, err := json.Marshal(patientEntry{
		Name:  fhir.DisplayName(s.self, s.now),
		Total: s.total + int64(len(shared)),
		Own:   s.total,
		Bytes: s.bytes,
		Whole: whole && !dangling, Generation: string(s.gen), Merges: s.merged,
	})
	if err != nil {
		return err
	}
	keys, err := json.Marshal(shared)
	if err != nil {
		return err
	}
	return errors.Join(s.batch.Set(key(kPatient, s.patient), entry, nil),
		s.batch.Set(key(kSharedOf, s.patient), keys, nil),
		reindex(s.batch, s.patient, indexed, s.self))
}

// entered returns the patient's current entries in the directory and the search index.
func (s *settler) entered() (e patientEntry, indexed []byte, err error) {
	v, err := s.sweeps[kPatient].get(key(kPatient, s.patient))
	if err == nil && v != nil {
		err = json.Unmarshal(v, &e)
	}
	if err != nil {
		return e, nil, err
	}
	indexed, err = s.sweeps[kEntries].get(key(kEntries, s.patient))
	return e, indexed, err
}

// merge records the merges that this Patient declares.
func (s *settler) merge(before, now []merge) (err error) {
	for _, m := range before {
		err = errors.Join(err, s.batch.Delete(key(kMerged, m.Survivor, m.Replaced, s.patient), nil))
	}
	for _, m := range now {
		err = errors.Join(err,
			s.batch.Set(key(kMerged, m.Survivor, m.Replaced, s.patient), nil, nil))
	}
	return err
}
