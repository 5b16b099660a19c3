package dataset

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"ehi-server/exporter/dataset/blobs"
	"ehi-server/exporter/source"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
)

// movedData is data that leaves a resource of an import: what its stand-in says, and its content,
// which is nil if it has been added to the writer's blobs.
type movedData struct {
	blob    blobs.Blob
	content []byte
}

// attachmentAt is an object that may be an Attachment, during a walk.
type attachmentAt struct {
	depth       int
	start, end  int // of the field data; end is 0 if there is none
	data        []byte
	urlStart    int // of the field url
	urlEnd      int // 0 if there is none, or if it is no string
	url         []byte
	contentType string
	located     bool // it has a url
	extended    bool // its data or url has an extension
	sized       bool
	hashed      bool
}

// moving is what leaves a resource of an import.
type moving struct {
	moved []movedData
	lost  []string // why data that the resource names is not imported
	err   error    // of the store
}

// move takes the data of attachments out of a resource from the input: the data that has at least
// moveFrom bytes. It returns the resource with stand-ins, see source.Moved. Data stays that is no
// Base64, that has an extension, or that has a url beside it: an Attachment has only one. A url
// that names a file of data beside the input is replaced by the data, see dataFiles. What is no
// JSON stays as it is; a later walk reports it.
func (x *examiner) move(resource []byte) (_ []byte, out moving) {
	if x.moveFrom == 0 { // of the store
		return resource, out
	}
	resource = source.Respell(resource)
	named := x.files != nil && mayNameData(resource)
	if int64(len(resource)) < x.moveFrom && !named {
		return resource, out
	}
	room := x.maxResource - int64(len(resource))
	var edits []fhir.Edit
	var open []attachmentAt
	c := &x.cursor
	for c.Reset(resource); c.Next(); {
		switch {
		case c.Kind == fhir.Open && !c.IsArray() && fhir.AttachmentField(string(c.Key())):
			open = append(open, attachmentAt{depth: c.Depth})
		case c.Kind == fhir.Close && len(open) > 0 && !c.IsArray() &&
			open[len(open)-1].depth == c.Depth:
			a := open[len(open)-1]
			open = open[:len(open)-1]
			if m, with, ok := x.movable(&a); ok {
				out.moved = append(out.moved, m)
				edits = append(edits, fhir.Edit{Start: a.start, End: a.end, With: with})
			} else if named && out.err == nil {
				if with := out.takeFile(x.files, &a, room); with != nil {
					room -= int64(len(with))
					edits = append(edits, fhir.Edit{Start: a.urlStart, End: a.urlEnd, With: with})
				}
			}
		case len(open) > 0:
			open[len(open)-1].field(c)
		}
	}
	if c.Err() != nil || len(edits) == 0 {
		out.moved = nil
		return resource, out
	}
	slices.SortFunc(edits, func(a, b fhir.Edit) int { return cmp.Compare(a.Start, b.Start) })
	return fhir.Apply(nil, resource, edits), out
}

// takeFile returns what replaces the url of an attachment; nil if it stays.
func (o *moving) takeFile(from *dataFiles, a *attachmentAt, room int64) []byte {
	m, with, err := from.take(a, room)
	if why, is := errors.AsType[errData](err); is {
		o.lost = append(o.lost, why.why)
		return nil
	}
	if o.err = err; err != nil {
		return nil
	}
	if m.blob.Size > 0 {
		o.moved = append(o.moved, m)
	}
	return with
}

// field takes note of a field of the object.
func (a *attachmentAt) field(c *fhir.Cursor) {
	if c.Kind == fhir.Close || c.Depth != a.depth+1 {
		return
	}
	switch string(c.Key()) {
	case "data":
		if c.IsString() {
			a.start, a.data = c.KeyStart(), c.Raw()
			_, a.end = c.Span()
		}
	case "url":
		a.located = true
		if c.IsString() {
			a.urlStart, a.url = c.KeyStart(), c.Raw()
			_, a.urlEnd = c.Span()
		}
	case "_url", "_data":
		a.extended = true
	case "contentType":
		a.contentType = string(c.Text())
	case "size":
		a.sized = true
	case "hash":
		a.hashed = true
	}
}

// movable returns the data of an Attachment, and its stand-in, if it moves.
func (x *examiner) movable(a *attachmentAt) (m movedData, with []byte, ok bool) {
	if a.end == 0 || a.located || a.extended ||
		int64(base64.StdEncoding.DecodedLen(len(a.data))) < x.moveFrom {
		return m, nil, false
	}
	text := fhir.Unquote(a.data)
	if bytes.ContainsAny(text, " \t\r\n") { // FHIR allows space in it
		text = bytes.Join(bytes.Fields(text), nil)
	}
	content, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
	if err != nil || int64(len(content)) < x.moveFrom {
		return m, nil, false
	}
	m = movedData{blob: blobs.Of(content), content: content}
	return m, a.standIn(m.blob), true
}

// standIn returns the stand-in for the data of an attachment.
func (a *attachmentAt) standIn(b blobs.Blob) []byte {
	stands := source.Moved{
		Name: b.Name.String(), Size: b.Size, SHA1: b.SHA1, Sum: string(b.Sum),
		ContentType: a.contentType, Sized: a.sized, Hashed: a.hashed,
	}
	return stands.Member()
}

// holdsMoved notes that a resource has the data that stand-ins in a line name, and adds what of it
// comes with the import.
func (w *writer) holdsMoved(typ, id string, line []byte, moved []movedData) error {
	for _, m := range moved {
		if m.content == nil {
			continue
		}
		_, err := w.addBlob(bytes.NewReader(m.content), m.blob.Size)
		if err = errors.Join(err, w.publishFull()); err != nil {
			return err
		}
	}
	return source.EachMoved(line, func(m *source.Moved, _, _ int) error {
		name, err := blobs.ParseName(m.Name)
		if err != nil {
			return err
		}
		return errors.Join(w.batch.delete(looseKey(name)),
			w.batch.set(blobKey(name, typ+"/"+id), binary.AppendVarint(nil, m.Size)))
	})
}

// restores puts data back that comes again with a resource whose state stays, if it was lost.
func (w *writer) restores(typ, id string, moved []movedData) error {
	for _, m := range moved {
		if m.content == nil || w.store.blobs.Check(m.blob.Name, m.blob.Size) == nil {
			continue // what is no content has been added, see movedData
		}
		held, err := has(w.store.db, blobKey(m.blob.Name, typ+"/"+id))
		if err == nil && held {
			_, err = w.addBlob(bytes.NewReader(m.content), m.blob.Size)
			if err == nil {
				err = w.publishFull()
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hasLost reports whether data of attachments was lost or cut off. It looks at sizes only.
func (s *Store) hasLost() (lost bool, err error) {
	err = each(s.db, []byte{kBlob}, func(k, v []byte) error {
		name := blobs.Name(k[1:])
		if !bytes.Contains(k[1+len(name):], []byte("/")) { // a document
			return nil
		}
		size, n := binary.Varint(v)
		if n <= 0 { // that of an older store
			info, err := os.Stat(s.blobs.Path(name))
			if err == nil {
				size = info.Size()
			}
		}
		if s.blobs.Check(name, size) != nil {
			lost = true
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return lost, err
}

// addBlob adds a content of some bytes to those that flush publishes.
func (w *writer) addBlob(r io.Reader, size int64) (blobs.Blob, error) {
	if w.floor > 0 && !w.store.hasFree(w.floor+size) {
		return blobs.Blob{}, fmt.Errorf("write record store: less than %d bytes are free on its "+
			"disk: %w", w.floor+size, syscall.ENOSPC)
	}
	if w.blobs == nil {
		w.blobs = w.store.blobs.Batch()
	}
	return w.blobs.Add(r)
}

// publishFull publishes the contents that were added once they are many.
func (w *writer) publishFull() error {
	if w.blobs.Len() < blobsAtOnce && w.blobs.Bytes() < blobBytes {
		return nil
	}
	return w.publishBlobs()
}

// publishBlobs stores the contents that were added. Each is marked as loose before it is there, so
// that it is removed if the process dies before the resource that has it is written.
func (w *writer) publishBlobs() error {
	if w.blobs == nil || w.blobs.Len() == 0 {
		return nil
	}
	b := w.store.db.NewBatch()
	for _, name := range w.blobs.Names() {
		if err := b.Set(looseKey(name), nil, nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	layout, err := get(w.store.db, key(kVersion))
	if err == nil && string(layout) == layoutVersion {
		err = b.Set(key(kVersion), []byte(layoutMoved), nil)
	}
	if err = errors.Join(err, b.Commit(pebble.NoSync), w.store.harden()); err != nil {
		return fmt.Errorf("write record store: %w", plainError(err))
	}
	w.loosened = true
	return w.blobs.Publish()
}

// loosens marks the data that a stored line names: nobody may need it any more.
func (w *writer) loosens(v *value) error {
	if !v.moved {
		return nil
	}
	w.loosened = true
	return eachBlob(v.line, func(name blobs.Name) error {
		return w.batch.set(looseKey(name), nil)
	})
}

// sweepMoved removes the data that nobody needs any more, unless nothing happened to any.
func (w *writer) sweepMoved() {
	if !w.loosened {
		return
	}
	if err := w.store.sweepBlobs(); err != nil { // a later one goes on
		w.store.log.Warn("data of attachments that nobody needs cannot be removed yet", "err", err)
	}
}

// eachBlob calls visit with the name of each blob that a stored line names.
func eachBlob(line []byte, visit func(blobs.Name) error) error {
	return source.EachMoved(line, func(m *source.Moved, _, _ int) error {
		name, err := blobs.ParseName(m.Name)
		if err != nil {
			return err
		}
		return visit(name)
	})
}

// holders visits the resources that may have a blob.
func holders(r pebble.Reader, name blobs.Name, visit func(typ, id string) error) error {
	prefix := append([]byte{kBlob}, name[:]...)
	return each(r, prefix, func(k, _ []byte) error {
		typ, id, is := strings.Cut(string(k[len(prefix):]), "/")
		if !is { // a document
			return nil
		}
		return visit(typ, id)
	})
}

// forgetHolders deletes the F keys of resources that have a blob no longer. A writer leaves them,
// because one resource may have several states.
func (s *Store) forgetHolders(names []blobs.Name) (err error) {
	b := s.db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	for _, name := range names {
		err := holders(s.db, name, func(typ, id string) error {
			has, err := s.hasMoved(typ, id, name)
			if err != nil || has {
				return err
			}
			return b.Delete(blobKey(name, typ+"/"+id), nil)
		})
		if err != nil {
			return err
		}
	}
	return b.Commit(pebble.NoSync)
}

// hasMoved reports whether a state of a resource has a blob.
func (s *Store) hasMoved(typ, id string, name blobs.Name) (bool, error) {
	for _, kind := range []byte{kOwn, kConditional} {
		b, err := get(s.db, key(kind, typ, id))
		if err != nil {
			return false, err
		}
		if b == nil {
			continue
		}
		_, v, err := decodeConditional(b)
		if err != nil {
			return false, err
		}
		if m, err := v.find(name); err != nil || m != nil {
			return m != nil, err
		}
	}
	k, err := s.locate(context.Background(), "", typ, id)
	if err != nil || k == nil {
		return false, err
	}
	m, err := movedIn(s.db, k, name)
	return m != nil, err
}

// movedIn returns what a stored resource says of a blob; nil if it does not have it.
func movedIn(r pebble.Reader, k []byte, name blobs.Name) (*source.Moved, error) {
	b, err := get(r, k)
	if err != nil || b == nil {
		return nil, err
	}
	v := decode(b)
	return v.find(name)
}

// find returns what a value says of a blob; nil if it does not have it.
func (v *value) find(name blobs.Name) (found *source.Moved, err error) {
	if !v.moved {
		return nil, nil
	}
	err = source.EachMoved(v.line, func(m *source.Moved, _, _ int) error {
		if m.Name == name.String() {
			found = m
		}
		return nil
	})
	return found, err
}

// Moved implements source.Source.
func (s *Store) Moved(
	ctx context.Context, patient, name string,
) (_ *source.MovedContent, err error) {
	blob, err := blobs.ParseName(name)
	if err != nil {
		return nil, errNoResource
	}
	release := s.pins.Pin()
	defer func() {
		if err != nil {
			release()
		}
	}()
	var found *source.Moved
	err = holders(s.db, blob, func(typ, id string) error {
		k, err := s.locate(ctx, patient, typ, id)
		if err != nil || k == nil {
			return err
		}
		if found, err = movedIn(s.db, k, blob); err == nil && found != nil {
			err = errEnough
		}
		return err
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	if found == nil {
		return nil, errNoResource
	}
	content, err := s.blobs.Open(blobs.Blob{
		Name: blob, Size: found.Size, SHA1: found.SHA1, Sum: files.Sum(found.Sum),
	})
	if err != nil {
		return nil, err
	}
	return &source.MovedContent{Moved: *found, ReadSeekCloser: &pinned{content, release}}, nil
}

// pinned is a content that is kept until it is closed.
type pinned struct {
	io.ReadSeekCloser
	release func()
}

// Close implements io.Closer.
func (p *pinned) Close() error {
	defer p.release()
	return p.ReadSeekCloser.Close()
}

// openMoved returns moved data as a document. Errors, also of Open and of what it returns:
// blobs.ErrDamaged.
func (s *Store) openMoved(m *source.Moved) (*source.Document, error) {
	name, err := blobs.ParseName(m.Name)
	if err != nil {
		return nil, err
	}
	if err := s.blobs.Check(name, m.Size); err != nil {
		return nil, err
	}
	blob := blobs.Blob{Name: name, Size: m.Size, SHA1: m.SHA1, Sum: files.Sum(m.Sum)}
	return &source.Document{
		ID: m.Name, Name: m.Name, ContentType: m.ContentType,
		Size: m.Size, SHA1: m.SHA1, Sum: m.Sum, Path: s.blobs.Path(name),
		Open: func() (io.ReadCloser, error) { return s.blobs.Open(blob) },
	}, nil
}

// Moved implements source.Native.
func (r *record) Moved(m *source.Moved) (*source.Document, error) { return r.store.openMoved(m) }

// Moved implements source.Native.
func (r *partRecord) Moved(m *source.Moved) (*source.Document, error) {
	return r.population.of.openMoved(m)
}

// moveFrom returns the limit of an import for its examiners.
func moveFrom(o source.ImportOptions) int64 {
	if o.MoveFrom > 0 {
		return o.MoveFrom
	}
	return source.MoveFrom(source.DefaultInline)
}

// nothingMoves is ImportOptions.MoveFrom for an import that keeps all data in its resources.
const nothingMoves = math.MaxInt64
