package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Importer is a Source that can import records.
type Importer interface {
	// ImportFrom imports a stream: NDJSON, optionally gzipped, or one document. Problems are
	// reported under name. An invalid line or bundle entry is reported and the rest is imported.
	// Errors: ErrBusy, ErrBad, ErrUnplaced, and those of the store and the reader. What was read
	// before an error stays imported.
	ImportFrom(ctx context.Context, name string, r io.Reader, o ImportOptions) (Report, error)
}

// ErrBusy is returned with ImportOptions.NoWait while another import runs.
var ErrBusy = errors.New("another import is running")

// Busy is the message with which an importing server answers 503 to another importer.
const Busy = "Another import is running; try again when it is done"

// ErrBad is returned with ImportOptions.Strict for an invalid line or entry.
var ErrBad = errors.New("bad input")

// ErrUnplaced is returned with ImportOptions.Strict if resources belong to no patient.
var ErrUnplaced = errors.New("resources belong to no known patient")

// ImportOptions configures an import.
type ImportOptions struct {
	// Strict stops at the first invalid line or bundle entry, and treats resources that belong
	// to no known patient as an error.
	Strict bool
	// Document means that a stream is a single JSON document, a Bundle or a resource, and not
	// NDJSON.
	Document bool
	// Charset is the encoding of text that is not UTF-8, by its name in the WHATWG encoding
	// standard: latin1, windows-1252, utf-16... By default such text is a problem.
	Charset string
	// MaxResource is the size of the largest resource in the input, in bytes. Larger ones are
	// skipped and reported. Default MaxResource.
	MaxResource int64
	// MoveFrom is from how many bytes on the data of an Attachment moves out of its resource, see
	// Moved. Default MoveFrom(DefaultInline).
	MoveFrom int64
	// LeastFree is how many bytes an import must leave free on the store's disk. Otherwise it
	// ends with syscall.ENOSPC, early enough for the store to flush its memory, without which
	// its writers would block forever. 0 disables the check.
	LeastFree int64
	// NoWait fails with ErrBusy instead of waiting for another import.
	NoWait bool
	// Progress, if not nil, is called with the bytes read and the total, which is 0 if unknown.
	Progress func(done, total int64)
	// Settled, if not nil, is called after that with the number of patients whose records have
	// been prepared.
	Settled func(patients int)
	// Now is the time of import that the resources get.
	Now time.Time
}

// ImportFlags are the settings of imports.
type ImportFlags struct {
	// MaxResource is ImportOptions.MaxResource.
	MaxResource int64 `name:"max-resource" help:"Maximum size of a resource in an import, in bytes. Larger ones are skipped and reported. With --url, the server's limit applies." default:"67108864" env:"EHI_MAX_RESOURCE" range:"1024..1073741824"`
	// InlineBytes is the argument of MoveFrom.
	InlineBytes int64 `name:"inline-bytes" help:"Largest data of an attachment that stays in its resource, in bytes. Larger data is stored beside it, and exported as a file with a URL. 0: all data moves. -1 (written --inline-bytes=-1): none does. With --url, the server's limit applies." default:"1048576" env:"EHI_INLINE_BYTES" range:"-1..1073741824"`
}

// MaxResource is the default size of the largest resource that an import takes, in bytes.
const MaxResource = 64 << 20

// Report is the result of an import.
type Report struct {
	Files int `json:"files"` // files read
	// Skipped counts unchanged files that were imported before.
	Skipped  int              `json:"skipped"`
	Counts   map[string]int64 `json:"counts"`            // resources read, by type
	Problems int64            `json:"problems"`          // lines and entries that could not be imported
	Bad      []Problem        `json:"bad"`               // the first MaxBad of them
	Ignored  []Ignored        `json:"ignored,omitempty"` // ignored files and lines
	// Notes are what to know about files that were imported.
	Notes []Note `json:"notes,omitempty"`
	// Unplaced counts what the store holds after the import that is in no patient's record
	// although its type belongs to patients: it names no patient, or one who has not been
	// imported yet.
	Unplaced Unplaced `json:"unplaced,omitempty"`
	// Documents counts the documents read that are not FHIR.
	Documents int64 `json:"documents,omitempty"`
	// DocumentsRemoved counts the documents that the import took out of the store, because their
	// index now lists them for another patient, or as entered in error.
	DocumentsRemoved int64 `json:"documentsRemoved,omitempty"`
	// Rows counts the rows read of tables, by table.
	Rows map[string]int64 `json:"rows,omitempty"`
	// RowsRemoved counts the rows that the import removed, by table: those that are not in the files
	// of a table that was replaced as a whole.
	RowsRemoved map[string]int64 `json:"rowsRemoved,omitempty"`
	// UnplacedRows counts, like Unplaced, the rows that are in no patient's record, by table. The
	// example is a file and a line.
	UnplacedRows Unplaced `json:"unplacedRows,omitempty"`
	// UnplacedDocuments counts, like Unplaced, the documents that are in no patient's record.
	UnplacedDocuments *UnplacedType `json:"unplacedDocuments,omitempty"`
	// Renamed counts, by type, resources that a Bundle asked the server to create. They get new
	// IDs.
	Renamed map[string]Renamed `json:"renamed,omitempty"`
}

// Renamed counts the resources of one type that got new IDs.
type Renamed struct {
	Count int64  `json:"count"`
	From  string `json:"from"` // the original ID of the first one
	To    string `json:"to"`   // its new ID
}

// Unplaced counts resources by type.
type Unplaced map[string]UnplacedType

// UnplacedType counts resources of one type.
type UnplacedType struct {
	Count   int64  `json:"count"`
	Example string `json:"example"` // type/id of one of them
}

func (u Unplaced) String() string {
	var out []string
	for _, t := range slices.Sorted(maps.Keys(u)) {
		out = append(out, fmt.Sprintf("%d %s (%s)", u[t].Count, t, u[t].Example))
	}
	return strings.Join(out, ", ")
}

// Ignored is a file or folder that was not imported.
type Ignored struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

// Note is what to know about a file that was imported.
type Note struct {
	File string `json:"file"`
	Text string `json:"text"`
}

// MaxBad is how many problems a report lists.
const MaxBad = 1000

// Problem is one line or bundle entry that could not be imported.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line"` // 1 for the first
	Why  string `json:"why"`
}

func (p Problem) String() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Why) }

// Add adds the figures of another report.
func (r *Report) Add(other Report) {
	r.Files += other.Files
	r.Skipped += other.Skipped
	r.Problems += other.Problems
	r.Bad = append(r.Bad, other.Bad[:min(len(other.Bad), MaxBad-len(r.Bad))]...)
	r.Ignored = append(r.Ignored, other.Ignored...)
	r.Notes = append(r.Notes, other.Notes...)
	r.Documents += other.Documents
	r.DocumentsRemoved += other.DocumentsRemoved
	// the state of the store after the later import
	r.Unplaced, r.UnplacedDocuments = other.Unplaced, other.UnplacedDocuments
	r.UnplacedRows = other.UnplacedRows
	for table, n := range other.Rows {
		if r.Rows == nil {
			r.Rows = map[string]int64{}
		}
		r.Rows[table] += n
	}
	for table, n := range other.RowsRemoved {
		if r.RowsRemoved == nil {
			r.RowsRemoved = map[string]int64{}
		}
		r.RowsRemoved[table] += n
	}
	if r.Counts == nil {
		r.Counts = map[string]int64{}
	}
	for typ, n := range other.Counts {
		r.Counts[typ] += n
	}
	for typ, of := range other.Renamed {
		r.Rename(typ, of)
	}
}

// Rename counts resources of a type that got new IDs.
func (r *Report) Rename(typ string, of Renamed) {
	if r.Renamed == nil {
		r.Renamed = map[string]Renamed{}
	}
	if before, found := r.Renamed[typ]; found {
		of = Renamed{Count: before.Count + of.Count, From: before.From, To: before.To}
	}
	r.Renamed[typ] = of
}

// Resources returns how many resources were read.
func (r *Report) Resources() (n int64) {
	for _, of := range r.Counts {
		n += of
	}
	return n
}
