package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"ehi-server/exporter/dataset/blobs"
	"ehi-server/exporter/source"
	"ehi-server/shared/fhir"
)

// batchBytes is the size from which a batch is written to the store.
const batchBytes = 2 << 20

// writer stores resources. It is used by one goroutine, which holds Store.writing. What it wrote
// is in exports after settle.
type writer struct {
	store *Store
	batch gathering
	floor int64 // free bytes of the disk below which it does not write; 0 for no limit
	// sorter receives all c keys if the store had none at the start of the import. If it is nil,
	// they are in the batch and the store.
	sorter *sorter
	marks  []keyValue // of imported files, while the resources are in the sorter
	// pending holds the keys that the batch sets or deletes and the digests of its a keys,
	// except for those of resources with an o key, the t keys, and the o keys that it sets.
	// Reads through get see them.
	pending *filter
	// linked holds the resources, by type and id as in a key, of which the batch sets x keys.
	linked  map[string]bool
	touched map[string]bool // the patients whose t key the batch sets
	// placed holds the values of the o keys that the batch sets, until lately has them: the next
	// resource often asks for the same.
	placed map[string]string
	// owned holds all o keys, once enough lookups were in vain.
	owned  *filter
	lately *owners // from then on
	misses int
	warmed uint64 // unused; it keeps the compiler from removing the loads of warm
	// buried reports whether the store has tombstones, covered whether it has resources under a
	// conditional update.
	buried, covered bool
	// gone holds the resources, by type and id as in a key, that are no longer shared.
	gone     map[string]bool
	now      time.Time
	gen      []byte   // the generation of shared resources that this writer creates
	examiner          // for the import
	reader   examiner // for stored resources
	resolver
	key         []byte
	blobs       *blobs.Batch // moved data, until flush stores it; nil before the first
	loosened    bool         // it has marked blobs as loose
	room, value []byte       // scratch memory for keys and values
}

// pendingBytes is the size of the filter for the keys of a batch.
const pendingBytes = 64 << 10

// newWriter starts writing. now is the import time of new and changed resources. The caller
// closes it.
func (s *Store) newWriter(now time.Time) (*writer, error) {
	w := &writer{
		store:   s,
		batch:   s.newGathering(),
		pending: newFilterOf(pendingBytes),
		linked:  map[string]bool{},
		touched: map[string]bool{},
		placed:  map[string]string{},
		gone:    map[string]bool{},
		now:     now,
		gen:     strconv.AppendInt(nil, time.Now().UnixNano(), 36),
	}
	w.resolver = resolver{db: s.db, record: w.get}
	w.examiner = incoming(scope{own: s.own})
	if s.bulk {
		some, err := some(s.db, []byte{kCompartment})
		if err != nil {
			return nil, err
		}
		if !some {
			w.sorter = newSorter(s.dir, s.sorting)
		}
	}
	tombstones, err := some(s.db, []byte{kTombstone})
	w.buried = tombstones
	covered, e := some(s.db, []byte{kOwn})
	w.covered = covered
	if err = errors.Join(err, e, s.loadWaiting()); err != nil || w.sorter == nil {
		return w, err
	}
	owned, err := some(s.db, []byte{kOwner})
	if err == nil && !owned {
		err = w.filterOwned() // nothing: all resources are new
	}
	return w, err
}

// warmAtOnce is for how many resources at a time memory is prefetched.
const warmAtOnce = 32

// warm prefetches what put will read, for several resources at once. Otherwise put would wait
// for memory each time.
func (w *writer) warm(items []item) {
	if w.owned == nil {
		return
	}
	var owned, lately [warmAtOnce]uint64
	for i := range items {
		f := &items[i].facts
		w.key = appendKey(w.key[:0], kOwner, f.id, f.typ)
		owned[i], lately[i] = w.owned.hash(w.key), w.lately.hash(w.key)
	}
	for i := range items {
		w.warmed += w.owned.near(owned[i]) + w.lately.near(lately[i])
	}
}

// prepared is the result of examining a resource without the store.
type prepared struct {
	line   []byte // compact
	facts  facts
	told   version // what its entry says of it
	copied bool    // it is a copy, see copyFlag
	older  bool    // if versions are equal, the stored one is newer
	hint   string  // the patient that it belongs to by default; "" for none
	// moved is the data that has left the line, and stands whether the line has stand-ins.
	moved  []movedData
	stands bool
	lost   []string // why data that it names is not imported
	err    error    // errResource, or an error of the store
}

func (x *examiner) prepare(resource []byte) (p prepared) {
	line, moving := x.move(resource)
	p.line, p.facts, p.err = x.compact(line)
	if moving.err != nil {
		p.err = moving.err
	}
	p.moved, p.stands, p.lost = moving.moved, len(moving.moved) > 0, moving.lost
	if x.moveFrom == 0 {
		p.stands = source.HasMoved(line)
	}
	return p
}

// version returns the resource's version: its own statement, or else its entry's.
func (p *prepared) version() version { return p.facts.version().or(p.told) }

// stored is what the store holds for a resource.
type stored struct {
	value
	there   bool
	owners  []string // none: it is shared
	derived derived
}

// versionOf returns the stored version; f holds the facts of its line.
func (s *stored) versionOf(f *facts) version {
	return f.version().or(decodeVersion(string(s.version)))
}

// put stores a resource unless the stored version is newer. Errors about the resource itself are
// errResource; others end the import.
func (w *writer) put(p prepared) error {
	if p.err != nil {
		return p.err
	}
	f := &p.facts
	before, err := w.findOwn(f.typ, f.id)
	if err != nil {
		return err
	}
	if !before.there {
		if dead, err := w.dead(&p); err != nil || dead {
			return err
		}
	} else if done, err := w.superseded(before, p); err != nil || done {
		return errors.Join(err, w.restores(f.typ, f.id, p.moved))
	}
	if err := w.write(p, before); err != nil {
		return err
	}
	return w.flushFull()
}

// flushFull writes the batch to the store once it is large enough.
func (w *writer) flushFull() error {
	if w.batch.size() >= batchBytes {
		return w.flush(pebble.NoSync)
	}
	return nil
}

// superseded reports whether the stored version of a resource stays.
func (w *writer) superseded(before stored, p prepared) (bool, error) {
	same := before.cameAs(p.line)
	of := p.facts
	if !same {
		var err error
		if of, err = w.reader.examine(before.line); err != nil {
			return false, err
		}
	}
	switch c := p.version().compare(before.versionOf(&of)); {
	case c != 0:
		return c < 0, nil
	case (p.copied || !before.copied) && (same || before.says(p.line)):
		if !same && before.longer(p.line) {
			return true, w.respell(p, before)
		}
		return true, w.addHint(&p.facts, before, p.hint)
	case p.copied && !before.copied, p.older:
		return true, nil
	}
	return false, nil
}

// respell rewrites a line that says the same as the stored one and has the same origin.
func (w *writer) respell(p prepared, before stored) error {
	p.copied = p.copied && before.copied
	hints := slices.Clone(before.derived.hints)
	if p.hint != "" && !slices.Contains(hints, p.hint) {
		hints = append(hints, p.hint)
	}
	return errors.Join(w.replace(p, before, hints), w.flushFull())
}

// dead reports whether a resource that is not there was deleted at a time after its own.
func (w *writer) dead(p *prepared) (bool, error) {
	if !w.buried {
		return false, nil
	}
	k := key(kTombstone, p.facts.typ, p.facts.id)
	v, err := w.get(k)
	if err != nil || v == nil {
		return false, err
	}
	if c := p.version().compare(decodeVersion(string(v))); c < 0 || c == 0 && p.older {
		return true, w.setLast(p.facts.typ, p.facts.id, p.version(), p.facts.identifiers)
	}
	return false, w.delete(k)
}

// write stores a resource in place of what was there.
func (w *writer) write(p prepared, before stored) error {
	f := &p.facts
	if w.sorter != nil && !w.sorter.takes(p.line) {
		if err := w.unsort(); err != nil {
			return err
		}
	}
	if err := w.announce(f.typ, f.id, f.identifiers); err != nil {
		return err
	}
	if before.there {
		if err := w.forgetFacts(f.typ, f.id, before); err != nil {
			return err
		}
	}
	owners, err := w.ownersAtOnce(f, p.hint)
	if err != nil {
		return err
	}
	for _, i := range f.identifiers {
		if err := w.set(i.key(f.typ, f.id), ""); err != nil {
			return err
		}
		if plain, differs := i.plain(f.typ); differs {
			if err := w.set(plain.keyOf(kPlain, f.typ, f.id), ""); err != nil {
				return err
			}
		}
	}
	if called := f.definition(); called.value != "" {
		err := errors.Join(w.set(called.keyOf(kPlain, f.typ, f.id), ""), w.wakeDefined(called))
		if err != nil {
			return err
		}
	}
	v := value{
		at:      w.now,
		copied:  p.copied,
		version: []byte(p.told.encode()),
		refs:    f.refs,
		moved:   p.stands,
		line:    p.line,
	}
	if p.stands {
		if err := w.holdsMoved(f.typ, f.id, p.line, p.moved); err != nil {
			return err
		}
	}
	return w.keep(f.typ, f.id, v, before.owners, before.there, owners)
}

// ownersAtOnce is whose a resource is, as far as that is known by now. Where it does not name a
// patient itself, place decides again when all is in.
func (w *writer) ownersAtOnce(f *facts, hint string) ([]string, error) {
	if len(f.about) == 0 && len(f.owners) > 0 || aboutPaths(f.typ) == nil {
		return f.owners, nil
	}
	if f.stranger || len(f.owners) > 0 || fhir.CompartmentPaths(f.typ) == nil {
		hint = ""
	}
	d := derived{}
	if hint != "" {
		d.hints = []string{hint}
	}
	if len(f.about) == 0 && hint == "" {
		return nil, nil
	}
	owners, err := w.ownersNow(f)
	if err != nil {
		return nil, err
	}
	if len(owners) > 0 {
		d.grounded = true
		return owners, w.noteDerived(f, d)
	}
	err = w.setDerived(f, d)
	if len(f.owners) > 0 {
		return f.owners, err
	}
	for _, a := range f.about {
		if a.typ == "" {
			continue
		}
		owners, _, e := w.ownersOf(a.typ, a.id)
		if err = errors.Join(err, e); err != nil || len(owners) > 0 {
			return owners, err
		}
	}
	if len(f.about) == 0 {
		return d.hints, err
	}
	return nil, err
}

// keep writes a resource to the places that its owners say, and takes it from those where it no
// longer belongs.
func (w *writer) keep(typ, id string, v value, before []string, there bool, owners []string) error {
	if there && len(before) == 0 && len(owners) > 0 {
		if err := w.unshare(typ, id); err != nil {
			return err
		}
	}
	for _, p := range before { // a corrected subject must not leave it behind
		if !slices.Contains(owners, p) {
			err := errors.Join(w.deleteRecord(key(kCompartment, p, typ, id)), w.touch(p))
			if err != nil {
				return err
			}
		}
	}
	v.several = len(owners) > 1
	for _, p := range owners {
		w.room = appendKey(w.room[:0], kCompartment, p, typ, id)
		if err := errors.Join(w.setRecord(w.room, &v), w.touch(p)); err != nil {
			return err
		}
	}
	if len(owners) == 0 {
		if err := w.share(typ, id, &v); err != nil {
			return err
		}
	}
	w.room = appendKey(w.room[:0], kOwner, id, typ)
	if err := w.set(w.room, strings.Join(owners, ownerSeparator)); err != nil {
		return err
	}
	unplaced := len(owners) == 0 && fhir.CompartmentPaths(typ) != nil
	if !unplaced && !there {
		return nil
	}
	return w.mark(key(kUnplaced, typ, id), unplaced, there)
}

// mark sets or deletes a key without a value; there is whether it may be set.
func (w *writer) mark(k []byte, on, there bool) error {
	if on {
		return w.set(k, "")
	}
	if !there {
		return nil
	}
	return w.delete(k)
}

// share writes a shared resource. What it refers to is looked at when all is in.
func (w *writer) share(typ, id string, v *value) error {
	k := key(kShared, typ, id)
	w.pending.add(k)
	return errors.Join(w.batch.set(key(kGeneration), w.gen), w.set(key(kRelink, typ, id), ""),
		w.setValue(k, v))
}

// unshare takes away a shared resource and what was found out about it.
func (w *writer) unshare(typ, id string) error {
	w.gone[typ+"\x00"+id] = true
	return errors.Join(
		w.clearLinks(typ, id),
		w.waitFor(nil, typ, id),
		w.batch.set(key(kGeneration), w.gen),
		w.delete(key(kShared, typ, id)),
		w.delete(key(kRelink, typ, id)),
		w.delete(key(kPending, typ, id)))
}

// remove deletes a resource, unless what is there is newer, and remembers that: what was older
// may still come.
func (w *writer) remove(typ, id string, v version, older bool) error {
	before, err := w.find(typ, id)
	if err != nil {
		return err
	}
	if err := w.removedCondition(typ, id, v); err != nil {
		return err
	}
	k := key(kTombstone, typ, id)
	if !before.there {
		old, err := w.get(k)
		if err != nil || old != nil && v.compare(decodeVersion(string(old))) <= 0 {
			return err
		}
		return w.bury(typ, id, v)
	}
	f, err := w.reader.examine(before.line)
	if err != nil {
		return err
	}
	newest := before.versionOf(&f)
	if before, err = w.findOwn(typ, id); err != nil {
		return err
	}
	if f, err = w.reader.examine(before.original()); err != nil {
		return err
	}
	if c := v.compare(before.versionOf(&f)); c < 0 || c == 0 && older {
		return nil
	}
	if v.untimed {
		v = version{updated: newest.updated, id: higherID(v.id, newest.id)}
	}
	if err := w.setLast(typ, id, before.versionOf(&f), f.identifiers); err != nil {
		return err
	}
	return errors.Join(w.takeOut(typ, id, before), w.bury(typ, id, v))
}

// findOwn is find for a resource as it is without the conditional updates that are states of it:
// settle looks at these again.
func (w *writer) findOwn(typ, id string) (stored, error) {
	s, err := w.find(typ, id)
	if err != nil || !w.covered || !s.there {
		return s, err
	}
	if err := w.restore(target{typ, id}, s); err != nil {
		return s, err
	}
	return w.find(typ, id)
}

// takeOut takes a resource out of the store.
func (w *writer) takeOut(typ, id string, before stored) error {
	// What has to be read may flush the batch; all writes of a resource go together behind that.
	err := w.forgetFacts(typ, id, before)
	if len(before.owners) == 0 {
		err = errors.Join(err, w.unshare(typ, id))
	}
	for _, p := range before.owners {
		err = errors.Join(err, w.deleteRecord(key(kCompartment, p, typ, id)), w.touch(p))
	}
	return errors.Join(err, w.delete(key(kOwner, id, typ)), w.delete(key(kUnplaced, typ, id)))
}

// bury sets a tombstone. The resource is still the one that is called by its UUID.
func (w *writer) bury(typ, id string, v version) error {
	w.buried = true
	err := w.set(key(kTombstone, typ, id), v.encode())
	if !isUUID(id) {
		return err
	}
	return errors.Join(err, w.name("urn:uuid:"+id, typ, id))
}

// forgetFacts takes back what a resource that goes, or changes, said of itself.
func (w *writer) forgetFacts(typ, id string, before stored) error {
	f, err := w.reader.examine(before.original())
	if err != nil {
		return err
	}
	err = errors.Join(w.announce(typ, id, f.identifiers), w.loosens(&before.value))
	for _, i := range f.identifiers {
		err = errors.Join(err, w.delete(i.key(typ, id)))
		if plain, differs := i.plain(typ); differs {
			err = errors.Join(err, w.delete(plain.keyOf(kPlain, typ, id)))
		}
	}
	if called := f.definition(); called.value != "" {
		err = errors.Join(err, w.delete(called.keyOf(kPlain, typ, id)), w.wakeDefined(called))
	}
	if before.derived.there {
		err = errors.Join(err, w.unsetDerived(typ, id, f))
	}
	return err
}

// find looks a resource up.
func (w *writer) find(typ, id string) (s stored, err error) {
	if s.owners, s.there, err = w.ownersOf(typ, id); err != nil || !s.there {
		return s, err
	}
	if err := w.see(key(kOwner, id, typ)); err != nil { // then its value can be read
		return s, err
	}
	k := key(kShared, typ, id)
	if len(s.owners) > 0 {
		k = key(kCompartment, s.owners[0], typ, id)
	}
	if s.derived, err = w.derivedOf(typ, id); err != nil {
		return s, err
	}
	b, err := w.get(k)
	if err != nil {
		return s, err
	}
	if b == nil { // what a crash cut off
		s.there = false
		return s, nil
	}
	s.value = decode(b)
	return s, nil
}

// ownersOf looks up whose a stored resource is; there is false for one that is not stored.
func (w *writer) ownersOf(typ, id string) (owners []string, there bool, err error) {
	w.key = appendKey(w.key[:0], kOwner, id, typ)
	if w.owned != nil && w.owned.lacks(w.key) {
		return nil, false, nil
	}
	if w.lately != nil {
		if v, found := w.lately.get(w.key); found {
			return splitOwners(v), true, nil
		}
	}
	if v, found := w.placed[string(w.key)]; found {
		return splitOwners(v), true, nil
	}
	if err := w.see(w.key); err != nil {
		return nil, false, err
	}
	owners, there, err = ownersIn(w.store.db, typ, id)
	if !there {
		w.misses++
	}
	if err == nil && w.owned == nil && w.misses > missesBeforeFilter {
		err = w.filterOwned()
	}
	return owners, there, err
}

// missesBeforeFilter is how many resources have to be new before a filter is made, which takes a
// look at every resource of the store.
const missesBeforeFilter = 5000

func (w *writer) filterOwned() error {
	if err := w.flush(pebble.NoSync); err != nil {
		return err
	}
	w.owned, w.lately = newFilter(), newOwners()
	return each(w.store.db, []byte{kOwner}, func(k, _ []byte) error {
		w.owned.add(k)
		return nil
	})
}

// ownersIn reads whose a resource is; there is false where it is not stored.
func ownersIn(r pebble.Reader, typ, id string) (owners []string, there bool, err error) {
	v, err := get(r, key(kOwner, id, typ))
	return splitOwners(string(v)), v != nil, err
}

func splitOwners(v string) []string {
	if v == "" {
		return nil
	}
	return strings.Split(v, ownerSeparator)
}

// ownerSeparator stands between the patients of an o key's value; no FHIR id holds it.
const ownerSeparator = " "

// setRecord writes a resource of a patient's compartment.
func (w *writer) setRecord(k []byte, v *value) error {
	if w.sorter != nil {
		return w.sorter.set(k, v)
	}
	return w.setValue(k, v)
}

// deleteRecord takes one out.
func (w *writer) deleteRecord(k []byte) error {
	if w.sorter != nil {
		return w.sorter.delete(k)
	}
	return w.batch.delete(k)
}

// setValue writes a resource.
func (w *writer) setValue(k []byte, v *value) error {
	op := w.batch.of(k).SetDeferred(len(k), v.size())
	copy(op.Key, k)
	v.encode(op.Value[:0])
	return op.Finish()
}

// touch marks a patient as changed.
func (w *writer) touch(patient string) error {
	if w.touched[patient] {
		return nil
	}
	w.touched[patient] = true
	return w.batch.set(key(kTouched, patient), nil)
}

func (w *writer) set(k []byte, v string) error {
	switch {
	case k[0] != kOwner:
		w.pending.add(k)
	case w.owned != nil:
		w.owned.add(k)
		w.lately.set(k, v)
	default:
		w.placed[string(k)] = v
	}
	w.value = append(w.value[:0], v...)
	return w.batch.set(k, w.value)
}

func (w *writer) delete(k []byte) error {
	w.pending.add(k)
	delete(w.placed, string(k))
	if k[0] == kOwner && w.lately != nil {
		w.lately.delete(k)
	}
	return w.batch.delete(k)
}

// see makes sure that a look into the store finds what the batch has done to a key.
func (w *writer) see(k []byte) error {
	found := !w.pending.lacks(k)
	if k[0] == kOwner && !found {
		if _, found = w.placed[string(k)]; w.lately != nil {
			found = w.lately.maySet(k)
		}
	}
	if !found {
		return nil
	}
	return w.flush(pebble.NoSync)
}

// get returns a copy of a key's value, nil where there is none.
func (w *writer) get(k []byte) ([]byte, error) {
	if k[0] == kCompartment && w.sorter != nil {
		if w.sorter.looked++; w.sorter.looked <= w.sorter.limits.looks {
			return w.sorter.get(k)
		}
		if err := w.unsort(); err != nil {
			return nil, err
		}
	}
	if err := w.see(k); err != nil {
		return nil, err
	}
	return get(w.store.db, k)
}

// clearLinks deletes the x keys of a resource. One by one: a range tombstone for each patient would
// slow every later look-up down.
func (w *writer) clearLinks(typ, id string) error {
	prefix := key(kSharedLink, typ, id, "")
	if w.linked[string(prefix)] {
		if err := w.flush(pebble.NoSync); err != nil {
			return err
		}
	}
	return each(w.store.db, prefix, func(k, _ []byte) error { return w.delete(bytes.Clone(k)) })
}

// name remembers what a bundle called a resource, for references from elsewhere.
func (w *writer) name(urn, typ, id string) error {
	n := parseURN(urn)
	return errors.Join(w.set(digestKey(kURN, n.digest(), typ, id), ""), w.wakeAs(typ, n.digest()))
}

// flush writes the batch to the store.
func (w *writer) flush(opt *pebble.WriteOptions) error {
	if err := w.publishBlobs(); err != nil { // before what names them
		return err
	}
	written := func() {}
	if w.batch.size() > 0 {
		if w.floor > 0 && !w.store.hasFree(w.floor) {
			return fmt.Errorf("write record store: less than %d bytes are free on its disk: %w",
				w.floor, syscall.ENOSPC)
		}
		var err error
		if written, err = w.store.begins(w.batch.set); err != nil {
			return err
		}
	}
	if err := w.batch.commit(opt); err != nil {
		return errors.Join(errors.New("write record store"), err)
	}
	written()
	w.pending.clear()
	clear(w.linked)
	clear(w.touched)
	clear(w.placed)
	if w.lately != nil {
		w.lately.written()
	}
	return nil
}

// close gives the writer's memory back; what was not flushed is lost.
func (w *writer) close() error {
	err := w.batch.close()
	if w.blobs != nil {
		err = errors.Join(err, w.blobs.Drop())
	}
	if w.sorter != nil {
		err = errors.Join(err, w.sorter.close())
	}
	return err
}
