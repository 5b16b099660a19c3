package server

import (
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// staffGuard is what the cookie of the tokens of administrators' pages is called without TLS.
const staffGuard = "ehi_admin_csrf"

// adminPages are what all pages of administrators have in common.
type adminPages struct {
	site    page.Site
	views   *page.Renderer
	flashes *page.Flashes
	guard   page.Guard
	explain explainer
}

// guarded is middleware for these pages and their forms, see page.Guard.
func (p *adminPages) guarded() fiber.Handler {
	return p.guard.Forms(staffGuard, request.StaffSession, session.StaffMaxAge, p.late)
}

// render renders a page of administrators. section is which part of the pages it belongs to.
func (p *adminPages) render(c *fiber.Ctx, name, section, title string, data fiber.Map) error {
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
	// These pages are in one language. They want its numbers and times.
	data["T"] = p.views.Default()
	return p.views.Render(c, "staff/"+name, "staff/layout", data)
}

// fault is the page of an error. again is the form that may be sent again; nil for none.
func (p *adminPages) fault(c *fiber.Ctx, status int, text string, again *page.SentForm) error {
	return p.render(c, "fault", "", http.StatusText(status),
		fiber.Map{"Text": text, "Request": request.ID(c), "Again": again})
}

// staffFlash is what a form of administrators leaves.
type staffFlash struct {
	page.Flash
	// Added is a client whose secret is shown this once.
	Added *addedClient `json:"added,omitempty"`
	// Codes are recovery codes, shown this once.
	Codes []string `json:"codes,omitempty"`
	// Decided is how decisions about several exports went.
	Decided []decided `json:"decided,omitempty"`
}

// addedClient is a client that was added, or got another secret.
type addedClient struct{ ID, Name, Secret string }

// left is what a form has left for this page of administrators; empty for nothing.
func (p *adminPages) left(c *fiber.Ctx) *staffFlash {
	var f staffFlash
	p.flashes.Left(c, p.site.Origins.Cookie(request.StaffSession), request.AdministratorName(c), &f)
	return &f
}

// leave answers a form of administrators: it leads to a page, and leaves a flash of this session.
func (p *adminPages) leave(c *fiber.Ctx, to string, f staffFlash) error {
	f.Session = page.SessionDigest(c.Cookies(p.site.Origins.Cookie(request.StaffSession)))
	f.Owner = request.AdministratorName(c)
	return p.flashes.Leave(c, to, &f)
}

// again leads back to the page of a form that could not be done, with what was typed and the
// reason; also where somebody else, or a second click, was faster and there is nothing left to do
// it to. Errors that are not about the form are returned.
func (p *adminPages) again(c *fiber.Ctx, to string, err error) error {
	switch ehi.CodeOf(err) {
	case ehi.Invalid, ehi.Conflict, ehi.TooLarge, ehi.NotFound:
	default:
		return err
	}
	request.SetRefused(c, err)
	status, _, text := p.explain.Describe(c, err)
	return p.leave(c, to, staffFlash{
		Flash: page.Flash{Status: status, Problem: text, Fields: page.Typed(c)},
	})
}

// late answers a form whose page was open for too long.
func (p *adminPages) late(c *fiber.Ctx) error {
	f := &page.Flash{Owner: page.Field(c, "_as"), Problem: staffTooLate, Fields: page.Typed(c)}
	return p.flashes.LeadBack(c, staffFormPage(c), f)
}

// next is the page to go on to after the log-in: one of these, or the list of jobs.
func (p *adminPages) next(c *fiber.Ctx) string {
	next := p.site.Local(c, c.Query("next", page.Field(c, "next")))
	if !strings.HasPrefix(next, staffBase+"/") || strings.HasPrefix(next, staffLogin) ||
		strings.HasPrefix(next, staffProve) {
		return staffJobs
	}
	return next
}
