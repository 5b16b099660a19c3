// Package staff serves administrators. By its pages and its JSON API they sign in, review
// exports and attach documents to them, manage clients, accounts and keys, read the audit trail,
// watch the system, import records and make backups.
//
// It never decides who may use a route: the router does, by its rules of access, with the help
// of Gate. It never changes a job: exporter/jobs does. api/server uses it.
//
// All pages share Pages, and each part of the administration has a type with the few things that
// it needs: SignIn, Provider and SecondFactor; Queue, Review, Documents and Exports; Clients,
// Accounts and Keys; Audit, System, Controls, Imports and Backups. Where a part has both a page
// and an API, both call the same methods.
package staff

import (
	"bufio"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/ehi"
)

// Trail records what requests do (trail.Recorder).
type Trail interface {
	Record(c *fiber.Ctx, err error, e ehi.Event)
	// Change records what an administrator has changed or, with an error, tried to change. It
	// returns the error.
	Change(c *fiber.Ctx, err error, what string) error
}

// Streamer sends answers that take long (content.Sender).
type Streamer interface {
	SendChunked(c *fiber.Ctx, write func(*bufio.Writer) error)
}

// Router registers a handler behind the rule of access of its route, and what comes before that
// rule.
type Router interface {
	On(method, path string, handler fiber.Handler, before ...fiber.Handler)
	// OnPage is On for a page and its forms. guard checks and sets the token of the page's forms
	// behind the rule, because a stranger's token is of no interest.
	OnPage(method, path string, guard, handler fiber.Handler, before ...fiber.Handler)
}

// now is the present in UTC, as all instants on the wire are.
func now() time.Time { return time.Now().UTC() }
