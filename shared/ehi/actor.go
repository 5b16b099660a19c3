package ehi

import "time"

// ActorKind is the role in which somebody acts.
type ActorKind string

// The kinds of actors.
const (
	// ActorNobody presented no valid credentials.
	ActorNobody ActorKind = ""
	// ActorClient is an application or a backend service with a valid access token.
	ActorClient ActorKind = "client"
	// ActorPatient is a patient who signed in on the pages or who fills in a form there.
	ActorPatient ActorKind = "patient"
	// ActorStaff is an administrator who has signed in.
	ActorStaff ActorKind = "admin"
	// ActorServer is the server itself, acting on its own behalf.
	ActorServer ActorKind = "server"
)

// Duty is what an administrator may do with exports. Each duty includes the lower ones.
type Duty int

// The duties, from the lowest to the highest.
const (
	DutyNone Duty = iota
	// DutyView allows viewing exports.
	DutyView
	// DutyReview also allows approving and rejecting exports, and attaching documents.
	DutyReview
	// DutyAdminister also allows deleting exports.
	DutyAdminister
)

// Actor identifies who acts on an export. The layer that receives the request fills it in.
type Actor struct {
	Kind ActorKind
	// Name is the name of an administrator, or the ID of a patient who acts for himself.
	Name string
	// ClientID is the OAuth client of an access token. Patient is the patient that the token is
	// for, Grant the authorization that issued it. Service reports whether the client is a
	// backend service.
	ClientID, Patient, Grant string
	Service                  bool
	// ClientMade identifies the registration of the client. A client that is registered again
	// under the same ID has another value.
	ClientMade time.Time
	// Duty is the highest duty of an administrator.
	Duty Duty
	// Mark identifies the account of an administrator. Another account of the same name has
	// another mark.
	Mark string
	// Sender goes into the audit events of what the actor does.
	Sender
}

// Agent returns the name of the actor in the audit trail.
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

// May returns Forbidden unless the actor is an administrator with at least the given duty.
func (a Actor) May(least Duty) error {
	if a.Kind != ActorStaff || a.Duty < least {
		return Errorf(Forbidden, "This is for administrators who may do it")
	}
	return nil
}
