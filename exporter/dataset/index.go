package dataset

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// documentIndex is the name of a file that lists the documents of a folder, one a row, below a row
// with the names of its columns.
const documentIndex = "documents.csv"

// documentColumns are the columns of a documentIndex. Those that are required come first.
var documentColumns = []string{
	"patient", "path", "type", "category", "date", "title", "labels", "resource", "contentType",
	"status",
}

// requiredColumns is how many of documentColumns are required.
const requiredColumns = 2

// documentLine is a row of a documentIndex.
type documentLine struct {
	owner       owner
	path        string // with slashes, below the folder of the index
	name        string
	contentType string
	title       string
	created     time.Time
	marks       marks
	size        *int64 // as the index says; nil if it does not
	sha1        []byte // as the index says; nil if it does not
	known       string // the ID of the document in the list of an export
	gone        bool   // it was entered in error
	list        bool   // it is an entry of an export's list
	line        int    // of the index
}

// documentReader reads an index of documents.
type documentReader interface {
	// next returns the next document and the number of its first line. Errors: io.EOF, errRow,
	// and others, after which reading cannot go on.
	next() (d documentLine, line int, err error)
}

// newDocumentReader returns a reader of the index with a path. limit is the size of the longest
// row of a documentIndex in bytes.
func newDocumentReader(r io.Reader, path string, limit int64) (documentReader, error) {
	if filepath.Base(path) == documentIndex {
		return newIndexReader(r, limit)
	}
	return newListReader(r, path), nil
}

// indexReader reads a documentIndex.
type indexReader struct {
	bound   *bound
	rows    *csv.Reader
	columns []string // of the index
	line    int      // of the latest row
	charset charset  // of values that are not UTF-8
}

// bound ends the reading of a row that is too long.
type bound struct {
	r           io.Reader
	left, limit int64
}

var errLongRow = errors.New("a row is too long; a quote may be missing")

// Read implements io.Reader. Errors: errLongRow.
func (b *bound) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLongRow
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

// newIndexReader reads the header of an index. limit is the size of the longest row in bytes.
func newIndexReader(r io.Reader, limit int64) (*indexReader, error) {
	x := &indexReader{bound: &bound{r, limit, limit}}
	x.rows = csv.NewReader(x.bound)
	x.rows.ReuseRecord = true
	header, err := x.rows.Read()
	if errors.Is(err, io.EOF) {
		return nil, errInput{"has no row with the names of the columns"}
	}
	if err != nil {
		return nil, errInput{err.Error()}
	}
	for i, name := range header {
		name = strings.TrimSpace(name)
		if i == 0 {
			name = strings.TrimPrefix(name, string(fhir.BOM))
		}
		switch {
		case !slices.Contains(documentColumns, name):
			return nil, errInput{fmt.Sprintf("has the unknown column %q, and no document of it is "+
				"imported; columns are named, in lower and upper case as here: %s", name,
				strings.Join(documentColumns, ", "))}
		case slices.Contains(x.columns, name):
			return nil, errInput{fmt.Sprintf("has the column %q twice", name)}
		}
		x.columns = append(x.columns, name)
	}
	for _, name := range documentColumns[:requiredColumns] {
		if !slices.Contains(x.columns, name) {
			return nil, errInput{fmt.Sprintf("lacks the column %q", name)}
		}
	}
	return x, nil
}

// errRow says why a row cannot be used. Reading can go on behind it.
type errRow struct{ why string }

func (e errRow) Error() string { return e.why }

// next implements documentReader.
func (x *indexReader) next() (d documentLine, line int, err error) {
	x.bound.left = x.bound.limit
	row, err := x.rows.Read()
	if errors.Is(err, csv.ErrFieldCount) {
		line, _ := x.rows.FieldPos(0)
		return d, line, errRow{fmt.Sprintf("has %d values; the header has %d columns", len(row),
			len(x.columns))}
	}
	if of, ok := errors.AsType[*csv.ParseError](err); ok {
		return d, of.StartLine, errRow{of.Err.Error()}
	}
	if err != nil {
		return d, x.line + 1, err
	}
	line, _ = x.rows.FieldPos(0)
	x.line = line
	for i, value := range row {
		why := d.set(x.columns[i], x.charset.value(strings.Clone(value)))
		if why != nil && err == nil {
			err = errRow{x.columns[i] + ": " + why.Error()}
		}
	}
	if err != nil {
		return d, line, err
	}
	if d.contentType == "" {
		d.contentType = contentTypeOf(d.name)
	}
	return d, line, nil
}

// set sets what a column says. Spaces are a part of a file's name, and of an identifier's value:
// without them, it could be another file, or another patient. Around other values they mean
// nothing.
func (d *documentLine) set(column, value string) (err error) {
	if !utf8.ValidString(value) {
		return errors.New("is not UTF-8")
	}
	switch column {
	case "patient":
		d.owner, err = parseOwner(value)
		return err
	case "path":
		d.path, d.name, err = value, path.Base(value), checkPath(value)
		return err
	}
	value = strings.TrimSpace(value)
	switch column {
	case "type":
		d.marks.Code = parseCoding(value)
	case "category":
		d.marks.Category, err = parseCategory(value)
	case "date":
		d.created, err = parseDate(value)
		d.marks.Date = partial(value)
	case "title":
		d.title = value
	case "labels":
		d.marks.Labels, err = parseLabels(value)
	case "resource":
		d.marks.Resource, err = parseTarget(value)
	case "contentType":
		d.contentType, err = value, checkMediaType(value)
	case "status":
		d.gone, err = parseStatus(value)
	}
	return err
}

// enteredInError is the status of a DocumentReference that says so.
const enteredInError = "entered-in-error"

// parseStatus reports whether a document was entered in error.
func parseStatus(text string) (gone bool, err error) {
	if text != "" && text != "current" && text != enteredInError {
		err = fmt.Errorf("%q is neither current nor %s", text, enteredInError)
	}
	return text == enteredInError, err
}

// parseOwner parses the ID of a patient, or system|value of an identifier.
func parseOwner(text string) (owner, error) {
	if system, value, is := cutLast(text, "|"); is {
		if strings.TrimSpace(value) == "" {
			return owner{}, fmt.Errorf("%q has no value", text)
		}
		return owner{System: strings.TrimSpace(system), Value: value}, nil
	}
	id := strings.TrimPrefix(strings.TrimSpace(text), "Patient/")
	if !fhir.ValidID(id) {
		return owner{}, fmt.Errorf("%q is neither a patient's id nor system|value", text)
	}
	return owner{ID: id}, nil
}

// cutLast is strings.Cut at the last sep.
func cutLast(text, sep string) (before, behind string, found bool) {
	i := strings.LastIndex(text, sep)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(sep):], true
}

// checkPath checks that a path leads to a file below the folder of the index.
func checkPath(text string) error {
	switch {
	case text == "":
		return errors.New("is empty")
	case !fs.ValidPath(text) || text == ".":
		return fmt.Errorf("%q leads out of the folder, or is no plain path with slashes", text)
	case strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("%q has control characters", text)
	case len(path.Base(text)) > longestName:
		return fmt.Errorf("the name of the file has more than %d bytes", longestName)
	}
	return nil
}

// longestName is the longest name of a file in bytes, as usual file systems allow.
const longestName = 255

// parseCoding parses system|code, or a plain text.
func parseCoding(text string) fhir.Coding {
	if system, code, is := cutLast(text, "|"); is {
		return fhir.Coding{System: strings.TrimSpace(system), Code: strings.TrimSpace(code)}
	}
	return fhir.Coding{Display: text}
}

func parseCategory(text string) (ehi.Category, error) {
	if text == "" {
		return "", nil
	}
	var keys []string
	for _, c := range ehi.Categories() {
		if string(c.Key) == text {
			return c.Key, nil
		}
		keys = append(keys, string(c.Key))
	}
	return "", fmt.Errorf("%q is no line of the release form: use %s", text,
		strings.Join(keys, ", "))
}

// partial returns a date that is a year, a month or a day, and otherwise "".
func partial(date string) string {
	if len(date) <= len(time.DateOnly) {
		return date
	}
	return ""
}

// parseDate returns the first instant of a date. The zero time stands for no date.
func parseDate(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	span, err := fhir.ParseSpan(text)
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("%q is no date of FHIR", text)
	case span.Start.IsZero():
		return time.Time{}, fmt.Errorf("%q cannot be stored: use a date from 0001-01-02 on", text)
	}
	return span.Start, nil
}

// parseLabels parses several system|code, separated by white space or semicolons.
func parseLabels(text string) (out []fhir.Coding, err error) {
	between := func(r rune) bool { return r == ';' || unicode.IsSpace(r) }
	for _, l := range strings.FieldsFunc(text, between) {
		system, code, is := cutLast(l, "|")
		if !is || system == "" || code == "" {
			return nil, fmt.Errorf("%q is not system|code", l)
		}
		out = append(out, fhir.Coding{System: system, Code: code})
	}
	return out, nil
}

func parseTarget(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if typ, id, ok := fhir.Local([]byte(text)); !ok || string(typ)+"/"+string(id) != text {
		return "", fmt.Errorf("%q is not Type/id", text)
	}
	return text, nil
}

func checkMediaType(text string) error {
	typ, sub, found := strings.Cut(text, "/")
	bad := func(r rune) bool { return r < ' ' || r > '~' }
	if text != "" && (!found || typ == "" || sub == "" || strings.ContainsFunc(text, bad)) {
		return fmt.Errorf("%q is no media type", text)
	}
	return nil
}

// contentTypes are the media types of files by the ends of their names. A table of the operating
// system would give another answer on another computer.
var contentTypes = map[string]string{
	".aac": "audio/aac", ".avi": "video/x-msvideo", ".bmp": "image/bmp", ".csv": "text/csv",
	".dcm": "application/dicom", ".doc": "application/msword",
	".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	".eml":  "message/rfc822", ".gif": "image/gif", ".gz": "application/gzip",
	".heic": "image/heic", ".hl7": "x-application/hl7-v2+er7", ".htm": "text/html",
	".html": "text/html", ".jpeg": "image/jpeg", ".jpg": "image/jpeg",
	".json": "application/json", ".m4a": "audio/mp4", ".md": "text/markdown",
	".mov": "video/quicktime", ".mp3": "audio/mpeg", ".mp4": "video/mp4",
	".mpeg": "video/mpeg", ".mpg": "video/mpeg", ".ndjson": "application/x-ndjson",
	".odt": "application/vnd.oasis.opendocument.text", ".ogg": "audio/ogg",
	".pdf": "application/pdf", ".png": "image/png",
	".ppt":  "application/vnd.ms-powerpoint",
	".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
	".rtf":  "application/rtf", ".svg": "image/svg+xml", ".tif": "image/tiff",
	".tiff": "image/tiff", ".tsv": "text/tab-separated-values", ".txt": "text/plain",
	".wav": "audio/wav", ".webm": "video/webm", ".webp": "image/webp",
	".xls":  "application/vnd.ms-excel",
	".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	".xml":  "application/xml", ".zip": "application/zip",
}

func contentTypeOf(name string) string {
	if t := contentTypes[strings.ToLower(path.Ext(name))]; t != "" {
		return t
	}
	return "application/octet-stream"
}

// documents imports the documents of an index.
func (n *native) documents(ctx context.Context, in Input) (err error) {
	bad := n.report.Problems
	root, err := os.OpenRoot(filepath.Dir(in.Path))
	if err != nil {
		return n.problem(input{name: in.Path, line: 1}, errInput{reason(err)})
	}
	defer root.Close() // read only
	of := fileInput(in.Path)
	text, err := n.open(of, true)
	if err != nil {
		return n.problem(of, err)
	}
	defer text.Close() // read only
	sum := newTextDigest()
	x, err := newDocumentReader(io.TeeReader(text, sum), in.Path, n.o.MaxResource)
	if err != nil {
		return n.problem(of, err)
	}
	if index, is := x.(*indexReader); is {
		index.charset = n.charset
	}
	_, list := x.(*listReader)
	listing, err := n.newListing(of, list)
	if err != nil {
		return n.problem(of, err)
	}
	for {
		err := n.nextDocument(ctx, in.Path, root, x, listing)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		n.advance()
	}
	if n.report.Problems == bad {
		n.report.Files++
	}
	if list, ok := x.(*listReader); ok && list.archives {
		n.leaves(in.Path, errIgnored{
			"names archives of documents and tables: unpack them, and import their folders",
		})
	} else if ok {
		if name := list.unnamed(root); name != "" {
			n.leaves(filepath.Join(filepath.Dir(in.Path), name), errIgnored{
				"is not in the list of the archive: unpack each archive into a folder of its own",
			})
		}
	}
	if err := n.publish(ctx); err != nil {
		return err
	}
	return listing.finish(ctx, sum.text())
}

// nextDocument imports the document of the next row. Errors: io.EOF behind the last one.
func (n *native) nextDocument(
	ctx context.Context, index string, root *os.Root, x documentReader, listing *listing,
) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, line, err := x.next()
	d.line = line
	if why, ok := errors.AsType[errRow](err); ok {
		return errors.Join(listing.bad(&d), n.bad(index, line, why.Error()))
	}
	if errors.Is(err, io.EOF) {
		return err
	}
	if err != nil {
		listing.cut = true
		return cmp.Or(n.bad(index, line, "cannot be read further: "+err.Error()), io.EOF)
	}
	if d.gone {
		return listing.remove(&d)
	}
	err = n.content(ctx, root, &d, listing)
	if why, ok := errors.AsType[errRow](err); ok {
		return errors.Join(listing.bad(&d),
			n.bad(index, line, fmt.Sprintf("%q: %s", d.path, why.Error())))
	}
	return err
}

// content stores a document and its content, unless neither has changed since the index listed it.
// Errors: errRow.
func (n *native) content(
	ctx context.Context, root *os.Root, d *documentLine, l *listing,
) error {
	info, err := root.Stat(filepath.FromSlash(d.path))
	switch {
	case err != nil:
		return errRow{reason(err)}
	case !info.Mode().IsRegular():
		return errRow{"is no regular file"}
	case d.size != nil && *d.size != info.Size():
		return errRow{fmt.Sprintf("has %d bytes; the index says %d", info.Size(), *d.size)}
	}
	n.total += info.Size()
	entry := n.entryOf(d, came{info.Size(), info.ModTime().UnixNano()})
	now := note{Line: d.line, State: stateOf(&entry), From: entry.From}
	_, before, err := l.noted(d)
	if err != nil {
		return err
	}
	now.Document, err = n.unchanged(d, before, &now)
	if err != nil {
		return err
	}
	if now.Document != "" {
		n.done.Add(info.Size())
		n.report.Documents++
		return l.lists(d, before, now)
	}
	if err := n.roomFor(info.Size()); err != nil {
		return err
	}
	if err := n.add(ctx, root, d, &entry); err != nil {
		return err
	}
	n.report.Documents++
	now.Document, err = n.keepDocument(ctx, d, entry, before, l)
	if err != nil {
		return err
	}
	return l.lists(d, before, now)
}

// add adds the content of a document to the batch of blobs, and what is known of it to the entry.
// Errors: errRow.
func (n *native) add(
	ctx context.Context, root *os.Root, d *documentLine, entry *documentEntry,
) error {
	file, err := root.Open(filepath.FromSlash(d.path))
	if err != nil {
		return errRow{reason(err)}
	}
	defer file.Close() // read only
	read := &reader{ctx: ctx, r: counting{file, &n.done}}
	blob, err := n.blobs.Add(read)
	if read.err != nil && ctx.Err() == nil { // of the document, not of the store
		return errRow{reason(read.err)}
	}
	if err != nil {
		return fmt.Errorf("store a document: %w", err)
	}
	now, err := file.Stat()
	if err != nil || now.Size() != blob.Size || now.Size() != entry.From.Size ||
		now.ModTime().UnixNano() != entry.From.MTime {
		return errors.Join(n.blobs.Undo(), errRow{"changed while it was imported"})
	}
	if d.sha1 != nil && !bytes.Equal(d.sha1, blob.SHA1) {
		return errors.Join(n.blobs.Undo(), errRow{"differs from the hash that the index says"})
	}
	entry.Blob, entry.Size, entry.SHA1, entry.Sum = blob.Name.String(), blob.Size, blob.SHA1,
		blob.Sum
	return nil
}

// keepDocument stores a document whose content was added last, unless the store has it or must not
// have it. It returns the ID.
func (n *native) keepDocument(
	ctx context.Context, d *documentLine, entry documentEntry, before *note, l *listing,
) (string, error) {
	id, dead, err := n.identify(d, &entry, l)
	if err != nil {
		return "", err
	}
	if dead != nil {
		buried, err := n.staysBuried(dead, &entry, before, l, d.line)
		if err != nil || buried {
			return id, errors.Join(err, n.blobs.Undo())
		}
	}
	k, have, there, err := n.have(id)
	if err != nil {
		return "", err
	}
	if there {
		entry = entry.merged(&have, l.list)
		same := have.Blob == entry.Blob && stateOf(&have) == stateOf(&entry)
		whole := k == nil || n.intact(&have) == nil
		if same && whole {
			if entry.Path == have.Path {
				return id, n.blobs.Undo()
			}
			entry.Updated = have.Updated
		}
	}
	return id, n.document(ctx, newDocument{id, entry})
}

// staysBuried reports whether a document that was removed is not brought back: what the index says
// of it is what indexes said before. It comes back if the index says no more that it was entered in
// error.
func (n *native) staysBuried(
	dead *grave, entry *documentEntry, before *note, l *listing, line int,
) (bool, error) {
	merged := entry.merged(&dead.Entry, l.list)
	same := slices.Contains(dead.States, stateOf(entry)) ||
		slices.Contains(dead.States, stateOf(&merged))
	takenBack := before != nil && before.Removed && before.Mark != l.mark
	if l.removes(before) || same && !takenBack {
		if !l.told {
			l.told = true
			n.notes(l.name, "line %d: the document was removed as entered in error, and stays "+
				"removed", line)
		}
		return true, nil
	}
	return false, n.disturb(dead)
}

// intact fails unless the store has the content of a document.
func (n *native) intact(e *documentEntry) error {
	blob, err := e.blob()
	if err != nil {
		return err
	}
	return n.store.blobs.Check(blob.Name, blob.Size)
}

// reader reads until a context ends, and remembers its error.
type reader struct {
	ctx context.Context //nolint:containedctx // of one call
	r   io.Reader
	err error // but io.EOF
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (n int, err error) {
	if err = r.ctx.Err(); err == nil {
		n, err = r.r.Read(p)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// unchanged returns the ID of the document of a row if the index said the same of the same file
// before, and the store has the document with its content; otherwise "".
func (n *native) unchanged(d *documentLine, before, now *note) (id string, err error) {
	switch {
	case before != nil && !before.Removed && before.State == now.State && before.From == now.From:
		id = before.Document
	case before == nil && d.known != "": // perhaps of an earlier version, which made no notes
		id = d.known
	default:
		return "", nil
	}
	k, have, there, err := n.have(id)
	if err != nil || !there {
		return "", err
	}
	if before == nil && (have.From != now.From || stateOf(&have) != now.State) {
		return "", nil
	}
	if same, err := n.samePatient(have.Owner, d.owner); err != nil || !same {
		return "", err
	}
	if k != nil && n.intact(&have) != nil {
		return "", nil
	}
	return id, nil
}

// listed returns those files of an index that an import would otherwise take for resources. What
// is wrong with the index is reported when it is imported.
func listed(index string) map[string]bool {
	f, err := os.Open(index)
	if err != nil {
		return nil
	}
	defer f.Close() // read only
	x, err := newDocumentReader(f, index, source.MaxResource)
	if err != nil {
		return nil
	}
	out := map[string]bool{}
	for {
		d, _, err := x.next()
		if _, ok := errors.AsType[errRow](err); err != nil && !ok {
			return out
		}
		if known, _ := kindOfName(d.path); known && checkPath(d.path) == nil {
			out[filepath.Join(filepath.Dir(index), filepath.FromSlash(d.path))] = true
		}
	}
}
