package server

import (
	"net/http"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/request"
)

// patientGuard is what the cookie of the tokens of patients' pages is called without TLS.
const patientGuard = "ehi_csrf"

// patientRender renders a page for patients and the public, in the visitor's language. data may name in "At" where the page is to be had by GET.
func (s *Server) patientRender(c *fiber.Ctx, name, title string, data fiber.Map) error {
	t := s.views.Language(c)
	at, _ := data["At"].(string)
	data["T"] = t
	if again, _ := data["Again"].(*page.SentForm); again == nil { // what was typed stays on that page alone
		data["Languages"] = s.views.Languages(c, at)
	}
	if name != "message" {
		f := s.patientLeft(c)
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
	return s.views.Render(c, name, "layout", data)
}

// patientFlash is what a form of patients leaves.
type patientFlash struct {
	page.Flash
	// Tried is whether a release form was sent or counted, Expired whether it came too late, Asked
	// whether it was asked for counts.
	Tried   bool `json:"tried,omitempty"`
	Expired bool `json:"expired,omitempty"`
	Asked   bool `json:"asked,omitempty"`
}

// patientLeft is what a form has left for this page of patients; empty for nothing.
func (s *Server) patientLeft(c *fiber.Ctx) *patientFlash {
	var f patientFlash
	s.flashes.Left(c, s.Origins.Cookie(request.PatientSession), "", &f)
	return &f
}

// patientLeave answers a form of patients: it leads to a page, and leaves a flash of this session.
func (s *Server) patientLeave(c *fiber.Ctx, to string, f patientFlash) error {
	f.Session = page.SessionDigest(c.Cookies(s.Origins.Cookie(request.PatientSession)))
	return s.flashes.Leave(c, to, &f)
}

// patientGone answers a form about something that is not there any more, as after a double click: it
// leads to the list of what there is.
func (s *Server) patientGone(c *fiber.Ctx, list string, err error) error {
	if !content.WantsPage(c) {
		return err
	}
	return s.patientLeave(c, list, patientFlash{Flash: page.Flash{
		Status: http.StatusNotFound, Problem: s.views.Language(c).Say("fault.not-found.text"),
	}})
}

// patientLate leads back to the page of a form that was open for too long.
func (s *Server) patientLate(c *fiber.Ctx) error {
	to, fields := c.Path(), page.Typed(c)
	switch {
	case to == "/patient-login":
		to = loginPath(s.site.Local(c, fields.Get("action")), fields.Get("redirect"))
	case to == "/patient-logout":
		to = "/my/requests"
	case to == "/authorize-app":
		fields.Del("decision")
		to += "?" + fields.Encode()
	case c.Params("id") != "":
		to += "?cancel=yes"
	}
	return s.flashes.LeadBack(c, to, &page.Flash{Problem: s.views.Language(c).Say("late"), Fields: fields})
}
