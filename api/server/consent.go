package server

import (
	"context"
	"net/netip"
	"net/url"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/page"
	"ehi-server/api/patient"
	"ehi-server/api/request"
	"ehi-server/api/web"
	"ehi-server/auth"
	"ehi-server/shared/weburl"
)

// consent checks the authorization request that a consent page is about, and who is logged in.
func (s *Server) consent(c *fiber.Ctx) (q url.Values, req auth.Request, patient string, err error) {
	if q, err = authorizeParameters(c); err != nil {
		return q, req, "", err
	}
	asked := url.Values{}
	for k, v := range q {
		if k != "_csrf" && k != "decision" && k != "lang" {
			asked[k] = v
		}
	}
	audiences := s.Origins.Audiences(c, asked.Get("aud"), s.Sandbox)
	if req, err = s.Auth.Check(c.UserContext(), asked, audiences); err != nil {
		return asked, req, "", err
	}
	patient, err = s.patients.LoggedIn(c)
	return asked, req, patient, err
}

// handleConsentPage asks the patient whether the application may have what it asks for.
func (s *Server) handleConsentPage(c *fiber.Ctx) error {
	asked, req, patient, err := s.consent(c)
	if err != nil || patient == "" {
		return notYet(c, asked, req, err)
	}
	who, err := s.Source.Patient(c.UserContext(), patient)
	if err != nil {
		return err
	}
	request.NoStore(c)
	t := s.views.Language(c)
	return s.visitors.Render(c, "consent", "consent.title", fiber.Map{
		"Controls": append(s.whose(t, req), s.wording.Controls(t, req.ClientID, req.Scopes)...),
		"Back":     plainAddress(req.RedirectURI),
		"Patient":  who, "Request": req, "Asks": s.wording.Asks(t, req.Scopes), "Fields": asked, "SignedIn": true, "ApplicationsLink": page.Link("/my/applications", t.Say("applications.title")),
	})
}

// whose says where the application that asks is, whatever it calls itself, and whether anybody at the
// hospital has looked at it: a name is anybody's.
func (s *Server) whose(t *web.Catalogue, req auth.Request) []string {
	out := []string{t.Say("consent.device")}
	if u, err := weburl.Parse(req.RedirectURI); err == nil && u.IsWeb() && !onThisDevice(u.Hostname()) {
		out[0] = t.Say("consent.from", u.Origin())
	}
	if c, err := s.Auth.Client(context.Background(), req.ClientID); err == nil && c.CreatedBy == auth.SelfRegistered {
		out = append(out, t.Say("consent.unchecked"))
	}
	return out
}

// onThisDevice reports whether a host is the patient's own machine.
func onThisDevice(host string) bool {
	at, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && at.IsLoopback()
}

// plainAddress is an address as a person is shown it: in signs that look like no others, so that a host of
// other letters is not taken for one that is known.
func plainAddress(address string) string {
	if u, err := weburl.Parse(address); err == nil && u.IsWeb() {
		return u.String()
	}
	return address
}

// notYet answers where there is nothing to consent to, or nobody is logged in who could.
func notYet(c *fiber.Ctx, asked url.Values, req auth.Request, err error) error {
	if err != nil {
		return refuseAuthorize(c, req, err)
	}
	return page.Ahead(c, patient.LoginPath("/authorize-app?"+asked.Encode(), asked.Get("redirect_uri")), nil)
}

func (s *Server) handleConsent(c *fiber.Ctx) error {
	asked, req, patient, err := s.consent(c)
	if err != nil || patient == "" {
		return notYet(c, asked, req, err)
	}
	if page.Field(c, "decision") == "allow" {
		return s.agree(c, req, patient)
	}
	return s.deny(c, req, patient)
}
