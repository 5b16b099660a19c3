// Package staff serves administrators. By its pages and its JSON API they review exports and attach
// documents to them, manage clients, accounts and keys, read the audit trail, import records and
// make backups.
//
// It never decides who may use a route: the router does, by its rules of access. It never changes a
// job: exporter/jobs does. api/server uses it.
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
}

// now is the present in UTC, as all instants on the wire are.
func now() time.Time { return time.Now().UTC() }
