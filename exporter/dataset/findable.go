package dataset

import (
	"bytes"
	"context"
	"errors"

	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/dataset/blobs"
)

// A document that comes again is found by keys that follow from what makes it the same: the patient
// and the content, and the path or the appearance. So it costs the same however many documents have
// one content. Graves have such keys too.

// home is where documents of an owner are looked for: at the patient to whom it leads, or at the
// owner itself while it leads to nobody.
type home struct {
	patient string
	of      owner // without a patient
}

func homeAt(patient string, o owner) home {
	if patient != "" {
		return home{patient: patient}
	}
	return home{of: o}
}

func (n *native) homeOf(o owner) (home, error) {
	patient, err := n.patientOf(o)
	return homeAt(patient, o), err
}

// digest returns what tells apart what is looked for at a home.
func (h home) digest(by string, parts ...string) digest {
	return digestOf(append([]string{h.patient, h.of.ID, h.of.System, h.of.Value, by}, parts...)...)
}

// byPath is the digest of a document's path and content.
func (h home) byPath(e *documentEntry) digest { return h.digest("path", e.Blob, e.Path) }

// byAppearance is the digest of a document's appearance and content. Documents that came with the
// list of an export only have others.
func (h home) byAppearance(e *documentEntry, list bool) digest {
	by, looks := "appearance", appearance(e)
	if list {
		by = "list"
	}
	return h.digest(by, append(looks[:], e.Blob)...)
}

func findableKey(kind byte, patient string, by digest, id string) []byte {
	return indexKey(kind, []byte(patient), []byte{0}, by[:], []byte(id))
}

// findableKeys returns the keys by which a document of a patient is found.
func findableKeys(kind byte, patient, id string, e *documentEntry) (keys [][]byte) {
	at := homeAt(patient, e.Owner)
	if e.Path != "" {
		keys = append(keys, findableKey(kind, patient, at.byPath(e), id))
	}
	return append(keys, findableKey(kind, patient, at.byAppearance(e, fromList(id, e)), id))
}

func (n *native) setFindable(kind byte, patient, id string, e *documentEntry) error {
	var blob []byte
	if kind == isSameGone {
		name, err := blobs.ParseName(e.Blob)
		if err != nil {
			return err
		}
		blob = name[:]
	}
	for _, k := range findableKeys(kind, patient, id, e) {
		if err := n.set(k, blob); err != nil {
			return err
		}
	}
	if e.Path != "" || fromList(id, e) {
		return nil
	}
	n.former = true
	text, err := json.Marshal(e.Owner)
	whose := digestOf(e.Owner.ID, e.Owner.System, e.Owner.Value)
	return errors.Join(err, n.set(findableKey(isFormer, patient, whose, ""), text))
}

func (n *native) deleteFindable(kind byte, patient, id string, e *documentEntry) error {
	for _, k := range findableKeys(kind, patient, id, e) {
		if err := n.delete(k); err != nil {
			return err
		}
	}
	return nil
}

// makeFindable makes the keys by which documents and graves are found, in a store of an earlier
// version. The batch is empty.
func (n *native) makeFindable(ctx context.Context) error {
	layout, err := get(n.store.db, key(kVersion))
	if err != nil || string(layout) == layoutFindable {
		return err
	}
	err = each(n.store.db, []byte{kDocument}, func(k, v []byte) error {
		var e documentEntry
		if err := errors.Join(ctx.Err(), json.Unmarshal(v, &e)); err != nil {
			return err
		}
		patient, id := string(split(k)[0]), string(split(k)[1])
		return errors.Join(n.setFindable(isSame, patient, id, &e), n.flushFull())
	})
	if err != nil {
		return err
	}
	err = each(n.store.db, indexKey(isGone), func(_, v []byte) error {
		var g grave
		if err := errors.Join(ctx.Err(), json.Unmarshal(v, &g)); err != nil {
			return err
		}
		at, err := n.homeOf(g.Entry.Owner)
		return errors.Join(err, n.setFindable(isSameGone, at.patient, g.ID, &g.Entry), n.flushFull())
	})
	if err != nil {
		return err
	}
	return errors.Join(n.set(key(kVersion), []byte(layoutFindable)), n.flush())
}

// replaceGraves moves the keys of a patient's graves that now lead to another one.
func (n *native) replaceGraves(patient string) error {
	prefix := indexKey(isSameGone, []byte(patient), []byte{0})
	return each(n.store.db, prefix, func(k, v []byte) error {
		id := string(k[len(prefix)+len(digest{}):])
		g, err := n.grave(blobs.Name(v), id)
		if err != nil || g == nil {
			return err
		}
		at, err := n.homeOf(g.Entry.Owner)
		if err != nil || at.patient == patient {
			return err
		}
		return errors.Join(n.deleteFindable(isSameGone, patient, id, &g.Entry),
			n.setFindable(isSameGone, at.patient, id, &g.Entry), n.flushFull())
	})
}

// grave returns the grave of a document; nil if it was not removed.
func (n *native) grave(content blobs.Name, id string) (*grave, error) {
	v, err := n.get(graveKey(content, id))
	if err != nil || v == nil {
		return nil, err
	}
	g := &grave{}
	return g, json.Unmarshal(v, g)
}

// formerIDs returns the IDs that earlier versions gave to the document of a row of a documentIndex,
// by each owner that their documents of the same patient have.
func (n *native) formerIDs(at home, o owner, d *documentLine) (ids []string, err error) {
	if d.list || !n.former {
		return nil, nil
	}
	ids = []string{formerID(o, d.path)}
	prefix := indexKey(isFormer, []byte(at.patient), []byte{0})
	err = each(n.store.db, prefix, func(_, v []byte) error {
		var other owner
		if err := json.Unmarshal(v, &other); err != nil {
			return err
		}
		if other != o && at.patient != "" {
			ids = append(ids, formerID(other, d.path))
		}
		return nil
	})
	return ids, err
}

// waitingAt returns the ID of a document with the same path and content that waits for Publish; ""
// for none.
func (n *native) waitingAt(at home, e *documentEntry) string {
	for i := range n.entries {
		d := &n.entries[i]
		if d.entry.Path != e.Path || d.entry.Blob != e.Blob {
			continue
		}
		if same, err := n.homeOf(d.entry.Owner); err == nil && same == at {
			return d.id
		}
	}
	return ""
}

// find returns the first document, or grave, that what an index says means, and the value of its
// key; "" for none. An entry of a list means a document of the same appearance that no other entry
// of the list means. A row of a documentIndex means the document of the same path, or else one that
// came with a list only.
func (l *listing) find(kind byte, at home, e *documentEntry) (id string, v []byte, err error) {
	if !l.list {
		id, v, err = l.findBy(kind, at, at.byPath(e), func(string) bool { return false })
		if err != nil || id != "" {
			return id, v, err
		}
		return l.findBy(kind, at, at.byAppearance(e, true), l.native.waits)
	}
	taken := func(id string) bool { return l.met[id] }
	id, v, err = l.findBy(kind, at, at.byAppearance(e, true), taken)
	if err != nil {
		return "", nil, err
	}
	other, w, err := l.findBy(kind, at, at.byAppearance(e, false), taken)
	if other != "" && (id == "" || other < id) {
		id, v = other, w
	}
	return id, v, err
}

// findBy returns the first document with a digest that is not taken. What is taken stays so until
// the index has been read, or no longer has the digest: a search goes on where the last one ended.
func (l *listing) findBy(
	kind byte, at home, by digest, taken func(id string) bool,
) (found string, value []byte, err error) {
	prefix := findableKey(kind, at.patient, by, "")
	past := digestOf(string(prefix))
	begin := prefix
	if last, is := l.past[past]; is {
		begin = append(bytes.Clone(prefix), last+"\x00"...)
	}
	last := ""
	err = between(l.native.store.db, begin, after(prefix), func(k, v []byte) error {
		id := string(k[len(prefix):])
		if taken(id) {
			last = id
			return nil
		}
		found, value = id, bytes.Clone(v)
		return errEnough
	})
	if last != "" {
		l.past[past] = last
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	return found, value, err
}

// waits reports whether a document waits for Publish.
func (n *native) waits(id string) bool {
	for i := range n.entries {
		if n.entries[i].id == id {
			return true
		}
	}
	return false
}

// findGrave returns the grave of a document that an index means, or that has one of some IDs; nil
// for none.
func (l *listing) findGrave(at home, e *documentEntry, ids []string) (*grave, error) {
	content, err := blobs.ParseName(e.Blob)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if g, err := l.native.grave(content, id); err != nil || g != nil {
			return g, err
		}
	}
	id, v, err := l.find(isSameGone, at, e)
	if err != nil || id == "" {
		return nil, err
	}
	return l.native.grave(blobs.Name(v), id)
}

// mostStrays is how many documents of one content are compared with a row, for a note in the
// report.
const mostStrays = 64

// meetStrays collects documents of an earlier version that have the content and the path of a row,
// and another patient.
func (l *listing) meetStrays(content blobs.Name, d *documentLine) error {
	if !l.native.former {
		return nil
	}
	left := mostStrays
	prefix := append([]byte{kBlob}, content[:]...)
	err := each(l.native.store.db, prefix, func(k, _ []byte) error {
		if left--; left < 0 {
			return errEnough
		}
		id := string(k[len(prefix):])
		_, e, err := l.native.findDocument(id)
		if err != nil || e.Blob == "" || id != formerID(e.Owner, d.path) {
			return err
		}
		same, err := l.native.samePatient(e.Owner, d.owner)
		if err == nil && !same {
			l.strays[id] = d.line
		}
		return err
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
