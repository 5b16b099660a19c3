package native

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"

	fast "github.com/klauspost/compress/flate"

	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// archiveFiles is how many documents an archive holds at most. Its list and its directory are in
// memory.
const archiveFiles = 4096

// archives writes ZIP archives: documents, tables, a Data Package of the tables, a text for
// people, and the list that names all of these (NAT-2).
type archives struct {
	*writing
	all    []*archive
	number int64     // of the last document
	open   *archive  // nil before the first file, and after each end
	list   *lines    // of the archives, for the manifest
	m      *measured // of documents, one after the other; nil before the first
}

// archive is one archive that is being written.
type archive struct {
	number    int // of the task, counted from 1
	output    files.Output
	w         *behind
	zip       *zip.Writer
	list      listing
	files     int64
	described []datapackage.Resource
	parts     map[string]bool // tables of which other archives have rows, too
	size      int64           // of the content so far
}

// document implements sink.
func (a *archives) document(d *source.Document) error {
	z, err := a.fitting(d.Size)
	if err != nil {
		return err
	}
	a.number++
	name := documentName(a.number, false, d.Name)
	entry, err := a.create(z, name)
	if err != nil {
		return err
	}
	if a.m == nil {
		a.m = a.pace.hashed(entry)
	}
	m := a.m
	m.again(entry)
	if err := a.pace.copyDocument(m, d); err != nil {
		return err
	}
	a.figures.Bytes += m.size
	z.add(a.writing, a.documentFile(d, name, m.size, m.digest()))
	return nil
}

// fitting returns the archive for the next file of a size, which may be unknown (0).
func (a *archives) fitting(size int64) (*archive, error) {
	z := a.open
	if z != nil && (z.files >= archiveFiles || z.size > 0 && z.size+size > a.ArchiveBytes) {
		if err := a.finish(); err != nil {
			return nil, err
		}
	}
	if a.open == nil {
		a.begin()
	}
	return a.open, nil
}

func (a *archives) begin() {
	if a.list == nil {
		a.list = newLines(a.Batch)
	}
	o := a.Batch.Create()
	z := &archive{
		number: len(a.all) + 1, output: o, w: newBehind(o),
		parts: map[string]bool{},
	}
	z.zip = zip.NewWriter(z.w)
	var stored storedBlocks
	compress := a.Compression != "" && a.Compression != ehi.Identity
	z.zip.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		if compress {
			return fast.NewWriter(w, fast.BestSpeed)
		}
		stored.w = w // one file after the other
		return &stored, nil
	})
	a.open, a.all = z, append(a.all, z)
}

// create begins a file of an archive. All files have the time of the record, so that an attempt
// that is repeated writes the same bytes.
func (a *archives) create(z *archive, name string) (io.Writer, error) {
	return z.zip.CreateHeader(&zip.FileHeader{
		Name: name, Method: zip.Deflate, Modified: a.TakenAt,
	})
}

// add adds a file to the list of the archive.
func (z *archive) add(w *writing, f file) {
	f.archive = z.number
	z.list.add(w.describe(f, escaped(f.name)))
	z.files++
	z.size += f.size
}

// archivedTable is a table that is being written to archives.
type archivedTable struct {
	*archives
	of     *datapackage.Resource
	header []byte
	z      *archive
	m      *measured
}

// table implements sink.
func (a *archives) table(r *datapackage.Resource, header []byte) (rowWriter, error) {
	t := &archivedTable{archives: a, of: r, header: header}
	return t, t.start()
}

// start begins the table's file in the archive that has room.
func (t *archivedTable) start() (err error) {
	if t.z, err = t.fitting(0); err != nil {
		return err
	}
	entry, err := t.create(t.z, tablesFolder+tableName(t.of))
	if err != nil {
		return err
	}
	// The archive has a SHA-1, and its directory has CRC-32s. A second SHA-1 of every byte would
	// take a fifth of the time that a population takes.
	t.m = t.pace.plain(entry)
	if t.Patient != "" {
		t.m = t.pace.hashed(entry)
	}
	_, err = t.m.Write(t.header)
	return err
}

// Write writes rows. In an archive that is full, the table ends, and goes on in the next one.
func (t *archivedTable) Write(rows []byte) (int, error) {
	if t.z.size+t.m.size+int64(len(rows)) > t.ArchiveBytes && t.m.size > int64(len(t.header)) {
		t.z.parts[t.of.Name] = true
		for _, step := range []func() error{t.Close, t.finish, t.start} {
			if err := step(); err != nil {
				return 0, err
			}
		}
		t.z.parts[t.of.Name] = true
	}
	return t.m.Write(rows)
}

func (t *archivedTable) Close() error {
	name, digest := tablesFolder+tableName(t.of), t.m.digest()
	t.figures.Bytes += t.m.size
	d := described(t.of, name, t.m.size, digest)
	if t.z.parts[t.of.Name] {
		d.Part = &datapackage.Part{Of: fmt.Sprintf("%s-%d", t.Job, t.Task), Number: t.z.number}
	}
	t.z.described = append(t.z.described, d)
	t.z.add(t.writing, t.tableFile(t.of, name, t.m.size, digest))
	return nil
}

// finish ends the open archive.
func (a *archives) finish() error {
	z := a.open
	if z == nil {
		return nil
	}
	if len(z.described) > 0 {
		m, err := a.text(z, descriptorName, a.descriptor(z.described, z.parts, a.claims))
		if err != nil {
			return err
		}
		z.add(a.writing, a.descriptorFile(descriptorName, m))
	}
	m, err := a.text(z, readmeName, []byte(fmt.Sprintf(readme, a.Origin+"/docs/ehi")))
	if err != nil {
		return err
	}
	z.add(a.writing, file{
		name: readmeName, contentType: "text/plain; charset=utf-8", title: "Read me",
		format: formatOf("text/plain", ""), created: a.TakenAt,
		size: m.size, sha1: m.digest(),
	})
	entry, err := a.create(z, listName)
	if err != nil {
		return err
	}
	err = z.list.moveTo(a.pace.plain(entry))
	if err = errors.Join(err, z.zip.Close(), z.w.Close()); err != nil {
		return err
	}
	a.open, z.zip = nil, nil
	return a.list.add(a.archiveLine(z))
}

// text adds a small file to an archive.
func (a *archives) text(z *archive, name string, content []byte) (*measured, error) {
	entry, err := a.create(z, name)
	if err != nil {
		return nil, err
	}
	m := a.pace.hashed(entry)
	_, err = m.Write(content)
	return m, err
}

// archiveLine describes an archive in the list of the manifest.
func (a *archives) archiveLine(z *archive) []byte {
	name := ArchiveName(a.Patient != "", a.Task, len(a.all)-1)
	return a.describe(file{
		name: name, contentType: "application/zip", format: formatOf("application/zip", ""),
		title:   fmt.Sprintf("Documents and tables: archive %d with %d files", len(a.all), z.files),
		created: a.TakenAt, size: z.w.size, sha1: z.w.digest(),
	}, a.Origin+"/jobs/"+a.Job+"/download/"+name)
}

// ArchiveName returns the name of the n-th archive of a task in its export, counted from 0.
func ArchiveName(single bool, task, n int) string {
	if single {
		return fmt.Sprintf("native-%d.zip", n+1)
	}
	return fmt.Sprintf("native-%d-%d.zip", task, n+1)
}

// end implements sink.
func (a *archives) end() error {
	if err := a.finish(); err != nil || a.list == nil {
		return err
	}
	return a.list.w.Flush()
}

// stop implements sink.
func (a *archives) stop() {
	if a.open != nil {
		a.open.w.stop()
		_ = a.open.list.moveTo(io.Discard) // which never fails
	}
}

// outputs implements sink.
func (a *archives) outputs() (out []Output) {
	if a.list == nil {
		return nil
	}
	out = append(out, Output{
		Number: a.list.output.Number(), Type: "DocumentReference", Kind: ehi.Documents,
		Count: a.list.n, Bytes: a.list.bytes,
	})
	for _, z := range a.all {
		out = append(out, Output{
			Number: z.output.Number(), Kind: ehi.Archive, Count: z.files, Bytes: z.w.size,
		})
	}
	return out
}

// readme is the text for people in each archive.
const readme = `This archive is part of an export of electronic health information.

Unpack each archive into a folder of its own, named after the archive. All archives of an export
have files of the same names, which would replace each other.

document_reference.ndjson  lists every other file in this archive, one FHIR DocumentReference
                           for each, with its media type, size and SHA-1
documents/                 documents: letters, notes, images and other files
tables/                    tables of the source system, one file for each
datapackage.json           describes the tables: columns, types and keys (Data Package)

Documentation of the format: %s

Cells of tables are as in the source system. A spreadsheet may take a cell that begins with
= + - or @ for a formula: import tables as text.
`

// storedBlocks writes a Deflate stream of blocks without compression (RFC 1951 3.2.4). The method
// Store would not do: a client that reads an archive as it arrives finds the end of such a file
// only if its size stands before it.
type storedBlocks struct {
	w   io.Writer
	buf [5]byte // of head
}

// maxBlock is the size of the largest block without compression.
const maxBlock = 1<<16 - 1

func (s *storedBlocks) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		block := p[:min(len(p), maxBlock)]
		if err := s.head(0, len(block)); err != nil {
			return n, err
		}
		k, err := s.w.Write(block)
		n += k
		if err != nil {
			return n, err
		}
		p = p[len(block):]
	}
	return n, nil
}

// head writes the head of a block.
func (s *storedBlocks) head(final byte, size int) error {
	s.buf = [...]byte{final, byte(size), byte(size >> 8), ^byte(size), ^byte(size >> 8)}
	_, err := s.w.Write(s.buf[:])
	return err
}

// Close writes an empty last block.
func (s *storedBlocks) Close() error { return s.head(1, 0) }
