package staff

import (
	"context"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"log/slog"
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

// openIDCookie is the name of the cookie that holds a browser's errand, and openIDAge how long an
// errand may take.
const (
	openIDCookie = "ehi_openid"
	openIDAge    = 15 * time.Minute
)

// openIDUsed are the errands that have ended.
var openIDUsed = subject.KindOf("openid-used")

// OpenIDCallback is where the provider sends browsers back to, at an origin.
func OpenIDCallback(origin string) string { return origin + callbackPath }

// ProviderSessions are sessions of administrators whom the provider names (session.Administrators).
type ProviderSessions interface {
	// Provided is the administrator whom the provider has just named. Errors: openid.ErrNoRole.
	Provided(told auth.Account, person openid.Person) (*request.Administrator, error)
	// Finish records how a log-in ended and, where err is nil, opens a session. It returns err.
	Finish(
		c *fiber.Ctx, at string, who *request.Administrator, method string, err error,
	) error
	// Drop ends the session of a cookie's value.
	Drop(c *fiber.Ctx, cookie string) error
}

// ProvidedAccounts keep the roles that the provider has told (auth.Server).
type ProvidedAccounts interface {
	Provide(ctx context.Context, name string, role auth.Role) (auth.Account, error)
}

// Provider lets administrators sign in by the OpenID provider of their organisation (see package
// openid). An errand is the way of a browser to the provider and back. It belongs to that browser,
// by a cookie, and ends when the browser comes back: an answer that arrives in another browser, or
// a second time, opens nothing.
type Provider struct {
	Pages *Pages
	// OpenID is the provider; nil where there is none.
	OpenID   *openid.Provider
	Accounts ProvidedAccounts
	Sessions ProviderSessions
	// Used keeps which errands have ended.
	Used     *kv.Bucket
	Failures Failures
	Log      *slog.Logger
}

// Routes registers the pages.
func (h *Provider) Routes(r Router) {
	r.On("POST", openIDPath, h.handleBegin, h.Failures.Limit, h.Pages.guarded())
	r.On("GET", callbackPath, h.handleCallback, h.Failures.Limit)
}

// errand is what a browser takes to the provider and brings back.
type errand struct {
	Try  openid.Try `json:"try"`
	Next string     `json:"next"`
	// As is the administrator who proves their identity once more, and Session their session. Both
	// are "" at a sign-in.
	As      string `json:"as,omitempty"`
	Session string `json:"session,omitempty"`
}

// errNoProvider is the answer without a provider, and errProviderAway the answer while it cannot be
// reached.
var (
	errNoProvider   = ehi.Errorf(ehi.NotFound, "Administrators sign in by their accounts here")
	errProviderAway = ehi.Errorf(ehi.Transient,
		"The sign-in of your organisation cannot be reached at the moment")
)

// handleBegin leads a browser to the provider to sign in.
func (h *Provider) handleBegin(c *fiber.Ctx) error {
	return h.begin(c, errand{Next: h.Pages.next(c)})
}

// proveAgain leads an administrator to the provider, to prove their identity once more.
func (h *Provider) proveAgain(c *fiber.Ctx, who *request.Administrator) error {
	return h.begin(c, errand{
		Next: h.Pages.next(c), As: who.Name, Session: h.Pages.session(c),
	})
}

// begin leads a browser to the provider.
func (h *Provider) begin(c *fiber.Ctx, e errand) error {
	if h.OpenID == nil {
		return errNoProvider
	}
	address, try, err := h.OpenID.Begin(c.UserContext(), e.As != "")
	if err != nil {
		return h.explain(err)
	}
	e.Try = try
	sealed, err := h.seal(e)
	if err == nil && len(sealed) > maxErrand {
		e.Next = jobsPath
		sealed, err = h.seal(e)
	}
	if err != nil {
		return err
	}
	h.setCookie(c, sealed, openIDAge)
	return c.Redirect(address, http.StatusSeeOther)
}

// maxErrand is the length, in bytes, of the longest value of a cookie that all browsers keep. It
// leaves room for the cookie's name and attributes.
const maxErrand = 3500

// cipher is the cipher of errands. The browser keeps them, so that a client that begins to sign in
// without end fills up nothing.
func (h *Provider) cipher() (cipher.AEAD, error) {
	return h.Pages.Guard.Key.Cipher("openid errand")
}

// seal is the value of an errand's cookie.
func (h *Provider) seal(e errand) (string, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	seal, err := h.cipher()
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(seal.Seal(nil, nil, data, nil)), nil
}

// open reads the value of an errand's cookie. Errors: errElsewhere, for a value that no server of
// this state has made.
func (h *Provider) open(cookie string) (e errand, err error) {
	seal, err := h.cipher()
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

// setCookie sets the cookie of an errand, or removes it if value is "". The cookie is Lax, as the
// provider's site sends the browser back.
func (h *Provider) setCookie(c *fiber.Ctx, value string, life time.Duration) {
	origins := h.Pages.Site.Origins
	cookie := &fiber.Cookie{
		Name:     origins.Cookie(openIDCookie),
		Value:    value,
		Path:     "/",
		MaxAge:   int(life / time.Second),
		HTTPOnly: true,
		SameSite: fiber.CookieSameSiteLaxMode,
		Secure:   origins.Secure(),
	}
	if value == "" {
		cookie.Expires = time.Unix(0, 0)
	}
	c.Cookie(cookie)
}

// explain returns errProviderAway in place of an error of reaching the provider.
func (h *Provider) explain(err error) error {
	if errors.Is(err, openid.ErrAway) {
		h.Log.Warn("ask the OpenID provider", "err", err)
		return errProviderAway
	}
	return err
}

// errElsewhere refuses an answer that arrives in another browser, or too late, and errOver one that
// arrives a second time.
var (
	errElsewhere = &openid.Refused{
		Why: "This sign-in was begun in another browser, or took too long",
	}
	errOver = &openid.Refused{Why: "This sign-in is over already"}
)

// errand finds the errand of a browser that comes back, and ends it. A browser that brings another
// state is refused later (see openid.Provider.Finish), and ends nothing.
func (h *Provider) errand(c *fiber.Ctx) (e errand, err error) {
	cookie := c.Cookies(h.Pages.Site.Origins.Cookie(openIDCookie))
	if cookie == "" {
		return e, errElsewhere
	}
	h.setCookie(c, "", 0)
	if e, err = h.open(cookie); err != nil || !auth.Equal(c.Query("state"), e.Try.State) {
		return e, err
	}
	// Of several answers, at once or one after the other, only the first counts.
	used := openIDUsed.Of(request.Digest(e.Try.State))
	_, err = h.Used.CreateFor(c.UserContext(), used, []byte("used"), openIDAge)
	if kv.IsConflict(err) {
		return e, errOver
	}
	return e, err
}

// handleCallback signs in the administrator whom the provider sends back.
func (h *Provider) handleCallback(c *fiber.Ctx) error {
	request.NoStore(c)
	if h.OpenID == nil {
		return errNoProvider
	}
	e, who, err := h.cameBack(c)
	at := session.AtLogIn
	if e.As != "" {
		at = session.Again
	}
	if err = h.Sessions.Finish(c, at, who, session.ByOpenID, h.explain(err)); err != nil {
		return h.refuse(c, err)
	}
	if e.Session != "" { // a new session has replaced it
		if err := h.Sessions.Drop(c, e.Session); err != nil {
			return err
		}
	}
	// After a redirect the request would still be of the provider's site, and browsers would not
	// send the session's cookie.
	c.Set("Refresh", "0; url="+e.Next)
	return h.Pages.render(c, "signed-in", "", "You are signed in", fiber.Map{"Next": e.Next})
}

// cameBack finds the errand of a browser that comes back, and whom the provider has named.
func (h *Provider) cameBack(c *fiber.Ctx) (e errand, who *request.Administrator, err error) {
	if e, err = h.errand(c); err != nil {
		return e, nil, err
	}
	answer, err := url.ParseQuery(string(c.Request().URI().QueryString()))
	if err != nil {
		return e, nil, &openid.Refused{Why: "The answer of your organisation cannot be read"}
	}
	person, err := h.OpenID.Finish(c.UserContext(), e.Try, answer)
	if err != nil && !errors.Is(err, openid.ErrNoRole) {
		return e, nil, err
	}
	told, failed := h.Accounts.Provide(c.UserContext(), person.Name, person.Role)
	if err := errors.Join(err, failed); err != nil {
		return e, nil, err
	}
	if e.As != "" && person.Name != e.As {
		return e, nil, &openid.Refused{Why: "You signed in at your organisation as somebody else"}
	}
	who, err = h.Sessions.Provided(told, person)
	return e, who, err
}

// refuse is the page for people whom the provider did not let in.
func (h *Provider) refuse(c *fiber.Ctx, err error) error {
	refused, ok := errors.AsType[*openid.Refused](err)
	if !ok {
		return err
	}
	h.Log.Info("an administrator was refused",
		"why", refused.Why, "cause", refused.Cause, "request", request.ID(c))
	status := http.StatusUnauthorized
	if errors.Is(err, openid.ErrNoRole) {
		status = http.StatusForbidden
	}
	abuse.NoteStatus(c, http.StatusUnauthorized)
	return h.Pages.render(c.Status(status), "refused", "", "You are not signed in",
		fiber.Map{"Why": refused.Why, "Role": errors.Is(err, openid.ErrNoRole)})
}
