package source

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Native is the content of a record that is not FHIR (NAT-1): documents, which are files of any
// format, and rows of the source system's own tables. What belongs to a patient without a Patient
// resource is in no record. It is not safe for concurrent use.
type Native interface {
	// Tables describes the tables of the source; nil if it has none. It is the same for every
	// record of the source, and must not be changed.
	Tables() *datapackage.Package
	// Documents calls visit for each document that q admits as a DocumentReference that was
	// updated at Document.Updated, patient by patient in the order of Scan, in a fixed order. It
	// stops at the first error of visit, or when ctx ends, and returns that error. The document
	// is valid during the visit only.
	Documents(ctx context.Context, q Query, visit func(*Document) error) error
	// Moved returns moved data that a line of the record names, as a document of which only the
	// content and ContentType count. Errors, also of Open: those of the store.
	Moved(m *Moved) (*Document, error)
	// Rows calls visit for the rows of a table, patient by patient in a fixed order. One
	// patient's record visits no rows of look-up tables, see Lookup. Of a population, the part
	// for what belongs to no patient visits all rows of look-up tables, and no others. Errors:
	// as Documents.
	Rows(ctx context.Context, table string, visit func(Rows) error) error
	// Lookup calls visit for the rows of a look-up table whose fields have these values, perhaps
	// written differently. The fields are those of a foreign key's reference in Tables.
	Lookup(
		ctx context.Context, table string, fields, values []string, visit func(Rows) error,
	) error
}

// Rows are whole rows of one table and one patient.
type Rows struct {
	Patient string // "" in a look-up table
	// Data has the rows as they are in the table's file, in its encoding, each with its line
	// terminator. It is valid during the visit only.
	Data  []byte
	Count int64
}

// Document is a file of a patient's record, in any format.
type Document struct {
	ID      string // unique in the source; an ID of FHIR
	Patient string
	// Name is a file name for people, with its extension. It need not be unique.
	Name        string
	ContentType string // media type; never ""
	Title       string
	Created     time.Time // zero if unknown
	// Date is the year, month or day of Created, as FHIR writes it, if no more of it is known;
	// "" for an instant.
	Date    string
	Updated time.Time // when it was imported
	Type    fhir.Coding
	Codings []fhir.Coding // further codes of its type
	// Category is the line of the release form under which the document falls; "" if nobody has
	// classified it and its Type does not.
	Category ehi.Category
	Labels   []fhir.Coding // security labels
	// Resource is the resource that the document belongs to, as Type/id; "" for none. Related are
	// further ones.
	Resource string
	Related  []string
	// Unread means that its source said more about it than is known here, which may be why it
	// must not leave. So nobody has classified it, whatever its Category and Type are.
	Unread bool
	// Size is the size of the content in bytes, SHA1 and Sum its digests; Sum has the form of
	// files.Sum. They are zero if the source knows them only after the content was read.
	Size int64
	SHA1 []byte
	Sum  string
	// Path is a file with the content, which never changes and may be hard-linked; "" if there
	// is none.
	Path string
	// Open opens the content. The caller closes it.
	Open func() (io.ReadCloser, error)
}

// Resources yields the resources that the document belongs to.
func (d *Document) Resources() iter.Seq[string] {
	return func(yield func(string) bool) {
		if d.Resource != "" && !yield(d.Resource) {
			return
		}
		for _, r := range d.Related {
			if !yield(r) {
				return
			}
		}
	}
}

// NoNative is the Native of a source without native content.
type NoNative struct{}

// Tables implements Native.
func (NoNative) Tables() *datapackage.Package { return nil }

// Documents implements Native.
func (NoNative) Documents(context.Context, Query, func(*Document) error) error { return nil }

// Moved implements Native.
func (NoNative) Moved(*Moved) (*Document, error) {
	return nil, errors.New("this source has no moved data")
}

// Rows implements Native.
func (NoNative) Rows(context.Context, string, func(Rows) error) error { return nil }

// Lookup implements Native.
func (NoNative) Lookup(context.Context, string, []string, []string, func(Rows) error) error {
	return nil
}
