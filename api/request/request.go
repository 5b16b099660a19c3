// Package request holds facts about a request: its ID, its sender, from which address it comes
// and to which origin, its job, and how much time it has left. Middleware and the rules of
// access store these facts with functions of this package. No other packages share keys of
// Fiber's Locals.
//
// It decides nothing: its callers find out whether a token or a session is valid. It imports no
// other package of the HTTP layer; all of them may import it.
package request

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/utils"
	"go.opentelemetry.io/otel/attribute"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/tracing"
)

// key is the type of keys in Fiber's Locals.
type key int

const (
	accessKey key = iota
	administratorKey
	jobKey
	recordedKey
	refusedKey
	timeKey
)

// Identify is middleware that gives a request an ID for its response and the log: the client's
// X-Request-Id, otherwise the ID of its trace, otherwise a new one.
func Identify(c *fiber.Ctx) error {
	id := c.Get(fiber.HeaderXRequestID)
	if !fhir.ValidID(id) { // it appears in logs and OperationOutcomes
		if id = tracing.ID(c.UserContext()); id == "" {
			id = utils.UUID()
		}
	}
	c.Set(fiber.HeaderXRequestID, id)
	return c.Next()
}

// ID returns the ID that Identify has given a request; "" before that.
func ID(c *fiber.Ctx) string { return c.GetRespHeader(fiber.HeaderXRequestID) }

// SetAccess stores what the request's bearer token allows.
func SetAccess(c *fiber.Ctx, a *auth.Access) { c.Locals(accessKey, a) }

// Access returns what the request's bearer token allows; nil without a valid token.
func Access(c *fiber.Ctx) *auth.Access {
	a, _ := c.Locals(accessKey).(*auth.Access)
	return a
}

// NoteJob stores the job of a request, also in its trace.
func NoteJob(c *fiber.Ctx, j *ehi.Job) {
	c.Locals(jobKey, j)
	tracing.Note(c.UserContext(), attribute.String(tracing.Job, j.ID))
}

// Noted stores the job that was looked up for a request, if there is one, and returns it if the
// request may have it. A refusal may name its job: then both j and err are set.
func Noted(c *fiber.Ctx, j *ehi.Job, err error) (*ehi.Job, error) {
	if j != nil {
		NoteJob(c, j)
	}
	if err != nil {
		return nil, err
	}
	return j, nil
}

// Job returns the job of the request, as last looked up; nil for none.
func Job(c *fiber.Ctx) *ehi.Job {
	j, _ := c.Locals(jobKey).(*ehi.Job)
	return j
}

// SetRecorded stores that the audit trail has an event for this request, or gets one from the
// use case.
func SetRecorded(c *fiber.Ctx) { c.Locals(recordedKey, true) }

// Recorded reports whether SetRecorded was called.
func Recorded(c *fiber.Ctx) bool { return c.Locals(recordedKey) != nil }

// SetRefused stores why a form was refused, because its response is a redirect instead of an
// error.
func SetRefused(c *fiber.Ctx, err error) { c.Locals(refusedKey, err) }

// Refused returns the error of SetRefused; nil for none.
func Refused(c *fiber.Ctx) error {
	err, _ := c.Locals(refusedKey).(error)
	return err
}

// IsAdmin reports whether a request is for the API or the pages of administrators.
func IsAdmin(c *fiber.Ctx) bool {
	return c.Path() == "/admin" || strings.HasPrefix(c.Path(), "/admin/")
}

// AsksForPage reports whether a request is for a page, not a submitted form. HEAD is treated as
// GET (REAL-13).
func AsksForPage(c *fiber.Ctx) bool {
	return c.Method() == fiber.MethodGet || c.Method() == fiber.MethodHead
}

// NoStore keeps a response that requires credentials out of all caches. Handlers of files let
// their owner cache them.
func NoStore(c *fiber.Ctx) { c.Set(fiber.HeaderCacheControl, "no-store") }

// Digest identifies a session's cookie, an address or a client without storing it: the first 96
// bits of its SHA-256, in base64url.
func Digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(h[:12])
}
