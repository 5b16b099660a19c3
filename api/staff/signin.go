package staff

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/abuse"
	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/shared/ehi"
)

// The routes by which programs open and end a session.
const (
	LogInPath  = "/admin/login"
	LogOutPath = "/admin/logout"
)

// SignInSessions find out who signs in, and open sessions (session.Administrators).
type SignInSessions interface {
	// SignIn checks everything that an account asks for, and opens a session.
	SignIn(c *fiber.Ctx, name, password, code string) (*request.Administrator, error)
	// Check checks a name and a password, and ProveCode a second factor. ProveAgain checks
	// everything that the account of a signed-in administrator asks for.
	Check(c *fiber.Ctx, name, password string) (*request.Administrator, error)
	ProveCode(c *fiber.Ctx, who *request.Administrator, code string) (method string, err error)
	ProveAgain(
		c *fiber.Ctx, who *request.Administrator, password, code string,
	) (method string, err error)
	// BeginHalf opens a session that opens nothing until the second factor is proved, and Half
	// finds it.
	BeginHalf(c *fiber.Ctx, who *request.Administrator) error
	Half(c *fiber.Ctx) (*request.Administrator, error)
	// Finish records how a log-in ended and, where err is nil, opens a session. It returns err.
	Finish(
		c *fiber.Ctx, at string, who *request.Administrator, method string, err error,
	) error
	LogOut(c *fiber.Ctx) error
}

// Failures refuse addresses of which too many requests have failed (abuse.Failures).
type Failures interface {
	// Limit is middleware.
	Limit(c *fiber.Ctx) error
}

// SignIn lets administrators sign in and out, and prove their identity once more, by pages and by
// the JSON API.
type SignIn struct {
	Pages    *Pages
	Sessions SignInSessions
	Provider *Provider
	Failures Failures
}

// Routes registers the pages and the JSON API.
func (h *SignIn) Routes(r Router) {
	guard, limit := h.Pages.guarded(), h.Failures.Limit
	r.On("GET", loginPath, h.handleLoginPage, guard)
	r.On("POST", loginPath, h.handleLoginForm, limit, guard)
	r.On("GET", codePath, h.handleCodePage, guard)
	r.On("POST", codePath, h.handleCode, limit, guard)
	r.On("POST", Base+"/logout", h.handleLogoutForm, guard)
	r.OnPage("GET", provePath, guard, h.handleProvePage)
	r.OnPage("POST", provePath, guard, h.handleProve, limit)
	r.On("POST", LogInPath, h.handleLogin, limit)
	r.On("GET", LogOutPath, h.handleLogout)
}

// keptWords tell people who have to sign in what became of the form that they sent.
var keptWords = map[string]string{
	"text": "You were signed out. Sign in, and what you typed is there again.",
	"files": "You were signed out, and nothing was uploaded. Sign in, and choose the files " +
		"again: your browser does not keep them.",
}

func (h *SignIn) handleLoginPage(c *fiber.Ctx) error {
	return h.Pages.render(c, "login", "", "Sign in", fiber.Map{
		"Next":   h.Pages.next(c),
		"Kept":   keptWords[c.Query("kept")],
		"OpenID": h.Provider.OpenID != nil,
	})
}

func (h *SignIn) handleLoginForm(c *fiber.Ctx) error {
	next := h.Pages.next(c)
	who, err := h.Sessions.Check(c, page.Field(c, "username"), page.Field(c, "password"))
	if err == nil && who.TwoFactors {
		return h.askForCode(c, who, next)
	}
	err = h.Sessions.Finish(c, session.AtLogIn, who, session.ByPassword, err)
	if err == nil {
		return c.Redirect(next, http.StatusSeeOther)
	}
	again := page.Flash{Fields: url.Values{"username": {page.Field(c, "username")}}}
	return h.refuse(c, withNext(loginPath, next), err, again)
}

// askForCode leads administrators whose password was right to the page of the code. Their session
// opens nothing yet.
func (h *SignIn) askForCode(c *fiber.Ctx, who *request.Administrator, next string) error {
	if err := h.Sessions.BeginHalf(c, who); err != nil {
		return err
	}
	return c.Redirect(withNext(codePath, next), http.StatusSeeOther)
}

func (h *SignIn) handleCodePage(c *fiber.Ctx) error {
	who, err := h.Sessions.Half(c)
	if err != nil {
		return err
	}
	next := h.Pages.next(c)
	if who == nil {
		return c.Redirect(withNext(loginPath, next), http.StatusFound)
	}
	return h.Pages.render(c, "code", "", "Enter the code",
		fiber.Map{"Next": next, "Who": who.Name})
}

func (h *SignIn) handleCode(c *fiber.Ctx) error {
	next := h.Pages.next(c)
	who, err := h.Sessions.Half(c)
	if err != nil {
		return err
	}
	if who == nil {
		late := &page.Flash{Problem: "That took too long. Sign in again."}
		return h.Pages.Flashes.Leave(c, withNext(loginPath, next), late)
	}
	method, err := h.Sessions.ProveCode(c, who, page.Field(c, "code"))
	err = h.Sessions.Finish(c, session.AtLogIn, who, method, err)
	if err == nil {
		return c.Redirect(next, http.StatusSeeOther)
	}
	return h.refuse(c, withNext(codePath, next), err, page.Flash{})
}

// refuse leads back to a page where an administrator has to prove their identity, and says why.
// Errors that are not about the proof are returned.
func (h *SignIn) refuse(c *fiber.Ctx, to string, err error, again page.Flash) error {
	switch ehi.CodeOf(err) {
	case ehi.Unauthenticated:
		again.Status = http.StatusUnauthorized
	case ehi.Throttled:
		again.Status = http.StatusTooManyRequests
	default:
		return err
	}
	if again.Problem = err.Error(); errors.Is(err, session.ErrCodeMissing) {
		again.Problem = "Enter the code"
	}
	abuse.NoteStatus(c, again.Status)
	return h.Pages.Flashes.Leave(c, to, &again)
}

func (h *SignIn) handleProvePage(c *fiber.Ctx) error {
	return h.Pages.render(c, "prove", "", "Confirm that it is you",
		fiber.Map{"Next": h.Pages.next(c), "Who": request.SignedIn(c)})
}

// handleProve proves once more who an administrator is, by everything that the account asks for,
// and opens a new session in place of the present one.
func (h *SignIn) handleProve(c *fiber.Ctx) error {
	next, who := h.Pages.next(c), request.SignedIn(c)
	if who.By == session.ByOpenID {
		return h.Provider.proveAgain(c, who)
	}
	method, err := h.Sessions.ProveAgain(c, who, page.Field(c, "password"), page.Field(c, "code"))
	if err = h.Sessions.Finish(c, session.Again, who, method, err); err != nil {
		return h.refuse(c, withNext(provePath, next), err, page.Flash{Owner: who.Name})
	}
	return c.Redirect(next, http.StatusSeeOther)
}

func (h *SignIn) handleLogoutForm(c *fiber.Ctx) error {
	if err := h.Sessions.LogOut(c); err != nil {
		return err
	}
	return c.Redirect(loginPath, http.StatusSeeOther)
}

// handleLogin opens a session (EHI-10). A wrong name and a wrong password get the same answer.
func (h *SignIn) handleLogin(c *fiber.Ctx) error {
	var in struct {
		Username string `json:"username" form:"username"`
		Password string `json:"password" form:"password"`
		Code     string `json:"code" form:"code"`
	}
	if content.Unambiguous(c) == nil {
		_ = c.BodyParser(&in) // a body without a name and a password is a wrong log-in
	}
	who, err := h.Sessions.SignIn(c, in.Username, in.Password, in.Code)
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{"username": who.Name})
}

func (h *SignIn) handleLogout(c *fiber.Ctx) error {
	if err := h.Sessions.LogOut(c); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Logout successful"})
}
