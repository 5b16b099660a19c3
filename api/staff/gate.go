package staff

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// GateSessions know who is signed in (session.Administrators).
type GateSessions interface {
	// Require finds the administrator who sent a request, and notes who it is. Errors:
	// session.ErrNobody, session.ErrUnfinished, ehi.Forbidden.
	Require(c *fiber.Ctx, least auth.Role) error
	// RequireSelf is Require without a role, and without a second factor that is still to be set
	// up. Errors: session.ErrNobody.
	RequireSelf(c *fiber.Ctx) error
	// Recent reports whether an administrator has proved their identity recently.
	Recent(who *request.Administrator) bool
}

// Gate is middleware that lets administrators pass. The rules of access say which routes it is for.
type Gate struct {
	Pages    *Pages
	Sessions GateSessions
	// ProofAge is for how long a proof of identity counts as recent.
	ProofAge time.Duration
}

// AtLeast lets signed-in administrators pass who have at least a role.
func (g *Gate) AtLeast(least auth.Role) fiber.Handler {
	return func(c *fiber.Ctx) error {
		switch err := g.Sessions.Require(c, least); err {
		case nil:
			return c.Next()
		case session.ErrUnfinished:
			return setUpFirst(c)
		default:
			return err
		}
	}
}

// PageFor is AtLeast for pages. It leads people who are not signed in to the log-in, and from there
// back.
func (g *Gate) PageFor(least auth.Role) fiber.Handler {
	return func(c *fiber.Ctx) error {
		switch err := g.Sessions.Require(c, least); err {
		case nil:
			return c.Next()
		case session.ErrNobody:
			return g.signInFirst(c)
		case session.ErrUnfinished:
			return setUpFirst(c)
		default:
			return err
		}
	}
}

// Self lets every administrator pass to the pages about their own identity, also before a second
// factor is set up.
func (g *Gate) Self(c *fiber.Ctx) error {
	err := g.Sessions.RequireSelf(c)
	if err == session.ErrNobody {
		return g.signInFirst(c)
	}
	if err != nil {
		return err
	}
	return c.Next()
}

// signInFirst leads people who are not signed in to the log-in, and from there to the page that
// they asked for, or to that of the form that they sent, with what they typed.
func (g *Gate) signInFirst(c *fiber.Ctx) error {
	if !content.WantsPage(c) {
		return session.ErrNobody
	}
	if request.AsksForPage(c) {
		return c.Redirect(withNext(loginPath, c.OriginalURL()), http.StatusFound)
	}
	p := g.Pages
	q := url.Values{"next": {formPage(c)}}
	switch {
	case strings.HasPrefix(c.Get(fiber.HeaderContentType), fiber.MIMEMultipartForm):
		q.Set("kept", "files")
	case p.Site.OurForm(c, p.Site.Origins.Cookie(guardCookie)):
		f := &page.Flash{Owner: page.Field(c, "_as"), Problem: signedOut, Fields: page.Typed(c)}
		kept, err := p.Flashes.KeepTyped(c, q.Get("next"), f)
		if err != nil {
			return err
		}
		if kept {
			q.Set("kept", "text")
		}
	}
	return c.Redirect(loginPath+"?"+q.Encode(), http.StatusSeeOther)
}

// setUpFirst answers administrators who still have to set up a second factor.
func setUpFirst(c *fiber.Ctx) error {
	if content.WantsPage(c) && request.AsksForPage(c) {
		return c.Redirect(withNext(factorPath, c.OriginalURL()), http.StatusFound)
	}
	return ehi.Errorf(ehi.Forbidden,
		"Set up a second factor first: sign in at %s in a browser", loginPath)
}

// Recently lets administrators pass who have proved their identity within ProofAge, so that
// neither a browser left open nor a stolen session approves an export, or lets others in. It
// leads others to the page where they do so, and from there back to the page of their form, with
// what they typed. It tells programs what to do.
func (g *Gate) Recently(c *fiber.Ctx) error {
	who := request.SignedIn(c)
	if g.Sessions.Recent(who) {
		return c.Next()
	}
	if !IsPage(c) {
		// as RFC 9470 3 has it for bearers
		c.Set(fiber.HeaderWWWAuthenticate, fmt.Sprintf(
			`Session realm="ehi", error="insufficient_user_authentication", max_age="%d"`,
			int(g.ProofAge.Seconds())))
		return ehi.Errorf(ehi.Unauthenticated, "This needs a proof of who you are that is no "+
			"older than %v: open a new session by POST /admin/login, or prove it at %s in a "+
			"browser", g.ProofAge, provePath)
	}
	to := formPage(c)
	f := &page.Flash{Owner: who.Name, Problem: unproved, Fields: page.Typed(c)}
	if err := g.Pages.Flashes.Keep(c, to, f, page.TypedLife); err != nil {
		return err
	}
	return c.Redirect(withNext(provePath, to), http.StatusSeeOther)
}
