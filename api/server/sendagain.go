package server

import (
	"net/http"
	"strings"

	"ehi-server/api/content"

	"github.com/gofiber/fiber/v2"
)

// sentForm is a form as it was sent by a page, to be sent again as it is. While the state cannot be
// reached nothing can be kept of what was typed, so the page of the error holds it.
type sentForm struct {
	Action string
	Fields []sentField
}

// sentField is one field of it.
type sentField struct{ Name, Value string }

// sendAgain is the form that failed for a while, where it can be sent again as it was: not an upload,
// not one with a password, which no page repeats, and nothing that another site sent. Tokens in it are
// those that it came with, and are checked as before.
func (s *Server) sendAgain(c *fiber.Ctx, status int) *sentForm {
	if status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests ||
		c.Method() != fiber.MethodPost || content.MediaType(c) != fiber.MIMEApplicationForm || s.sentFromElsewhere(c) {
		return nil
	}
	f := &sentForm{Action: s.localPath(c, c.OriginalURL())}
	for name, value := range c.Request().PostArgs().All() {
		if string(name) == "password" {
			return nil
		}
		f.Fields = append(f.Fields, sentField{strings.ToValidUTF8(string(name), ""), string(value)})
	}
	if f.Action == "" || len(f.Fields) == 0 {
		return nil
	}
	return f
}
