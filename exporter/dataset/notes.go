package dataset

import (
	"bytes"
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
	if own, err = l.native.noteAt(at); err != nil {
		return at, nil, err
	}
	var all []placedNote
	if own != nil {
		all = append(all, placedNote{at, own})
	}
	of, err := l.native.homeOf(d.owner)
	if err != nil {
		return at, nil, err
	}
	err = l.native.notesOf(at, []home{of}, func(k noteID, n *note) error {
		if k == at {
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

// notePath is the index and the path of a note.
type notePath [2 * len(digest{})]byte

// pathNotes finds the notes of an index and a path by their patients, so that a row costs the same
// for however many patients its path is listed.
type pathNotes struct {
	// of holds the last parts of the IDs of notes, by the digests of where their owners lead.
	of map[digest][]digest
	// odd are those of notes of earlier versions that name no owner.
	odd []digest
}

// pathNotesKept bounds how many notes are kept in memory for this, but for one path.
const pathNotesKept = 1 << 17

// notesOf visits a note, and the others of its index and path that may be of patients, in the order
// of their IDs.
func (n *native) notesOf(
	at noteID, of []home, visit func(at noteID, said *note) error,
) error {
	known, err := n.notesAt(at)
	if err != nil {
		return err
	}
	ends := append(slices.Clone(known.odd), digest(at[len(notePath{}):]))
	for _, h := range of {
		ends = append(ends, known.of[h.digest("note")]...)
	}
	slices.SortFunc(ends, func(a, b digest) int { return bytes.Compare(a[:], b[:]) })
	for _, whose := range slices.Compact(ends) {
		k := at
		copy(k[len(notePath{}):], whose[:])
		said, err := n.noteAt(k)
		if err == nil && said != nil { // else it was dropped
			err = visit(k, said)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// notesAt returns the notes of the index and the path of a note.
func (n *native) notesAt(at noteID) (*pathNotes, error) {
	path := notePath(at[:])
	if known := n.paths[path]; known != nil {
		return known, nil
	}
	if n.pathNotes >= pathNotesKept {
		n.forgetPaths()
	}
	if !n.pending.lacks(at.pathOf()) {
		if err := n.flush(); err != nil {
			return nil, err
		}
	}
	known := &pathNotes{of: map[digest][]digest{}}
	err := each(n.store.db, at.pathOf(), func(k, v []byte) error {
		said := &note{}
		if err := json.Unmarshal(v, said); err != nil {
			return err
		}
		return n.keep(known, noteID(k[2:]), said)
	})
	if err != nil {
		return nil, err
	}
	n.paths[path] = known
	n.pathNotes++
	return known, nil
}

// keep adds a note to those of its path, unless it is among them.
func (n *native) keep(known *pathNotes, at noteID, said *note) error {
	whose := digest(at[len(notePath{}):])
	of, err := n.ownerOf(said)
	if err != nil {
		return err
	}
	if of == (owner{}) {
		known.odd = n.with(known.odd, whose)
		return nil
	}
	h, err := n.homeOf(of)
	if err != nil {
		return err
	}
	by := h.digest("note")
	known.of[by] = n.with(known.of[by], whose)
	return nil
}

func (n *native) with(ends []digest, whose digest) []digest {
	if slices.Contains(ends, whose) {
		return ends
	}
	n.pathNotes++
	return append(ends, whose)
}

// forgetPaths makes later searches read the notes again.
func (n *native) forgetPaths() {
	clear(n.paths)
	n.pathNotes = 0
}

func (n *native) setNote(at noteID, said *note) error {
	v, err := json.Marshal(said)
	if err != nil {
		return err
	}
	n.pending.add(at.pathOf()) // for notesAt
	if known := n.paths[notePath(at[:])]; known != nil {
		if err := n.keep(known, at, said); err != nil {
			return err
		}
	}
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
