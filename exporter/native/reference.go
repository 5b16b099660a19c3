package native

import (
	"strconv"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/fhir"
)

// reference is the EHIDocumentReference of one native file.
type reference struct {
	fhir.DocumentReference
	Type *concept `json:"type,omitempty"`
	// Category is the line of the release form, with the URL of the documentation as its system.
	Category []concept `json:"category,omitempty"`
	Date     string    `json:"date,omitempty"`
	Labels   []concept `json:"securityLabel,omitempty"`
	Context  *related  `json:"context,omitempty"`
}

type concept struct {
	Coding []fhir.Coding `json:"coding"`
}

// related names the resources that a document belongs to.
type related struct {
	Related []fhir.Reference `json:"related"`
}

// file describes a native file in a list.
type file struct {
	name        string // within the archive, or below the URL of downloads
	archive     int    // of the task, counted from 1; 0 for what lies in none
	contentType string
	title       string
	format      Format
	section     string // of the documentation, "" for that of the format
	created     time.Time
	size        int64
	sha1        []byte
	document    *source.Document // nil for anything but a document
}

// line is memory for the line of a file in a list, which is used again and again.
type line struct {
	of            reference
	typ           concept
	categories    []concept
	context       related
	documentation string // URL of the documentation of this server
	text          []byte
}

// describe returns the line of a file in a list, with a newline. It is valid until the next call.
// url is where the list says that the file is.
func (w *writing) describe(f file, url string) []byte {
	section := f.section
	if section == "" {
		section = "format-" + f.format.Code
	}
	l := &w.line
	if l.documentation == "" {
		l.documentation = w.Origin + "/docs/ehi"
	}
	r := &l.of
	r.SetEHIDocument(fhir.MakeID(w.Job, w.prefix(f.archive)+f.name), w.subject(f.document),
		fhir.NewAttachment(f.title, f.contentType, url, f.size, f.sha1, f.created))
	r.Description = f.title + ". Format: " + l.documentation + "#" + section
	r.Content[0].Format = fhir.Coding{
		System: l.documentation, Code: f.format.Code, Display: f.format.Title,
	}
	r.Type, r.Category, r.Labels, r.Context, r.Date = nil, nil, nil, nil, ""
	if f.document != nil {
		w.describeDocument(f.document)
	}
	text, err := json.Append(l.text[:0], r, json.EscapeHTML)
	if err != nil { // strings and numbers only: cannot fail
		panic(err)
	}
	l.text = append(text, '\n')
	return l.text
}

// describeDocument adds what only documents have to w.line.
func (w *writing) describeDocument(d *source.Document) {
	l := &w.line
	r := &l.of
	if d.Type != (fhir.Coding{}) || len(d.Codings) > 0 {
		l.typ.Coding = append(append(l.typ.Coding[:0], d.Type), d.Codings...)
		r.Type = &l.typ
	}
	if d.Category != "" {
		if l.categories == nil {
			l.categories = []concept{{make([]fhir.Coding, 1)}}
		}
		l.categories[0].Coding[0] = fhir.Coding{System: l.documentation, Code: string(d.Category)}
		r.Category = l.categories
	}
	for _, label := range d.Labels {
		r.Labels = append(r.Labels, concept{[]fhir.Coding{label}})
	}
	l.context.Related = l.context.Related[:0]
	for _, resource := range w.related {
		l.context.Related = append(l.context.Related, fhir.Reference{Reference: resource})
		r.Context = &l.context
	}
	if !d.Created.IsZero() { // an import must not take a substitute for the date
		r.Date = fhir.FormatInstant(d.Created)
		if d.Date != "" {
			r.Content[0].Attachment.Creation = d.Date
		}
	}
}

// prefix tells the files of tasks and of archives apart, whose names may be the same.
func (e *Export) prefix(archive int) string {
	out := strconv.Itoa(e.Task) + "/"
	if archive > 0 {
		out += strconv.Itoa(archive) + "/"
	}
	return out
}

// subject returns a reference to the patient of a document, or of the export; "" for none.
func (e *Export) subject(d *source.Document) string {
	id := e.Patient
	if d != nil {
		id = d.Patient
	}
	if !fhir.ValidID(id) {
		return ""
	}
	return "Patient/" + id
}

// documentFile describes a document.
func (e *Export) documentFile(d *source.Document, name string, size int64, sha1 []byte) file {
	created := d.Created
	if created.IsZero() {
		created = d.Updated
	}
	if created.IsZero() {
		created = e.TakenAt
	}
	title := d.Title
	if title == "" {
		title = d.Name
	}
	return file{
		name: name, contentType: d.ContentType, title: title,
		format: formatOf(d.ContentType, d.Name), created: created,
		size: size, sha1: sha1, document: d,
	}
}

// tableFile describes a table.
func (e *Export) tableFile(
	r *datapackage.Resource, name string, size int64, sha1 []byte,
) file {
	title := r.Title
	if title == "" {
		title = r.Name
	}
	return file{
		name: name, contentType: tableType(r), title: "Table " + r.Name + ": " + title,
		format: formatOf("", name), section: "table-" + r.Name, created: e.TakenAt,
		size: size, sha1: sha1,
	}
}
