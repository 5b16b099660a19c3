package ehi

import "slices"

// Status is the state of a job. The names are those of the Argonaut EHI Export API.
type Status string

const (
	// AwaitingInput: the patient has not submitted the release form yet.
	AwaitingInput Status = "awaiting-input"
	// Requested: the export is queued or running.
	Requested Status = "requested"
	// Retrieved: all files are committed. An administrator reviews them and may attach
	// documents.
	Retrieved Status = "retrieved"
	// Approved: the client may download the files, until they expire or the job is deleted.
	Approved Status = "approved"
	// Rejected: an administrator rejected the export. Nothing can be downloaded.
	Rejected Status = "rejected"
	// Failed: every attempt failed. The job's Error says why.
	Failed Status = "failed"
	// Aborted: the job was deleted by its client or an administrator, or has expired. Clients
	// see 404. The record remains only until the files are deleted.
	Aborted Status = "aborted"
)

// Statuses lists all statuses in the order in which a job reaches them.
func Statuses() []Status {
	return []Status{AwaitingInput, Requested, Retrieved, Approved, Rejected, Failed, Aborted}
}

// transitions is the whole state machine (docs/design.md):
//
//	awaiting-input --form--> requested --files--> retrieved --approve--> approved
//	                             |  \---auto-approve---------------------^
//	                             |                     \----reject----> rejected
//	                             \--attempts used up--> failed
//	any of them --delete, expiry--> aborted
//
// Where NATS has lost what an export is made of, Job.Remake takes it from retrieved or approved
// back to requested.
var transitions = map[Status][]Status{
	AwaitingInput: {Requested, Aborted},
	Requested:     {Retrieved, Approved, Failed, Aborted},
	Retrieved:     {Approved, Rejected, Aborted},
	Approved:      {Aborted},
	Rejected:      {Aborted},
	Failed:        {Aborted},
	Aborted:       {},
}

// CanBecome reports whether the table allows the step from s to next.
func (s Status) CanBecome(next Status) bool { return slices.Contains(transitions[s], next) }

// Valid reports whether s is a status of the table.
func (s Status) Valid() bool { _, ok := transitions[s]; return ok }

// Settled reports whether neither the server nor a person has anything left to do: the job only
// waits for its deletion.
func (s Status) Settled() bool {
	return s == Approved || s == Rejected || s == Failed || s == Aborted
}
