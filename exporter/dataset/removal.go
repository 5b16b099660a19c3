package dataset

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/dataset/blobs"
)

// removal is what an index says of a document that was entered in error, until it is removed.
type removal struct {
	File    string    `json:"file"` // of the index
	Line    int       `json:"line"`
	List    bool      `json:"list,omitempty"` // an export's list says so
	Owner   owner     `json:"owner"`
	Path    string    `json:"path"`
	Name    string    `json:"name"`
	Title   string    `json:"title,omitempty"`
	Created time.Time `json:"created,omitzero"`
	SHA1    []byte    `json:"sha1,omitempty"`
	// Several means that it might have meant several documents: it stays unclear which one.
	Several bool `json:"several,omitempty"`
	// Former are documents of the path that the index listed until it said this.
	Former []formerly `json:"former,omitempty"`

	looks looks // of what a list says
}

// formerly is a document that an index listed for a patient.
type formerly struct {
	Owner    owner  `json:"owner"`
	Document string `json:"document"` // its ID
}

// looks is the appearance of a document, once somebody asks.
type looks struct{ is *[3]string }

func (l *looks) of(e *documentEntry) [3]string {
	if l.is == nil {
		is := appearance(e)
		l.is = &is
	}
	return *l.is
}

// means reports whether a document of the same patient may be the one that was entered in error.
func (r *removal) means(id string, e *documentEntry, l *looks) bool {
	switch {
	case !r.List:
		return hasPath(id, e, r.Path)
	case r.SHA1 != nil && !bytes.Equal(r.SHA1, e.SHA1):
		return false
	}
	like := documentEntry{Name: r.Name, Title: r.Title, Created: r.Created}
	return r.looks.of(&like) == l.of(e)
}

// grave remembers a document that was removed, and what indexes said of it until then: saying that
// again does not bring it back.
type grave struct {
	ID     string        `json:"id"`
	Entry  documentEntry `json:"entry"`
	States []string      `json:"states"`

	looks looks
}

func graveKey(content blobs.Name, id string) []byte {
	return indexKey(isGone, content[:], []byte(id))
}

// remove removes what indexes call entered in error, now that all has come and is with its patient:
// first what the index of the removal lists itself. What removes nothing waits, and is reported.
func (n *native) remove() error {
	n.forgetPaths() // owners may lead elsewhere now
	n.candidates, n.candidatesRead = map[string][]candidate{}, 0
	err := n.eachRemoval(func(k []byte, at noteID, r *removal) error {
		done, err := n.removeListed(at, r)
		if err == nil && done {
			err = n.delete(k)
		}
		return err
	})
	if err != nil {
		return err
	}
	var problems error
	err = n.eachRemoval(func(k []byte, at noteID, r *removal) error {
		why, err := n.removeMeant(r)
		if err == nil && why == "" {
			return n.delete(k)
		}
		said, e2 := n.noteAt(at)
		if err = errors.Join(err, e2); err != nil {
			return err
		}
		if said != nil && n.read[digest(at[:])] == said.Mark {
			problems = errors.Join(problems, n.bad(r.File, r.Line, "removes nothing: "+why))
		}
		if r.Several {
			return n.await(at, r)
		}
		return nil
	})
	return errors.Join(err, problems)
}

// eachRemoval visits the removals that wait.
func (n *native) eachRemoval(visit func(k []byte, at noteID, r *removal) error) error {
	if err := n.flush(); err != nil {
		return err
	}
	return each(n.store.db, indexKey(isWait), func(k, v []byte) error {
		var r removal
		if err := json.Unmarshal(v, &r); err != nil {
			return err
		}
		return errors.Join(visit(k, noteID(k[2:]), &r), n.flushFull())
	})
}

// await stores a removal until it finds its document.
func (n *native) await(at noteID, r *removal) error {
	v, err := json.Marshal(r)
	return errors.Join(err, n.set(indexKey(isWait, at[:]), v))
}

// waiting returns the removal of a note that waits for its document; nil if there is none.
func (n *native) waiting(at noteID) (*removal, error) {
	v, err := n.get(indexKey(isWait, at[:]))
	if err != nil || v == nil {
		return nil, err
	}
	r := &removal{}
	return r, json.Unmarshal(v, r)
}

// removeListed removes what a removal means of the documents that its own index lists, or listed:
// those of the patient, or else those of patients who were merged into that one. It reports whether
// there are any, perhaps removed before.
func (n *native) removeListed(at noteID, r *removal) (done bool, err error) {
	of, err := n.reachedBy(r.Owner)
	if err != nil {
		return false, err
	}
	listed := r.Former
	err = n.notesOf(at, of, func(k noteID, said *note) error {
		of, err := n.ownerOf(said)
		if k == at {
			of = r.Owner
		}
		for _, id := range said.documents() {
			listed = append(listed, formerly{of, id})
		}
		return err
	})
	for _, reaches := range []func(of, o owner) (bool, error){n.samePatient, n.mergedInto} {
		for _, d := range listed {
			if err != nil {
				return done, err
			}
			var means bool
			means, err = n.removeIf(d, func(of owner) (bool, error) { return reaches(of, r.Owner) })
			done = done || means
		}
		if done {
			break
		}
	}
	return done, err
}

// reachedBy returns where documents are of the patient to whom an owner leads, or of patients who
// were merged into that one.
func (n *native) reachedBy(o owner) ([]home, error) {
	own, err := n.homeOf(o)
	if err != nil || own.patient == "" {
		return []home{own}, err
	}
	record, err := recordOf(n.store.db, own.patient)
	all := make([]home, 0, len(record))
	for _, patient := range record {
		all = append(all, home{patient: patient})
	}
	return all, err
}

// removeIf removes a document if its patient is meant. It reports whether the patient is meant for
// whom an index listed it.
func (n *native) removeIf(
	d formerly, means func(owner) (bool, error),
) (done bool, err error) {
	if done, err = means(d.Owner); err != nil {
		return false, err
	}
	there, e, err := n.findDocument(d.Document)
	if err != nil || there == nil {
		return done, err
	}
	is, err := means(e.Owner)
	if err != nil || !is {
		return done, err
	}
	return true, n.bury(newDocument{d.Document, e})
}

// removeMeant removes the document that a removal means of those of other indexes. It returns why
// it removes nothing.
func (n *native) removeMeant(r *removal) (why string, err error) {
	if done, err := n.isAmong(n.buried, r); err != nil || done {
		return "", err
	}
	targets, err := n.meant(r)
	if err != nil {
		return "", err
	}
	if r.Several || len(targets) == 0 {
		graves, err := n.allGraves()
		if err != nil {
			return "", err
		}
		if done, err := n.isAmong(graves, r); err != nil || done {
			return "", err
		}
	}
	if len(targets) == 0 && !r.Several {
		return "no document of " + r.Owner.String() + " is known by " + r.knownBy() +
			"; it will be removed when it comes", nil
	}
	for _, t := range targets {
		r.Several = r.Several || t.entry.Blob != targets[0].entry.Blob
	}
	if r.Several {
		return "several documents of " + r.Owner.String() + " are known by " + r.knownBy() +
			"; put the removal into the index that lists the one", nil
	}
	for _, t := range targets {
		if err := n.bury(t); err != nil {
			return "", err
		}
	}
	return "", nil
}

func (r *removal) knownBy() string {
	switch {
	case !r.List:
		return "the path " + strconv.Quote(r.Path)
	case r.SHA1 == nil:
		return "this name, title and date"
	}
	return "this name, title, date and hash"
}

// meant returns the documents that a removal means: those of the patient, or else those of patients
// who were merged into that one.
func (n *native) meant(r *removal) (out []newDocument, err error) {
	patient, err := n.patientOf(r.Owner)
	if err != nil {
		return nil, err
	}
	out, err = n.meantOf(patient, r)
	if err != nil || len(out) > 0 || patient == "" {
		return out, err
	}
	record, err := recordOf(n.store.db, patient)
	if err != nil {
		return nil, err
	}
	for _, replaced := range record[1:] {
		more, err := n.meantOf(replaced, r)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// meantOf returns those of a patient's documents that a removal means; of those that belong to
// nobody for "".
func (n *native) meantOf(patient string, r *removal) (out []newDocument, err error) {
	all, err := n.candidatesOf(patient)
	if err != nil {
		return nil, err
	}
	for i := range all {
		c := &all[i]
		if !r.means(c.id, &c.entry, &c.looks) || patient == "" && c.entry.Owner != r.Owner {
			continue
		}
		there, _, err := n.findDocument(c.id)
		if err != nil {
			return nil, err
		}
		if there != nil {
			out = append(out, c.newDocument)
		}
	}
	return out, nil
}

// candidate is a document that removals may mean. It may be removed by now.
type candidate struct {
	newDocument
	looks looks
}

// candidatesKept bounds how many candidates are kept, but for those of one patient.
const candidatesKept = 1 << 16

// candidatesOf returns the documents that a patient had when somebody asked first; those that
// belong to nobody for "".
func (n *native) candidatesOf(patient string) (all []candidate, err error) {
	if known, is := n.candidates[patient]; is {
		return known, nil
	}
	if n.candidatesRead >= candidatesKept {
		clear(n.candidates)
		n.candidatesRead = 0
	}
	if err := n.flush(); err != nil {
		return nil, err
	}
	prefix := key(kDocument, patient, "")
	err = each(n.store.db, prefix, func(k, v []byte) error {
		c := candidate{newDocument: newDocument{id: string(k[len(prefix):])}}
		err := json.Unmarshal(v, &c.entry)
		all = append(all, c)
		return err
	})
	n.candidates[patient] = all
	n.candidatesRead += len(all) + 1
	return all, err
}

// isAmong reports whether a removal means one of the documents that were removed.
func (n *native) isAmong(graves []grave, r *removal) (bool, error) {
	for i := range graves {
		g := &graves[i]
		if !r.means(g.ID, &g.Entry, &g.looks) {
			continue
		}
		for _, reaches := range []func(of, o owner) (bool, error){n.samePatient, n.mergedInto} {
			if is, err := reaches(g.Entry.Owner, r.Owner); err != nil || is {
				return is, err
			}
		}
	}
	return false, nil
}

// allGraves returns what was removed before the import.
func (n *native) allGraves() ([]grave, error) {
	if n.graves != nil {
		return n.graves, nil
	}
	n.graves = []grave{}
	err := each(n.store.db, indexKey(isGone), func(_, v []byte) error {
		var g grave
		err := json.Unmarshal(v, &g)
		n.graves = append(n.graves, g)
		return err
	})
	return n.graves, err
}

// bury removes a document that was entered in error.
func (n *native) bury(d newDocument) error {
	content, err := blobs.ParseName(d.entry.Blob)
	if err != nil {
		return err
	}
	g := grave{ID: d.id, Entry: d.entry, States: []string{stateOf(&d.entry)}}
	prefix := claimKey(d.id, nil)
	err = each(n.store.db, prefix, func(k, _ []byte) error {
		said, err := n.noteAt(noteID(k[len(prefix):]))
		if err == nil && said != nil && !slices.Contains(g.States, said.State) {
			g.States = append(g.States, said.State)
		}
		return err
	})
	if err != nil {
		return err
	}
	v, err := json.Marshal(g)
	n.buried = append(n.buried, g)
	at, e2 := n.homeOf(d.entry.Owner)
	return errors.Join(err, e2, n.set(graveKey(content, d.id), v),
		n.setFindable(isSameGone, at.patient, d.id, &d.entry), n.removeDocument(d.id))
}

// disturb forgets that a document was removed.
func (n *native) disturb(g *grave) error {
	content, err := blobs.ParseName(g.Entry.Blob)
	if err != nil {
		return err
	}
	at, err := n.homeOf(g.Entry.Owner)
	return errors.Join(err, n.delete(graveKey(content, g.ID)),
		n.deleteFindable(isSameGone, at.patient, g.ID, &g.Entry))
}
