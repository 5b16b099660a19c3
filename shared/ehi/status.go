package ehi

import "slices"

// Status is where a job stands. The wire names are those of the Argonaut EHI Export API.
type Status string

const (
	// AwaitingInput: the patient has not submitted the release form yet.
	AwaitingInput Status = "awaiting-input"
	// Requested: the export is queued or running.
	Requested Status = "requested"
	// Retrieved: all files are committed; an administrator reviews them and may add attachments.
	Retrieved Status = "retrieved"
	// Approved: the client may download. It ends when the files expire or the job is deleted.
	Approved Status = "approved"
	// Rejected by an administrator. Nothing can be downloaded.
	Rejected Status = "rejected"
	// Failed after every attempt was used up; the job's Error says why.
	Failed Status = "failed"
	// Aborted: deleted by its client, by an administrator or by age. The outside sees 404 from
	// here on; the record stays only until its files are gone.
	Aborted Status = "aborted"
)

// Statuses lists every status in the order in which a job meets them.
func Statuses() []Status {
	return []Status{AwaitingInput, Requested, Retrieved, Approved, Rejected, Failed, Aborted}
}

// transitions is the whole state machine (DESIGN section 5):
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

// Settled reports whether nothing is left to do by the server or a person: the job only waits
// for its deletion.
func (s Status) Settled() bool {
	return s == Approved || s == Rejected || s == Failed || s == Aborted
}
