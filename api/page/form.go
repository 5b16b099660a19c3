package page

import (
	"net/url"

	"github.com/gofiber/fiber/v2"
)

// Field is a field of a form that a page sends. What stands in the query counts for nothing:
// whoever makes a link would decide beside what was ticked.
func Field(c *fiber.Ctx, name string) string { return string(c.Request().PostArgs().Peek(name)) }

// Typed is what a person wrote into a form: its fields without tokens and passwords.
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

// IsTick reports whether this is what a tick box of a page sends. Nothing else is taken for a yes:
// a program that fills in a form sends no, false or 0 as well.
func IsTick(value string) bool { return value == "on" }
