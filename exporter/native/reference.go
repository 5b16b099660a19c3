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

// related names the resource that a document belongs to.
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

// describe returns the line of a file in a list, with a newline. It is valid until the next call.
// url is where the list says that the file is.
func (e *writing) describe(f file, url string) []byte {
	section := f.section
	if section == "" {
		section = "format-" + f.format.Code
	}
	documentation := e.Origin + "/docs/ehi"
	r := reference{DocumentReference: fhir.NewEHIDocument(
		fhir.MakeID(e.Job, e.prefix(f.archive)+f.name), e.subject(f.document),
		fhir.NewAttachment(f.title, f.contentType, url, f.size, f.sha1, f.created))}
	r.Description = f.title + ". Format: " + documentation + "#" + section
	r.Content[0].Format = fhir.Coding{
		System: documentation, Code: f.format.Code, Display: f.format.Title,
	}
	if d := f.document; d != nil {
		if d.Type != (fhir.Coding{}) {
			r.Type = &concept{[]fhir.Coding{d.Type}}
		}
		if d.Category != "" {
			r.Category = []concept{{[]fhir.Coding{{
				System: documentation, Code: string(d.Category),
			}}}}
		}
		for _, l := range d.Labels {
			r.Labels = append(r.Labels, concept{[]fhir.Coding{l}})
		}
		if d.Resource != "" && e.relates(d) {
			r.Context = &related{[]fhir.Reference{{Reference: d.Resource}}}
		}
		if !d.Created.IsZero() { // an import must not take a substitute for the date
			r.Date = fhir.FormatInstant(d.Created)
		}
	}
	line, err := json.Append(e.line[:0], &r, json.EscapeHTML)
	if err != nil { // strings and numbers only: cannot fail
		panic(err)
	}
	e.line = append(line, '\n')
	return e.line
}

// prefix tells the files of tasks and of archives apart, whose names may be the same.
func (e *Export) prefix(archive int) string {
	out := strconv.Itoa(e.Task) + "/"
	if archive > 0 {
		out += strconv.Itoa(archive) + "/"
	}
	return out
}

// relates reports whether the list may name the resource that a document belongs to.
func (e *Export) relates(d *source.Document) bool {
	return e.Decide == nil || e.Decide.Relates(d)
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
