package dataset

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/dataset/blobs"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// A document of a documentIndex is known by its patient, its path below the folder of the index,
// and its content. So deliveries whose files have the same names do not replace each other's
// documents, and a folder is the same at another place. A document of an export's list is known by
// its patient, name, title, date and content, because the numbers in the names of two exports
// differ. What is the same by either is one document: its ID is that of its first import.

// idOf returns the ID of a new document of a row.
func (d *documentLine) idOf(content blobs.Name) string {
	if d.known != "" {
		return d.known
	}
	return hexOf(digestOf(d.owner.ID, d.owner.System, d.owner.Value, d.path, content.String()))
}

// formerID returns the ID that earlier versions gave to a document of a documentIndex.
func formerID(o owner, path string) string {
	return hexOf(digestOf(o.ID, o.System, o.Value, path))
}

// listID returns the ID of the n-th document of an export's list that has all this.
func listID(o owner, name, title string, created time.Time, sha1 []byte, n int) string {
	parts := []string{
		o.ID, o.System, o.Value, name, title, fhir.FormatInstant(created), hex.EncodeToString(sha1),
	}
	if n > 0 {
		parts = append(parts, strconv.Itoa(n))
	}
	return hexOf(digestOf(parts...))
}

// mostSame is how many documents of a list that are the same by all that is known are told apart
// from those of a documentIndex in a store of an earlier version.
const mostSame = 16

// fromList reports whether a document came with the list of an export only.
func fromList(id string, e *documentEntry) bool {
	if e.Path != "" || e.List {
		return e.Path == ""
	}
	for n := range mostSame {
		if id == listID(e.Owner, e.Name, e.Title, e.Created, e.SHA1, n) {
			return true
		}
	}
	return false
}

// hasPath reports whether a document came from a path of a documentIndex.
func hasPath(id string, e *documentEntry, path string) bool {
	return e.Path == path || e.Path == "" && id == formerID(e.Owner, path)
}

// alike reports whether an entry of an export's list may mean a document of the same content.
func alike(a, b *documentEntry) bool { return appearance(a) == appearance(b) }

// appearance returns what an entry of an export's list says of a document beside its content.
// Exports write the ehi.FileName of a name, and the name in place of a title. Stored keys follow
// from it, so a change needs another layout.
func appearance(e *documentEntry) [3]string {
	return [3]string{
		ehi.FileName(e.Name), fhir.FormatInstant(e.Created),
		ehi.PortableName(cmp.Or(e.Title, e.Name)),
	}
}

// stateOf returns what tells apart what indexes say of one document.
func stateOf(e *documentEntry) string {
	title := e.Title
	if title == e.Name {
		title = ""
	}
	text, err := json.Marshal(e.marks)
	if err != nil { // strings only: cannot fail
		panic(err)
	}
	return hexOf(digestOf(e.Name, e.ContentType, title, fhir.FormatInstant(e.Created),
		string(text)))
}

// have returns the key and the entry of a document, also of one that waits for Publish, which has
// no key.
func (n *native) have(id string) (k []byte, e documentEntry, there bool, err error) {
	for i := range slices.Backward(n.entries) { // the latest is stored last
		if n.entries[i].id == id {
			return nil, n.entries[i].entry, true, nil
		}
	}
	k, e, err = n.findDocument(id)
	return k, e, k != nil, err
}

// samePatient reports whether two owners lead to one patient.
func (n *native) samePatient(a, b owner) (bool, error) {
	x, err := n.homeOf(a)
	if err != nil {
		return false, err
	}
	y, err := n.homeOf(b)
	return x == y, err
}

// mergedInto reports whether a patient was merged into another one.
func (n *native) mergedInto(from, into owner) (bool, error) {
	x, err := n.patientOf(from)
	if err != nil || x == "" {
		return false, err
	}
	y, err := n.patientOf(into)
	if err != nil || y == "" || x == y {
		return false, err
	}
	record, err := recordOf(n.store.db, y)
	return slices.Contains(record, x), err
}

// identify returns the ID of a document whose content is known, and the grave of a document that
// was removed; nil if it was not.
func (n *native) identify(
	d *documentLine, e *documentEntry, l *listing,
) (id string, dead *grave, err error) {
	content, err := blobs.ParseName(e.Blob)
	if err != nil {
		return "", nil, err
	}
	own := d.idOf(content)
	if _, _, there, err := n.have(own); err != nil || there {
		return own, nil, err
	}
	at, err := n.homeOf(e.Owner)
	if err != nil {
		return "", nil, err
	}
	former, err := n.formerIDs(at, e.Owner, d)
	if err != nil {
		return "", nil, err
	}
	for _, id := range former {
		_, have, there, err := n.have(id)
		if err != nil || there && have.Blob == e.Blob {
			return id, nil, err
		}
	}
	if !l.list {
		if err := l.meetStrays(content, d); err != nil {
			return "", nil, err
		}
		if id := n.waitingAt(at, e); id != "" {
			return id, nil, nil
		}
	}
	id, _, err = l.find(isSame, at, e)
	if err != nil || id != "" {
		return id, nil, err
	}
	dead, err = l.findGrave(at, e, append(former, own))
	if err != nil || dead == nil {
		return own, nil, err
	}
	return dead.ID, dead, nil
}

// merged returns what the store says of a document that it has, once an index says something of it.
func (e documentEntry) merged(have *documentEntry, list bool) documentEntry {
	e.Owner = have.Owner
	if !list {
		return e
	}
	e.Path, e.List = have.Path, have.List
	if alike(&e, have) { // the export wrote these in its own way
		e.Name, e.Title, e.Created = have.Name, have.Title, have.Created
	}
	return e
}

// textDigest tells the states of a text apart.
type textDigest struct{ hash.Hash }

func newTextDigest() textDigest { return textDigest{sha256.New()} }

func (t textDigest) text() string { return hexOf(digest(t.Sum(nil)[:len(digest{})])) }

// hexOf returns a digest as a text.
func hexOf(d digest) string { return hex.EncodeToString(d[:]) }
