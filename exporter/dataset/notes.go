package dataset

import (
	"slices"

	"github.com/segmentio/encoding/json"
)

// placedNote is a note and where it is.
type placedNote struct {
	at   noteID
	note *note
}

// documents returns the IDs of the documents that an index lists, or that they replace.
func (a *note) documents() []string {
	if a.Document == "" {
		return a.Before
	}
	return append(slices.Clone(a.Before), a.Document)
}

// lists reports whether the index lists, or listed, a document of the path for the patient.
func (a *note) lists() bool { return a.Document != "" || len(a.Before) > 0 }

// noted returns the note of a row, nil if there is none, and its place. The index may have named
// the patient otherwise: by another identifier, or by one that has become known since. All notes of
// the patient and the path become one here, so that nothing else depends on how a row names the
// patient.
func (l *listing) noted(d *documentLine) (at noteID, own *note, err error) {
	at = l.noteIDOf(d)
	if d.owner == (owner{}) { // a row that names nobody
		return at, nil, nil
	}
	var all []placedNote
	err = l.native.notesOfPath(at, func(k noteID, n *note) error {
		if k == at {
			own = n
			all = slices.Insert(all, 0, placedNote{k, n})
			return nil
		}
		same, err := l.native.isOf(k, n, d.owner)
		if same {
			all = append(all, placedNote{k, n})
		}
		return err
	})
	if err != nil || len(all) == 0 || len(all) == 1 && own != nil {
		return at, own, err
	}
	own, err = l.fold(all, at, d.owner)
	return at, own, err
}

// fold makes one note of several, in place of these. A removal counts more than a listing.
func (l *listing) fold(all []placedNote, at noteID, of owner) (*note, error) {
	n := l.native
	now := *all[0].note
	now.Owner, now.Document, now.Before = of, "", nil
	var waits *removal
	for _, one := range all {
		r, err := n.waiting(one.at)
		switch {
		case err != nil:
			return nil, err
		case waits == nil:
			waits = r
		case r != nil:
			waits.Former = append(waits.Former, r.Former...)
		}
		if said := one.note; said.Removed && (!now.Removed || said.Mark == l.mark) {
			now.Mark, now.Line, now.State, now.From = said.Mark, said.Line, said.State, said.From
			now.Removed = true
		}
		for _, id := range one.note.documents() {
			if now.Document == "" && id == one.note.Document {
				now.Document = id
			} else if !slices.Contains(now.Before, id) {
				now.Before = append(now.Before, id)
			}
		}
	}
	for _, one := range all {
		if err := n.dropNote(one.at); err != nil {
			return nil, err
		}
		for _, id := range one.note.documents() {
			if err := n.delete(claimKey(id, one.at[:])); err != nil {
				return nil, err
			}
		}
	}
	for _, id := range now.documents() {
		if err := n.set(claimKey(id, at[:]), nil); err != nil {
			return nil, err
		}
	}
	if waits != nil {
		if err := n.await(at, waits); err != nil {
			return nil, err
		}
	}
	return &now, n.setNote(at, &now)
}

// isOf reports whether a note is of a patient.
func (n *native) isOf(at noteID, said *note, o owner) (bool, error) {
	of, err := n.ownerOf(said)
	if err != nil {
		return false, err
	}
	if of != (owner{}) {
		return n.samePatient(of, o)
	}
	patient, err := n.patientOf(o)
	whose := digestOf(patient, "", "")
	return patient != "" && digest(at[2*len(digest{}):]) == whose, err
}

// ownerOf returns the patient of a note: of a note of an earlier version that of its document, or
// nobody if that is gone.
func (n *native) ownerOf(said *note) (owner, error) {
	if said.Owner != (owner{}) || said.Document == "" {
		return said.Owner, nil
	}
	_, e, _, err := n.have(said.Document)
	return e.Owner, err
}

func (n *native) noteAt(at noteID) (*note, error) {
	v, err := n.get(indexKey(isNote, at[:]))
	if err != nil || v == nil {
		return nil, err
	}
	var out note
	return &out, json.Unmarshal(v, &out)
}

// pathOf is the prefix of the keys of an index's notes of one path.
func (at noteID) pathOf() []byte { return indexKey(isNote, at[:2*len(digest{})]) }

// notesOfPath visits the notes of the index and the path of a note.
func (n *native) notesOfPath(at noteID, visit func(at noteID, said *note) error) error {
	if !n.pending.lacks(at.pathOf()) {
		if err := n.flush(); err != nil {
			return err
		}
	}
	return each(n.store.db, at.pathOf(), func(k, v []byte) error {
		said := &note{}
		if err := json.Unmarshal(v, said); err != nil {
			return err
		}
		return visit(noteID(k[2:]), said)
	})
}

func (n *native) setNote(at noteID, said *note) error {
	v, err := json.Marshal(said)
	if err != nil {
		return err
	}
	n.pending.add(at.pathOf()) // for notesOfPath
	return n.set(indexKey(isNote, at[:]), v)
}

// dropNote deletes a note, and its removal if that waits.
func (n *native) dropNote(at noteID) error {
	n.pending.add(at.pathOf())
	if err := n.delete(indexKey(isNote, at[:])); err != nil {
		return err
	}
	return n.delete(indexKey(isWait, at[:]))
}
