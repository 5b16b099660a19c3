package dataset

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/dataset/blobs"
	"ehi-server/exporter/source"
	"ehi-server/shared/fhir"
)

// native imports what is not FHIR: documents, and rows of tables. It runs when the resources of an
// import have been settled, because identifiers lead from native content to patients and not
// back. It is used by one goroutine, which holds Store.writing.
//
// What it writes is placed at once: below the patient to whom it leads, or below no patient, where
// it waits. If a later import changes where it leads, settle moves it.
type native struct {
	*importer
	batch *pebble.Batch
	// pending holds the keys that the batch sets or deletes. Reads through get see them.
	pending *filter
	blobs   *blobs.Batch
	// entries are what is to be said of the documents whose blobs wait for Publish.
	entries []newDocument
	rows    *rows // of the latest descriptor, or nil
	// refused are tables that a descriptor of the import has a wrong description of.
	refused map[string]bool
	// cleared are tables whose rows were removed because they have another description now.
	cleared map[string]bool
	// behind are problems of tables that follow such a table as it was, by their names.
	behind map[string]source.Problem
	// read are the indexes of documents that the import has read, by their digests, with the states
	// of their texts.
	read map[digest]string
	// graves are the documents that were removed before the import; nil until somebody asks.
	// buried are those that it removes.
	graves, buried []grave
	// candidates are documents of patients that removals name; candidatesRead is their number.
	candidates     map[string][]candidate
	candidatesRead int
	// paths are the notes of the paths that rows were about; pathNotes is their number.
	paths     map[notePath]*pathNotes
	pathNotes int
	resolver  resolver
	named     map[owner]string // the patient to whom it leads, or ""
	// grown is by how many bytes the native content of patients grew in the batch.
	grown map[string]int64
	wrote bool // something was written to the store
	// arranged means that all documents of the store are with their patients.
	arranged bool
	// former means that the store may have documents without a path, see formerIDs.
	former bool
}

func (im *importer) newNative() *native {
	return &native{
		importer: im,
		batch:    im.store.newBatch(),
		pending:  newFilterOf(pendingBytes),
		blobs:    im.store.blobs.Batch(),
		resolver: newResolver(im.store.db),
		named:    map[owner]string{},
		refused:  map[string]bool{},
		cleared:  map[string]bool{},
		behind:   map[string]source.Problem{},
		read:     map[digest]string{},
		paths:    map[notePath]*pathNotes{},
		grown:    map[string]int64{},
	}
}

// importNative imports the native content of an import, and settles what the store has.
func (im *importer) importNative(ctx context.Context) (err error) {
	there, err := im.store.hasNative()
	if err != nil || !there && len(im.native) == 0 && im.generated == nil {
		return err
	}
	n := im.newNative()
	defer func() { err = errors.Join(err, n.close()) }()
	err = errors.Join(im.store.dropScratch(), n.convertNotes(), n.arrange(ctx), n.meetAll(ctx))
	for _, in := range im.native {
		if err != nil {
			break
		}
		err = n.input(ctx, in)
	}
	if err == nil && im.generated != nil {
		err = n.copy(ctx, im.generated)
	}
	if err != nil { // settle what came
		ctx = context.WithoutCancel(ctx)
	}
	err = errors.Join(err, n.settle(ctx))
	if err != nil || !n.wrote {
		return err
	}
	if err := im.store.sweepBlobs(); err != nil { // a later one goes on
		im.store.log.Warn("contents of documents that nobody needs cannot be removed yet", "err",
			err)
	}
	return nil
}

// hasNative reports whether the store has native content.
func (s *Store) hasNative() (bool, error) {
	documents, err := some(s.db, []byte{kDocument})
	if err != nil || documents {
		return documents, err
	}
	return has(s.db, key(kTables))
}

// input imports one input.
func (n *native) input(ctx context.Context, in Input) error {
	if isDescriptor(filepath.Base(in.Path)) {
		return n.tablesIn(ctx, in)
	}
	return n.documents(ctx, in)
}

func (n *native) close() error { return errors.Join(n.blobs.Drop(), n.batch.Close()) }

// owner is whose native content is, as the import said: a patient's ID, or an identifier.
type owner struct {
	ID     string `json:"id,omitempty"`
	System string `json:"system,omitempty"`
	Value  string `json:"value,omitempty"`
}

func (o owner) String() string {
	if o.ID != "" {
		return "Patient/" + o.ID
	}
	return o.System + "|" + o.Value
}

// namedOwner is the value of an A key: an identifier and the patient to whom it leads.
type namedOwner struct {
	owner
	Patient string `json:"patient,omitempty"` // "" for nobody, or several
}

func namedKey(o owner) []byte {
	return digestKey(kNamed, digestOf(o.System, o.Value))
}

// patientOf returns the patient to whom an owner leads; "" for nobody yet.
func (n *native) patientOf(o owner) (string, error) {
	if o.ID != "" {
		return o.ID, nil
	}
	if patient, known := n.named[o]; known {
		return patient, nil
	}
	k := namedKey(o)
	v, err := n.get(k)
	if err != nil {
		return "", err
	}
	var is namedOwner
	if v != nil {
		err = json.Unmarshal(v, &is)
	} else {
		is.owner = o
		is.Patient, err = n.resolve(o)
		err = errors.Join(err, n.setNamed(k, is))
	}
	if err != nil {
		return "", err
	}
	if len(n.named) >= namesKept {
		clear(n.named)
	}
	n.named[o] = is.Patient
	return is.Patient, nil
}

func (n *native) resolve(o owner) (string, error) {
	return n.resolver.patient(fhir.Identifier{System: o.System, Value: o.Value})
}

func (n *native) setNamed(k []byte, is namedOwner) error {
	v, err := json.Marshal(is)
	if err != nil {
		return err
	}
	return n.set(k, v)
}

// arrange moves the documents that now lead to another patient, and makes the keys by which
// documents are found, if the store is of an earlier version.
func (n *native) arrange(ctx context.Context) error {
	err := errors.Join(n.renamed(ctx), n.flush())
	if err != nil {
		return err
	}
	err = each(n.store.db, []byte{kUprooted}, func(k, _ []byte) error {
		return errors.Join(ctx.Err(), n.replaceDocuments(string(k[1:])))
	})
	err = errors.Join(err, n.replaceDocuments(""), n.flush())
	if err == nil {
		err = n.makeFindable(ctx)
	}
	if err == nil {
		n.former, err = some(n.store.db, indexKey(isFormer))
	}
	n.arranged = err == nil
	return err
}

// settle writes everything, and moves what now leads to another patient. The store is durable when
// it returns.
func (n *native) settle(ctx context.Context) error {
	steps := []func(context.Context) error{n.publish}
	if !n.arranged {
		steps = append(steps, n.renamed)
	}
	d, err := n.allTables()
	if err != nil {
		return err
	}
	if d != nil {
		n.rows = n.newRows(d)
	}
	steps = append(steps, n.replace, n.placeWaiting)
	if d != nil {
		steps = append(steps, n.rows.recheck)
	}
	steps = append(steps, n.tellBehind)
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	bad := n.remove()
	if err := n.flush(); err != nil || !n.wrote {
		return errors.Join(bad, err)
	}
	if n.store.bulk {
		return errors.Join(bad, n.store.mergeOthers(ctx), n.store.db.Flush())
	}
	return errors.Join(bad, n.store.sync())
}

// renamed looks all identifiers of owners up again, and marks the patients to whom they led
// before.
func (n *native) renamed(ctx context.Context) error {
	clear(n.named)
	if err := n.flush(); err != nil {
		return err
	}
	return each(n.store.db, []byte{kNamed}, func(k, v []byte) error {
		var is namedOwner
		if err := errors.Join(ctx.Err(), json.Unmarshal(v, &is)); err != nil {
			return err
		}
		now, err := n.resolve(is.owner)
		if err != nil || now == is.Patient {
			return err
		}
		before := is.Patient
		is.Patient = now
		err = n.setNamed(k, is)
		if before != "" {
			err = errors.Join(err, n.set(key(kUprooted, before), nil))
		}
		return errors.Join(err, n.flushFull())
	})
}

// replace places the native content of marked patients again.
func (n *native) replace(ctx context.Context) error {
	if err := n.flush(); err != nil {
		return err
	}
	return each(n.store.db, []byte{kUprooted}, func(k, _ []byte) error {
		patient := string(k[1:])
		err := errors.Join(ctx.Err(), n.replaceDocuments(patient))
		if n.rows != nil {
			err = errors.Join(err, n.rows.replaceRows(patient))
		}
		if err != nil {
			return err
		}
		return errors.Join(n.flush(), n.delete(k))
	})
}

// placeWaiting places what belonged to no patient.
func (n *native) placeWaiting(ctx context.Context) error {
	if err := n.flush(); err != nil {
		return err
	}
	if !n.arranged {
		if err := n.replaceDocuments(""); err != nil {
			return err
		}
	}
	if n.rows == nil {
		return nil
	}
	return n.rows.placeRows(ctx)
}

// allTables returns the dictionary; nil if there are no tables.
func (n *native) allTables() (*dictionary, error) {
	if err := n.flush(); err != nil {
		return nil, err
	}
	return n.store.dictionaryOf(n.store.db)
}

// grow counts bytes of native content of a patient.
func (n *native) grow(patient string, bytes int64) {
	if patient != "" {
		n.grown[patient] += bytes
	}
}

// nativeBytes returns the size of a patient's native content by the value of its Y key: Pebble
// concatenates what is merged into it.
func nativeBytes(v []byte) (bytes int64) {
	for len(v) > 0 {
		by, n := binary.Varint(v)
		if n <= 0 {
			break
		}
		bytes, v = bytes+by, v[n:]
	}
	return max(bytes, 0)
}

func (n *native) set(k, v []byte) error {
	n.pending.add(k)
	return n.batch.Set(k, v, nil)
}

func (n *native) delete(k []byte) error {
	n.pending.add(k)
	return n.batch.Delete(k, nil)
}

// get returns a copy of a key's value, or nil.
func (n *native) get(k []byte) ([]byte, error) {
	if !n.pending.lacks(k) {
		if err := n.flush(); err != nil {
			return nil, err
		}
	}
	return get(n.store.db, k)
}

// flushFull writes the batch to the store once it is large enough.
func (n *native) flushFull() error {
	if n.batch.Len() < batchBytes {
		return nil
	}
	return n.flush()
}

// flush writes the batch to the store.
func (n *native) flush() error {
	if n.batch.Empty() {
		return nil
	}
	if err := n.roomFor(0); err != nil {
		return err
	}
	for patient, by := range n.grown {
		err := n.batch.Merge(key(kNative, patient), binary.AppendVarint(nil, by), nil)
		if err != nil {
			return err
		}
	}
	clear(n.grown)
	written, err := n.store.begins(func(k, v []byte) error { return n.batch.Set(k, v, nil) })
	if err != nil {
		return err
	}
	if err := n.batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("write record store: %w", plainError(err))
	}
	written()
	n.wrote = true
	n.batch.Reset()
	n.pending.clear()
	return nil
}

// roomFor fails if the disk has too little room for a number of bytes.
func (n *native) roomFor(bytes int64) error {
	if n.w.floor > 0 && !n.store.hasFree(n.w.floor+bytes) {
		return fmt.Errorf("write record store: less than %d bytes are free on its disk: %w",
			n.w.floor+bytes, syscall.ENOSPC)
	}
	return nil
}

// newDocument is a document whose blob waits for Publish.
type newDocument struct {
	id    string
	entry documentEntry
}

const (
	// blobsAtOnce and blobBytes bound how much is synced together.
	blobsAtOnce = 512
	blobBytes   = 64 << 20
)

// document adds a document whose content is in the batch of blobs.
func (n *native) document(ctx context.Context, d newDocument) error {
	n.entries = append(n.entries, d)
	if n.blobs.Len() < blobsAtOnce && n.blobs.Bytes() < blobBytes {
		return nil
	}
	return n.publish(ctx)
}

// publish stores the collected documents: the blobs first. A blob is marked as loose before it is
// there, so that it is removed if the process dies before its document is written.
func (n *native) publish(context.Context) error {
	if len(n.entries) == 0 {
		return nil
	}
	for _, name := range n.blobs.Names() {
		if err := n.set(looseKey(name), nil); err != nil {
			return err
		}
	}
	entries := n.entries
	n.entries = nil // whatever fails from here on, they are not written without their blobs
	if err := n.flush(); err != nil {
		return err
	}
	if err := n.store.harden(); err != nil {
		return err
	}
	if err := n.blobs.Publish(); err != nil {
		return err
	}
	for _, d := range entries {
		if err := n.putDocument(d.id, d.entry); err != nil {
			return err
		}
	}
	return n.flush()
}

// putDocument stores a document in place of an earlier one.
func (n *native) putDocument(id string, e documentEntry) error {
	blob, err := e.blob()
	if err != nil {
		return err
	}
	patient, err := n.patientOf(e.Owner)
	if err != nil {
		return err
	}
	if err := n.takeDocument(id); err != nil {
		return err
	}
	v, err := json.Marshal(e)
	if err != nil {
		return err
	}
	n.grow(patient, e.Size)
	return errors.Join(n.set(key(kDocument, patient, id), v), n.set(key(kDocuments, id),
		[]byte(patient)), n.set(blobKey(blob.Name, id), nil), n.delete(looseKey(blob.Name)),
		n.setFindable(isSame, patient, id, &e))
}

// takeDocument takes a document out of the store, if it is there.
func (n *native) takeDocument(id string) error {
	k, e, err := n.findDocument(id)
	if err != nil || k == nil {
		return err
	}
	blob, err := e.blob()
	if err != nil {
		return err
	}
	patient := string(split(k)[0])
	n.grow(patient, -e.Size)
	return errors.Join(n.delete(k), n.delete(blobKey(blob.Name, id)),
		n.set(looseKey(blob.Name), nil), n.deleteFindable(isSame, patient, id, &e))
}

// findDocument returns the key of a document and its entry, or nil.
func (n *native) findDocument(id string) (k []byte, e documentEntry, err error) {
	patient, err := n.get(key(kDocuments, id))
	if err != nil || patient == nil {
		return nil, e, err
	}
	k = key(kDocument, string(patient), id)
	v, err := n.get(k)
	if err != nil || v == nil {
		return nil, e, err
	}
	return k, e, json.Unmarshal(v, &e)
}

// replaceDocuments moves those of a patient's documents, and graves, that now lead to another one;
// those that led to nobody for "".
func (n *native) replaceDocuments(patient string) error {
	if err := n.replaceGraves(patient); err != nil {
		return err
	}
	return each(n.store.db, key(kDocument, patient, ""), func(k, v []byte) error {
		var e documentEntry
		if err := json.Unmarshal(v, &e); err != nil {
			return err
		}
		now, err := n.patientOf(e.Owner)
		if err != nil || now == patient {
			return err
		}
		id := string(split(k)[1])
		n.grow(patient, -e.Size)
		n.grow(now, e.Size)
		return errors.Join(n.delete(k), n.set(key(kDocument, now, id), v),
			n.set(key(kDocuments, id), []byte(now)), n.deleteFindable(isSame, patient, id, &e),
			n.setFindable(isSame, now, id, &e), n.flushFull())
	})
}

// entryOf returns what the store says of a document from an index.
func (n *native) entryOf(d *documentLine, c came) documentEntry {
	path := d.path
	if d.list {
		path = ""
	}
	return documentEntry{
		Path: path, List: d.list, Name: d.name, ContentType: d.contentType, Title: d.title,
		Created: d.created,
		Updated: n.now(), marks: d.marks, Owner: d.owner, From: c,
	}
}

func (n *native) now() time.Time { return n.o.Now.UTC().Truncate(time.Millisecond) }

// unplacedNative adds to the report what of native content belongs to no known patient.
func (im *importer) unplacedNative() error {
	u, err := im.store.unplacedDocuments()
	if err == nil && u.Count > 0 {
		im.report.UnplacedDocuments = &u
	}
	if err == nil {
		im.report.UnplacedRows, err = im.store.unplacedRows()
	}
	return err
}

// unplacedDocuments counts the documents that are in no record.
func (s *Store) unplacedDocuments() (u source.UnplacedType, err error) {
	count := func(_, v []byte) error {
		var e documentEntry
		if u.Count++; u.Count > 1 {
			return nil
		}
		err := json.Unmarshal(v, &e)
		u.Example = e.Name + " of " + e.Owner.String()
		return err
	}
	err = each(s.db, key(kDocument, "", ""), count)
	if err != nil {
		return u, err
	}
	return u, s.nativeStrays(func(patient string) error {
		return each(s.db, key(kDocument, patient, ""), count)
	})
}

// nativeStrays visits the patients with native content who are in no record.
func (s *Store) nativeStrays(visit func(patient string) error) error {
	c := census{store: s, out: source.Unplaced{}}
	return each(s.db, []byte{kNative}, func(k, _ []byte) error {
		patient := string(k[1:])
		known, err := c.known(patient)
		if err != nil || known {
			return err
		}
		return visit(patient)
	})
}
