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

// Importer is a Source that takes records.
type Importer interface {
	// ImportFrom reads a stream: NDJSON, gzipped or not, or one document. name is what problems
	// call it. A bad line or bundle entry is reported and the rest imported. Errors: ErrBusy,
	// ErrBad, ErrUnplaced; others are the store's or the reader's. What came before an error
	// stays imported.
	ImportFrom(ctx context.Context, name string, r io.Reader, o ImportOptions) (Report, error)
}

// ErrBusy is returned under ImportOptions.NoWait while another import runs.
var ErrBusy = errors.New("another import is running")

// Busy is how a server that imports tells another importer to wait, by 503.
const Busy = "Another import is running; try again when it is done"

// ErrBad is returned under ImportOptions.Strict for a bad line or entry.
var ErrBad = errors.New("bad input")

// ErrUnplaced is returned under ImportOptions.Strict where resources belong to no patient.
var ErrUnplaced = errors.New("resources belong to no known patient")

// ImportOptions tune an import.
type ImportOptions struct {
	// Strict stops at the first bad line or bundle entry, and makes an error of resources that
	// belong to no known patient.
	Strict bool
	// Document says that a stream is one JSON document, a Bundle or a resource, and not NDJSON.
	Document bool
	// Charset is what text that is not UTF-8 is in, by its name in the WHATWG encoding standard:
	// latin1, windows-1252, utf-16... Default: such text is a problem.
	Charset string
	// MaxResource is the size of the largest resource, in bytes as they stand in the input; a
	// larger one is skipped and reported. Default MaxResource.
	MaxResource int64
	// LeastFree is how many bytes an import leaves free on the store's disk. Where it would not
	// it ends by an error that is syscall.ENOSPC, in time: a store has to write what it has in
	// memory, and without room for that whoever writes waits without end. 0: it fills the disk.
	LeastFree int64
	// NoWait refuses to wait for another import to end.
	NoWait bool
	// Progress is told how many of the input's bytes are read; total is 0 where that is unknown.
	// It may be nil.
	Progress func(done, total int64)
	// Settled is told how many patients' records are made ready after that; it may be nil.
	Settled func(patients int)
	// Now is the time of import that the resources get.
	Now time.Time
}

// MaxResource is the default size of the largest resource that an import takes, in bytes.
const MaxResource = 64 << 20

// Report says what an import did.
type Report struct {
	Files int `json:"files"` // files read
	// files that were imported before and have not changed
	Skipped  int              `json:"skipped"`
	Counts   map[string]int64 `json:"counts"`            // resources read, by type
	Problems int64            `json:"problems"`          // lines and entries that could not be imported
	Bad      []Problem        `json:"bad"`               // the first MaxBad of them
	Ignored  []Ignored        `json:"ignored,omitempty"` // files that were left out, and lines
	// Unplaced is what the store holds after the import that is in nobody's record, although its
	// type belongs to patients: it names no patient, or one who has not come yet.
	Unplaced Unplaced `json:"unplaced,omitempty"`
	// Renamed are resources, by type, that a Bundle asked a server to create: their own ids do
	// not count.
	Renamed map[string]Renamed `json:"renamed,omitempty"`
}

// Renamed counts resources of one type that were given other ids than they came with.
type Renamed struct {
	Count int64  `json:"count"`
	From  string `json:"from"` // the id that the first of them came with
	To    string `json:"to"`   // the one that it got
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

// Ignored is a file or folder that was left out.
type Ignored struct {
	File string `json:"file"`
	Why  string `json:"why"`
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

// Add counts what another report counts.
func (r *Report) Add(other Report) {
	r.Files += other.Files
	r.Skipped += other.Skipped
	r.Problems += other.Problems
	r.Bad = append(r.Bad, other.Bad[:min(len(other.Bad), MaxBad-len(r.Bad))]...)
	r.Ignored = append(r.Ignored, other.Ignored...)
	r.Unplaced = other.Unplaced // the store's state behind the later import
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

// Rename counts resources of a type that got other ids.
func (r *Report) Rename(typ string, of Renamed) {
	if r.Renamed == nil {
		r.Renamed = map[string]Renamed{}
	}
	if before, found := r.Renamed[typ]; found {
		of = Renamed{Count: before.Count + of.Count, From: before.From, To: before.To}
	}
	r.Renamed[typ] = of
}

// Resources is how many resources were read.
func (r *Report) Resources() (n int64) {
	for _, of := range r.Counts {
		n += of
	}
	return n
}
