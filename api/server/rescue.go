package server

import (
	"github.com/gofiber/fiber/v2"

	"ehi-server/api/condition"
	"ehi-server/shared/ehi"
)

// In rescue mode the server has no room for anything new. Requests that read pass, and so do those
// that make room or are needed to (see rule.always). All others are refused with the reason.
// Deps.Condition alone knows whether the mode is on.

// always lets a route work in rescue mode although its method is not one of reading. why is the
// reason.
func (r rule) always(why string) rule {
	r.rescue = why
	return r
}

// adds makes a route refuse requests in rescue mode although its method is one of reading.
func (r rule) adds() rule {
	r.growing = true
	return r
}

// Why a route that changes something works in rescue mode.
const (
	makesRoom = "it makes room"
	onlyReads = "it reads"
	letsIn    = "without it nobody could give back or delete what is there; the reserve has " +
		"room for it"
	takesAway    = "it takes a right away, which must always work"
	keepsNothing = "it stores nothing"
)

// passesRescue reports whether a route works in rescue mode.
func (r rule) passesRescue(method string) bool {
	return r.rescue != "" || method == fiber.MethodGet && !r.growing
}

// notInRescue is middleware for routes that add something. It refuses requests in rescue mode.
func (s *Server) notInRescue(c *fiber.Ctx) error {
	if why := s.Condition.Rescue(); why != nil {
		return rescued(why)
	}
	return c.Next()
}

// rescued is the answer to a request that rescue mode refuses, for the reason why.
func rescued(why error) error {
	return ehi.Errorf(ehi.Transient,
		"Nothing new is taken at the moment: %s. Downloads, status, deletions and pages work",
		condition.Reason(why))
}
