package ehi

import "time"

// Action is what an audit event tells of.
type Action string

// The actions, by where they happen: the authorization server, exports, reads of records,
// administration.
const (
	ActionLogIn     Action = "log-in"
	ActionLogOut    Action = "log-out"
	ActionAuthorize Action = "authorize" // the patient's answer to an application
	ActionWithdraw  Action = "withdraw"  // the patient ends an application's access
	ActionToken     Action = "token"
	// a code or refresh token came a second time: its grant was revoked
	ActionTokenReuse   Action = "token-reuse"
	ActionRevoke       Action = "revoke"
	ActionRegister     Action = "register" // dynamic registration
	ActionKickOff      Action = "kick-off"
	ActionForm         Action = "form"
	ActionDelete       Action = "delete"
	ActionDisclose     Action = "disclose" // files of an export went out
	ActionRead         Action = "read"     // a Patient or Group was read or searched
	ActionApprove      Action = "approve"
	ActionReject       Action = "reject"
	ActionAttach       Action = "attach"
	ActionDetach       Action = "detach"
	ActionImport       Action = "import"
	ActionBackup       Action = "backup"
	ActionAudit        Action = "audit" // the trail itself was read
	ActionAdministrate Action = "administrate"
)

// Actions lists the actions.
func Actions() []Action {
	return []Action{
		ActionLogIn, ActionLogOut, ActionAuthorize, ActionWithdraw, ActionToken, ActionTokenReuse,
		ActionRevoke, ActionRegister, ActionKickOff, ActionForm, ActionDelete,
		ActionDisclose, ActionRead, ActionApprove, ActionReject, ActionAttach, ActionDetach,
		ActionImport, ActionBackup, ActionAudit, ActionAdministrate,
	}
}

// Outcome is how what an audit event tells of ended.
type Outcome string

// The outcomes.
const (
	Succeeded Outcome = "ok"
	Denied    Outcome = "refused" // by a rule: who asked may not, or asked wrongly
	Broke     Outcome = "failed"  // by a fault of the server's
)

// Event is one line of the audit trail. It names patients, jobs and clients by their ids, and
// says nothing of what is in a record.
type Event struct {
	At      time.Time `json:"at"`
	Action  Action    `json:"action"`
	Outcome Outcome   `json:"outcome"`
	// Agent is who did it, as far as that is known: admin NAME, patient ID, client ID; nobody.
	Agent string `json:"agent"`
	// Client, Patient and Job are what it is about; "" where there is none.
	Client  string `json:"client,omitempty"`
	Patient string `json:"patient,omitempty"`
	Job     string `json:"job,omitempty"`
	// Address is where the request came from, Request its id in the log.
	Address string `json:"address,omitempty"`
	Request string `json:"request,omitempty"`
	// Detail is a few words more: a grant type, an error code, what was changed.
	Detail string `json:"detail,omitempty"`
}

// End notes how what the event tells of has ended. What is refused is Denied, and what fails Broke; an event
// without details gets the class of the error: its words may repeat what was asked for.
func (e *Event) End(err error) {
	e.Outcome = OutcomeOf(err)
	if err != nil && e.Detail == "" {
		e.Detail = string(CodeOf(err))
	}
}

// OutcomeOf is the outcome of what has ended by an error, or by none.
func OutcomeOf(err error) Outcome {
	switch CodeOf(err) {
	case "":
		return Succeeded
	case Internal, Transient:
		return Broke
	}
	return Denied
}

// About is an event about a job.
func About(action Action, j *Job) Event {
	return Event{Action: action, Client: j.ClientID, Patient: j.Patient.ID, Job: j.ID}
}
