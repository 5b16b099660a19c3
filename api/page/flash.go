package page

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ehi-server/api/request"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"
)

// The response to every form is a redirect (303, RFC 9110 15.4.4), so that neither a reload nor
// the back button sends the form again. What the next page has to show is left as a flash.

// Flash is what a form leaves for the page to which it redirects. It is read once, by the
// browser that sent the form. The bucket stores it encrypted, and only a cookie of that browser
// has the key. Pages that show more embed Flash in a struct of their own, which is stored as one
// JSON object.
type Flash struct {
	// Path is the page that the flash is for. Flashes sets it.
	Path string `json:"path"`
	// Session is the session of the flash, as a digest (see SessionDigest); "" for input that
	// was sent without a session.
	Session string `json:"session,omitempty"`
	// Owner is who sent the input. Others who sign in with this browser do not see it. "" for
	// anybody.
	Owner string `json:"owner,omitempty"`
	// Status is the status of the page, which is an error if the form was rejected; 0 for 200.
	Status int `json:"status,omitempty"`
	// Problem and Message appear at the top of the page.
	Problem string `json:"problem,omitempty"`
	Message string `json:"message,omitempty"`
	// Title replaces the title of the page.
	Title string `json:"title,omitempty"`
	// Fields are the input, without passwords.
	Fields url.Values `json:"fields,omitempty"`
}

// Note is a Flash, or a struct that embeds one.
type Note interface{ flash() *Flash }

func (f *Flash) flash() *Flash { return f }

// Get returns the input of a field.
func (f *Flash) Get(field string) string {
	if f == nil {
		return ""
	}
	return f.Fields.Get(field)
}

// Of returns the flash if the action do left it; otherwise nil.
func (f *Flash) Of(do string) *Flash {
	if f.Get("do") != do {
		return nil
	}
	return f
}

// Has reports whether the values of a field include value.
func (f *Flash) Has(field, value string) bool {
	if f != nil {
		for _, v := range f.Fields[field] {
			if v == value {
				return true
			}
		}
	}
	return false
}

// local is the type of this package's keys in Fiber's Locals.
type local int

// flashLocal is the key of a request's note, once it is read; tokenLocal that of its page's
// token.
const (
	flashLocal local = iota
	tokenLocal
)

// TypedLife is how long input is kept until the person signs in again.
const TypedLife = time.Hour

const (
	flashCookie = "ehi_flash"
	// flashLife is how long a flash is kept for its page.
	flashLife = 5 * time.Minute
	// maxFlash is the size limit of what is kept for a page, in bytes; maxTyped that of input
	// without a session.
	maxFlash = 64 << 10
	maxTyped = 16 << 10
)

// Charger counts failures by address (abuse.Failures).
type Charger interface {
	// Charge counts a request as a failure of its address. ok is false, and nothing is counted,
	// if the address already has too many failures.
	Charge(c *fiber.Ctx) (ok bool, err error)
}

// Flashes stores what forms leave for pages.
type Flashes struct {
	Safe     Safe
	Failures Charger
	Origins  request.Origins
	Log      *slog.Logger
}

// Leave responds to a form: it redirects to a page of this server and leaves a note for it.
func (s *Flashes) Leave(c *fiber.Ctx, to string, n Note) error {
	if err := s.Keep(c, to, n, flashLife); err != nil {
		return err
	}
	return c.Redirect(to, http.StatusSeeOther)
}

// KeepTyped keeps input that was sent without a session or a valid token, until the person has
// signed in again. Anybody can send such a form, so each counts as a failure of its address.
// From an address with too many failures, nothing is kept. kept reports whether the input was
// kept.
func (s *Flashes) KeepTyped(c *fiber.Ctx, to string, n Note) (kept bool, err error) {
	if ok, err := s.Failures.Charge(c); !ok {
		return false, err
	}
	return true, s.keepUpTo(c, to, n, TypedLife, maxTyped)
}

// LeadBack redirects to the page of a form, with the input if it may be kept (see KeepTyped).
func (s *Flashes) LeadBack(c *fiber.Ctx, to string, n Note) error {
	if _, err := s.KeepTyped(c, to, n); err != nil {
		return err
	}
	return c.Redirect(to, http.StatusSeeOther)
}

// Keep stores a note for a page of this server, for the time life. It drops the fields if the
// note is too large.
func (s *Flashes) Keep(c *fiber.Ctx, to string, n Note, life time.Duration) error {
	return s.keepUpTo(c, to, n, life, maxFlash)
}

func (s *Flashes) keepUpTo(c *fiber.Ctx, to string, n Note, life time.Duration, most int) error {
	f := n.flash()
	f.Path, _, _ = strings.Cut(to, "?")
	data, err := json.Marshal(n)
	if err == nil && len(data) > most {
		f.Fields = nil
		f.Problem = strings.TrimSpace(f.Problem + " What you typed was too long to keep.")
		data, err = json.Marshal(n)
	}
	if err != nil {
		return err
	}
	token := rand.Text()
	if err := s.Safe.Put(c, token, data, life); err != nil {
		return err
	}
	c.Cookie(&fiber.Cookie{
		Name: flashCookie, Value: token, Path: f.Path, MaxAge: int(life / time.Second),
		HTTPOnly: true, SameSite: fiber.CookieSameSiteLaxMode, Secure: s.Origins.Secure(),
	})
	return nil
}

// Left reads what a form has left for this page and its reader into note, which must be empty.
// It reports whether there was anything. session is the cookie of the reader's session. A note
// is read only once. If it cannot be read, the page appears without it.
func (s *Flashes) Left(c *fiber.Ctx, session, reader string, note Note) bool {
	data, ok := c.Locals(flashLocal).([]byte)
	if !ok {
		data = s.collect(c, session, reader)
	}
	if data == nil {
		return false
	}
	if err := json.Unmarshal(data, note); err != nil {
		s.Log.Warn("read what a form left", "err", err)
		return false
	}
	return true
}

// collect reads and removes a note for a page, and stores it in the request; nil for none.
func (s *Flashes) collect(c *fiber.Ctx, session, reader string) []byte {
	token := c.Cookies(flashCookie)
	if token == "" || c.Method() != fiber.MethodGet {
		return nil
	}
	var f Flash
	data, err := s.Safe.Get(c, token)
	if err == nil && data != nil {
		err = json.Unmarshal(data, &f)
	}
	if err != nil {
		s.Log.Warn("read what a form left", "err", err)
	}
	if data == nil || f.Path != c.Path() || f.Owner != "" && f.Owner != reader ||
		f.Session != "" && f.Session != SessionDigest(c.Cookies(session)) {
		return nil
	}
	if err := s.Safe.Forget(c, token); err != nil {
		s.Log.Warn("forget what a form left", "err", err)
	}
	c.Cookie(&fiber.Cookie{
		Name: flashCookie, Path: f.Path, Expires: time.Unix(0, 0),
		HTTPOnly: true, SameSite: fiber.CookieSameSiteLaxMode, Secure: s.Origins.Secure(),
	})
	if f.Status != 0 {
		c.Status(f.Status)
	}
	c.Locals(flashLocal, data)
	return data
}

// SessionDigest identifies a session by the value of its cookie; "" for none.
func SessionDigest(cookie string) string {
	if cookie == "" {
		return ""
	}
	return string(request.Digest(cookie))
}
