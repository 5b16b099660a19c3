package server

import (
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/abuse"
	"ehi-server/api/openid"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// Administrators may sign in by the OpenID provider of their hospital (see package openid). A way there and
// back belongs to one browser, by a cookie, and is gone once; what comes back in another browser, or a
// second time, opens nothing.

const (
	staffOpenID   = staffLogin + "/openid"
	staffCallback = staffOpenID + "/callback"
	// openIDCookie names a browser's way to the provider and back, openIDAge is how long it may take.
	openIDCookie = "ehi_openid"
	openIDAge    = 15 * time.Minute
)

// openIDUsed are the ways that are gone.
var openIDUsed = subject.KindOf("openid-used")

// OpenIDCallback is where the provider sends browsers back to, at an origin.
func OpenIDCallback(origin string) string { return origin + staffCallback }

// errand is a way to the provider and back.
type errand struct {
	Try  openid.Try `json:"try"`
	Next string     `json:"next"`
	// As is who proves once more who he is, Session his session; "" at a sign-in.
	As      string `json:"as,omitempty"`
	Session string `json:"session,omitempty"`
}

// errNoProvider is the answer where there is no provider.
var errNoProvider = ehi.Errorf(ehi.NotFound, "Administrators sign in by their accounts here")

// errProviderAway is the answer where it cannot be reached.
var errProviderAway = ehi.Errorf(ehi.Transient, "The sign-in of your organisation cannot be reached at the moment")

// handleOpenID leads a browser to the provider to sign in.
func (s *Server) handleOpenID(c *fiber.Ctx) error {
	return s.toProvider(c, errand{Next: s.adminPages.next(c)})
}

// proveByProvider leads to the provider to prove once more who somebody is.
func (s *Server) proveByProvider(c *fiber.Ctx, who *request.Administrator) error {
	session := c.Cookies(s.Origins.Cookie(request.StaffSession))
	return s.toProvider(c, errand{Next: s.adminPages.next(c), As: who.Name, Session: session})
}

func (s *Server) toProvider(c *fiber.Ctx, e errand) error {
	if s.OpenID == nil {
		return errNoProvider
	}
	address, try, err := s.OpenID.Begin(c.UserContext(), e.As != "")
	if err != nil {
		return s.providerFault(err)
	}
	e.Try = try
	sealed, err := s.sealErrand(e)
	if err == nil && len(sealed) > maxErrand {
		e.Next = staffJobs
		sealed, err = s.sealErrand(e)
	}
	if err != nil {
		return err
	}
	s.setOpenIDCookie(c, sealed, openIDAge)
	return c.Redirect(address, http.StatusSeeOther)
}

// maxErrand is how long a cookie may be that all browsers keep, in bytes, with its name and attributes.
const maxErrand = 3500

// errandSeal is the cipher of errands. They are kept by the browser, so that whoever begins to sign in
// without end fills up nothing.
func (s *Server) errandSeal() (cipher.AEAD, error) { return s.pageGuard.Key.Cipher("openid errand") }

// sealErrand is the value of an errand's cookie.
func (s *Server) sealErrand(e errand) (string, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	seal, err := s.errandSeal()
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(seal.Seal(nil, nil, data, nil)), nil
}

// openErrand reads the value of an errand's cookie. Errors: errElsewhere, for one that no server of this
// state has made.
func (s *Server) openErrand(cookie string) (e errand, err error) {
	seal, err := s.errandSeal()
	if err != nil {
		return e, err
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(cookie)
	if err != nil {
		return e, errElsewhere
	}
	data, err := seal.Open(nil, nil, sealed, nil)
	if err != nil {
		return e, errElsewhere
	}
	return e, json.Unmarshal(data, &e)
}

// setOpenIDCookie names this browser's way. It is Lax: the provider's site sends the browser back.
func (s *Server) setOpenIDCookie(c *fiber.Ctx, token string, life time.Duration) {
	cookie := &fiber.Cookie{
		Name: s.Origins.Cookie(openIDCookie), Value: token, Path: "/", MaxAge: int(life / time.Second),
		HTTPOnly: true, SameSite: fiber.CookieSameSiteLaxMode, Secure: s.Origins.Secure(),
	}
	if token == "" {
		cookie.Expires = time.Unix(0, 0)
	}
	c.Cookie(cookie)
}

// providerFault turns a provider that cannot be reached into an answer that says so.
func (s *Server) providerFault(err error) error {
	if errors.Is(err, openid.ErrAway) {
		s.Log.Warn("ask the OpenID provider", "err", err)
		return errProviderAway
	}
	return err
}

// errElsewhere refuses what comes back in another browser, or too late, and errOver what comes back a second time.
var (
	errElsewhere = &openid.Refused{Why: "This sign-in was begun in another browser, or took too long"}
	errOver      = &openid.Refused{Why: "This sign-in is over already"}
)

// errand finds the way that a browser comes back from, and ends it. One that comes back with another
// state goes nowhere (see openid.Provider.Finish), and leaves nothing.
func (s *Server) errand(c *fiber.Ctx) (e errand, err error) {
	cookie := c.Cookies(s.Origins.Cookie(openIDCookie))
	if cookie == "" {
		return e, errElsewhere
	}
	s.setOpenIDCookie(c, "", 0)
	if e, err = s.openErrand(cookie); err != nil || !auth.Equal(c.Query("state"), e.Try.State) {
		return e, err
	}
	// Of many that come back at once, or one after the other, one goes on.
	used := openIDUsed.Of(request.Digest(e.Try.State))
	_, err = s.Bus.Sessions.CreateFor(c.UserContext(), used, []byte("used"), openIDAge)
	if kv.IsConflict(err) {
		return e, errOver
	}
	return e, err
}

// handleOpenIDCallback signs in whom the provider sends back.
func (s *Server) handleOpenIDCallback(c *fiber.Ctx) error {
	request.NoStore(c)
	if s.OpenID == nil {
		return errNoProvider
	}
	e, who, err := s.cameBack(c)
	at := session.AtLogIn
	if e.As != "" {
		at = session.Again
	}
	if err = s.admins.Finish(c, at, who, session.ByOpenID, s.providerFault(err)); err != nil {
		return s.openIDRefused(c, err)
	}
	if e.Session != "" { // it is another one now
		if err := s.admins.Drop(c, e.Session); err != nil {
			return err
		}
	}
	// A redirect would still be of the provider's site, for which browsers keep the session's cookie back.
	c.Set("Refresh", "0; url="+e.Next)
	return s.adminPages.render(c, "signed-in", "", "You are signed in", fiber.Map{"Next": e.Next})
}

// cameBack is who comes back from the provider, and from where.
func (s *Server) cameBack(c *fiber.Ctx) (e errand, who *request.Administrator, err error) {
	if e, err = s.errand(c); err != nil {
		return e, nil, err
	}
	answer, err := url.ParseQuery(string(c.Request().URI().QueryString()))
	if err != nil {
		return e, nil, &openid.Refused{Why: "The answer of your organisation cannot be read"}
	}
	person, err := s.OpenID.Finish(c.UserContext(), e.Try, answer)
	if err != nil && !errors.Is(err, openid.ErrNoRole) {
		return e, nil, err
	}
	told, failed := s.Auth.Provide(c.UserContext(), person.Name, person.Role)
	if err := errors.Join(err, failed); err != nil {
		return e, nil, err
	}
	if e.As != "" && person.Name != e.As {
		return e, nil, &openid.Refused{Why: "You signed in at your organisation as somebody else"}
	}
	who, err = s.admins.Provided(told, person)
	return e, who, err
}

// openIDRefused is the page of somebody who is not signed in.
func (s *Server) openIDRefused(c *fiber.Ctx, err error) error {
	refused, ok := errors.AsType[*openid.Refused](err)
	if !ok {
		return err
	}
	s.Log.Info("an administrator was refused", "why", refused.Why, "cause", refused.Cause, "request", request.ID(c))
	status := http.StatusUnauthorized
	if errors.Is(err, openid.ErrNoRole) {
		status = http.StatusForbidden
	}
	abuse.NoteStatus(c, http.StatusUnauthorized)
	return s.adminPages.render(c.Status(status), "refused", "", "You are not signed in", fiber.Map{"Why": refused.Why, "Role": errors.Is(err, openid.ErrNoRole)})
}
