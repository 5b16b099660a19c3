package ehi

import "time"

// Action is the kind of an audit event.
type Action string

// The actions, grouped by origin: the authorization server, exports, reads of records,
// administration.
const (
	ActionLogIn     Action = "log-in"
	ActionLogOut    Action = "log-out"
	ActionAuthorize Action = "authorize" // the patient answers an application's request for access
	ActionWithdraw  Action = "withdraw"  // the patient withdraws an application's access
	ActionToken     Action = "token"
	// A code or refresh token is presented a second time, and its grant is revoked.
	ActionTokenReuse Action = "token-reuse"
	ActionRevoke     Action = "revoke"
	ActionRegister   Action = "register" // dynamic registration
	ActionKickOff    Action = "kick-off"
	ActionForm       Action = "form"
	ActionDelete     Action = "delete"
	ActionDisclose   Action = "disclose" // a client downloads files of an export
	ActionRead       Action = "read"     // a client reads or searches Patient or Group
	ActionApprove    Action = "approve"
	ActionReject     Action = "reject"
	ActionAttach     Action = "attach"
	ActionDetach     Action = "detach"
	// A document or table that falls under no line of the form is released, or not after all.
	ActionRelease      Action = "release"
	ActionWithhold     Action = "withhold"
	ActionImport       Action = "import"
	ActionBackup       Action = "backup"
	ActionAudit        Action = "audit" // an administrator reads the trail
	ActionAdministrate Action = "administrate"
)

// Actions lists all actions.
func Actions() []Action {
	return []Action{
		ActionLogIn, ActionLogOut, ActionAuthorize, ActionWithdraw, ActionToken, ActionTokenReuse,
		ActionRevoke, ActionRegister, ActionKickOff, ActionForm, ActionDelete,
		ActionDisclose, ActionRead, ActionApprove, ActionReject, ActionAttach, ActionDetach,
		ActionRelease, ActionWithhold,
		ActionImport, ActionBackup, ActionAudit, ActionAdministrate,
	}
}

// Outcome is how an audited action ended.
type Outcome string

// The outcomes.
const (
	Succeeded Outcome = "ok"
	Denied    Outcome = "refused" // a rule forbids the action, or the request is invalid
	Broke     Outcome = "failed"  // the server failed
)

// Sender says where the request behind an event came from. The layer that receives the request
// fills it in; the fields are empty if there was none.
type Sender struct {
	// Address is the IP address of the client.
	Address string `json:"address,omitempty"`
	// Request is the ID of the request in the log.
	Request string `json:"request,omitempty"`
}

// Event is one line of the audit trail. It names patients, jobs and clients by ID and holds no
// clinical content.
type Event struct {
	At      time.Time `json:"at"`
	Action  Action    `json:"action"`
	Outcome Outcome   `json:"outcome"`
	// Agent is who acted: "admin NAME", "patient ID" or "client ID"; "" where that is unknown.
	Agent string `json:"agent"`
	// Client, Patient and Job are the subjects of the event; "" where there is none.
	Client  string `json:"client,omitempty"`
	Patient string `json:"patient,omitempty"`
	Job     string `json:"job,omitempty"`
	Sender
	// Detail is a short addition: a grant type, an error code, or what changed.
	Detail string `json:"detail,omitempty"`
}

// End sets the outcome of the event from err: Denied for a refused request, Broke for a failure.
// If the event has no detail yet, End sets it to the class of the error and not to its text,
// which may repeat what the request contained.
func (e *Event) End(err error) {
	e.Outcome = OutcomeOf(err)
	if err != nil && e.Detail == "" {
		e.Detail = string(CodeOf(err))
	}
}

// OutcomeOf returns the outcome of an action that ended with err, which may be nil.
func OutcomeOf(err error) Outcome {
	switch CodeOf(err) {
	case "":
		return Succeeded
	case Internal, Transient:
		return Broke
	}
	return Denied
}

// About returns an event about a job.
func About(action Action, j *Job) Event {
	return Event{Action: action, Client: j.ClientID, Patient: j.Patient.ID, Job: j.ID}
}
