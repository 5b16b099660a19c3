package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/segmentio/encoding/json"
	"golang.org/x/sync/errgroup"

	"ehi-server/shared/fhir"
)

// settle makes what is derived from the resources true again for every patient that changed, and tries again to
// resolve what was left unresolved. It is safe to interrupt and to repeat; the store is durable when it returns. settled is told how many
// patients are done.
func (w *writer) settle(ctx context.Context, settled func(patients int)) error {
	if err := w.flush(pebble.NoSync); err != nil {
		return err
	}
	if err := w.settleShared(); err != nil {
		return err
	}
	if err := w.adopt(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if w.store.bulk {
		group.Go(func() error { return w.store.merge(ctx) })
	}
	group.Go(func() error { return w.settlePatients(ctx, settled) })
	if err := group.Wait(); err != nil {
		return err
	}
	if w.store.bulk { // there is no log that could be synced
		return errors.Join(w.flush(pebble.NoSync), w.store.db.Flush())
	}
	return w.flush(pebble.Sync)
}

func (w *writer) settleShared() error {
	var lines [][]byte
	err := each(w.store.db, []byte{kPending}, func(k, _ []byte) error {
		v, err := w.store.get(w.store.db, append([]byte{kShared}, k[1:]...))
		if v != nil {
			_, line := decodeValue(v)
			lines = append(lines, line)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, line := range lines {
		f, err := w.examine(line)
		if err != nil {
			return err
		}
		resolved, changed := w.resolve(line, f.refs, nil)
		if changed {
			if f, err = w.examine(resolved); err != nil {
				return err
			}
		}
		if err := w.linkShared(f); err != nil {
			return err
		}
		if changed {
			if err := w.setLine(key(kShared, f.typ, f.id), false, resolved); err != nil {
				return err
			}
		}
	}
	return w.flush(pebble.NoSync)
}

// adopt gives orphans to the patients of what they are about, as far as those are known by now. One orphan can be about
// another: it goes on until no more finds a home.
func (w *writer) adopt() error {
	for again := true; again; {
		again = false
		orphans, err := below(w.store.db, []byte{kOrphan})
		if err != nil {
			return err
		}
		for _, o := range orphans {
			found, err := w.adoptOne(o)
			if err != nil {
				return err
			}
			again = again || found
		}
		if err := w.flush(pebble.NoSync); err != nil {
			return err
		}
	}
	return nil
}

// adoptOne moves an orphan from the shared resources to its patient's.
func (w *writer) adoptOne(target string) (found bool, err error) {
	k := append([]byte{kShared}, target...)
	v, err := w.get(k)
	if err != nil || v == nil {
		return false, err
	}
	_, line := decodeValue(v)
	f, err := w.examine(line)
	if err != nil {
		return false, err
	}
	owners, err := w.owners(f, "")
	if err != nil || len(owners) == 0 {
		return false, err
	}
	err = errors.Join(w.clear(key(kSharedLink, f.typ, f.id, "")), w.putOwned(f, line, owners), w.batch.Set(key(kGeneration), w.gen, nil),
		w.delete(k), w.delete(append([]byte{kOrphan}, target...)), w.delete(append([]byte{kPending}, target...)))
	return err == nil, err
}

// settlePatients settles all patients who changed or have something unresolved, on all processors.
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
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			s := w.newSettler()
			err := s.run(patients, func() { settled(int(done.Add(1))) })
			return errors.Join(err, s.batch.Close())
		})
	}
	return group.Wait()
}

// unsettled visits each patient who changed or has something unresolved once, in the order of their ids.
func (w *writer) unsettled(visit func(patient string) error) (err error) {
	snapshot := w.store.db.NewSnapshot() // what is settled meanwhile does not come again
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	var its [2]*pebble.Iterator
	for i, kind := range []byte{kTouched, kDangling} {
		if its[i], err = snapshot.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, its[i].Close()) }()
		its[i].First()
	}
	for its[0].Valid() || its[1].Valid() {
		first := its[0]
		if !first.Valid() || its[1].Valid() && bytes.Compare(its[1].Key()[1:], first.Key()[1:]) < 0 {
			first = its[1]
		}
		patient := string(first.Key()[1:])
		for _, it := range its {
			if it.Valid() && string(it.Key()[1:]) == patient {
				it.Next()
			}
		}
		if err := visit(patient); err != nil {
			return err
		}
	}
	return nil
}

// settler settles patients. It is for one goroutine; different settlers write different keys.
type settler struct {
	store   *Store
	batch   *pebble.Batch
	now     time.Time
	gen     []byte
	network *network
	examiner
	resolver

	// of the patient at hand
	patient  string
	seen     map[string]sight // by type and id, as in a key
	strange  bool             // some reference is neither local nor external
	name     string
	self     bool // the Patient is there
	total    int64
	bytes    int64
	resolved []keyValue
	key      []byte
}

// sight is what is known of a resource: it is in the patient's compartment, or is referred to by one that is, or both.
type sight struct{ own, linked bool }

type keyValue struct {
	key, line []byte
	several   bool
}

func (w *writer) newSettler() *settler {
	s := &settler{store: w.store, batch: w.store.newBatch(), now: w.now, network: newNetwork(w.store.db), seen: map[string]sight{}}
	s.resolver.get = func(k []byte) ([]byte, error) { return s.store.get(s.store.db, k) }
	return s
}

// run settles the patients of a channel.
func (s *settler) run(patients <-chan string, done func()) (err error) {
	if s.gen, err = s.store.get(s.store.db, key(kGeneration)); err != nil {
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
	clear(s.seen)
	s.patient, s.strange, s.self, s.name, s.total, s.bytes, s.resolved = patient, false, false, "", 0, 0, s.resolved[:0]
	prefix := key(kCompartment, patient, "")
	it, err := s.store.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return fmt.Errorf("read record store: %w", err)
	}
	for it.First(); it.Valid(); it.Next() {
		target := it.Key()[len(prefix):]
		at := s.seen[string(target)]
		at.own = true
		s.seen[string(target)] = at
		if err := s.resource(it.Key(), it.Value()); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	if err := it.Close(); err != nil {
		return err
	}
	return s.write()
}

// resource looks at one resource of the compartment.
func (s *settler) resource(k, v []byte) error {
	_, line := decodeValue(v)
	if s.link(line) > 0 {
		f, err := s.examine(line)
		if err != nil {
			return err
		}
		if resolved, changed := s.resolve(line, f.refs, nil); changed {
			line = bytes.Clone(resolved)
			s.resolved = append(s.resolved, keyValue{bytes.Clone(k), line, isSeveral(v)})
		}
		s.strange = s.strange || s.link(line) > 0
	}
	s.total++
	s.bytes += int64(len(line)) + 1
	if bytes.HasSuffix(k, []byte("\x00Patient\x00"+s.patient)) {
		f, err := s.examine(line)
		if err != nil {
			return err
		}
		s.self, s.name = true, strings.TrimSpace(strings.Join(f.name, " "))
	}
	return nil
}

// link collects what a line refers to, and counts the references that are neither local nor external.
func (s *settler) link(line []byte) (strange int) {
	references(line, func(text []byte) {
		typ, id, ok := fhir.Local(text)
		if !ok {
			if !fhir.External(text) {
				strange++
			}
			return
		}
		s.key = append(append(append(s.key[:0], typ...), 0), id...)
		if at := s.seen[string(s.key)]; !at.linked {
			at.linked = true
			s.seen[string(s.key)] = at
		}
	})
	return strange
}

// links is everything outside of the compartment that is referred to, sorted.
func (s *settler) links() (out []string) {
	for target, at := range s.seen {
		if at.linked && !at.own {
			out = append(out, target)
		}
	}
	slices.Sort(out)
	return out
}

// write stores what was found out about the patient.
func (s *settler) write() error {
	for _, r := range s.resolved {
		if err := s.batch.Set(r.key, encodeValue(s.now, r.several, r.line), nil); err != nil {
			return err
		}
	}
	prefix := key(kLink, s.patient, "")
	before, err := below(s.store.db, prefix)
	if err != nil {
		return err
	}
	links := s.links()
	for _, target := range before {
		if _, found := slices.BinarySearch(links, target); !found {
			err = errors.Join(err, s.batch.Delete(append(prefix[:len(prefix):len(prefix)], target...), nil))
		}
	}
	dangling := s.strange
	for _, target := range links {
		if _, found := slices.BinarySearch(before, target); !found {
			err = errors.Join(err, s.batch.Set(append(prefix[:len(prefix):len(prefix)], target...), nil, nil))
		}
		at, e := s.network.node(target)
		err = errors.Join(err, e)
		dangling = dangling || !at.there
	}
	err = errors.Join(err, s.batch.Delete(key(kTouched, s.patient), nil))
	if dangling {
		err = errors.Join(err, s.batch.Set(key(kDangling, s.patient), nil, nil))
	} else {
		err = errors.Join(err, s.batch.Delete(key(kDangling, s.patient), nil))
	}
	if err != nil || !s.self { // resources came before their Patient: not in the directory yet
		return err
	}
	return s.enter(links, dangling)
}

// enter writes the patient into the directory.
func (s *settler) enter(links []string, dangling bool) error {
	shared, whole, err := s.network.closure(links)
	if err != nil {
		return err
	}
	entry, err := json.Marshal(patientEntry{
		Name: s.name, Total: s.total + int64(len(shared)), Own: s.total, Bytes: s.bytes, Whole: whole && !dangling, Generation: string(s.gen),
	})
	if err != nil {
		return err
	}
	keys, err := json.Marshal(shared)
	if err != nil {
		return err
	}
	return errors.Join(s.batch.Set(key(kPatient, s.patient), entry, nil), s.batch.Set(key(kSharedOf, s.patient), keys, nil))
}
