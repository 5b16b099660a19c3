package page

import (
	"net/url"

	"github.com/gofiber/fiber/v2"
)

// Field returns a field of a form that a page sends. It ignores the query, because otherwise the
// author of a link could set fields.
func Field(c *fiber.Ctx, name string) string { return string(c.Request().PostArgs().Peek(name)) }

// Typed returns the input of a form, without tokens and passwords.
func Typed(c *fiber.Ctx) url.Values {
	out := url.Values{}
	for key, value := range c.Request().PostArgs().All() {
		switch name := string(key); name {
		case "_csrf", "_as", "password", "code", "interaction", "lang":
		default:
			out.Add(name, string(value))
		}
	}
	return out
}

// IsTick reports whether value is what a checkbox of a page sends. No other value counts as
// checked, because programs also send no, false or 0.
func IsTick(value string) bool { return value == "on" }
