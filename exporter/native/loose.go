package native

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// linkBytes is the size in bytes from which a document is an object of its own, linked where
// possible. A hard link costs as much as copying some ten thousand bytes, and its removal again.
const linkBytes = 64 << 10

// packBytes is the size at which a pack ends. A larger file makes a larger pack.
const packBytes = 1 << 30

// loose writes files that clients download one by one. The index says where each lies.
type loose struct {
	*writing
	listed, indexed ehi.FileKind
	room            *room
	list, index     *lines
	number          int64        // of the last document
	tables          []looseEntry // which are sorted at the end
	described       []datapackage.Resource
	beside          *beside // of what waits; nil for none
}

// looseEntry is what the list and the index say about a table.
type looseEntry struct {
	file file
	at   ehi.NativeFile
}

// room is where loose files lie. Large documents become objects of their own; everything else
// goes into packs, one file after the other.
type room struct {
	of        files.Batch
	kind      ehi.FileKind // of its packs
	packs     []*pack
	linkBytes int64
}

// pack is an output that holds several files.
type pack struct {
	output files.Output
	w      *bufio.Writer
	size   int64
	files  int64
}

// pack returns the pack for the next file.
func (r *room) pack() (*pack, error) {
	if n := len(r.packs); n > 0 {
		if last := r.packs[n-1]; last.size < packBytes {
			return last, nil
		} else if err := last.w.Flush(); err != nil {
			return nil, err
		}
	}
	o := r.of.Create()
	p := &pack{output: o, w: bufio.NewWriterSize(o, 64<<10)}
	r.packs = append(r.packs, p)
	return p, nil
}

// place notes where a file lies that was written to the last pack.
func (r *room) place(m *measured, at *ehi.NativeFile) {
	p := r.packs[len(r.packs)-1]
	at.Pack, at.Offset, at.Length = len(r.packs)-1, p.size, m.size
	at.Sum = string(files.SumBy(m.sum))
	p.size += m.size
	p.files++
}

// link makes a document an object of its own, notes where it is, and counts it: links is how many
// such objects the batch has.
func (r *room) link(d *source.Document, at *ehi.NativeFile, links *int, f *Figures) error {
	number, linked, err := r.of.Link(d.Path)
	if err != nil {
		return err
	}
	at.Pack, at.Link, at.Length, at.Sum = -1, number, d.Size, d.Sum
	*links = max(*links, number+1)
	r.linkBytes += d.Size
	f.Bytes += d.Size
	if linked {
		f.Linked += d.Size
	}
	return nil
}

func (r *room) end() error {
	if n := len(r.packs); n > 0 {
		return r.packs[n-1].w.Flush() // the others are flushed
	}
	return nil
}

func (r *room) outputs() (out []Output) {
	for _, p := range r.packs {
		out = append(out, Output{
			Number: p.output.Number(), Kind: r.kind, Count: p.files, Bytes: p.size,
		})
	}
	return out
}

// lines is an output of lines.
type lines struct {
	output files.Output
	w      *bufio.Writer
	n      int64
	bytes  int64
}

func newLines(b files.Batch) *lines {
	o := b.Create()
	return &lines{output: o, w: bufio.NewWriterSize(o, 32<<10)}
}

func (l *lines) add(line []byte) error {
	l.n++
	l.bytes += int64(len(line))
	_, err := l.w.Write(line)
	return err
}

func newLoose(w *writing, listed, indexed, packed ehi.FileKind) *loose {
	return &loose{
		writing: w, listed: listed, indexed: indexed, room: &room{of: w.Batch, kind: packed},
	}
}

// start creates the list and the index before the first file.
func (l *loose) start() {
	if l.list == nil {
		l.list, l.index = newLines(l.Batch), newLines(l.Batch)
	}
}

// add adds a file to the list and to the index.
func (l *loose) add(f file, at ehi.NativeFile) error {
	l.start()
	return l.enter(l.list, l.index, f, at)
}

// enter adds a file to a list and its index.
func (w *writing) enter(list, index *lines, f file, at ehi.NativeFile) error {
	url := w.Origin + "/jobs/" + w.Job + "/download/" + escaped(f.name)
	if err := list.add(w.describe(f, url)); err != nil {
		return err
	}
	at.Number = int(index.n)
	line, err := json.Marshal(at)
	if err != nil { // strings and numbers only: cannot fail
		panic(err)
	}
	return index.add(append(line, '\n'))
}

// document implements sink.
func (l *loose) document(d *source.Document) error {
	l.number++
	if l.number > maxNumber {
		return ehi.Errorf(ehi.Invalid,
			"The record has more than %d documents: use _package=%s", maxNumber, ehi.PackageZIP)
	}
	name := documentName(l.number, l.listed == ehi.HeldDocuments, d.Name)
	at := ehi.NativeFile{Name: name, ContentType: d.ContentType}
	if d.Path != "" && d.Size >= linkBytes && d.Sum != "" {
		return l.link(d, at)
	}
	p, err := l.room.pack()
	if err != nil {
		return err
	}
	m := l.pace.summed(p.w)
	if err := l.pace.copyDocument(m, d); err != nil {
		return err
	}
	l.room.place(m, &at)
	l.figures.Bytes += m.size
	return l.add(l.documentFile(d, name, m.size, m.digest()), at)
}

// copyDocument copies the content of a document.
func (p *pace) copyDocument(to io.Writer, d *source.Document) error {
	in, err := d.Open()
	if err != nil {
		return err
	}
	_, err = p.copied(to, in)
	return errors.Join(err, in.Close())
}

// link makes a document an object of its own and adds it to the list.
func (l *loose) link(d *source.Document, at ehi.NativeFile) error {
	if err := l.room.link(d, &at, &l.links, &l.figures); err != nil {
		return err
	}
	return l.add(l.documentFile(d, at.Name, d.Size, d.SHA1), at)
}

// looseTable is a table that is being written to a pack.
type looseTable struct {
	*loose
	of *datapackage.Resource
	m  *measured
}

// table implements sink.
func (l *loose) table(r *datapackage.Resource, header []byte) (rowWriter, error) {
	p, err := l.room.pack()
	if err != nil {
		return nil, err
	}
	t := &looseTable{l, r, l.pace.summed(p.w)}
	_, err = t.m.Write(header)
	return t, err
}

func (t *looseTable) Write(rows []byte) (int, error) { return t.m.Write(rows) }

func (t *looseTable) Close() error {
	name := tablesFolder + tableName(t.of)
	at := ehi.NativeFile{Name: name, ContentType: tableType(t.of)}
	t.room.place(t.m, &at)
	t.figures.Bytes += t.m.size
	digest := t.m.digest()
	t.tables = append(t.tables, looseEntry{t.tableFile(t.of, name, t.m.size, digest), at})
	t.described = append(t.described, described(t.of, tableName(t.of), t.m.size, digest))
	return nil
}

// end implements sink.
func (l *loose) end() error {
	if len(l.described) > 0 && l.listed == ehi.Documents {
		if err := l.descriptor(); err != nil {
			return err
		}
	}
	slices.SortFunc(l.tables, func(a, b looseEntry) int {
		return strings.Compare(a.at.Name, b.at.Name)
	})
	for _, t := range l.tables {
		l.start()
		l.beside.number(t.at.Name, int(l.index.n))
		if err := l.add(t.file, t.at); err != nil {
			return err
		}
	}
	if l.list == nil {
		return nil
	}
	return errors.Join(l.list.w.Flush(), l.index.w.Flush(), l.beside.end(), l.room.end())
}

// descriptor writes the Data Package of the tables.
func (l *loose) descriptor() error {
	at := ehi.NativeFile{Name: tablesFolder + descriptorName, ContentType: datapackage.MediaType}
	m, err := l.store(&at, l.Export.descriptor(l.described, nil, l.claims))
	if err != nil {
		return err
	}
	l.tables = append(l.tables, looseEntry{l.descriptorFile(at.Name, m), at})
	return nil
}

// store writes a file to a pack, and notes where it lies.
func (l *loose) store(at *ehi.NativeFile, parts ...[]byte) (*measured, error) {
	p, err := l.room.pack()
	if err != nil {
		return nil, err
	}
	m := l.pace.summed(p.w)
	for _, part := range parts {
		if _, err := m.Write(part); err != nil {
			return nil, err
		}
	}
	l.room.place(m, at)
	return m, nil
}

// stop implements sink.
func (l *loose) stop() {}

// outputs implements sink.
func (l *loose) outputs() (out []Output) {
	if l.list == nil {
		return nil
	}
	out = append(out, Output{
		Number: l.list.output.Number(), Type: "DocumentReference", Kind: l.listed,
		Count: l.list.n, Bytes: l.list.bytes,
	})
	out = append(out, Output{
		Number: l.index.output.Number(), Kind: l.indexed, Count: l.index.n, Bytes: l.index.bytes,
	})
	out = append(out, l.beside.outputs()...)
	out = append(out, l.room.outputs()...)
	return out
}
