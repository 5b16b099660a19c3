package request

import (
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Administrator is an administrator with a session. Package session finds them.
type Administrator struct {
	Name string
	Role auth.Role
	// By is who manages the administrator: an account here, the configuration or the OpenID
	// provider (see package session).
	By string
	// Factor is how the second factor was proved; "" if it was not.
	Factor string
	// Proved is when the administrator last proved who they are.
	Proved time.Time
	// TwoFactors is whether the administrator has set up a second factor.
	TwoFactors bool
	// Changed identifies the password and the second factor with which the session began.
	Changed string
	// Mark distinguishes administrators of the same name, for their approvals. It contains By
	// and, for an account, when it was created; for the configured administrator, how the
	// session was opened; for one from the provider, the role and the provider.
	Mark string
}

// SetAdministrator stores the sender of the request.
func SetAdministrator(c *fiber.Ctx, who *Administrator) { c.Locals(administratorKey, who) }

// SignedIn returns the administrator who sent the request; nil for nobody.
func SignedIn(c *fiber.Ctx) *Administrator {
	who, _ := c.Locals(administratorKey).(*Administrator)
	return who
}

// AdministratorName returns the name of the administrator who sent the request; "" for nobody.
func AdministratorName(c *fiber.Ctx) string {
	if who := SignedIn(c); who != nil {
		return who.Name
	}
	return ""
}

// Role returns the role of the administrator who sent the request; "" for nobody.
func Role(c *fiber.Ctx) auth.Role {
	if who := SignedIn(c); who != nil {
		return who.Role
	}
	return ""
}

// Sender returns where a request came from.
func (o Origins) Sender(c *fiber.Ctx) ehi.Sender {
	return ehi.Sender{Address: o.Address(c).String(), Request: ID(c)}
}

// Actor returns who sent a request, as far as known so far.
func (o Origins) Actor(c *fiber.Ctx) ehi.Actor {
	out := ehi.Actor{Sender: o.Sender(c)}
	if a := Access(c); a != nil {
		out.Kind, out.ClientID, out.Patient, out.Grant =
			ehi.ActorClient, a.ClientID, a.Patient, a.Grant()
		out.Service, out.ClientMade = a.System(), a.Made
	}
	if who := SignedIn(c); who != nil {
		out.Kind, out.Name, out.Duty, out.Mark =
			ehi.ActorStaff, who.Name, dutyOf(who.Role), who.Mark
	}
	return out
}

// Acting is Actor for a use case that records the audit event itself.
func (o Origins) Acting(c *fiber.Ctx) ehi.Actor {
	SetRecorded(c)
	return o.Actor(c)
}

// Patient is Actor for a patient on the pages.
func (o Origins) Patient(c *fiber.Ctx, id string) ehi.Actor {
	out := o.Actor(c)
	out.Kind, out.Name = ehi.ActorPatient, id
	return out
}

// ActingPatient is Acting for a patient on the pages.
func (o Origins) ActingPatient(c *fiber.Ctx, id string) ehi.Actor {
	SetRecorded(c)
	return o.Patient(c, id)
}

// dutyOf returns what an administrator with a role may do with exports.
func dutyOf(r auth.Role) ehi.Duty {
	switch {
	case r.May(auth.Admin):
		return ehi.DutyAdminister
	case r.May(auth.Reviewer):
		return ehi.DutyReview
	case r.May(auth.Viewer):
		return ehi.DutyView
	}
	return ehi.DutyNone
}
