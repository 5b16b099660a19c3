package dataset

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

// An export lists its documents and tables as EHIDocumentReferences (NAT-2). Such a list is the
// index of the documents in its folder: archiveList in an unpacked archive, and looseLists beside
// files that were downloaded one by one, in the folders of their URLs.
const archiveList = "document_reference.ndjson"

var looseLists = []string{
	"documents.DocumentReference.ndjson", "released.DocumentReference.ndjson",
}

// archivesLists matches the lists of the archives of a population.
var archivesLists = regexp.MustCompile(`^documents\.\d+\.\d+\.ndjson$`)

const (
	exportTag       = "ehi-export" // of each EHIDocumentReference
	downloads       = "/download/" // in the URL of a file, before its path
	documentsFolder = "documents/"
	tablesFolder    = "tables/"
	readmeName      = "README.txt"
)

// isList reports whether a file is the list of an export rather than one of resources: its first
// line is an EHIDocumentReference of a file that can be in the folder, or an entry removes a
// document.
func isList(file string) bool {
	name := filepath.Base(file)
	if !slices.Contains(append([]string{archiveList}, looseLists...), name) &&
		!archivesLists.MatchString(name) {
		return false
	}
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close() // read only
	lines := bufio.NewReaderSize(f, 64<<10)
	e, err := nextEntry(lines)
	if err != nil || !e.exported() || len(e.Content) != 1 {
		return false
	}
	at, absolute, err := localPath(e.Content[0].Attachment.URL)
	switch {
	case err != nil:
		return false
	case !absolute:
		return name == archiveList
	case isArchive(at, &e):
		return true
	}
	// otherwise only the list was downloaded, or something else has the URL
	top, _, _ := strings.Cut(at, "/")
	info, err := os.Stat(filepath.Join(filepath.Dir(file), top))
	if err == nil && info.IsDir() {
		return true
	}
	return e.removes() || removesAny(lines)
}

// removes reports whether an entry of an export says that its document was entered in error.
func (e *listEntry) removes() bool { return e.exported() && e.Status == enteredInError }

// removesAny reports whether one of the further entries of a list removes a document.
func removesAny(lines *bufio.Reader) bool {
	for {
		e, err := nextEntry(lines)
		if err == nil && e.removes() {
			return true
		}
		if _, bad := errors.AsType[errRow](err); err != nil && !bad {
			return false
		}
	}
}

// nextEntry reads the next line of a list that is not blank. Errors: io.EOF, errRow, and others.
func nextEntry(lines *bufio.Reader) (listEntry, error) {
	var text []byte
	for {
		part, err := lines.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case len(text) > longestEntry:
			return listEntry{}, errLongRow
		case err == nil && len(bytes.TrimSpace(text)) == 0:
			text = text[:0]
		case err == nil, errors.Is(err, io.EOF) && len(text) > 0:
			return parseEntry(text)
		case !errors.Is(err, bufio.ErrBufferFull):
			return listEntry{}, err
		}
	}
}

// longestEntry is the size of the longest line of a list in bytes.
const longestEntry = 1 << 20

// listEntry is what an import reads of an EHIDocumentReference.
type listEntry struct {
	ResourceType string `json:"resourceType"`
	Meta         struct {
		Tag      []fhir.Coding `json:"tag"`
		Security []fhir.Coding `json:"security"`
	} `json:"meta"`
	Status  string `json:"status"`
	Subject struct {
		Reference  string `json:"reference"`
		Identifier struct {
			System string `json:"system"`
			Value  string `json:"value"`
		} `json:"identifier"`
	} `json:"subject"`
	Type     listConcept   `json:"type"`
	Category []listConcept `json:"category"`
	Labels   []listConcept `json:"securityLabel"`
	Date     string        `json:"date"`
	// Description is what an export says for people.
	Description string `json:"description"`
	Content     []struct {
		Attachment struct {
			ContentType string `json:"contentType"`
			URL         string `json:"url"`
			Size        *int64 `json:"size"`
			Hash        string `json:"hash"`
			Title       string `json:"title"`
			Creation    string `json:"creation"`
		} `json:"attachment"`
	} `json:"content"`
	Context struct {
		Related []fhir.Reference `json:"related"`
	} `json:"context"`
	unread bool // it has something else that may be why the document must not leave
}

// readPaths are the elements of an entry that an import reads, and those that cannot be why a
// document must not leave.
var readPaths = map[string]bool{
	"resourceType": true, "id": true, "status": true, "docStatus": true, "date": true,
	"description": true, "implicitRules": true, "language": true,
	"meta.tag.system": true, "meta.tag.code": true, "meta.tag.display": true,
	"meta.tag.version": true, "meta.versionId": true, "meta.lastUpdated": true,
	"meta.profile":         true,
	"meta.security.system": true, "meta.security.code": true, "meta.security.display": true,
	"subject.reference": true, "subject.type": true, "subject.display": true,
	"subject.identifier.system": true, "subject.identifier.value": true,
	"type.coding.system": true, "type.coding.code": true, "type.coding.display": true,
	"category.coding.system": true, "category.coding.code": true,
	"securityLabel.coding.system": true, "securityLabel.coding.code": true,
	"securityLabel.coding.display": true, "content.attachment.contentType": true,
	"content.attachment.language": true, "content.attachment.url": true,
	"content.attachment.size": true, "content.attachment.hash": true,
	"content.attachment.title": true, "content.attachment.creation": true,
	"content.format.system": true, "content.format.code": true, "content.format.display": true,
	"context.related.reference": true, "context.related.type": true,
}

type listConcept struct {
	Coding []fhir.Coding `json:"coding"`
}

// parseEntry parses a line of a list. Errors: errRow.
func parseEntry(line []byte) (e listEntry, err error) {
	if _, why := fhir.CheckText(line); why != "" {
		return e, errRow{why}
	}
	c := fhir.Cursor{Unique: true}
	var path []byte
	for c.Reset(line); c.Next(); {
		if c.Kind == fhir.Scalar {
			path = c.AppendPath(path[:0])
			e.unread = e.unread || !readPaths[string(path)]
		}
	}
	if err := c.Err(); err != nil {
		return e, errRow{fmt.Sprintf("not a valid EHIDocumentReference: %v", err)}
	}
	if _, err := json.Parse(line, &e, json.DontMatchCaseInsensitiveStructFields); err != nil {
		return e, errRow{fmt.Sprintf("not a valid EHIDocumentReference: %v", err)}
	}
	return e, nil
}

// exported reports whether an export wrote the entry about a native file.
func (e *listEntry) exported() bool {
	return e.ResourceType == "DocumentReference" &&
		slices.ContainsFunc(e.Meta.Tag, func(t fhir.Coding) bool { return t.Code == exportTag })
}

// localPath returns the path of a file in the folder of a list by its URL: a relative one, or one
// of a download.
func localPath(text string) (at string, absolute bool, err error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || text == "":
		return "", false, fmt.Errorf("%q is no URL", text)
	case u.Scheme == "" && u.Host == "" && u.RawQuery == "" && u.Fragment == "":
		return u.Path, false, nil
	}
	_, escaped, found := strings.Cut(u.EscapedPath(), downloads)
	at, err = url.PathUnescape(escaped)
	if !found || err != nil {
		return "", false, fmt.Errorf("%q is neither relative nor the URL of a download", text)
	}
	return at, true, nil
}

// isArchive reports whether an entry is about an archive, which has a list of its own.
func isArchive(at string, e *listEntry) bool {
	return !strings.Contains(at, "/") && len(e.Content) == 1 &&
		e.Content[0].Attachment.ContentType == "application/zip"
}

// listReader reads the documents of a list.
type listReader struct {
	bound *bound
	lines *bufio.Reader
	name  string // of the list
	line  int
	// tables are the paths of files that descriptors describe, and of the descriptors.
	tables map[string]bool
	// seen counts the documents that are the same by all that tells documents apart.
	seen map[string]int
	// archives means that the list names archives.
	archives bool
	// named are the paths of all files that the list of an archive names; nil for other lists.
	named map[string]bool
}

// unnamed returns a file of an archive's folder that its list does not name, such as one of
// another archive that was unpacked into the same folder; "" if there is none.
func (x *listReader) unnamed(root *os.Root) string {
	if x.named == nil {
		return ""
	}
	for _, folder := range []string{documentsFolder, tablesFolder} {
		entries, err := fs.ReadDir(root.FS(), path.Dir(folder))
		if err != nil { // there is no such folder
			continue
		}
		for _, e := range entries {
			if name := folder + e.Name(); e.Type().IsRegular() && !x.named[name] {
				return name
			}
		}
	}
	return ""
}

// newListReader returns a reader of a list.
func newListReader(r io.Reader, list string) *listReader {
	folder, name := filepath.Split(list)
	x := &listReader{
		name:   name,
		bound:  &bound{r, longestEntry, longestEntry},
		tables: map[string]bool{},
		seen:   map[string]int{},
	}
	x.lines = bufio.NewReaderSize(x.bound, 64<<10)
	if name == archiveList {
		x.named = map[string]bool{}
	}
	for _, in := range []string{"", tablesFolder} {
		x.tables[path.Join(in, descriptor)] = true
		within := filepath.Join(folder, in)
		for _, file := range append(descriptorsIn(within), tableFiles(within)...) {
			if rel, err := filepath.Rel(folder, file); err == nil {
				x.tables[filepath.ToSlash(rel)] = true
			}
		}
	}
	return x
}

// next implements documentReader.
func (x *listReader) next() (d documentLine, line int, err error) {
	for {
		x.bound.left = x.bound.limit
		text, err := x.lines.ReadBytes('\n')
		x.line++
		if err != nil && !errors.Is(err, io.EOF) {
			return d, x.line, err
		}
		if text = bytes.TrimSpace(text); len(text) == 0 {
			if err != nil {
				return d, x.line, io.EOF
			}
			continue
		}
		e, err := parseEntry(text)
		if err != nil {
			return d, x.line, err
		}
		if d, is, err := x.document(&e); err != nil || is {
			return d, x.line, err
		}
	}
}

// document returns the document of an entry; false for a table, an archive, a descriptor or a
// readme. Errors: errRow.
func (x *listReader) document(e *listEntry) (d documentLine, is bool, err error) {
	if !e.exported() || len(e.Content) != 1 {
		return d, false, errRow{"is no EHIDocumentReference of an export with one attachment"}
	}
	a := &e.Content[0].Attachment
	at, _, err := localPath(a.URL)
	if x.named != nil {
		x.named[at] = true
	}
	switch {
	case err != nil:
		return d, false, errRow{"url: " + err.Error()}
	case at == x.name:
		return d, false, errRow{"names the list itself"}
	case x.tables[at], at == readmeName:
		return d, false, nil
	case isArchive(at, e):
		x.archives = true
		return d, false, nil
	}
	if strings.HasPrefix(at, tablesFolder) {
		return d, false, errRow{fmt.Sprintf("%s: is a table that no %s describes", at, descriptor)}
	}
	if d, err = e.document(at); err != nil {
		return d, false, errRow{err.Error()}
	}
	d.known = x.identity(&d)
	return d, true, nil
}

// document returns the document at a path.
func (e *listEntry) document(at string) (d documentLine, err error) {
	a := &e.Content[0].Attachment
	d.list, d.path, d.name = true, at, path.Base(at)
	if strings.HasPrefix(at, documentsFolder) {
		d.name = unnumbered(d.name)
	}
	d.title, d.contentType = a.Title, a.ContentType
	if d.title == d.name { // what an export says for want of a title
		d.title = ""
	}
	if d.contentType == "" {
		d.contentType = contentTypeOf(d.name)
	}
	d.size, d.gone = a.Size, e.Status == enteredInError
	for _, of := range []struct {
		name string
		set  func() error
	}{
		{"url", func() error { return checkPath(at) }},
		{"subject", func() (err error) { d.owner, err = e.owner(); return err }},
		{"contentType", func() error { return checkMediaType(a.ContentType) }},
		{"hash", func() (err error) { d.sha1, err = parseHash(a.Hash); return err }},
		{"date", func() (err error) { d.created, err = parseDate(e.Date); return err }},
		{"context.related", func() error { return e.related(&d.marks) }},
	} {
		if err := of.set(); err != nil {
			return d, fmt.Errorf("%s: %w", of.name, err)
		}
	}
	e.classify(&d.marks)
	// date is an instant, and creation may be less
	if at, err := parseDate(a.Creation); err == nil && at.Equal(d.created) {
		d.marks.Date = partial(a.Creation)
	}
	if !e.tellsTitle(a.Title) {
		d.marks.Unread = true
	}
	return d, nil
}

// classify finds what the entry says that the document is.
func (e *listEntry) classify(m *marks) {
	if len(e.Type.Coding) > 0 {
		m.Code, m.Codings = e.Type.Coding[0], e.Type.Coding[1:]
	}
	m.Unread = e.unread || slices.ContainsFunc(e.Meta.Tag, func(t fhir.Coding) bool {
		return t.Code != exportTag
	})
	for _, c := range e.Category {
		for _, coding := range c.Coding {
			key, err := parseCategory(coding.Code)
			switch {
			case err == nil && strings.HasSuffix(coding.System, "/docs/ehi") &&
				(m.Category == "" || m.Category == key):
				m.Category = key
			default: // it says something else of the document
				m.Unread = true
			}
		}
	}
	for _, l := range append(e.Labels, listConcept{e.Meta.Security}) {
		for _, coding := range l.Coding {
			if !slices.Contains(m.Labels, coding) {
				m.Labels = append(m.Labels, coding)
			}
		}
	}
}

// tellsTitle reports whether the description says no more than an export does: the title, and what
// the format is.
func (e *listEntry) tellsTitle(title string) bool {
	rest, is := strings.CutPrefix(e.Description, title)
	return e.Description == "" || is && (rest == "" || strings.HasPrefix(rest, ". Format: "))
}

// owner returns whose the document is.
func (e *listEntry) owner() (owner, error) {
	switch i := e.Subject.Identifier; {
	case e.Subject.Reference != "":
		id, is := strings.CutPrefix(e.Subject.Reference, "Patient/")
		if !is || !fhir.ValidID(id) {
			return owner{}, fmt.Errorf("%q is not Patient/id", e.Subject.Reference)
		}
		return owner{ID: id}, nil
	case i.Value != "":
		return owner{System: i.System, Value: i.Value}, nil
	}
	return owner{}, errors.New("names no patient")
}

// related finds the resources that the document belongs to.
func (e *listEntry) related(m *marks) error {
	for _, r := range e.Context.Related {
		to, err := parseTarget(r.Reference)
		switch {
		case err != nil:
			return err
		case m.Resource == "":
			m.Resource = to
		case to != "":
			m.Related = append(m.Related, to)
		}
	}
	return nil
}

func parseHash(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	sum, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(sum) != sha1Size {
		return nil, fmt.Errorf("%q is no SHA-1 in base64", text)
	}
	return sum, nil
}

const sha1Size = 20

// numbered matches the names of documents in exports: numbers make them unique.
var numbered = regexp.MustCompile(`^r?\d{6,}-(.+)$`)

// unnumbered returns the name that a document had before it was exported.
func unnumbered(name string) string {
	if m := numbered.FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return name
}

// identity returns the ID of a document. The numbers in the names of two exports differ, so a
// document that comes again is recognized by everything else.
func (x *listReader) identity(d *documentLine) string {
	if d.sha1 == nil {
		return ""
	}
	id := func(n int) string { return listID(d.owner, d.name, d.title, d.created, d.sha1, n) }
	first := id(0)
	n := x.seen[first]
	x.seen[first]++
	return id(n)
}
