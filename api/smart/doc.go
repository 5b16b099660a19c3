// Package smart is the HTTP side of SMART App Launch and OAuth 2.0 (SMART-1 to 10): discovery,
// authorization with the patient's consent, the endpoints that take a client's credentials, and
// dynamic registration. Its handlers read requests, let package auth decide, and write answers.
//
// It never decides who gets a token or what a token opens: package auth does. It never checks the
// access token of a request: api/session does. Administrators manage clients, accounts and keys in
// api/server. api/server uses this package.
package smart

import (
	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/ehi"
)

// Trail records what requests do (trail.Recorder).
type Trail interface {
	Record(c *fiber.Ctx, err error, e ehi.Event)
}

// Failures refuse addresses and clients of which too many requests have failed (abuse.Failures).
type Failures interface {
	// Limit is middleware, for the request's address; LimitClient is for a client.
	Limit(c *fiber.Ctx) error
	LimitClient(c *fiber.Ctx, client string) error
}

// Router registers a handler behind the rule of access of its route, and what comes before that
// rule.
type Router interface {
	On(method, path string, handler fiber.Handler, before ...fiber.Handler)
}
