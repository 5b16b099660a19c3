package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/segmentio/encoding/json"
)

// listing is one reading of an index of documents. What an earlier state of a documentIndex said of
// a path counts no more once it says something else of it: the index gives up its claim to a
// document that it listed for another patient, or with another content. A document that no index
// claims any more is taken out of the store. Of a path that the index names no more, and of a path
// of which no row could be used, everything stays as it was.
//
// Each row leaves a note, with the state of the index that named it. There is one note of a path
// and a patient, however rows name the patient, see noted. When the whole index was read, the notes
// of older states are behind the times. A process that is killed before that leaves documents with
// both patients; the next import reads the index again.
//
// A removal of a document that the index does not list says nothing of other patients: it takes no
// document from them.
//
// The list of an export says by their contents which documents it means, because other exports have
// files of the same names. So none of its notes is ever behind the times.
type listing struct {
	native *native
	index  digest
	name   string // of the index, in problems
	mark   string // of the present text of the index
	cut    bool   // it could not be read to its end
	told   bool   // the report says that a document stays removed
	list   bool   // it is the list of an export
	// met are the documents that the entries of a list mean so far.
	met map[string]bool
	// past are the last documents that searches passed over, see find.
	past map[digest]string
	// strays are documents without a claim that an earlier version imported for another patient,
	// as their rows may have said before, by the lines of what the rows say now.
	strays map[string]int
}

// note is what an index says of a path and a patient.
type note struct {
	Mark string `json:"mark"` // the state of the index that said so last
	Line int    `json:"line"` // of the index
	// Owner is the patient as the row says; none in notes of earlier versions, see ownerOf.
	Owner    owner  `json:"owner,omitzero"`
	Document string `json:"document,omitempty"` // its ID; "" for a removal of another index's
	// Before are documents that this one replaces once the whole index has been read.
	Before  []string `json:"before,omitempty"`
	State   string   `json:"state"`             // stateOf what it says
	From    came     `json:"from"`              // the file of the document
	Removed bool     `json:"removed,omitempty"` // it says that the document was entered in error
	Bad     bool     `json:"bad,omitempty"`     // its row could not be used, so that all stays
}

func (a *note) equal(b *note) bool {
	return a.Mark == b.Mark && a.Line == b.Line && a.Owner == b.Owner &&
		a.Document == b.Document && slices.Equal(a.Before, b.Before) && a.State == b.State &&
		a.From == b.From && a.Removed == b.Removed && a.Bad == b.Bad
}

// noteID tells notes apart: an index, a path and a patient as a row names it.
type noteID [3 * len(digest{})]byte

func noteIDOf(index digest, path string, o owner) noteID {
	of, whose := digestOf(path), digestOf(o.ID, o.System, o.Value)
	return noteID(slices.Concat(index[:], of[:], whose[:]))
}

// The second byte of the keys of what indexes say.
const (
	isNote  = 'n'
	isClaim = 'c'
	isWait  = 'w'
	isGone  = 'g'
	isIndex = 'i'

	isSame     = 's'
	isSameGone = 'b'
	isFormer   = 'f'
)

func indexKey(kind byte, parts ...[]byte) []byte {
	return append([]byte{kIndexed, kind}, bytes.Join(parts, nil)...)
}

// claimKey is the key of a note's claim to a document; without the note, the prefix of all.
func claimKey(document string, at []byte) []byte {
	return indexKey(isClaim, []byte(document), []byte{0}, at)
}

// newListing starts the reading of an index. Errors: errInput, errIgnored, and of the store.
func (n *native) newListing(of input, list bool) (*listing, error) {
	file, err := filepath.Abs(of.name)
	if err != nil {
		return nil, err
	}
	if to, err := filepath.EvalSymlinks(file); err == nil { // the same place through a link
		file = to
	}
	l := &listing{
		native: n, index: digestOf(file), name: of.name, list: list,
		met: map[string]bool{}, past: map[digest]string{}, strays: map[string]int{},
	}
	if err := n.flush(); err != nil { // searches read the store
		return nil, err
	}
	text, err := n.open(of, false)
	if err != nil {
		return nil, err
	}
	defer text.Close() // read only
	if l.mark, err = markOf(text); err != nil {
		l.cut = true // reading it reports this
	}
	n.read[l.index] = l.mark
	k := indexKey(isIndex, l.index[:])
	if known, err := n.get(k); err != nil || known != nil { // an import of the same writes nothing
		return l, err
	}
	return l, n.set(k, []byte(file))
}

// markOf returns what tells the states of an index apart.
func markOf(text io.Reader) (string, error) {
	sum := newTextDigest()
	_, err := io.Copy(sum, text)
	return sum.text(), err
}

func (l *listing) noteIDOf(d *documentLine) noteID {
	if d.known != "" {
		return noteIDOf(l.index, d.known, d.owner)
	}
	return noteIDOf(l.index, d.path, d.owner)
}

// put replaces the note of a row, unless it is the same.
func (l *listing) put(at noteID, before *note, now note) error {
	if before != nil && before.equal(&now) {
		return nil
	}
	return errors.Join(l.native.setNote(at, &now), l.native.flushFull())
}

// bad notes that a row cannot be used: what an earlier state of the index said stays.
func (l *listing) bad(d *documentLine) error {
	at, before, err := l.noted(d)
	if err != nil || before == nil {
		return err
	}
	now := *before
	now.Mark, now.Line, now.Owner, now.Bad = l.mark, d.line, d.owner, true
	return l.put(at, before, now)
}

// lists notes the document of a row.
func (l *listing) lists(d *documentLine, before *note, now note) error {
	at := l.noteIDOf(d)
	now.Mark, now.Owner = l.mark, d.owner
	if l.list {
		l.met[now.Document] = true
	}
	if before != nil {
		now.Before = before.Before
		if before.Document != "" && before.Document != now.Document {
			now.Before = append(slices.Clone(now.Before), before.Document)
		}
		if l.removes(before) {
			if now.Document != before.Document {
				if err := l.await(at, d); err != nil {
					return err
				}
			}
			now.Removed, now.State, now.From = true, before.State, came{}
		} else if before.Removed { // taken back before it found the document
			if err := l.native.delete(indexKey(isWait, at[:])); err != nil {
				return err
			}
		}
	}
	if before == nil || before.Document != now.Document {
		if err := l.native.set(claimKey(now.Document, at[:]), nil); err != nil {
			return err
		}
	}
	return l.put(at, before, now)
}

// removes reports whether another row of this reading removes the document: that counts more,
// whatever their order is.
func (l *listing) removes(before *note) bool {
	return before != nil && before.Removed && before.Mark == l.mark
}

// remove notes that a row removes a document. It is removed when everything has come, unless the
// index said so before.
func (l *listing) remove(d *documentLine) error {
	at, before, err := l.noted(d)
	if err != nil {
		return err
	}
	entry := l.native.entryOf(d, came{})
	now := note{
		Mark: l.mark, Line: d.line, Owner: d.owner, State: stateOf(&entry), Removed: true,
	}
	if before != nil {
		now.Document, now.Before = before.Document, before.Before
	}
	if before == nil || !before.Removed || before.State != now.State {
		if err := l.await(at, d); err != nil {
			return err
		}
	}
	return l.put(at, before, now)
}

// await notes a removal that is to come when everything has come.
func (l *listing) await(at noteID, d *documentLine) error {
	r := &removal{
		File: l.name, Line: d.line, List: l.list, Owner: d.owner, Path: d.path, Name: d.name,
		Title: d.title, Created: d.created, SHA1: d.sha1,
	}
	waits, err := l.native.waiting(at)
	if err != nil {
		return err
	}
	if waits != nil {
		r.Former = waits.Former
	}
	return l.native.await(at, r)
}

// finish takes back what the index says no more.
func (l *listing) finish(ctx context.Context, read string) error {
	if l.cut {
		return nil
	}
	if l.mark != read {
		return l.native.bad(l.name, 1, "changed while it was imported: import it again")
	}
	if err := l.native.flush(); err != nil {
		return err
	}
	path := notesOfPath{listing: l}
	err := each(l.native.store.db, indexKey(isNote, l.index[:]), func(k, v []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := noteID(k[2:])
		if of := digest(at[len(digest{}):]); of != path.path {
			if err := path.end(); err != nil {
				return err
			}
			path = notesOfPath{listing: l, path: of}
		}
		return path.add(at, v)
	})
	return errors.Join(err, path.end(), l.tellStrays())
}

// notesOfPath are the notes of one path.
type notesOfPath struct {
	*listing
	path  digest
	line  int              // of what the present state of the index says of the path; 0 for nothing
	stale map[noteID]*note // what older states said
	// removals are those of the present state for patients whom the index does not list.
	removals []noteID
}

func (p *notesOfPath) add(at noteID, v []byte) error {
	n := &note{}
	if err := json.Unmarshal(v, n); err != nil {
		return err
	}
	switch {
	case n.Mark != p.mark && !p.list:
		if p.stale == nil {
			p.stale = map[noteID]*note{}
		}
		p.stale[at] = n
	case n.Bad:
	case n.Removed && !n.lists():
		p.removals = append(p.removals, at)
	default:
		p.line = n.Line
		return p.supersede(at, n)
	}
	return nil
}

// supersede gives up the documents that others have replaced.
func (p *notesOfPath) supersede(at noteID, n *note) error {
	if len(n.Before) == 0 || n.Removed { // the removal is to come
		return nil
	}
	for _, document := range n.Before {
		if document == n.Document {
			continue
		}
		others, err := p.native.disclaim(document, at)
		if err == nil && others == nil {
			_, err = p.native.dropDocument(document)
		}
		if err != nil {
			return err
		}
	}
	now := *n
	now.Before = nil
	return p.put(at, n, now)
}

// end gives up what older states of the index said of the path: their removals, and their
// documents once the present state lists one.
func (p *notesOfPath) end() error {
	if p.line == 0 && len(p.removals) == 0 {
		return nil
	}
	for at, n := range p.stale {
		if p.line == 0 && n.lists() {
			continue
		}
		err := p.remember(n)
		for _, document := range n.documents() {
			err = errors.Join(err, p.giveUp(document, at))
		}
		// last: a process that is killed before that must find the documents by the note
		if err = errors.Join(err, p.native.dropNote(at)); err != nil {
			return err
		}
	}
	return nil
}

// remember adds to the removals of the path what is given up. They may turn out to mean that: an
// identifier can become known later.
func (p *notesOfPath) remember(n *note) error {
	of, err := p.native.ownerOf(n)
	if err != nil {
		return err
	}
	for _, removal := range p.removals {
		r, err := p.native.waiting(removal)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		for _, document := range n.documents() {
			if d := (formerly{of, document}); !slices.Contains(r.Former, d) {
				r.Former = append(r.Former, d)
			}
		}
		if err := p.native.await(removal, r); err != nil {
			return err
		}
	}
	return nil
}

// giveUp takes a document back from a patient, unless another index lists it, which is reported.
func (p *notesOfPath) giveUp(document string, at noteID) error {
	n := p.native
	others, err := n.disclaim(document, at)
	if err != nil {
		return err
	}
	_, e, there, err := n.have(document)
	switch {
	case err != nil || !there:
		return err
	case others == nil:
		return n.removeDocument(document)
	}
	other, err := n.get(indexKey(isIndex, others[:len(digest{})]))
	if err != nil {
		return err
	}
	return n.bad(p.name, p.line, fmt.Sprintf("%q stays with %s too, because %s lists it there: "+
		"correct that index, or remove the document with the status %s", e.Name, e.Owner, other,
		enteredInError))
}

// disclaim takes back the claim of a note to a document. It returns another note that claims it;
// nil if there is none.
func (n *native) disclaim(document string, at noteID) (other []byte, err error) {
	if err := errors.Join(n.delete(claimKey(document, at[:])), n.flush()); err != nil {
		return nil, err
	}
	ends, err := first(n.store.db, claimKey(document, nil), 1)
	if err != nil || len(ends) == 0 {
		return nil, err
	}
	return []byte(ends[0]), nil
}

// dropDocument takes a document out of the store for good, if it is there.
func (n *native) dropDocument(id string) (dropped bool, err error) {
	there, err := n.get(key(kDocuments, id))
	if err != nil || there == nil {
		return false, err
	}
	return true, errors.Join(n.takeDocument(id), n.delete(key(kDocuments, id)), n.flushFull())
}

// removeDocument is dropDocument for a document that its patient loses.
func (n *native) removeDocument(id string) error {
	dropped, err := n.dropDocument(id)
	if dropped {
		n.report.DocumentsRemoved++
	}
	return err
}

// tellStrays notes in the report documents of an earlier version that a correction may not reach.
func (l *listing) tellStrays() error {
	of, line, count := documentEntry{}, 0, 0
	for id, at := range l.strays {
		_, e, there, err := l.native.have(id)
		if err != nil {
			return err
		}
		claimed, err := some(l.native.store.db, claimKey(id, nil))
		if err != nil {
			return err
		}
		if there && !claimed {
			if count++; line == 0 || at < line {
				of, line = e, at
			}
		}
	}
	if count > 0 {
		l.native.notes(l.name, "line %d: %s has %q too, from an import by an earlier version of "+
			"the server, which a correction of the index does not reach: if that is wrong, list "+
			"it with the status %s (%d of these)", line, of.Owner, of.Name, enteredInError, count)
	}
	return nil
}

// convertNotes turns the notes of an earlier version, which name a document each, into notes and
// claims.
func (n *native) convertNotes() error {
	old, err := some(n.store.db, []byte{kListed})
	if err != nil || !old {
		return err
	}
	return each(n.store.db, []byte{kListed}, func(k, v []byte) error {
		const ends = 1 + 2*len(digest{})
		err := n.delete(k)
		id := string(k[ends:])
		_, e, there, e2 := n.have(id)
		if err = errors.Join(err, e2); err != nil || !there || v[0] == 'r' {
			return err
		}
		whose := digestOf(e.Owner.ID, e.Owner.System, e.Owner.Value)
		at := slices.Concat(k[1:ends], whose[:])
		text, err := json.Marshal(note{
			Mark: "", Owner: e.Owner, Document: id, State: stateOf(&e), From: e.From,
		})
		return errors.Join(err, n.set(indexKey(isNote, at), text),
			n.set(claimKey(id, at), nil), n.flushFull())
	})
}
