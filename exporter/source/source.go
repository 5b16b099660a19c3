// Package source defines what an export reads from. A Source holds patients' records, a Record
// is one of them at an instant, and a Population is all of them. Kinds are dataset (the embedded
// record store) and synthetic (generated while reading). Workers and the HTTP server use this
// interface, and no type of a particular kind.
package source

import (
	"context"
	"slices"
	"time"

	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// Source is a store of patients' records. All methods are safe for concurrent use.
type Source interface {
	// Patient returns a patient. Errors: ehi.NotFound.
	Patient(ctx context.Context, id string) (ehi.Patient, error)
	// Patients lists up to limit patients in the order of their IDs.
	Patients(ctx context.Context, limit int) ([]ehi.Patient, error)
	// FindPatients searches the Patient resources in the order of their IDs. Errors:
	// ehi.TooCostly if the search matches more than the source can sort.
	FindPatients(ctx context.Context, s Search) (Found, error)
	// Open opens a snapshot of one patient's record. Later imports do not change it. The caller
	// closes it. Errors: ehi.NotFound.
	Open(ctx context.Context, patient string) (Record, error)
	// Resource returns a resource of a patient's record as a line of JSON. An empty patient
	// means any record. Errors: ehi.NotFound.
	Resource(ctx context.Context, patient, typ, id string) ([]byte, error)
	// Moved opens moved data of a patient's record by its name. An empty patient means any record.
	// The caller closes it. Errors: ehi.NotFound, and those of the store, also of Read.
	Moved(ctx context.Context, patient, name string) (*MovedContent, error)
	// Groups lists the IDs of the groups of patients.
	Groups(ctx context.Context) ([]string, error)
	// Group returns a Group resource as a line of JSON. Errors: ehi.NotFound.
	Group(ctx context.Context, id string) ([]byte, error)
	// Size estimates the size in bytes of the compartments of patients, without what patients
	// share, and with their native content if native is set; nil means all patients. Patients
	// that do not exist have size 0.
	Size(ctx context.Context, patients []string, native bool) (int64, error)
	// Freeze stores a snapshot of the whole source under a name, the ID of a job, for the tasks
	// of a population's export. The snapshot survives restarts. Freezing a name again returns
	// the first snapshot, in any process. The caller closes the Population.
	Freeze(ctx context.Context, name string) (Population, error)
	// Thaw deletes a snapshot. It succeeds if there is none. It waits until the Populations of
	// the name are closed.
	Thaw(name string) error
	// Frozen lists the names of the snapshots.
	Frozen() ([]string, error)
	// Tables describes the tables of the source, as Native.Tables of a record does now; nil if it
	// has none. It tells nothing about patients. The result must not be changed, and is the same
	// pointer until the tables are others.
	Tables(ctx context.Context) (*datapackage.Package, error)
	// Records identifies the current records of the source.
	Records() ehi.Records
	// OnRecords calls f after each change of Records, until stop is called. f must not block and
	// must not call the source.
	OnRecords(f func()) (stop func())
	// Check reports whether the store works.
	Check(ctx context.Context) error
	// Close closes the store. Every Record must be closed before.
	Close() error
}

// Population is a snapshot of all records. It is safe for concurrent use.
type Population interface {
	// TakenAt is the instant of the snapshot.
	TakenAt() time.Time
	// Records identifies its records; zero for a snapshot of an older build.
	Records() ehi.Records
	// Plan divides the selected records into parts of about target bytes. The result is
	// deterministic: disjoint ranges of patients, and one part for what belongs to no patient.
	// There is at least one part. Errors: those of Members.
	Plan(ctx context.Context, s Selection, target int64) ([]ehi.Part, error)
	// Absent lists those of s.Patients that are not in the population: they do not exist, or are
	// not members of the group. Errors: ehi.NotFound for a group that does not exist.
	Absent(ctx context.Context, s Selection) ([]string, error)
	// Open opens one part of a plan. Each resource of the population is in exactly one part. The
	// caller closes the Record.
	Open(ctx context.Context, s Selection, part ehi.Part) (Record, error)
	// Close closes the snapshot. Every Record must be closed before.
	Close() error
}

// Selection selects the records of a population's export.
type Selection struct {
	Level    ehi.Level
	Group    string   // for ehi.OneGroup
	Patients []string // only these; none means all
	// ByPatient returns whole records one after the other, each with the Patient first and with
	// shared resources. A shared resource is then repeated for each patient that references it,
	// and what belongs to no patient is omitted.
	ByPatient bool
	// Native counts native content in the sizes of parts, because it is exported too.
	Native bool
}

// Record is a snapshot of one patient's record, which consists of the patient's compartment and
// the shared resources (organizations, practitioners, ...) that it references, or of one part of
// a population. It is not safe for concurrent use.
type Record interface {
	Native
	// TakenAt is the instant of the snapshot.
	TakenAt() time.Time
	// Records identifies the records that it is part of.
	Records() ehi.Records
	// Total estimates how many resources an unrestricted Scan visits, for progress; 0 if
	// unknown.
	Total() int64
	// Complete reports whether every local reference in the record resolves within it. If not,
	// the export checks each reference. For a part of a population Resource.Loose says so for
	// each resource instead.
	Complete() bool
	// Resolves reports whether a resource is part of the whole export. It is called during a
	// visit of Scan, for references of Loose resources.
	Resolves(typ, id string) (bool, error)
	// Has reports whether a resource is in the record of one of the export's patients, which has
	// what is the patient's and what is nobody's. It is called during a visit of Documents, for
	// what they belong to.
	Has(patient, typ, id string) (bool, error)
	// Another reports whether the store has a resource that belongs to other patients only, and
	// so is not in the record of one of the export's patients. It is called during a visit of
	// Rows, for what they belong to.
	Another(patient, typ, id string) (bool, error)
	// Find returns a resource that Scan with q would visit in this record or in another part of
	// the same export, as a line that is valid until the next call, or nil. It is used for
	// resources that the record references.
	Find(ctx context.Context, q Query, typ, id string) ([]byte, error)
	// Beside calls visit with the line of each resource of the store that one of the names may
	// refer to and that is not in the record. The line is valid during the visit only. It is
	// safe for concurrent use, also during a Scan. A part of a population has no such resources:
	// nothing is withheld there.
	Beside(ctx context.Context, names []Name, visit func(line []byte) error) error
	// Scan calls visit for each resource that q admits, in a fixed order. It stops at the first
	// error of visit, or when ctx ends, and returns that error. It can be called repeatedly.
	Scan(ctx context.Context, q Query, visit func(Resource) error) error
	// Close releases the snapshot.
	Close() error
}

// Name is what a name may refer to: an ID with its type, or with any type if Type is ""; or the
// value of an identifier, in any system and case (fhir.PlainIdentifier).
type Name struct{ Type, ID, Value string }

// Resource is a FHIR resource as a line of NDJSON. Its bytes are valid during the visit only.
type Resource struct {
	Type    string
	Line    []byte    // compact JSON without a newline
	Updated time.Time // when it was imported
	Patient string    // the patient that it belongs to, in a population; "" for none
	// Loose means that a reference in it may lead out of the population's export.
	Loose bool
	// Also means that only Query.Also admits it.
	Also bool
	// Moved means that Line has stand-ins for data of attachments, see Moved.
	Moved bool
	// Unchecked means that Line has not been validated: it may be malformed.
	Unchecked bool
}

// Query narrows a scan. The zero value admits everything.
type Query struct {
	Types []string
	// The interval [Since, Until) of meta.lastUpdated, or of Resource.Updated if that is absent.
	Since, Until time.Time
	// Also is a type of which every resource is visited, whatever Types, Since and Until are.
	// Those that these exclude are marked with Resource.Also. "" means none.
	Also string
}

// AdmitsType reports whether the query admits resources of type t.
func (q Query) AdmitsType(t string) bool { return q.Names(t) || q.Also == t }

// Names reports whether Types admits t, regardless of Also.
func (q Query) Names(t string) bool { return len(q.Types) == 0 || slices.Contains(q.Types, t) }

// Timed reports whether the query restricts the time of updates.
func (q Query) Timed() bool { return !q.Since.IsZero() || !q.Until.IsZero() }

// AdmitsTime reports whether the query admits an update at t.
func (q Query) AdmitsTime(t time.Time) bool {
	return (q.Since.IsZero() || !t.Before(q.Since)) && (q.Until.IsZero() || t.Before(q.Until))
}
