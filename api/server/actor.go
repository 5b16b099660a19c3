package server

import (
	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// actor is who makes a request, as far as it has been found out.
func (s *Server) actor(c *fiber.Ctx) ehi.Actor {
	out := ehi.Actor{Address: s.address(c), Request: requestID(c)}
	if a, ok := c.Locals(accessKey).(*auth.Access); ok {
		out.Kind, out.ClientID, out.Patient, out.Grant = ehi.ActorClient, a.ClientID, a.Patient, a.Grant()
		out.Service, out.ClientMade = a.System(), a.Made
	}
	if who := staffOf(c); who != nil {
		out.Kind, out.Name, out.Duty, out.Mark = ehi.ActorStaff, who.Name, dutyOf(who.Role), s.approverMark(who)
	}
	return out
}

// acting is actor for a request that the audit trail hears of from the jobs themselves.
func (s *Server) acting(c *fiber.Ctx) ehi.Actor {
	c.Locals(recordedKey, true)
	return s.actor(c)
}

// asPatient is the patient who acts on the pages.
func (s *Server) asPatient(c *fiber.Ctx, id string) ehi.Actor {
	out := s.acting(c)
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
