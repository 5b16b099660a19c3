package content

import (
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/request"
	"ehi-server/shared/fhir"
)

// Media types of answers.
const (
	FHIR   = "application/fhir+json; charset=utf-8"
	NDJSON = "application/fhir+ndjson"
)

// Empty answers with a status and no body. It replaces Fiber's SendStatus, which sends the name of
// the status as text: a client that asked for JSON parses that and gives up (EHI-4).
func Empty(c *fiber.Ctx, status int) error {
	c.Status(status)
	c.Response().ResetBody()
	return nil
}

// Text answers with plain text for people.
func Text(c *fiber.Ctx, status int, words string) error {
	c.Set(fiber.HeaderContentType, fiber.MIMETextPlainCharsetUTF8)
	return c.Status(status).Send([]byte(words))
}

// Resource answers with a FHIR resource.
func Resource(c *fiber.Ctx, resource any) error {
	return c.JSON(resource, FHIR)
}

// Outcome answers with an OperationOutcome. Its id is that of the request, which the log and the
// traces name too.
func Outcome(c *fiber.Ctx, status int, severity, code, text string) error {
	RemoveBodyHeaders(c)
	o := fhir.Outcome(severity, code, text)
	o.ID = request.ID(c)
	return Resource(c.Status(status), o)
}

// RemoveBodyHeaders removes the headers that a handler set for a body that it could not send. An
// error is not compressed, is no attachment, and does not have the ETag of that body.
func RemoveBodyHeaders(c *fiber.Ctx) {
	for _, name := range []string{
		fiber.HeaderContentEncoding, fiber.HeaderContentDisposition, fiber.HeaderETag,
		fiber.HeaderLastModified, fiber.HeaderAcceptRanges, fiber.HeaderExpires, reprDigest,
	} {
		c.Response().Header.Del(name)
	}
}

// RequireContentType is middleware that removes a body without a Content-Type, which Fiber or its
// middleware filled in. It must wrap all other handlers. It requires
// fiber.Config.DisableDefaultContentType.
func RequireContentType(c *fiber.Ctx) error {
	err := c.Next()
	r := c.Response()
	if !r.IsBodyStream() && len(r.Header.ContentType()) == 0 {
		r.ResetBody()
	}
	return err
}

// MediaType is the Content-Type of the request's body in lower case, without parameters; "" for
// none.
func MediaType(c *fiber.Ctx) string {
	mime, _, _ := strings.Cut(c.Get(fiber.HeaderContentType), ";")
	return strings.ToLower(strings.TrimSpace(mime))
}

// DisableScripts prevents scripts in a response from running, whatever its type and however a
// browser opens it.
func DisableScripts(c *fiber.Ctx) {
	c.Set("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")
	c.Set("X-Content-Type-Options", "nosniff")
}
