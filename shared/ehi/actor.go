package ehi

import "time"

// ActorKind is in what capacity somebody acts.
type ActorKind string

// The kinds of actors.
const (
	// ActorNobody has shown no credentials that count.
	ActorNobody ActorKind = ""
	// ActorClient is an application or a backend service that has shown an access token.
	ActorClient ActorKind = "client"
	// ActorPatient is a patient who has signed in on the pages, or fills in a form there.
	ActorPatient ActorKind = "patient"
	// ActorStaff is an administrator who has signed in.
	ActorStaff ActorKind = "admin"
	// ActorServer is the server itself, which acts on behalf of nobody.
	ActorServer ActorKind = "server"
)

// Duty is what an administrator may do with exports.
type Duty int

// The duties, least first: each includes those before it.
const (
	DutyNone Duty = iota
	// DutyView is to see exports.
	DutyView
	// DutyReview is to decide about them, and to add documents to them.
	DutyReview
	// DutyAdminister is to delete them, too.
	DutyAdminister
)

// Actor is who does something with an export, as far as the server knows. Whoever took the request has found that out.
type Actor struct {
	Kind ActorKind
	// Name is an administrator's, or the id of a patient who acts for himself.
	Name string
	// ClientID is the OAuth client of an access token; Patient is the patient whom the token is about, Grant the
	// authorization that it came of, and Service whether it is a backend service's.
	ClientID, Patient, Grant string
	Service                  bool
	// ClientMade stands for the very registration of the client: another one under its id has another.
	ClientMade time.Time
	// Duty is what an administrator may do.
	Duty Duty
	// Mark stands for the very account of an administrator: another account of the same name has another one.
	Mark string
	// Address is where the request came from, Request its id in the log.
	Address, Request string
}

// Agent is how the audit trail names an actor.
func (a Actor) Agent() string {
	switch a.Kind {
	case ActorStaff, ActorPatient:
		return string(a.Kind) + " " + a.Name
	case ActorClient:
		if a.Patient != "" {
			return string(ActorPatient) + " " + a.Patient
		}
		return string(ActorClient) + " " + a.ClientID
	case ActorServer:
		return "server"
	}
	return "nobody"
}

// May is an error for an administrator who lacks a duty, and for everybody else. Errors: Forbidden.
func (a Actor) May(least Duty) error {
	if a.Kind != ActorStaff || a.Duty < least {
		return Errorf(Forbidden, "This is for administrators who may do it")
	}
	return nil
}
