package page

import (
	"net/http"
	"strings"

	"ehi-server/api/content"

	"github.com/gofiber/fiber/v2"
)

// SentForm is a form as it was sent by a page, to be sent again as it is. While the state cannot be
// reached nothing can be kept of what was typed, so the page of the error holds it.
type SentForm struct {
	Action string
	Fields []SentField
}

// SentField is one field of a form, as templates show it.
type SentField struct{ Name, Value string }

// SendAgain is the form that failed for a while, where it can be sent again as it was: not an
// upload, not one with a password, which no page repeats, and nothing that another site sent; nil
// otherwise. Tokens in it are those that it came with, and are checked as before.
func (s Site) SendAgain(c *fiber.Ctx, status int) *SentForm {
	if status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests ||
		c.Method() != fiber.MethodPost || content.MediaType(c) != fiber.MIMEApplicationForm ||
		s.SentElsewhere(c) {
		return nil
	}
	f := &SentForm{Action: s.Local(c, c.OriginalURL())}
	for name, value := range c.Request().PostArgs().All() {
		if string(name) == "password" {
			return nil
		}
		f.Fields = append(f.Fields, SentField{strings.ToValidUTF8(string(name), ""), string(value)})
	}
	if f.Action == "" || len(f.Fields) == 0 {
		return nil
	}
	return f
}
