package server

import (
	"github.com/gofiber/fiber/v2"

	"ehi-server/api/condition"
	"ehi-server/shared/ehi"
)

// In rescue mode there is no room for anything new. What a route does then is said by its rule:
// reads pass, and so does what makes room or is needed for it (see rule.always); everything else
// is refused with the reason. Deps.Condition is the one place that knows whether it is on.

// always makes a rule pass in rescue mode although the route's method is none of reading: it
// says why.
func (r rule) always(why string) rule {
	r.rescue = why
	return r
}

// adds refuses a route in rescue mode although its method is one of reading.
func (r rule) adds() rule {
	r.growing = true
	return r
}

// Why a route passes in rescue mode that changes something.
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

// notInRescue refuses what adds something while the server is in rescue mode.
func (s *Server) notInRescue(c *fiber.Ctx) error {
	if why := s.Condition.Rescue(); why != nil {
		return rescued(why)
	}
	return c.Next()
}

// rescued is the answer to what rescue mode does not do.
func rescued(why error) error {
	return ehi.Errorf(ehi.Transient,
		"Nothing new is taken at the moment: %s. Downloads, status, deletions and pages work",
		condition.Reason(why))
}
