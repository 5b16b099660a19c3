// Package source says what an export reads from. A Source holds patients' records; a Record is
// one of them at one instant, a Population all of them. The kinds: dataset (the embedded record
// store), synthetic (made up as it is read). Workers and the HTTP server use this interface and
// no kind's own type.
package source

import (
	"context"
	"slices"
	"time"

	"ehi-server/shared/ehi"
)

// Source is a store of patients' records. All methods may be called from many goroutines.
type Source interface {
	// Patient finds a patient. Errors: ehi.NotFound.
	Patient(ctx context.Context, id string) (ehi.Patient, error)
	// Patients lists up to limit patients in the order of their ids.
	Patients(ctx context.Context, limit int) ([]ehi.Patient, error)
	// FindPatients searches the Patient resources, in the order of their ids. Errors:
	// ehi.TooCostly for a search that finds more than the source sorts at a time.
	FindPatients(ctx context.Context, s Search) (Found, error)
	// Open takes hold of one patient's record as it is now. What is imported later does not show
	// in it. The caller closes it. Errors: ehi.NotFound.
	Open(ctx context.Context, patient string) (Record, error)
	// Resource reads a resource of a patient's record as a line of JSON; a patient "" stands for
	// anybody. Errors: ehi.NotFound.
	Resource(ctx context.Context, patient, typ, id string) ([]byte, error)
	// Groups lists the ids of the groups of patients.
	Groups(ctx context.Context) ([]string, error)
	// Group reads a Group resource as a line of JSON. Errors: ehi.NotFound.
	Group(ctx context.Context, id string) ([]byte, error)
	// Size is about how many bytes the lines of patients' compartments have, without what they
	// share; nil stands for all patients. Patients that are absent have none.
	Size(ctx context.Context, patients []string) (int64, error)
	// Freeze keeps the whole store as it is now under a name, for the tasks of a population's
	// export. The name survives a restart; it is a job's id. Freezing a name again gives what
	// was frozen first, in whatever process. The caller closes the Population.
	Freeze(ctx context.Context, name string) (Population, error)
	// Thaw forgets a name; it is no error when there is none. It waits for Populations of the
	// name to be closed.
	Thaw(name string) error
	// Frozen lists the names that are kept.
	Frozen() ([]string, error)
	// Records says which records the source has at this moment.
	Records() ehi.Records
	// OnRecords calls f whenever Records has changed, until stop is called. f must not wait, and
	// calls nothing of the source.
	OnRecords(f func()) (stop func())
	// Check asks the store whether it works.
	Check(ctx context.Context) error
	// Close releases the store; every Record must be closed before.
	Close() error
}

// Population is all records at one instant. It may be used by many goroutines.
type Population interface {
	// TakenAt is the instant.
	TakenAt() time.Time
	// Records says which records it has; those of a former build's are unknown.
	Records() ehi.Records
	// Plan cuts what s selects into parts of about target bytes each, always in the same way:
	// disjoint ranges of patients, and one part of what belongs to no patient. It has at least
	// one part. Errors: those of Members.
	Plan(ctx context.Context, s Selection, target int64) ([]ehi.Part, error)
	// Absent lists those of s.Patients that are not in the population: there is no such patient,
	// or for a group no such member. Errors: ehi.NotFound for a group that is not there.
	Absent(ctx context.Context, s Selection) ([]string, error)
	// Open gives one part of a plan. Each resource of the population is in exactly one part. The
	// caller closes the Record.
	Open(ctx context.Context, s Selection, part ehi.Part) (Record, error)
	// Close releases it; every Record must be closed before.
	Close() error
}

// Selection says who belongs to a population's export.
type Selection struct {
	Level    ehi.Level
	Group    string   // of ehi.OneGroup
	Patients []string // only these; none: all
	// ByPatient gives each patient's whole record, shared resources included, one behind the
	// other and the Patient first; then what is shared comes with each patient that refers to
	// it, and what belongs to nobody stays out.
	ByPatient bool
}

// Record is one patient's record at one instant: the patient's compartment and the shared
// resources (organizations, practitioners, ...) that it refers to; or one part of a population.
// It is for one goroutine at a time.
type Record interface {
	// TakenAt is the instant that the record shows.
	TakenAt() time.Time
	// Records says of which records it is a part, at that instant.
	Records() ehi.Records
	// Total is about how many resources Scan visits without a query, for progress; 0 where that
	// is unknown.
	Total() int64
	// Complete reports whether every local reference in the record resolves within it. A false
	// makes the export look at each reference. A part of a population says so of each resource
	// instead, see Resource.Loose.
	Complete() bool
	// Resolves reports whether a resource is part of the export that this record is part of. It
	// is asked during a visit about references of Loose resources.
	Resolves(typ, id string) (bool, error)
	// Find gives a resource that Scan with q would visit in this record or in another part of
	// the same export, as a line that is valid until the next call; nil where there is none. It
	// is asked about what the record's resources refer to.
	Find(ctx context.Context, q Query, typ, id string) ([]byte, error)
	// Beside calls visit with the line of each resource of the store that one of some names may
	// mean and that is not in the record; it is valid during the visit only. Several goroutines
	// may call it at once, while another one scans. A part of a population has none: nobody
	// withholds anything from anybody there.
	Beside(ctx context.Context, names []Name, visit func(line []byte) error) error
	// Scan calls visit once for each resource that q admits, in the same order each time. It
	// stops at the first error of visit, or when ctx ends, and returns that. It can be called
	// again.
	Scan(ctx context.Context, q Query, visit func(Resource) error) error
	// Close releases the instant.
	Close() error
}

// Name is what may name a resource: an id, of a type or, where that is "", of any; or the value
// of an identifier, in whatever system and case (fhir.PlainIdentifier).
type Name struct{ Type, ID, Value string }

// Resource is one FHIR resource as a line of NDJSON. Its bytes are valid during the visit only.
type Resource struct {
	Type    string
	Line    []byte    // compact JSON without a newline
	Updated time.Time // when it came into the store
	Patient string    // whose it is, in a population; "" for what belongs to nobody
	// Loose says that some reference in it may lead out of the population's export.
	Loose bool
	// Also says that Query.Also alone admits it.
	Also bool
	// Unchecked says that nobody has made sure that Line is a resource: it may be malformed.
	Unchecked bool
}

// Query narrows a scan. The zero value admits everything.
type Query struct {
	Types []string
	// by meta.lastUpdated, or Resource.Updated where that is absent; [Since, Until)
	Since, Until time.Time
	// Also is a type of which every resource is visited, whatever Types, Since and Until say;
	// those that these leave out are marked as Resource.Also. "" is none.
	Also string
}

// AdmitsType reports whether resources of type t are wanted at all.
func (q Query) AdmitsType(t string) bool { return q.Names(t) || q.Also == t }

// Names reports whether Types admits t, Also aside.
func (q Query) Names(t string) bool { return len(q.Types) == 0 || slices.Contains(q.Types, t) }

// Timed reports whether the query looks at the time of an update.
func (q Query) Timed() bool { return !q.Since.IsZero() || !q.Until.IsZero() }

// AdmitsTime reports whether an update at t is wanted.
func (q Query) AdmitsTime(t time.Time) bool {
	return (q.Since.IsZero() || !t.Before(q.Since)) && (q.Until.IsZero() || t.Before(q.Until))
}
