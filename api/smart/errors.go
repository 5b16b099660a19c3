package smart

import (
	"net/http"

	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
)

// SendError answers a request with an OAuth error (RFC 6749 5.2).
func SendError(c *fiber.Ctx, e *auth.Error) error {
	return sendError(c.Status(e.Status()), e.Code, e.Description)
}

// SendFailure answers a request to an OAuth endpoint that failed for a reason that is not an OAuth
// error, such as an unknown path or a lost connection to NATS.
func SendFailure(c *fiber.Ctx, status int, text string) error {
	return sendError(c.Status(status), errorCode(status), text)
}

func sendError(c *fiber.Ctx, code, description string) error {
	return c.JSON(fiber.Map{"error": code, "error_description": description})
}

// errorCode returns the error code of RFC 6749 that is closest to an HTTP status.
func errorCode(status int) string {
	switch {
	case status == http.StatusServiceUnavailable,
		status == http.StatusTooManyRequests: // for which RFC 6749 has no code
		return "temporarily_unavailable"
	case status >= http.StatusInternalServerError:
		return "server_error"
	}
	return "invalid_request"
}
