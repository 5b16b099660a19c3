package smart

import (
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
)

// authorizeParameters returns the parameters of an authorization request, which are in the query or
// in the form (SMART-2). Errors: *auth.Error.
func authorizeParameters(c *fiber.Ctx) (url.Values, error) {
	if c.Method() == fiber.MethodPost {
		return formParameters(c)
	}
	q, err := url.ParseQuery(string(c.Request().URI().QueryString()))
	if err != nil {
		return nil, invalid("The query cannot be read")
	}
	return q, nil
}

// formParameters reads a body of application/x-www-form-urlencoded, and no other (SMART-4). Errors:
// *auth.Error.
func formParameters(c *fiber.Ctx) (url.Values, error) {
	media, _, _ := strings.Cut(c.Get(fiber.HeaderContentType), ";")
	if !strings.EqualFold(strings.TrimSpace(media), fiber.MIMEApplicationForm) {
		return nil, invalid("The body must be application/x-www-form-urlencoded")
	}
	v, err := url.ParseQuery(string(c.Body()))
	if err != nil {
		return nil, invalid("The body cannot be read")
	}
	return v, nil
}

func invalid(description string) *auth.Error {
	return &auth.Error{Code: "invalid_request", Description: description}
}
