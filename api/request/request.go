// Package request holds what a handler may ask about its request: its ID, who sends it, from which
// address, to which origin, about which job, and how much time it has left. Middleware and the
// rules of access put these facts in, by functions of this package; no other package shares a key
// of Fiber's Locals.
//
// It decides nothing: whether a token is valid, or a session open, is found out by its callers. It
// imports no other package of the HTTP layer, and all of them may import it.
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

// key is where a request keeps a fact, in Fiber's Locals.
type key int

const (
	accessKey key = iota
	administratorKey
	jobKey
	recordedKey
	refusedKey
	timeKey
)

// Identify is middleware that gives a request an ID, for its answer and the log: the client's own
// X-Request-Id, else that of its trace, else a new one.
func Identify(c *fiber.Ctx) error {
	id := c.Get(fiber.HeaderXRequestID)
	if !fhir.ValidID(id) { // it gets into logs and OperationOutcomes
		if id = tracing.ID(c.UserContext()); id == "" {
			id = utils.UUID()
		}
	}
	c.Set(fiber.HeaderXRequestID, id)
	return c.Next()
}

// ID is the ID that Identify has given a request, "" before.
func ID(c *fiber.Ctx) string { return c.GetRespHeader(fiber.HeaderXRequestID) }

// SetAccess notes what the request's bearer token allows.
func SetAccess(c *fiber.Ctx, a *auth.Access) { c.Locals(accessKey, a) }

// Access is what the request's bearer token allows; nil without a token that was found valid.
func Access(c *fiber.Ctx) *auth.Access {
	a, _ := c.Locals(accessKey).(*auth.Access)
	return a
}

// NoteJob notes which job the request is about, also in its trace.
func NoteJob(c *fiber.Ctx, j *ehi.Job) {
	c.Locals(jobKey, j)
	tracing.Note(c.UserContext(), attribute.String(tracing.Job, j.ID))
}

// Noted notes the job that was looked up for a request, if there is one, and returns it where the
// request may have it. A refusal may name its job: then j and err are both given.
func Noted(c *fiber.Ctx, j *ehi.Job, err error) (*ehi.Job, error) {
	if j != nil {
		NoteJob(c, j)
	}
	if err != nil {
		return nil, err
	}
	return j, nil
}

// Job is the job that the request is about, as it was looked up last; nil for none.
func Job(c *fiber.Ctx) *ehi.Job {
	j, _ := c.Locals(jobKey).(*ehi.Job)
	return j
}

// SetRecorded notes that the audit trail has an event of this request, or gets one from the job's
// own use case.
func SetRecorded(c *fiber.Ctx) { c.Locals(recordedKey, true) }

// Recorded reports whether SetRecorded was called.
func Recorded(c *fiber.Ctx) bool { return c.Locals(recordedKey) != nil }

// SetRefused notes why a form was refused whose answer is a redirect instead of an error.
func SetRefused(c *fiber.Ctx, err error) { c.Locals(refusedKey, err) }

// Refused is the error that SetRefused was given, nil for none.
func Refused(c *fiber.Ctx) error {
	err, _ := c.Locals(refusedKey).(error)
	return err
}

// IsAdmin reports whether a request is for the API or the pages of administrators.
func IsAdmin(c *fiber.Ctx) bool {
	return c.Path() == "/admin" || strings.HasPrefix(c.Path(), "/admin/")
}

// AsksForPage tells requests for a page from forms that are sent. HEAD is answered as GET is (REAL-13).
func AsksForPage(c *fiber.Ctx) bool {
	return c.Method() == fiber.MethodGet || c.Method() == fiber.MethodHead
}

// NoStore keeps an answer that credentials open out of every cache on its way. Handlers of files
// allow their owner to keep them.
func NoStore(c *fiber.Ctx) { c.Set(fiber.HeaderCacheControl, "no-store") }

// Digest stands for a session's cookie, an address or a client where the value itself is not to be
// stored: the first 96 bits of its SHA-256, in base64url.
func Digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(h[:12])
}
