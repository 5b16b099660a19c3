package page

import (
	"net/http"
	"strings"

	"ehi-server/api/content"

	"github.com/gofiber/fiber/v2"
)

// SentForm is a form that a page sent, so that the person can send it again unchanged. If the
// state is unreachable, the server cannot store input, so the error page contains it.
type SentForm struct {
	Action string
	Fields []SentField
}

// SentField is a field of a form, for templates.
type SentField struct{ Name, Value string }

// SendAgain returns a form that failed temporarily, if it can be sent again unchanged; otherwise
// nil. It cannot if it is an upload, if it has a password (which no page repeats), or if another
// site sent it. The form keeps its tokens, which are checked again.
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
