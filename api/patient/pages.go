package patient

import (
	"net/http"
	"net/url"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/api/web"
	"ehi-server/shared/ehi"
)

// guardCookie is the name of the token cookie of patients' pages, without TLS.
const guardCookie = "ehi_csrf"

// Pages has what all pages of patients and of the public share.
type Pages struct {
	Site    page.Site
	Views   *page.Renderer
	Flashes *page.Flashes
	Guard   page.Guard
}

// Guarded is middleware for these pages and their forms, see page.Guard.
func (p *Pages) Guarded() fiber.Handler {
	return p.Guard.Forms(guardCookie, request.PatientSession, session.PatientMaxAge, p.late)
}

// Language returns the catalogue of the visitor's language.
func (p *Pages) Language(c *fiber.Ctx) *web.Catalogue { return p.Views.Language(c) }

// Render renders a page for patients and the public, in the visitor's language. If the page is
// not at the address of the request, data has its GET address in "At".
func (p *Pages) Render(c *fiber.Ctx, name, title string, data fiber.Map) error {
	t := p.Language(c)
	at, _ := data["At"].(string)
	data["T"] = t
	// The page repeats the input, so the flash must stay.
	if again, _ := data["Again"].(*page.SentForm); again == nil {
		data["Languages"] = p.Views.Languages(c, at)
	}
	if name != "message" {
		f := p.left(c)
		if data["Flash"] = f; f.Title != "" {
			data["Title"] = f.Title
		}
	}
	if data["Title"] == nil {
		data["Title"] = t.Say(title)
	}
	data["Site"], data["Description"] = t.Say("service"), t.Say("description")
	data["CSRF"] = page.Token(c)
	c.Vary(fiber.HeaderAcceptLanguage, fiber.HeaderCookie)
	c.Set(fiber.HeaderContentLanguage, t.Tag)
	return p.Views.Render(c, name, "layout", data)
}

// flash is what a form of patients leaves.
type flash struct {
	page.Flash
	// Tried is whether a release form was submitted or counted, Expired whether it came too
	// late, and Asked whether counts were requested.
	Tried   bool `json:"tried,omitempty"`
	Expired bool `json:"expired,omitempty"`
	Asked   bool `json:"asked,omitempty"`
}

// left returns what a form has left for this page; empty for nothing.
func (p *Pages) left(c *fiber.Ctx) *flash {
	var f flash
	p.Flashes.Left(c, p.Site.Origins.Cookie(request.PatientSession), "", &f)
	return &f
}

// session returns a digest of a request's session, valid or not; "" for none.
func (p *Pages) session(c *fiber.Ctx) string {
	return page.SessionDigest(c.Cookies(p.Site.Origins.Cookie(request.PatientSession)))
}

// leave responds to a form of patients: it redirects to a page and leaves a flash for this
// session.
func (p *Pages) leave(c *fiber.Ctx, to string, f flash) error {
	f.Session = p.session(c)
	return p.Flashes.Leave(c, to, &f)
}

// gone answers a form about something that no longer exists, for example after a double click.
// It redirects to the list.
func (p *Pages) gone(c *fiber.Ctx, list string, err error) error {
	if !content.WantsPage(c) {
		return err
	}
	return p.leave(c, list, flash{Flash: page.Flash{
		Status: http.StatusNotFound, Problem: p.Language(c).Say("fault.not-found.text"),
	}})
}

// late redirects to the page of a form that was open for too long.
func (p *Pages) late(c *fiber.Ctx) error {
	to, fields := c.Path(), page.Typed(c)
	switch {
	case to == "/patient-login":
		to = LoginPath(p.Site.Local(c, fields.Get("action")), fields.Get("redirect"))
	case to == "/patient-logout":
		to = "/my/requests"
	case to == "/authorize-app":
		fields.Del("decision")
		to += "?" + fields.Encode()
	case c.Params("id") != "":
		to += "?cancel=yes"
	}
	f := &page.Flash{Problem: p.Language(c).Say("late"), Fields: fields}
	return p.Flashes.LeadBack(c, to, f)
}

// LoginPath returns the path of the sign-in page, with where it leads afterwards.
func LoginPath(action, redirect string) string {
	q := url.Values{}
	for name, value := range map[string]string{"action": action, "redirect": redirect} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return "/patient-login?" + q.Encode()
}

// faultTexts are the texts of errors for patients. Other classes have "fault.invalid".
var faultTexts = map[ehi.Code]string{
	ehi.NotFound:        "fault.not-found",
	ehi.Conflict:        "fault.conflict",
	ehi.Forbidden:       "fault.forbidden",
	ehi.Unauthenticated: "fault.forbidden",
	ehi.Throttled:       "fault.throttled",
	ehi.Transient:       "fault.transient",
	ehi.Internal:        "fault.internal",
}

// Fault renders the page of an error: what went wrong, what to do, and details for support.
// again is the form that can be sent again; nil for none.
func (p *Pages) Fault(c *fiber.Ctx, code ehi.Code, text string, again *page.SentForm) error {
	key := faultTexts[code]
	if key == "" {
		key = "fault.invalid"
	}
	return p.Render(c, "message", key, fiber.Map{
		"Text": p.Language(c).Say(key + ".text"), "Details": text, "Again": again,
		"SignedIn": p.session(c) != "",
	})
}
