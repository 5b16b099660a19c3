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

// Every form is answered with a redirect (303, RFC 9110 15.4.4), so that neither a reload nor the
// way back sends it again. What its page has to say is left for it as a flash.

// Flash is what a form leaves for the page that its answer leads to. It is read once, by the
// browser that sent the form. The bucket holds it sealed: its key is in that browser's cookie and
// nowhere else. Pages that have more to say embed it in a struct of their own, which is kept as one
// JSON object.
type Flash struct {
	// Path is the page that it is for. Flashes sets it.
	Path string `json:"path"`
	// Session is the session that it is of, as a digest (see SessionDigest); "" for what was typed
	// when none was left.
	Session string `json:"session,omitempty"`
	// Owner is who typed it: nobody else who signs in by this browser gets to see it. "" for
	// anybody.
	Owner string `json:"owner,omitempty"`
	// Status is the page's: what was wrong with a form says so in it, too. 0 is 200.
	Status int `json:"status,omitempty"`
	// Problem and Message are what is said at the top.
	Problem string `json:"problem,omitempty"`
	Message string `json:"message,omitempty"`
	// Title is what the page is called this once.
	Title string `json:"title,omitempty"`
	// Fields are what was typed, without passwords.
	Fields url.Values `json:"fields,omitempty"`
}

// Note is a Flash, or a struct that embeds one.
type Note interface{ flash() *Flash }

func (f *Flash) flash() *Flash { return f }

// Get is what was typed into a field.
func (f *Flash) Get(field string) string {
	if f == nil {
		return ""
	}
	return f.Fields.Get(field)
}

// Of is the flash, where it was left by what do says, else nil.
func (f *Flash) Of(do string) *Flash {
	if f.Get("do") != do {
		return nil
	}
	return f
}

// Has reports whether a field has a value among others.
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

// local is where a request keeps a fact for this package, in Fiber's Locals.
type local int

// flashLocal is where the note of a request is, once it is read; tokenLocal where its page's token
// is.
const (
	flashLocal local = iota
	tokenLocal
)

// TypedLife is how long what was typed waits for its writer to sign in again.
const TypedLife = time.Hour

const (
	flashCookie = "ehi_flash"
	// flashLife is how long a result waits for its page.
	flashLife = 5 * time.Minute
	// maxFlash bounds what is kept for one page, in bytes; maxTyped what is kept for who has no
	// session.
	maxFlash = 64 << 10
	maxTyped = 16 << 10
)

// Charger counts failures by address (abuse.Failures).
type Charger interface {
	// Charge counts a request as a failure of its address. ok is false, and nothing is counted, for
	// an address that has failed too often.
	Charge(c *fiber.Ctx) (ok bool, err error)
}

// Flashes keeps what forms leave for pages.
type Flashes struct {
	Safe     Safe
	Failures Charger
	Origins  request.Origins
	Log      *slog.Logger
}

// Leave answers a form: it leads to a page of this server, and leaves a note for it.
func (s *Flashes) Leave(c *fiber.Ctx, to string, n Note) error {
	if err := s.Keep(c, to, n, flashLife); err != nil {
		return err
	}
	return c.Redirect(to, http.StatusSeeOther)
}

// KeepTyped leaves what was typed without a session or a valid token, until its writer has signed
// in again. Anybody can send such a form: each counts as a failure of its address, and from an
// address that failed too often nothing is kept. kept is whether it was.
func (s *Flashes) KeepTyped(c *fiber.Ctx, to string, n Note) (kept bool, err error) {
	if ok, err := s.Failures.Charge(c); !ok {
		return false, err
	}
	return true, s.keepUpTo(c, to, n, TypedLife, maxTyped)
}

// LeadBack leads back to the page of a form, with what was typed where that may be kept (see
// KeepTyped).
func (s *Flashes) LeadBack(c *fiber.Ctx, to string, n Note) error {
	if _, err := s.KeepTyped(c, to, n); err != nil {
		return err
	}
	return c.Redirect(to, http.StatusSeeOther)
}

// Keep leaves a note for a page of this server, for as long as life. More than is kept for a page
// is left out of it.
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

// Left reads into note, which is empty, what a form has left for this page and its reader, and
// reports whether that is anything. session is the cookie of the reader's session. For the next
// request it is gone. Where it cannot be read the page begins anew.
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

// collect takes a note out of the safe for a page, and notes it with the request; nil for none.
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

// SessionDigest names a session by its cookie's value, "" for none.
func SessionDigest(cookie string) string {
	if cookie == "" {
		return ""
	}
	return string(request.Digest(cookie))
}
