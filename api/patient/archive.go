package patient

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
)

const (
	documents = "documents/" // the folder of documents
	// listName is the list of documents and tables, as archives of exports have it (NAT-2).
	listName   = "document_reference.ndjson"
	readmeName = "README.txt"
)

// readme is the text for people in each archive.
const readme = `This archive is a copy of a health record.

*.ndjson                   one FHIR resource in each line, a file for each type
document_reference.ndjson  lists the files in documents/ and tables/, or the archives native-*.zip
documents/, tables/        documents, and tables of the source system, with a description of the
                           tables (tables/datapackage.json)
data/                      large contents of resources, which name them by their URLs
native-*.zip               archives of documents and tables. Unpack each into a folder of its own

Some of these are there only if the record has them.

Cells of tables are as in the source system. A spreadsheet may take a cell that begins with
= + - or @ for a formula: import tables as text.
`

// archivePart is a file of an archive, opened when it is due.
type archivePart struct {
	name string
	at   time.Time
	size int64 // bytes; -1 if it is not known
	open func() (io.ReadCloser, error)
}

// openable refuses an archive if a part is known to be damaged and still is. Errors:
// jobs.ErrDamaged.
func (h *Requests) openable(j *ehi.Job, parts []archivePart) error {
	known, err := h.Jobs.Damaged(j.ID)
	if err != nil || len(known) == 0 {
		return err
	}
	for _, p := range parts {
		r, err := p.open()
		if err == nil {
			err = r.Close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// archive collects the parts of an archive.
type archive struct {
	*Requests
	job   *ehi.Job
	parts []archivePart
	lists []archivePart // of documents and tables, with URLs of the export
	taken map[string]bool
}

// archiveParts returns what a patient gets of an export, and the list that names each document and
// table of it by a relative URL.
func (h *Requests) archiveParts(c *fiber.Ctx, j *ehi.Job) ([]archivePart, error) {
	a := archive{Requests: h, job: j, taken: map[string]bool{}}
	a.add(readmeName, []byte(readme))
	for _, step := range []func(ctx context.Context) error{a.files, a.native, a.list} {
		if err := step(c.UserContext()); err != nil {
			return nil, err
		}
	}
	return a.parts, nil
}

func (a *archive) add(name string, data []byte) {
	a.parts = append(a.parts, part(name, a.job.CompletedAt, data))
}

// part returns a part whose content is in memory.
func part(name string, at time.Time, data []byte) archivePart {
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	return archivePart{name, at, int64(len(data)), open}
}

// files adds the files of resources, and archives.
func (a *archive) files(ctx context.Context) error {
	return a.Jobs.EachFile(ctx, a.job, func(name string, f ehi.File) bool {
		p := archivePart{name, a.job.CompletedAt, f.Bytes, func() (io.ReadCloser, error) {
			// the request's context ends before its body is written
			return a.Sender.OpenPlain(
				context.Background(), jobs.StoredFile(a.job, f), f.Compression)
		}}
		if f.Kind == ehi.Documents {
			a.lists = append(a.lists, p)
		} else {
			a.parts = append(a.parts, p)
		}
		return true
	})
}

// native adds documents, tables and data of attachments, and attachments of administrators, to
// which the list leads by their names in the archive.
func (a *archive) native(ctx context.Context) error {
	err := a.Jobs.EachNative(ctx, a.job, func(f ehi.NativeFile, at jobs.Stored) error {
		a.stored(f.Name, a.job.CompletedAt, f.Length, at)
		a.taken[ehi.NameKey(strings.TrimPrefix(f.Name, documents))] = true
		return nil
	})
	if err != nil {
		return err
	}
	var lines []byte
	// A document of an older build may have a name that is no longer allowed.
	for _, doc := range a.job.Attachments {
		name := jobs.UniqueName(doc.Name, a.taken)
		a.taken[ehi.NameKey(name)] = true
		a.stored(documents+name, doc.CreatedAt, doc.Size, jobs.StoredDocument(a.job, doc))
		lines = append(lines, jobs.AttachmentLine(a.job, doc, documents+url.PathEscape(name))...)
	}
	released, err := a.Jobs.ReleasedLines(ctx, a.job)
	if lines = append(released, lines...); len(lines) > 0 {
		a.lists = append(a.lists, part(listName, a.job.CompletedAt, lines))
	}
	return err
}

func (a *archive) stored(name string, at time.Time, size int64, in jobs.Stored) {
	a.parts = append(a.parts, archivePart{name, at, size, func() (io.ReadCloser, error) {
		return a.Jobs.OpenFile(context.Background(), in)
	}})
}

// list adds the list.
func (a *archive) list(context.Context) error {
	if len(a.lists) == 0 {
		return nil
	}
	a.parts = append(a.parts, archivePart{listName, a.job.CompletedAt, -1,
		func() (io.ReadCloser, error) {
			out := &relativeList{downloads: []byte("/jobs/" + a.job.ID + "/download/")}
			for _, p := range a.lists {
				r, err := p.open()
				if err != nil {
					return nil, errors.Join(err, out.Close())
				}
				out.lists = append(out.lists, openList{bufio.NewReader(r), r, p.size})
			}
			return out, nil
		},
	})
	return nil
}

// relativeList reads lists of documents, with URLs relative to the downloads of the export.
type relativeList struct {
	downloads []byte // in a URL, before the name of a file
	lists     []openList
	line      []byte // what is left of the current one
}

type openList struct {
	lines *bufio.Reader
	io.Closer
	left int64 // bytes
}

// Read implements io.Reader.
func (l *relativeList) Read(p []byte) (int, error) {
	for len(l.line) == 0 {
		if len(l.lists) == 0 {
			return 0, io.EOF
		}
		of := &l.lists[0]
		line, err := of.lines.ReadBytes('\n')
		of.left -= int64(len(line))
		if errors.Is(err, io.EOF) {
			if err = of.Close(); err == nil && of.left != 0 {
				err = io.ErrUnexpectedEOF
			}
			l.lists = l.lists[1:]
		}
		if err != nil {
			return 0, err
		}
		l.line = relative(line, l.downloads)
	}
	n := copy(p, l.line)
	l.line = l.line[n:]
	return n, nil
}

// Close implements io.Closer.
func (l *relativeList) Close() (err error) {
	for _, of := range l.lists {
		err = errors.Join(err, of.Close())
	}
	return err
}

// relative returns a line of a list with the URL of a download relative to downloads.
func relative(line, downloads []byte) []byte {
	const url = `"url":"`
	end := bytes.Index(line, downloads)
	if end < 0 {
		return line
	}
	start := bytes.LastIndex(line[:end], []byte(url))
	if start < 0 || bytes.IndexByte(line[start+len(url):end], '"') >= 0 {
		return line
	}
	return append(line[:start+len(url)], line[end+len(downloads):]...)
}

func writeArchive(w io.Writer, parts []archivePart) error {
	z := zip.NewWriter(w)
	for _, p := range parts {
		if err := p.copy(z); err != nil {
			return err
		}
	}
	return z.Close()
}

func (p archivePart) copy(z *zip.Writer) (err error) {
	r, err := p.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	w, err := z.CreateHeader(&zip.FileHeader{Name: p.name, Method: zip.Deflate, Modified: p.at})
	if err != nil {
		return err
	}
	if p.size < 0 {
		_, err = io.Copy(w, r)
		return err
	}
	return content.CopyWhole(w, r, p.size)
}
