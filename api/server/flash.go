package server

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ehi-server/api/request"
	"ehi-server/shared/kv"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"
)

// Every form is answered with a redirect (303, RFC 9110 15.4.4), so that neither a reload nor the way
// back sends it again. What its page has to say is left for it as a flash.

// flash is what a form leaves for the page that its answer leads to. It is read once, by the browser
// that sent the form. The bucket holds it sealed: its key is in that browser's cookie and nowhere else.
type flash struct {
	// Path is the page that it is for.
	Path string `json:"path"`
	// Session is the session that it is of, as a digest; "" for what was typed when none was left.
	Session string `json:"session,omitempty"`
	// Owner is who typed it: nobody else who signs in by this browser gets to see it. "" for anybody.
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
	// Tried is whether a release form was sent or counted, Expired whether it came too late, Asked
	// whether it was asked for counts.
	Tried   bool `json:"tried,omitempty"`
	Expired bool `json:"expired,omitempty"`
	Asked   bool `json:"asked,omitempty"`
	// Added is a client whose secret is shown this once.
	Added *addedClient `json:"added,omitempty"`
	// Codes are recovery codes, shown this once.
	Codes []string `json:"codes,omitempty"`
	// Decided is how decisions about several exports went.
	Decided []decided `json:"decided,omitempty"`
}

// addedClient is a client that was added, or got another secret.
type addedClient struct{ ID, Name, Secret string }

// Get is what was typed into a field.
func (f *flash) Get(field string) string {
	if f == nil {
		return ""
	}
	return f.Fields.Get(field)
}

// Of is the flash, where it was left by what do says, else nil.
func (f *flash) Of(do string) *flash {
	if f.Get("do") != do {
		return nil
	}
	return f
}

// Has reports whether a field has a value among others.
func (f *flash) Has(field, value string) bool {
	if f != nil {
		for _, v := range f.Fields[field] {
			if v == value {
				return true
			}
		}
	}
	return false
}

const (
	flashCookie = "ehi_flash"
	// flashTTL is how long a result waits for its page, typedTTL how long what was typed waits for its
	// writer to sign in again.
	flashTTL = 5 * time.Minute
	typedTTL = time.Hour
	// maxFlash bounds what is kept for one page, in bytes; maxTyped what is kept for who has no session.
	maxFlash = 64 << 10
	maxTyped = 16 << 10
)

// sealer is the cipher of a cookie's flash, and the name that the bucket keeps it under.
func sealer(cookie string) (seal cipher.AEAD, name string) {
	key, id := sha256.Sum256([]byte("key "+cookie)), sha256.Sum256([]byte("name "+cookie))
	block, err := aes.NewCipher(key[:])
	if err == nil {
		seal, err = cipher.NewGCMWithRandomNonce(block)
	}
	if err != nil { // the key has the right length
		panic(err)
	}
	return seal, "flash-" + base64.RawURLEncoding.EncodeToString(id[:])
}

// leave answers a form: it leads to a page of this server, and leaves a flash for it.
func (s *Server) leave(c *fiber.Ctx, to string, f flash) error {
	if err := s.keep(c, to, f, flashTTL); err != nil {
		return err
	}
	return c.Redirect(to, http.StatusSeeOther)
}

// keepTyped leaves what was typed without a session or a valid token, until its writer has signed in
// again. Anybody can send such a form: each counts as a failure of its address, and from an address
// that failed too often nothing is kept. kept is whether it was.
func (s *Server) keepTyped(c *fiber.Ctx, to string, f flash) (kept bool, err error) {
	if ok, err := s.failures.Charge(c); !ok {
		return false, err
	}
	return true, s.keepUpTo(c, to, f, typedTTL, maxTyped)
}

// typedAgain leads back to the page of a form, with what was typed where that may be kept.
func (s *Server) typedAgain(c *fiber.Ctx, to string, f flash) error {
	if _, err := s.keepTyped(c, to, f); err != nil {
		return err
	}
	return c.Redirect(to, http.StatusSeeOther)
}

// keep leaves a flash for a page of this server. More than is kept for a page is left out of it.
func (s *Server) keep(c *fiber.Ctx, to string, f flash, life time.Duration) error {
	return s.keepUpTo(c, to, f, life, maxFlash)
}

func (s *Server) keepUpTo(c *fiber.Ctx, to string, f flash, life time.Duration, most int) error {
	f.Path, _, _ = strings.Cut(to, "?")
	data, err := json.Marshal(f)
	if err == nil && len(data) > most {
		f.Fields = nil
		f.Problem = strings.TrimSpace(f.Problem + " What you typed was too long to keep.")
		data, err = json.Marshal(f)
	}
	if err != nil {
		return err
	}
	token := rand.Text()
	seal, name := sealer(token)
	if err := s.pagesOf(c).Set(name, seal.Seal(nil, nil, data, nil), life); err != nil {
		return err
	}
	c.Cookie(&fiber.Cookie{
		Name: flashCookie, Value: token, Path: f.Path, MaxAge: int(life / time.Second),
		HTTPOnly: true, SameSite: fiber.CookieSameSiteLaxMode, Secure: s.Origins.Secure(),
	})
	return nil
}

// flashKey is where the flash of a request is kept, once it is read.
const flashKey = "flash"

// left is what a form has left for this page and its reader, nil for nothing. session is the cookie of
// the reader's session. It is gone for the next request. Where it cannot be read the page begins anew.
func (s *Server) left(c *fiber.Ctx, session, reader string) *flash {
	if f, ok := c.Locals(flashKey).(*flash); ok {
		return f
	}
	token := c.Cookies(flashCookie)
	if token == "" || c.Method() != fiber.MethodGet {
		return nil
	}
	seal, name := sealer(token)
	f, err := s.unseal(c, seal, name)
	if err != nil {
		s.Log.Warn("read what a form left", "err", err)
	}
	if f == nil || f.Path != c.Path() || f.Owner != "" && f.Owner != reader ||
		f.Session != "" && f.Session != sessionDigest(c.Cookies(session)) {
		return nil
	}
	if err := s.pagesOf(c).Delete(name); err != nil {
		s.Log.Warn("forget what a form left", "err", err)
	}
	c.Cookie(&fiber.Cookie{
		Name: flashCookie, Path: f.Path, Expires: time.Unix(0, 0),
		HTTPOnly: true, SameSite: fiber.CookieSameSiteLaxMode, Secure: s.Origins.Secure(),
	})
	if f.Status != 0 {
		c.Status(f.Status)
	}
	c.Locals(flashKey, f)
	return f
}

func (s *Server) unseal(c *fiber.Ctx, seal cipher.AEAD, name string) (*flash, error) {
	sealed, err := s.pagesOf(c).Get(name)
	if err != nil || sealed == nil {
		return nil, err
	}
	data, err := seal.Open(nil, nil, sealed, nil)
	if err != nil {
		return nil, err
	}
	var f flash
	return &f, json.Unmarshal(data, &f)
}

// sessionDigest names a session in a flash.
func sessionDigest(cookie string) string {
	if cookie == "" {
		return ""
	}
	return string(request.Digest(cookie))
}

// typed is what a person wrote into a form: its fields without tokens and passwords.
func typed(c *fiber.Ctx) url.Values {
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

// ourForm reports whether a form was sent by a page of this server, as far as what was typed into it
// may be shown there again; it allows nothing else. The page's token says so where the browser still
// has it, else the browser itself.
func (s *Server) ourForm(c *fiber.Ctx, cookie string) bool {
	token := string(c.Request().PostArgs().Peek("_csrf")) // of an upload there are none
	if token == "" || s.site.SentElsewhere(c) {
		return false
	}
	return token == pageToken(c.Cookies(cookie)) || c.Get("Sec-Fetch-Site") != "" || c.Get(fiber.HeaderOrigin) != ""
}

// pagesOf is what pages keep, within the time of a request.
func (s *Server) pagesOf(c *fiber.Ctx) *kv.Storage { return s.kept.In(c.UserContext()) }
