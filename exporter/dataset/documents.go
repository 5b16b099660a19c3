package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/dataset/blobs"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
)

// BlobFolder is the name of the folder of blobs within the data folder: it is beside the store's,
// see Store.blobs.
const BlobFolder = Folder + blobsEnd

// blobsEnd is the end of the name of a store's folder of blobs.
const blobsEnd = ".blobs"

// documentEntry is the value of a D key.
type documentEntry struct {
	Name        string    `json:"name"`
	ContentType string    `json:"type"`
	Title       string    `json:"title,omitempty"`
	Created     time.Time `json:"created,omitzero"`
	Updated     time.Time `json:"updated"`
	marks
	Blob string    `json:"blob"` // blobs.Name
	Size int64     `json:"size"`
	SHA1 []byte    `json:"sha1"`
	Sum  files.Sum `json:"sum"`
	// Owner is whose it is, as its import said.
	Owner owner `json:"owner"`
	// From is the file that it came from.
	From came `json:"from"`
	// Path is that in a documentIndex; "" for a document of an export's list only, and in entries
	// of earlier versions.
	Path string `json:"path,omitempty"`
	// List means that the first import of the document read the list of an export. Entries of
	// earlier versions lack it.
	List bool `json:"list,omitempty"`
}

// marks are what decides whether a document is released, see source.Document. Those that an
// earlier version did not know are empty in its entries.
type marks struct {
	Code     fhir.Coding   `json:"code,omitzero"`
	Codings  []fhir.Coding `json:"codings,omitempty"`
	Category ehi.Category  `json:"category,omitempty"`
	Labels   []fhir.Coding `json:"labels,omitempty"`
	Resource string        `json:"resource,omitempty"`
	Related  []string      `json:"related,omitempty"`
	Unread   bool          `json:"unread,omitempty"`
	Date     string        `json:"date,omitempty"`
}

// came describes the file that a document came from, so that an unchanged one is not read again.
type came struct {
	Size  int64 `json:"size"`  // in bytes
	MTime int64 `json:"mtime"` // in nanoseconds since 1970
}

// blob returns the content of a document.
func (e *documentEntry) blob() (blobs.Blob, error) {
	name, err := blobs.ParseName(e.Blob)
	return blobs.Blob{Name: name, Size: e.Size, SHA1: e.SHA1, Sum: e.Sum}, err
}

// documentsOf visits the documents of one patient's compartment.
func documentsOf(
	ctx context.Context, r pebble.Reader, from *blobs.Folder, q source.Query, patient string,
	visit func(*source.Document) error,
) error {
	return each(r, key(kDocument, patient, ""), func(k, v []byte) error {
		return visitDocument(ctx, from, q, k, v, visit)
	})
}

// visitDocument visits the document of a D key. Errors: blobs.ErrDamaged, also of Open and of what
// it returns.
func visitDocument(
	ctx context.Context, from *blobs.Folder, q source.Query, k, v []byte,
	visit func(*source.Document) error,
) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	parts := split(k)
	var e documentEntry
	if err := json.Unmarshal(v, &e); err != nil {
		return fmt.Errorf("read record store: a document: %w", err)
	}
	if q.Timed() && !q.AdmitsTime(e.Updated) {
		return nil
	}
	blob, err := e.blob()
	if err != nil {
		return err
	}
	if err := from.Check(blob.Name, blob.Size); err != nil {
		return err
	}
	return visit(&source.Document{
		ID:          string(parts[1]),
		Patient:     string(parts[0]),
		Name:        e.Name,
		ContentType: e.ContentType,
		Title:       e.Title,
		Created:     e.Created,
		Date:        e.Date,
		Updated:     e.Updated,
		Type:        e.Code,
		Codings:     e.Codings,
		Category:    e.Category,
		Labels:      e.Labels,
		Resource:    e.Resource,
		Related:     e.Related,
		Unread:      e.Unread,
		Size:        e.Size,
		SHA1:        e.SHA1,
		Sum:         string(e.Sum),
		Path:        from.Path(blob.Name),
		Open:        func() (io.ReadCloser, error) { return from.Open(blob) },
	})
}

// admitsDocuments reports whether a query admits documents: they count as DocumentReferences.
func admitsDocuments(q source.Query) bool { return q.Names("DocumentReference") }

// Documents implements source.Native.
func (r *record) Documents(
	ctx context.Context, q source.Query, visit func(*source.Document) error,
) error {
	if !admitsDocuments(q) {
		return nil
	}
	for _, p := range r.patients {
		if err := documentsOf(ctx, r.snap, r.store.blobs, q, p, visit); err != nil {
			return err
		}
	}
	return nil
}

// Documents implements source.Native.
func (r *partRecord) Documents(
	ctx context.Context, q source.Query, visit func(*source.Document) error,
) error {
	if !admitsDocuments(q) {
		return nil
	}
	p := r.population
	return r.native([]byte{kDocument}, func(k, v []byte) error {
		return visitDocument(ctx, p.of.blobs, q, k, v, visit)
	})
}

// native visits the keys of the part's patients, which follow a prefix. What belongs to no patient
// is no part of it.
func (r *partRecord) native(prefix []byte, visit func(k, v []byte) error) error {
	if r.part.Shared {
		return nil
	}
	db := r.population.store.db
	at := func(patient string) []byte { return append(prefix[:len(prefix):len(prefix)], patient...) }
	if r.chosen != nil {
		for _, id := range r.chosen {
			if id < r.part.From || r.part.To != "" && id >= r.part.To {
				continue
			}
			in, err := r.takesNative(id)
			if err == nil && in {
				err = each(db, append(at(id), 0), visit)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	lower, upper := at("\x01"), after(prefix)
	if r.part.From != "" {
		lower = at(r.part.From)
	}
	if r.part.To != "" {
		upper = at(r.part.To)
	}
	patient, in := "", false
	return between(db, lower, upper, func(k, v []byte) (err error) {
		id, _, _ := bytes.Cut(k[len(prefix):], []byte{0})
		if patient != string(id) {
			patient = string(id)
			if in, err = r.takesNative(patient); err != nil {
				return err
			}
		}
		if !in {
			return nil
		}
		return visit(k, v)
	})
}

// takesNative reports whether a patient's native content is exported: that of a patient without a
// Patient resource waits, unless the patient was merged into one whom an export of the system has.
func (r *partRecord) takesNative(patient string) (bool, error) {
	if r.selection.Level != ehi.System || r.selection.ByPatient {
		return has(r.population.store.db, key(kPatient, patient))
	}
	if r.census == nil {
		r.census = &census{store: r.population.store}
	}
	return r.census.known(patient)
}

// checkBlobs fails if the contents of documents, or the data of attachments, are lost. Errors:
// ErrDamaged.
func (s *Store) checkBlobs() error {
	there, err := s.blobs.Exists()
	if err != nil || there {
		return err
	}
	needed, err := some(s.db, []byte{kBlob})
	if err == nil && needed {
		err = fmt.Errorf("%w: %s is lost or not mounted: it has the contents of documents",
			ErrDamaged, s.blobs.Dir())
	}
	return err
}

// Blobs visits the contents of the documents in a checkpoint, once each, by name and path.
func (s *Store) Blobs(checkpoint string, visit func(name, path string) error) (err error) {
	db := s.db
	if checkpoint != s.dir {
		opts := options(s.log, s.harm)
		opts.ReadOnly, opts.FS = true, lockless{vfs.Default}
		if db, err = pebble.Open(checkpoint, opts); err != nil {
			return openError(checkpoint, err)
		}
		defer func() { err = errors.Join(err, db.Close()) }()
	}
	var last blobs.Name
	return each(db, []byte{kBlob}, func(k, _ []byte) error {
		name := blobs.Name(k[1:])
		if name == last {
			return nil
		}
		last = name
		return visit(name.String(), s.blobs.Path(name))
	})
}

// markAll marks all blobs as loose, so that the next sweep looks at each. A process that dies
// without a log may leave blobs without their mark, and with a holder that it did not write.
func (s *Store) markAll() (err error) {
	b := s.db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	err = s.blobs.Each(func(name blobs.Name) error {
		if err := b.Set(looseKey(name), nil, nil); err != nil || b.Len() < batchBytes {
			return err
		}
		err := b.Commit(pebble.NoSync)
		b.Reset()
		return err
	})
	return errors.Join(err, b.Commit(pebble.NoSync))
}

// harden makes the marks of blobs durable before the blobs are there. A bulk import has no log:
// after its death, markAll does it.
func (s *Store) harden() error {
	if s.bulk {
		return nil
	}
	return s.db.LogData([]byte{0}, pebble.Sync)
}

// sweepAtOnce is how many blobs are looked at while nobody can open a record.
const sweepAtOnce = 100

// sweepBlobs removes the blobs to which no document refers any more, neither in the store nor in a
// frozen population. It does nothing while a record is open: what it leaves is removed after a
// later import, or when the store is opened. The caller holds s.writing, or has just opened the
// store.
func (s *Store) sweepBlobs() error {
	candidates, err := first(s.db, []byte{kLoose}, 1)
	if err != nil || len(candidates) == 0 {
		return err
	}
	last := ""
	for {
		var names []blobs.Name
		err := between(s.db, append([]byte{kLoose}, last...), after([]byte{kLoose}),
			func(k, _ []byte) error {
				if len(names) == sweepAtOnce {
					return errEnough
				}
				names = append(names, blobs.Name(k[1:]))
				return nil
			})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
		if len(names) == 0 {
			return nil
		}
		last = string(names[len(names)-1][:]) + "\x00"
		if err := s.pins.Unpinned(func() error { return s.removeLoose(names) }); err != nil {
			return err
		}
	}
}

// removeLoose removes those of some blobs that nobody needs.
func (s *Store) removeLoose(names []blobs.Name) (err error) {
	s.frozen.mu.Lock() // nothing is frozen meanwhile
	defer s.frozen.mu.Unlock()
	if err := s.forgetHolders(names); err != nil {
		return err
	}
	live, needed := map[blobs.Name]bool{}, map[blobs.Name]bool{}
	err = refers(s.db, names, live)
	if err == nil && len(live) < len(names) {
		err = s.frozenNeed(names, needed)
	}
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	for _, n := range names {
		if needed[n] && !live[n] {
			continue
		}
		if !live[n] {
			err = s.blobs.Remove(n)
		}
		if err = errors.Join(err, b.Delete(looseKey(n), nil)); err != nil {
			return err
		}
	}
	return b.Commit(pebble.NoSync)
}

// frozenNeed adds the blobs that a frozen population refers to. The caller holds frozen.mu.
func (s *Store) frozenNeed(names []blobs.Name, needed map[blobs.Name]bool) error {
	frozen, err := s.Frozen()
	if err != nil {
		return err
	}
	for _, name := range frozen {
		if p := s.frozen.open[name]; p != nil {
			if err := refers(p.store.db, names, needed); err != nil {
				return err
			}
			continue
		}
		p, err := s.openFrozen(name)
		if err != nil {
			return fmt.Errorf("open frozen population: %w", err)
		}
		if err := errors.Join(refers(p.store.db, names, needed), p.store.db.Close()); err != nil {
			return err
		}
	}
	return nil
}

// refers adds the blobs that a document in r has.
func refers(r pebble.Reader, names []blobs.Name, needed map[blobs.Name]bool) error {
	for _, n := range names {
		if needed[n] {
			continue
		}
		there, err := some(r, append([]byte{kBlob}, n[:]...))
		if err != nil {
			return err
		}
		if there {
			needed[n] = true
		}
	}
	return nil
}

func looseKey(n blobs.Name) []byte { return append([]byte{kLoose}, n[:]...) }

func blobKey(n blobs.Name, document string) []byte {
	return append(append([]byte{kBlob}, n[:]...), document...)
}
