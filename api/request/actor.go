package request

import (
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Administrator is an administrator who has a session. Package session finds him.
type Administrator struct {
	Name string
	Role auth.Role
	// By is who knows him: his account here, the configuration or the OpenID provider (see package session).
	By string
	// Factor is by what his second factor was proved, "" by nothing.
	Factor string
	// Proved is when he last proved who he is.
	Proved time.Time
	// TwoFactors is whether he has set up a second factor.
	TwoFactors bool
	// Changed stands for the password and the second factor that the session was opened by.
	Changed string
	// Mark tells him from another administrator of the same name, for the approvals that he gives: it
	// has By and, of an account, when that was made; of the configuration's administrator, what his
	// session is opened by; of the provider's, his role and which provider it is.
	Mark string
}

// SetAdministrator notes who has sent the request.
func SetAdministrator(c *fiber.Ctx, who *Administrator) { c.Locals(administratorKey, who) }

// SignedIn is the administrator who has sent the request, nil for nobody.
func SignedIn(c *fiber.Ctx) *Administrator {
	who, _ := c.Locals(administratorKey).(*Administrator)
	return who
}

// AdministratorName is the name of the administrator who has sent the request, "" for nobody.
func AdministratorName(c *fiber.Ctx) string {
	if who := SignedIn(c); who != nil {
		return who.Name
	}
	return ""
}

// Role is what the administrator who has sent the request may do, "" for nobody.
func Role(c *fiber.Ctx) auth.Role {
	if who := SignedIn(c); who != nil {
		return who.Role
	}
	return ""
}

// Actor is who has sent a request, as far as that is known by now.
func (o Origins) Actor(c *fiber.Ctx) ehi.Actor {
	out := ehi.Actor{Address: o.Address(c).String(), Request: ID(c)}
	if a := Access(c); a != nil {
		out.Kind, out.ClientID, out.Patient, out.Grant = ehi.ActorClient, a.ClientID, a.Patient, a.Grant()
		out.Service, out.ClientMade = a.System(), a.Made
	}
	if who := SignedIn(c); who != nil {
		out.Kind, out.Name, out.Duty, out.Mark = ehi.ActorStaff, who.Name, dutyOf(who.Role), who.Mark
	}
	return out
}

// Acting is Actor for a use case that writes the audit event itself.
func (o Origins) Acting(c *fiber.Ctx) ehi.Actor {
	SetRecorded(c)
	return o.Actor(c)
}

// ActingPatient is Acting for a patient who uses the pages.
func (o Origins) ActingPatient(c *fiber.Ctx, id string) ehi.Actor {
	out := o.Acting(c)
	out.Kind, out.Name = ehi.ActorPatient, id
	return out
}

// dutyOf is what an administrator of a role may do with exports.
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
