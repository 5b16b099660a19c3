package dataset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"ehi-server/shared/fhir"
)

// batchBytes is how much is gathered before it is written to the store.
const batchBytes = 4 << 20

// writer puts resources into the store. It is for one goroutine, which holds Store.writing. What it wrote is in exports once settle
// has run.
type writer struct {
	store *Store
	batch *pebble.Batch
	// pending is the keys that the batch sets (true) or deletes, those of resources with an o key and the t keys aside; what is read
	// through get sees them.
	pending map[string]bool
	touched map[string]bool // the patients whose t key the batch sets
	// owned holds all o keys, once enough of them were looked for in vain.
	owned  *filter
	misses int
	now    time.Time
	gen    []byte // the generation of shared resources that this writer makes
	examiner
	resolver
	key []byte
}

// newWriter starts writing; now is the time of import that new and changed resources get. The caller closes it.
func (s *Store) newWriter(now time.Time) *writer {
	w := &writer{store: s, batch: s.newBatch(), pending: map[string]bool{}, touched: map[string]bool{}, now: now,
		gen: strconv.AppendInt(nil, time.Now().UnixNano(), 36)}
	w.resolver.get = w.get
	return w
}

// names is what a bundle calls its resources: fullUrl or type?identifier -> type/id.
type names map[string]string

// prepared is a resource as far as it can be looked at without the store.
type prepared struct {
	line  []byte // compact
	facts facts
	err   error // errResource
}

func (x *examiner) prepare(resource []byte) (p prepared) {
	p.line, p.facts, p.err = x.compact(resource)
	return p
}

// Put stores one resource (any JSON form; it is compacted). local gives the names that its bundle uses, fallback is the
// patient to whom a resource that names none belongs; both may be empty. Errors about the resource itself are
// errResource; others end the import.
func (w *writer) Put(resource []byte, local names, fallback string) error {
	return w.put(w.prepare(resource), local, fallback)
}

func (w *writer) put(p prepared, local names, fallback string) (err error) {
	if p.err != nil {
		return p.err
	}
	if p.facts.indirect {
		if line, changed := w.resolve(p.line, p.facts.refs, local); changed {
			p.line = line
			if p.facts, err = w.examine(line); err != nil {
				return err
			}
		}
	}
	owners, err := w.owners(p.facts, fallback)
	if err != nil {
		return err
	}
	if len(owners) > 0 {
		err = w.putOwned(p.facts, p.line, owners)
	} else {
		err = w.putShared(p.facts, p.line)
	}
	if err == nil && w.batch.Len() >= batchBytes {
		err = w.flush(pebble.NoSync)
	}
	return err
}

// owners decides whose a resource is: the patients that it names, the owner of what it is about (the target of a
// Provenance), or the fallback. None: it is shared.
func (w *writer) owners(f facts, fallback string) ([]string, error) {
	if len(f.owners) > 0 || fhir.CompartmentPaths(f.typ) == nil {
		return f.owners, nil
	}
	for _, a := range f.anchors {
		if owners, err := w.ownersOf(a.typ, a.id); err != nil || len(owners) > 0 {
			return owners, err
		}
	}
	if fallback != "" {
		return []string{fallback}, nil
	}
	return nil, nil
}

// ownersOf looks up whose a stored resource is; nil for a shared one and for one that is not there.
func (w *writer) ownersOf(typ, id string) ([]string, error) {
	w.key = appendKey(w.key[:0], kOwner, typ, id)
	if w.owned != nil && w.owned.lacks(w.key) {
		return nil, nil
	}
	if err := w.see(w.key); err != nil {
		return nil, err
	}
	owners, err := ownersIn(w.store.db, typ, id)
	if len(owners) == 0 {
		w.misses++
	}
	if err == nil && w.owned == nil && w.misses > missesBeforeFilter {
		err = w.filterOwned()
	}
	return owners, err
}

// missesBeforeFilter is how many resources have to be new before a filter is made, which takes a look at every resource of the store.
const missesBeforeFilter = 5000

func (w *writer) filterOwned() error {
	if err := w.flush(pebble.NoSync); err != nil {
		return err
	}
	w.owned = newFilter()
	return each(w.store.db, []byte{kOwner}, func(k, _ []byte) error {
		w.owned.add(k)
		return nil
	})
}

func ownersIn(r pebble.Reader, typ, id string) ([]string, error) {
	v, closer, err := r.Get(key(kOwner, typ, id))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read record store: %w", err)
	}
	owners := strings.Split(string(v), ownerSeparator)
	return owners, closer.Close()
}

// ownerSeparator stands between the patients of an o key's value; no FHIR id holds it.
const ownerSeparator = " "

func (w *writer) putOwned(f facts, line []byte, owners []string) error {
	before, err := w.ownersOf(f.typ, f.id)
	if err != nil {
		return err
	}
	if err := w.disown(f, before, owners); err != nil {
		return err
	}
	for _, p := range owners {
		k := key(kCompartment, p, f.typ, f.id)
		if slices.Contains(before, p) {
			if same, err := w.same(k, len(owners) > 1, line); err != nil || same {
				return err
			}
		}
		err := errors.Join(w.setLine(k, len(owners) > 1, line), w.touch(p), w.set(key(kOwner, f.typ, f.id), strings.Join(owners, ownerSeparator)))
		if err != nil {
			return err
		}
	}
	return nil
}

// disown takes a resource out of the records of patients whose it no longer is: a corrected subject must not leave it behind.
func (w *writer) disown(f facts, before, owners []string) (err error) {
	for _, p := range before {
		if !slices.Contains(owners, p) {
			err = errors.Join(err, w.batch.Delete(key(kCompartment, p, f.typ, f.id), nil), w.touch(p))
		}
	}
	if len(before) > 0 && len(owners) == 0 {
		err = errors.Join(err, w.delete(key(kOwner, f.typ, f.id)))
	}
	return err
}

// same reports whether a stored line is what is to be written.
func (w *writer) same(k []byte, several bool, line []byte) (bool, error) {
	old, err := w.get(k)
	if err != nil || old == nil {
		return false, err
	}
	_, oldLine := decodeValue(old)
	return bytes.Equal(oldLine, line) && isSeveral(old) == several, nil
}

// setLine writes a resource.
func (w *writer) setLine(k []byte, several bool, line []byte) error {
	op := w.batch.SetDeferred(len(k), headerSize+len(line))
	copy(op.Key, k)
	binary.BigEndian.PutUint64(op.Value, header(w.now, several))
	copy(op.Value[headerSize:], line)
	return op.Finish()
}

// touch marks a patient as changed.
func (w *writer) touch(patient string) error {
	if w.touched[patient] {
		return nil
	}
	w.touched[patient] = true
	return w.batch.Set(key(kTouched, patient), nil, nil)
}

func (w *writer) set(k []byte, v string) error {
	w.pending[string(k)] = true
	if w.owned != nil && k[0] == kOwner {
		w.owned.add(k)
	}
	return w.batch.Set(k, []byte(v), nil)
}

func (w *writer) delete(k []byte) error {
	w.pending[string(k)] = false
	return w.batch.Delete(k, nil)
}

// see makes sure that a look into the store finds what the batch has done to a key.
func (w *writer) see(k []byte) error {
	if _, found := w.pending[string(k)]; !found {
		return nil
	}
	return w.flush(pebble.NoSync)
}

// get returns a copy of a key's value, nil where there is none.
func (w *writer) get(k []byte) ([]byte, error) {
	if err := w.see(k); err != nil {
		return nil, err
	}
	return w.store.get(w.store.db, k)
}

// has reports whether a key is there.
func (w *writer) has(k []byte) (bool, error) {
	if set, found := w.pending[string(k)]; found {
		return set, nil
	}
	absent, err := missing(w.store.db, k)
	return !absent, err
}

func (w *writer) putShared(f facts, line []byte) error {
	k := key(kShared, f.typ, f.id)
	if same, err := w.same(k, false, line); err != nil || same {
		return err
	}
	before, err := w.ownersOf(f.typ, f.id)
	if err != nil {
		return err
	}
	// linkShared comes first: what it has to read may flush the batch, and all writes of a resource go together.
	if err := errors.Join(w.linkShared(f), w.disown(f, before, nil)); err != nil {
		return err
	}
	w.pending[string(k)] = true
	if err := w.setLine(k, false, line); err != nil {
		return err
	}
	for _, ident := range f.identifiers {
		if err := w.set(key(kIdentifier, f.typ, ident), f.id); err != nil {
			return err
		}
	}
	if len(f.anchors) > 0 {
		return w.set(key(kOrphan, f.typ, f.id), "")
	}
	return nil
}

// linkShared makes the x keys of a shared resource anew and marks it pending where a reference is not resolved.
func (w *writer) linkShared(f facts) error {
	if err := errors.Join(w.clear(key(kSharedLink, f.typ, f.id, "")), w.batch.Set(key(kGeneration), w.gen, nil)); err != nil {
		return err
	}
	unresolved := false
	for _, r := range f.refs {
		if !r.local() {
			unresolved = unresolved || !fhir.External([]byte(r.text))
			continue
		}
		if err := w.set(key(kSharedLink, f.typ, f.id, r.typ, r.id), ""); err != nil {
			return err
		}
		there, err := w.has(key(kShared, r.typ, r.id))
		if err != nil {
			return err
		}
		unresolved = unresolved || !there
	}
	k := key(kPending, f.typ, f.id)
	if unresolved {
		return w.set(k, "")
	}
	return w.delete(k)
}

// clear deletes every key below prefix. One by one: a range tombstone for each patient would slow every later look-up down.
func (w *writer) clear(prefix []byte) error {
	for k := range w.pending {
		if strings.HasPrefix(k, string(prefix)) {
			if err := w.flush(pebble.NoSync); err != nil {
				return err
			}
			break
		}
	}
	return each(w.store.db, prefix, func(k, _ []byte) error { return w.delete(k) })
}

// resolver turns indirect references into direct ones. It is for one goroutine.
type resolver struct {
	get  func(k []byte) ([]byte, error)
	line []byte
}

// resolve rewrites urn: and conditional references to type/id, as far as their targets are known. What it returns is valid until
// the next call.
func (r *resolver) resolve(line []byte, refs []refAt, local names) (out []byte, changed bool) {
	var edits []fhir.Edit
	for _, ref := range refs {
		if target := r.lookup(ref.text, local); target != "" {
			edits = append(edits, fhir.Edit{Start: ref.start, End: ref.end, With: []byte(`"` + target + `"`)})
		}
	}
	if len(edits) == 0 {
		return line, false
	}
	r.line = fhir.Apply(r.line[:0], line, edits)
	return r.line, true
}

// lookup finds what an indirect reference means: "" where it is direct already, or where nobody knows.
func (r *resolver) lookup(ref string, local names) string {
	if target, ok := local[ref]; ok {
		return target
	}
	if strings.HasPrefix(ref, "urn:") {
		v, err := r.get(key(kURN, ref))
		if err != nil {
			return ""
		}
		return string(v)
	}
	if typ, ident, ok := fhir.ConditionalTarget(ref); ok {
		v, err := r.get(key(kIdentifier, typ, ident))
		if err != nil || v == nil {
			return ""
		}
		return typ + "/" + string(v)
	}
	return ""
}

// name remembers what a bundle called a shared resource or a patient, for references from other files.
func (w *writer) name(urn, target string) error { return w.set(key(kURN, urn), target) }

// flush writes the batch to the store.
func (w *writer) flush(opt *pebble.WriteOptions) error {
	if err := w.batch.Commit(opt); err != nil {
		return fmt.Errorf("write record store: %w", err)
	}
	w.batch.Reset()
	clear(w.pending)
	clear(w.touched)
	return nil
}

// close gives the writer's memory back; what was not flushed is lost.
func (w *writer) close() error { return w.batch.Close() }
