package staff

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Base is the path that the pages of administrators are below. A proxy that keeps /admin within the
// house keeps them there, too.
const Base = "/admin/ui"

// The paths of pages.
const (
	loginPath    = Base + "/login"
	codePath     = loginPath + "/code"
	openIDPath   = loginPath + "/openid"
	callbackPath = openIDPath + "/callback"
	provePath    = Base + "/prove"
	factorPath   = Base + "/second-factor"
	jobsPath     = Base + "/jobs"
	clientsPath  = Base + "/clients"
	accountsPath = Base + "/accounts"
	auditPath    = Base + "/audit"
)

func jobPath(id string) string { return jobsPath + "/" + id }

// withNext is the path of a page that leads on to another one.
func withNext(path, next string) string {
	return path + "?" + url.Values{"next": {next}}.Encode()
}

// IsPage tells requests for pages of administrators, and the upload by the form of a page, from
// requests of the API.
func IsPage(c *fiber.Ctx) bool {
	return strings.HasPrefix(c.Path(), Base+"/") || c.Route().Path == UploadPath
}

// guardCookie is the name, without TLS, of the cookie that holds the tokens of administrators'
// pages.
const guardCookie = "ehi_admin_csrf"

// Explainer says what people may know about an error.
type Explainer interface {
	// Describe returns the HTTP status and the class of an error, and a text for its reader. It
	// logs what the reader may not know.
	Describe(c *fiber.Ctx, err error) (status int, code ehi.Code, text string)
}

// Pages are what all pages of administrators have in common.
type Pages struct {
	Site    page.Site
	Views   *page.Renderer
	Flashes *page.Flashes
	Guard   page.Guard
	Explain Explainer
}

// guarded is middleware for these pages and their forms (see page.Guard).
func (p *Pages) guarded() fiber.Handler {
	return p.Guard.Forms(guardCookie, request.StaffSession, session.StaffMaxAge, p.late)
}

// session is the cookie of the request's session, "" for none.
func (p *Pages) session(c *fiber.Ctx) string {
	return c.Cookies(p.Site.Origins.Cookie(request.StaffSession))
}

// render renders a page. section is the part of the navigation that the page belongs to.
func (p *Pages) render(c *fiber.Ctx, name, section, title string, data fiber.Map) error {
	request.NoStore(c)
	if name != "fault" {
		data["Flash"] = p.left(c)
	}
	data["Title"], data["Section"], data["CSRF"] = title, section, page.Token(c)
	role := request.Role(c)
	data["Name"], data["Role"] = request.AdministratorName(c), role
	data["Reviewer"], data["Admin"] = role.May(auth.Reviewer), role.May(auth.Admin)
	data["Site"] = "EHI export administration"
	data["Description"] = "Review and administration of health record exports."
	// These pages are in one language, whose numbers and times they need.
	data["T"] = p.Views.Default()
	return p.Views.Render(c, "staff/"+name, "staff/layout", data)
}

// Fault is the page of an error. again is the form that may be sent again; nil for none.
func (p *Pages) Fault(c *fiber.Ctx, status int, text string, again *page.SentForm) error {
	return p.render(c, "fault", "", http.StatusText(status),
		fiber.Map{"Text": text, "Request": request.ID(c), "Again": again})
}

// flash is what a form of administrators leaves.
type flash struct {
	page.Flash
	// Added is a client whose secret is shown this once.
	Added *addedClient `json:"added,omitempty"`
	// Codes are recovery codes, shown this once.
	Codes []string `json:"codes,omitempty"`
	// Decided is how decisions about several exports went.
	Decided []decided `json:"decided,omitempty"`
}

// addedClient is a client that was added, or was given another secret.
type addedClient struct{ ID, Name, Secret string }

// left is what a form has left for this page; empty for nothing.
func (p *Pages) left(c *fiber.Ctx) *flash {
	var f flash
	p.Flashes.Left(
		c, p.Site.Origins.Cookie(request.StaffSession), request.AdministratorName(c), &f,
	)
	return &f
}

// leave answers a form: it leads to a page, and leaves a flash of this session.
func (p *Pages) leave(c *fiber.Ctx, to string, f flash) error {
	f.Session = page.SessionDigest(p.session(c))
	f.Owner = request.AdministratorName(c)
	return p.Flashes.Leave(c, to, &f)
}

// again leads back to the page of a form that failed, with the reason and what was typed. It does
// so also if somebody else, or a second click, was faster and nothing is left to do it to. Errors
// that are not about the form are returned.
func (p *Pages) again(c *fiber.Ctx, to string, err error) error {
	switch ehi.CodeOf(err) {
	case ehi.Invalid, ehi.Conflict, ehi.TooLarge, ehi.NotFound:
	default:
		return err
	}
	request.SetRefused(c, err)
	status, _, text := p.Explain.Describe(c, err)
	return p.leave(c, to, flash{
		Flash: page.Flash{Status: status, Problem: text, Fields: page.Typed(c)},
	})
}

const typedIsHere = " What you typed is here again, except passwords: check it and send it."

// Why a form was not processed.
const (
	signedOut = "Nothing was sent, because you were signed out." + typedIsHere
	tooLate   = "Nothing was sent, because this page was open for too long." + typedIsHere
	unproved  = "Nothing was sent, because you had to confirm that it is you." + typedIsHere
)

// late answers a form whose page was open for too long.
func (p *Pages) late(c *fiber.Ctx) error {
	f := &page.Flash{Owner: page.Field(c, "_as"), Problem: tooLate, Fields: page.Typed(c)}
	return p.Flashes.LeadBack(c, formPage(c), f)
}

// next is the page that the log-in leads on to: one of these pages, or the list of exports.
func (p *Pages) next(c *fiber.Ctx) string {
	next := p.Site.Local(c, c.Query("next", page.Field(c, "next")))
	if !strings.HasPrefix(next, Base+"/") || strings.HasPrefix(next, loginPath) ||
		strings.HasPrefix(next, provePath) {
		return jobsPath
	}
	return next
}

// formPage is the page that holds the form of a POST.
func formPage(c *fiber.Ctx) string {
	id := c.Params("id")
	switch path := c.Path(); {
	case id != "":
		return jobPath(id)
	case path == openIDPath:
		return withNext(loginPath, page.Field(c, "next"))
	case path == loginPath, path == codePath, path == provePath, path == factorPath:
		q := url.Values{"next": {page.Field(c, "next")}}
		if anew := page.Field(c, "anew"); anew != "" {
			q.Set("anew", anew)
		}
		return path + "?" + q.Encode()
	case path == jobsPath && len(postedJobs(c)) > 0:
		return decisionPage(postedJobs(c), ehi.Action(page.Field(c, "do")))
	case path == clientsPath, path == accountsPath:
		return path
	}
	return jobsPath
}
