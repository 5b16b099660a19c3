package dataset

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"ehi-server/shared/fhir"
)

// derived says how the owners of a resource that names no patient by ID were determined. They
// depend only on the content of the store, not on the order of the import: the patients to whom
// its references lead, by conditional references or through other resources; if they lead to
// nobody, the patients of the bundles that contained it.
type derived struct {
	there    bool
	grounded bool // its references led to a patient
	hints    []string
}

func (d derived) encode() string {
	state := "-"
	if d.grounded {
		state = "+"
	}
	return state + strings.Join(d.hints, ownerSeparator)
}

func decodeDerived(b []byte) (d derived) {
	if len(b) == 0 {
		return d
	}
	d.there, d.grounded = true, b[0] == '+'
	if len(b) > 1 {
		d.hints = strings.Split(string(b[1:]), ownerSeparator)
	}
	return d
}

func (w *writer) derivedOf(typ, id string) (derived, error) {
	k := key(kDerived, typ, id)
	if w.store.waiting.lacks(k) {
		return derived{}, nil
	}
	b, err := w.get(k)
	return decodeDerived(b), err
}

// setDerived records that a resource's owners must be derived, and from what.
func (w *writer) setDerived(f *facts, d derived) error {
	return errors.Join(w.noteDerived(f, d), w.set(key(kPlace, f.typ, f.id), ""))
}

// noteDerived records the sources of a resource's owners, so that a later change of one of them
// finds the resource.
func (w *writer) noteDerived(f *facts, d derived) error {
	k := key(kDerived, f.typ, f.id)
	w.store.waiting.add(k)
	err := w.set(k, d.encode())
	for _, a := range f.about {
		err = errors.Join(err, w.noteAbout(a.digest(), f.typ, f.id))
	}
	return err
}

// noteAbout records that a resource is about what has a name.
func (w *writer) noteAbout(d digest, typ, id string) error {
	w.store.waiting.add(d[:])
	w.pending.add(d[:])
	return w.set(digestKey(kAbout, d, typ, id), "")
}

// ownersNow returns the result of derive for a resource that is about others, if it needs no
// further lookups: each of them exists and its owners are not derived. none is true if there may
// be no owners.
func (w *writer) ownersNow(f *facts) (owners []string, err error) {
	if len(f.owners) > 0 {
		return nil, nil
	}
	for _, a := range f.about {
		if a.typ == "" || a.typ == "Patient" || a.typ == f.typ && a.id == f.id ||
			!w.store.waiting.lacks(key(kDerived, a.typ, a.id)) {
			return nil, nil
		}
		theirs, there, err := w.ownersOf(a.typ, a.id)
		if err != nil || !there {
			return nil, err
		}
		owners = append(owners, theirs...)
	}
	slices.Sort(owners)
	return slices.Compact(owners), nil
}

func (w *writer) unsetDerived(typ, id string, f facts) error {
	err := errors.Join(w.delete(key(kDerived, typ, id)), w.delete(key(kPlace, typ, id)))
	for _, a := range f.about {
		err = errors.Join(err, w.delete(digestKey(kAbout, a.digest(), typ, id)))
	}
	return err
}

// addHint records that an existing resource arrived again, in a bundle of a patient.
func (w *writer) addHint(f *facts, before stored, hint string) error {
	if hint == "" || f.stranger || len(f.owners) > 0 || fhir.CompartmentPaths(f.typ) == nil ||
		slices.Contains(before.derived.hints, hint) {
		return nil
	}
	d := before.derived
	d.hints = append(slices.Clone(d.hints), hint)
	slices.Sort(d.hints)
	return w.setDerived(f, d)
}

// place updates the owners of each resource whose owners must be derived or may have changed.
func (w *writer) place() error {
	for {
		targets, err := first(w.store.db, []byte{kPlace}, placeAtOnce)
		if err != nil || len(targets) == 0 {
			return err
		}
		for _, t := range targets {
			typ, id, _ := strings.Cut(t, "\x00")
			if err := errors.Join(w.delete(key(kPlace, typ, id)), w.placeOne(typ, id)); err != nil {
				return err
			}
		}
		if err := w.flush(pebble.NoSync); err != nil {
			return err
		}
	}
}

// placeAtOnce is how many resources place looks up at a time.
const placeAtOnce = 4096

// placeOne determines the owners of one resource. If they changed, those of the resources about
// it may have changed too.
func (w *writer) placeOne(typ, id string) error {
	s, err := w.find(typ, id)
	if err != nil || !s.there || !s.derived.there {
		return err
	}
	owners, grounded, err := w.derive(typ, id, s)
	if err != nil || slices.Equal(owners, s.owners) && grounded == s.derived.grounded {
		return err
	}
	f, err := w.reader.examine(s.original())
	if err != nil {
		return err
	}
	s.derived.grounded = grounded
	err = errors.Join(w.set(key(kDerived, typ, id), s.derived.encode()),
		w.announce(typ, id, f.identifiers))
	if err != nil || slices.Equal(owners, s.owners) {
		return err
	}
	v := s.value
	v.at = w.now
	return w.keep(typ, id, v, s.owners, true, owners)
}

// derive follows what a stored resource is about until it reaches patients. grounded is false if
// it reaches none; the owners are then those that bundles hint at.
func (w *writer) derive(typ, id string, self stored) (owners []string, grounded bool, err error) {
	seen := map[string]bool{}
	var hints []string
	for queue := []about{{typ: typ, id: id}}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if name := at.typ + "/" + at.id; seen[name] {
			continue
		} else {
			seen[name] = true
		}
		s := self
		if len(seen) > 1 {
			if s, err = w.findDerived(at.typ, at.id); err != nil {
				return nil, false, err
			}
		}
		if !s.derived.there {
			owners = append(owners, s.owners...)
			continue
		}
		hints = append(hints, s.derived.hints...)
		patients, others, err := w.aboutWhom(s.original())
		if err != nil {
			return nil, false, err
		}
		if len(patients) > 0 {
			owners = append(owners, patients...)
			continue
		}
		if len(seen) == 1 {
			if err := w.follow(typ, id, others); err != nil {
				return nil, false, err
			}
		}
		queue = append(queue, others...)
	}
	if grounded = len(owners) > 0; !grounded {
		owners = hints
	}
	slices.Sort(owners)
	return slices.Compact(owners), grounded, nil
}

// follow records which resources the names refer to that another resource is about. For some
// names, such as a urn:, announce is not told when the named resource gets other owners. An
// outdated record only causes an unnecessary derivation.
func (w *writer) follow(typ, id string, others []about) error {
	for _, a := range others {
		if a.name == "" {
			continue
		}
		if err := w.noteAbout(literalDigest(a.typ, a.id), typ, id); err != nil {
			return err
		}
	}
	return nil
}

// findDerived looks a resource up. Its value is returned only if its owners are derived.
func (w *writer) findDerived(typ, id string) (s stored, err error) {
	if s.derived, err = w.derivedOf(typ, id); err != nil || s.derived.there {
		return w.find(typ, id)
	}
	s.owners, s.there, err = w.ownersOf(typ, id)
	return s, err
}

// aboutWhom returns what a stored resource is about: patients and other resources.
func (w *writer) aboutWhom(line []byte) (patients []string, others []about, err error) {
	f, err := w.reader.examine(line)
	if err != nil {
		return nil, nil, err
	}
	patients = slices.Clone(f.owners)
	for _, a := range f.about {
		if a.name != "" {
			target, err := w.resolve(a.name)
			if err != nil {
				return nil, nil, err
			}
			if target == "" {
				continue
			}
			a.typ, a.id, _ = strings.Cut(target, "/")
		}
		if a.typ == "Patient" {
			patients = append(patients, a.id)
		} else {
			others = append(others, a)
		}
	}
	return patients, others, nil
}

// first lists the suffixes of up to limit keys with a prefix.
func first(r pebble.Reader, prefix []byte, limit int) (ends []string, err error) {
	err = each(r, prefix, func(k, _ []byte) error {
		ends = append(ends, string(k[len(prefix):]))
		if len(ends) == limit {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return ends, err
}

// announce marks everything that waits for a resource, by any of its names.
func (w *writer) announce(typ, id string, identifiers []identifier) error {
	if !w.store.waiting.some {
		return nil
	}
	err := w.wake(literalDigest(typ, id))
	if isUUID(id) {
		err = errors.Join(err, w.wakeAs(typ, parseURN("urn:uuid:"+id).digest()))
	}
	for _, i := range identifiers {
		err = errors.Join(err, w.wakeCalled(typ, i))
	}
	return err
}

// wakeCalled marks what depends on an identifier of a resource.
func (w *writer) wakeCalled(typ string, i identifier) error {
	return errors.Join(
		w.wakeAs(typ, name{typ: typ, system: i.system, value: i.value}.digest()),
		w.wakeAs(typ, name{typ: typ, value: i.value, anySystem: true}.digest()))
}

// wakeAs marks what depends on a name of a resource. If several patients share an identifier, a
// link by a name may decide who replaces whom, so what depends on the identifier also depends on
// the name in the link.
func (w *writer) wakeAs(typ string, d digest) error {
	if err := w.wake(d); err != nil || typ != "Patient" || w.store.waiting.lacks(d[:]) {
		return err
	}
	waiting, err := below(w.store.db, digestKey(kWaiting, d))
	for _, who := range waiting {
		if err == nil && !strings.Contains(who, "\x00") {
			err = w.wakeLinked(who, d)
		}
	}
	return err
}

// wakeLinked marks what depends on the identifiers of a patient who has a link by a name.
func (w *writer) wakeLinked(patient string, linked digest) error {
	b, err := w.get(key(kCompartment, patient, "Patient", patient))
	if err != nil || b == nil {
		return err
	}
	v := decode(b)
	line := v.original()
	if !slices.ContainsFunc(patientLinks(line), func(l patientLink) bool {
		return l.id == "" && l.name.digest() == linked
	}) {
		return nil
	}
	f, err := w.reader.examine(line)
	for _, i := range f.identifiers {
		err = errors.Join(err,
			w.wake(name{typ: "Patient", system: i.system, value: i.value}.digest()),
			w.wake(name{typ: "Patient", value: i.value, anySystem: true}.digest()))
	}
	return err
}

// wake marks for settling what depends on a name: patients whose references include it, shared
// resources, and resources whose owners it decides.
func (w *writer) wake(d digest) error {
	if w.store.waiting.lacks(d[:]) {
		return nil
	}
	if !w.pending.lacks(d[:]) {
		if err := w.flush(pebble.NoSync); err != nil {
			return err
		}
	}
	prefix := digestKey(kWaiting, d)
	err := each(w.store.db, prefix, func(k, _ []byte) error {
		who := k[len(prefix):]
		if bytes.IndexByte(who, 0) < 0 {
			return w.touch(string(who))
		}
		return w.set(append([]byte{kRelink}, who...), "")
	})
	prefix = digestKey(kAbout, d)
	return errors.Join(err, each(w.store.db, prefix, func(k, _ []byte) error {
		return w.set(append([]byte{kPlace}, k[len(prefix):]...), "")
	}))
}

// waitFor records which names a patient's record or a shared resource depends on: those of
// missing resources, and those that it uses for existing ones.
func (w *writer) waitFor(names []digest, who ...string) error {
	k := key(kWaitsFor, who...)
	if err := w.see(k); err != nil {
		return err
	}
	old, err := get(w.store.db, k)
	add, gone, list := waits(old, names)
	for _, d := range gone {
		err = errors.Join(err, w.delete(digestKey(kWaiting, d, who...)))
	}
	for _, d := range add {
		w.store.waiting.add(d[:])
		err = errors.Join(err, w.set(digestKey(kWaiting, d, who...), ""))
	}
	switch {
	case len(add)+len(gone) == 0:
	case len(names) == 0:
		err = errors.Join(err, w.delete(k))
	default:
		err = errors.Join(err, w.set(k, list))
	}
	return err
}

// waits compares the names that somebody depends on with those recorded, the value of an e key.
func waits(old []byte, names []digest) (add, gone []digest, list string) {
	names = compactDigests(names)
	var before []digest
	for at := 0; at < len(old); at += len(digest{}) {
		before = append(before, digest(old[at:at+len(digest{})]))
	}
	var b strings.Builder
	for _, d := range names {
		b.Write(d[:])
		if !containsDigest(before, d) {
			add = append(add, d)
		}
	}
	for _, d := range before {
		if !containsDigest(names, d) {
			gone = append(gone, d)
		}
	}
	return add, gone, b.String()
}

func compactDigests(names []digest) []digest {
	slices.SortFunc(names, func(a, b digest) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(names)
}

func containsDigest(sorted []digest, d digest) bool {
	_, found := slices.BinarySearchFunc(sorted, d, func(a, b digest) int {
		return bytes.Compare(a[:], b[:])
	})
	return found
}

// loadWaiting fills the filter of all names that are waited for, and of the r keys, once per
// open store.
func (s *Store) loadWaiting() error {
	if s.waiting != nil {
		return nil
	}
	f := newFilter()
	for _, kind := range []byte{kWaiting, kAbout} {
		err := each(s.db, []byte{kind}, func(k, _ []byte) error {
			f.add(k[1 : 1+len(digest{})])
			return nil
		})
		if err != nil {
			return err
		}
	}
	err := each(s.db, []byte{kDerived}, func(k, _ []byte) error {
		f.add(k)
		return nil
	})
	if err == nil {
		s.waiting = f
	}
	return err
}
