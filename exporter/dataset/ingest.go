package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"ehi-server/shared/fhir"
)

// batchBytes is how much is gathered before it is written to the store.
const batchBytes = 4 << 20

// Writer puts resources into the store. It is for one goroutine. What it wrote is in exports once Settle has run.
type Writer struct {
	store  *Store
	batch  *pebble.Batch
	now    time.Time
	gen    []byte // the generation of shared resources that this writer makes
	cursor fhir.Cursor
	buf    bytes.Buffer
	line   []byte
}

// NewWriter starts writing; now is the time of import that new and changed resources get.
func (s *Store) NewWriter(now time.Time) *Writer {
	return &Writer{store: s, batch: s.db.NewIndexedBatch(), now: now, gen: strconv.AppendInt(nil, time.Now().UnixNano(), 36)}
}

// names is what a bundle calls its resources: fullUrl or type?identifier -> type/id.
type names map[string]string

// facts is what one walk over a resource finds out.
type facts struct {
	typ, id     string
	refs        []refAt
	owners      []string // patients whose compartment it is in
	anchors     []string // type/id of what it is about, where that is no patient: its owner is theirs
	identifiers []string // system|value of identifier[]
	name        []string // of the first name: given names, then the family name
}

// refAt is one reference string and where its JSON stands in the line.
type refAt struct {
	start, end int
	text       string
}

// errResource says what is wrong with a resource; the rest of its file is fine.
type errResource struct{ why string }

func (e errResource) Error() string { return e.why }

// Put stores one resource (any JSON form; it is compacted). local gives the names that its bundle uses, fallback is the
// patient to whom a resource that names none belongs; both may be empty. Errors about the resource itself are
// errResource; others end the import.
func (w *Writer) Put(resource []byte, local names, fallback string) error {
	w.buf.Reset()
	if err := json.Compact(&w.buf, resource); err != nil {
		return errResource{fmt.Sprintf("not valid JSON: %v", err)}
	}
	f, err := w.examine(w.buf.Bytes())
	if err != nil {
		return err
	}
	line, changed := w.resolve(w.buf.Bytes(), f.refs, local)
	if changed {
		if f, err = w.examine(line); err != nil {
			return err
		}
	}
	owners, err := w.owners(f, fallback)
	if err != nil {
		return err
	}
	if len(owners) > 0 {
		err = w.putOwned(f, line, owners)
	} else {
		err = w.putShared(f, line)
	}
	if err != nil {
		return err
	}
	if w.batch.Len() >= batchBytes {
		return w.flush(pebble.NoSync)
	}
	return nil
}

// owners decides whose a resource is: the patients that it names, the owner of what it is about (the target of a
// Provenance), or the fallback. None: it is shared.
func (w *Writer) owners(f facts, fallback string) ([]string, error) {
	if len(f.owners) > 0 || fhir.CompartmentPaths(f.typ) == nil {
		return f.owners, nil
	}
	for _, a := range f.anchors {
		typ, id, _ := strings.Cut(a, "/")
		if owners, err := w.ownersOf(typ, id); err != nil || len(owners) > 0 {
			return owners, err
		}
	}
	if fallback != "" {
		return []string{fallback}, nil
	}
	return nil, nil
}

// ownersOf looks up whose a stored resource is; nil for a shared one and for one that is not there.
func (w *Writer) ownersOf(typ, id string) ([]string, error) {
	return ownersIn(w.batch, typ, id)
}

func ownersIn(r pebble.Reader, typ, id string) ([]string, error) {
	v, closer, err := r.Get(key(kOwner, typ, id))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read record store: %w", err)
	}
	owners := strings.Split(string(v), ownerSeparator)
	return owners, closer.Close()
}

// ownerSeparator stands between the patients of an o key's value; no FHIR id holds it.
const ownerSeparator = " "

func (w *Writer) putOwned(f facts, line []byte, owners []string) error {
	if err := w.disown(f, owners); err != nil {
		return err
	}
	for _, p := range owners {
		err := w.put(key(kCompartment, p, f.typ, f.id), len(owners) > 1, line, func() error {
			return errors.Join(w.batch.Set(key(kTouched, p), nil, nil),
				w.batch.Set(key(kOwner, f.typ, f.id), []byte(strings.Join(owners, ownerSeparator)), nil))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// disown takes a resource out of the records of patients whose it no longer is: a corrected subject must not leave it behind.
func (w *Writer) disown(f facts, owners []string) error {
	before, err := w.ownersOf(f.typ, f.id)
	if err != nil {
		return err
	}
	for _, p := range before {
		if slices.Contains(owners, p) {
			continue
		}
		err = errors.Join(err, w.batch.Delete(key(kCompartment, p, f.typ, f.id), nil), w.batch.Set(key(kTouched, p), nil, nil))
	}
	if len(before) > 0 && len(owners) == 0 {
		err = errors.Join(err, w.batch.Delete(key(kOwner, f.typ, f.id), nil))
	}
	return err
}

// put writes a line where it differs from what is there, and then calls changed.
func (w *Writer) put(k []byte, shared bool, line []byte, changed func() error) error {
	old, closer, err := w.batch.Get(k)
	if err == nil {
		_, oldLine := decodeValue(old)
		same := bytes.Equal(oldLine, line) && several(old) == shared
		if err := closer.Close(); err != nil || same {
			return err
		}
	} else if !errors.Is(err, pebble.ErrNotFound) {
		return fmt.Errorf("read record store: %w", err)
	}
	if err := w.batch.Set(k, encodeValue(w.now, shared, line), nil); err != nil {
		return err
	}
	return changed()
}

func (w *Writer) putShared(f facts, line []byte) error {
	if err := w.disown(f, nil); err != nil {
		return err
	}
	return w.put(key(kShared, f.typ, f.id), false, line, func() error {
		for _, ident := range f.identifiers {
			if err := w.batch.Set(key(kIdentifier, f.typ, ident), []byte(f.id), nil); err != nil {
				return err
			}
		}
		if len(f.anchors) > 0 {
			if err := w.batch.Set(key(kOrphan, f.typ, f.id), nil, nil); err != nil {
				return err
			}
		}
		return w.linkShared(f)
	})
}

// linkShared makes the x keys of a shared resource anew and marks it pending where a reference is not resolved.
func (w *Writer) linkShared(f facts) error {
	if err := errors.Join(w.clear(key(kSharedLink, f.typ, f.id, "")), w.batch.Set(key(kGeneration), w.gen, nil)); err != nil {
		return err
	}
	pending := false
	for _, r := range f.refs {
		typ, id, ok := fhir.Local([]byte(r.text))
		if !ok {
			pending = pending || !fhir.External([]byte(r.text))
			continue
		}
		if err := w.batch.Set(key(kSharedLink, f.typ, f.id, string(typ), string(id)), nil, nil); err != nil {
			return err
		}
		absent, err := missing(w.batch, key(kShared, string(typ), string(id)))
		if err != nil {
			return err
		}
		pending = pending || absent
	}
	k := key(kPending, f.typ, f.id)
	if pending {
		return w.batch.Set(k, nil, nil)
	}
	return w.batch.Delete(k, nil)
}

// clear deletes every key below prefix. One by one: a range tombstone for each patient would slow every later look-up down.
func (w *Writer) clear(prefix []byte) error {
	var keys [][]byte
	err := each(w.batch, prefix, func(k, _ []byte) error {
		keys = append(keys, bytes.Clone(k))
		return nil
	})
	for _, k := range keys {
		err = errors.Join(err, w.batch.Delete(k, nil))
	}
	return err
}

// examine walks a compact resource once.
func (w *Writer) examine(line []byte) (facts, error) {
	var f facts
	var system, value, family string
	var subjects []subject
	named := false
	c := &w.cursor
	var path []byte
	for c.Reset(line); c.Next(); {
		if c.Kind == fhir.Close && c.Depth == 2 && string(c.KeyAt(1)) == "identifier" {
			if value != "" {
				f.identifiers = append(f.identifiers, system+"|"+value)
			}
			system, value = "", ""
		}
		if c.Kind == fhir.Close && c.Depth == 2 && string(c.KeyAt(1)) == "name" && !named {
			f.name, named = append(f.name, family), true
		}
		if !c.IsString() {
			continue
		}
		switch k := c.Key(); {
		case c.Depth == 1 && string(k) == "resourceType":
			f.typ = string(c.Text())
		case c.Depth == 1 && string(k) == "id":
			f.id = string(c.Text())
		case string(k) == "reference":
			start, end := c.Span()
			text := string(c.Text())
			f.refs = append(f.refs, refAt{start, end, text})
			path = c.AppendPath(path[:0])
			if typ, id, ok := fhir.Local([]byte(text)); ok {
				subjects = append(subjects, subject{string(bytes.TrimSuffix(path, []byte(".reference"))), string(typ), string(id)})
			}
		case c.Depth == 3 && string(c.KeyAt(1)) == "identifier":
			switch string(k) {
			case "system":
				system = string(c.Text())
			case "value":
				value = string(c.Text())
			}
		case named || c.Depth < 3 || string(c.KeyAt(1)) != "name":
		case string(k) == "family":
			family = string(c.Text())
		case string(k) == "given":
			f.name = append(f.name, string(c.Text()))
		}
	}
	if !fhir.KnownType(f.typ) {
		return f, errResource{fmt.Sprintf("resourceType %q is no type of FHIR R4", f.typ)}
	}
	if !fhir.ValidID(f.id) {
		return f, errResource{fmt.Sprintf("%s has no valid id: %q", f.typ, f.id)}
	}
	f.place(subjects)
	return f, nil
}

// subject is a local reference and the path of its field.
type subject struct{ path, typ, id string }

// place finds what decides about the owner among a resource's references.
func (f *facts) place(subjects []subject) {
	if f.typ == "Patient" {
		f.owners = []string{f.id}
		return
	}
	paths := fhir.CompartmentPaths(f.typ)
	for _, s := range subjects {
		about := slices.Contains(paths, s.path)
		switch {
		case about && s.typ == "Patient":
			if !slices.Contains(f.owners, s.id) {
				f.owners = append(f.owners, s.id)
			}
		case paths != nil && (about || s.path == "encounter" || s.path == "context"):
			f.anchors = append(f.anchors, s.typ+"/"+s.id)
		}
	}
}

// resolve rewrites urn: and conditional references to type/id, as far as their targets are known.
func (w *Writer) resolve(line []byte, refs []refAt, local names) (out []byte, changed bool) {
	var edits []fhir.Edit
	for _, r := range refs {
		if target := w.lookup(r.text, local); target != "" {
			edits = append(edits, fhir.Edit{Start: r.start, End: r.end, With: []byte(`"` + target + `"`)})
		}
	}
	if len(edits) == 0 {
		return line, false
	}
	w.line = fhir.Apply(w.line[:0], line, edits)
	return w.line, true
}

// lookup finds what an indirect reference means: "" where it is direct already, or where nobody knows.
func (w *Writer) lookup(ref string, local names) string {
	if target, ok := local[ref]; ok {
		return target
	}
	if strings.HasPrefix(ref, "urn:") {
		v, err := w.store.get(w.batch, key(kURN, ref))
		if err != nil {
			return ""
		}
		return string(v)
	}
	if typ, ident, ok := fhir.ConditionalTarget(ref); ok {
		v, err := w.store.get(w.batch, key(kIdentifier, typ, ident))
		if err != nil || v == nil {
			return ""
		}
		return typ + "/" + string(v)
	}
	return ""
}

// name remembers what a bundle called a shared resource or a patient, for references from other files.
func (w *Writer) name(urn, target string) error {
	return w.batch.Set(key(kURN, urn), []byte(target), nil)
}

// flush writes the batch to the store.
func (w *Writer) flush(opt *pebble.WriteOptions) error {
	if err := w.batch.Commit(opt); err != nil {
		return fmt.Errorf("write record store: %w", err)
	}
	err := w.batch.Close()
	w.batch = w.store.db.NewIndexedBatch()
	return err
}

// Close gives the writer's memory back; what was not flushed is lost.
func (w *Writer) Close() error { return w.batch.Close() }
