// Package source says what an export reads from. A Source holds patients' records; a Record is one of them at one
// instant. The kinds: dataset (the embedded record store). Workers and the HTTP server use this interface and no kind's own type.
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
	// Open takes hold of one patient's record as it is now. What is imported later does not show in it. The caller
	// closes it. Errors: ehi.NotFound.
	Open(ctx context.Context, patient string) (Record, error)
	// Check asks the store whether it works.
	Check(ctx context.Context) error
	// Close releases the store; every Record must be closed before.
	Close() error
}

// Record is one patient's record at one instant: the patient's compartment and the shared resources (organizations,
// practitioners, ...) that it refers to. It is for one goroutine at a time.
type Record interface {
	// TakenAt is the instant that the record shows.
	TakenAt() time.Time
	// Total is about how many resources Scan visits without a query, for progress; 0 where that is unknown.
	Total() int64
	// Complete reports whether every local reference in the record resolves within it. A false makes the export look
	// at each reference.
	Complete() bool
	// Scan calls visit once for each resource that q admits, resources of one type mostly one behind the other, the same
	// order each time. It stops at the first error of visit, or when ctx ends, and returns that. It can be called again.
	Scan(ctx context.Context, q Query, visit func(Resource) error) error
	// Close releases the instant.
	Close() error
}

// Resource is one FHIR resource as a line of NDJSON. Its bytes are valid during the visit only.
type Resource struct {
	Type    string
	Line    []byte    // compact JSON without a newline
	Updated time.Time // when it came into the store
}

// Query narrows a scan. The zero value admits everything.
type Query struct {
	Types        []string
	Since, Until time.Time // by meta.lastUpdated, or Resource.Updated where that is absent; [Since, Until)
}

// AdmitsType reports whether resources of type t are wanted at all.
func (q Query) AdmitsType(t string) bool { return len(q.Types) == 0 || slices.Contains(q.Types, t) }

// Timed reports whether the query looks at the time of an update.
func (q Query) Timed() bool { return !q.Since.IsZero() || !q.Until.IsZero() }

// AdmitsTime reports whether an update at t is wanted.
func (q Query) AdmitsTime(t time.Time) bool {
	return (q.Since.IsZero() || !t.Before(q.Since)) && (q.Until.IsZero() || t.Before(q.Until))
}
