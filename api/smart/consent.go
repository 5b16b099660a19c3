package smart

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

// consent checks the authorization request of a consent page, and finds out who is signed in. asked
// holds the parameters of the request without those of the page.
func (h *Authorization) consent(
	c *fiber.Ctx,
) (asked url.Values, req auth.Request, patient string, err error) {
	q, err := authorizeParameters(c)
	if err != nil {
		return q, req, "", err
	}
	asked = url.Values{}
	for k, v := range q {
		if k != "_csrf" && k != "decision" && k != "lang" {
			asked[k] = v
		}
	}
	if req, err = h.check(c, asked); err != nil {
		return asked, req, "", err
	}
	patient, err = h.Sessions.LoggedIn(c)
	return asked, req, patient, err
}

// handleConsentPage asks the patient whether the application may have what it asks for.
func (h *Authorization) handleConsentPage(c *fiber.Ctx) error {
	asked, req, patient, err := h.consent(c)
	if err != nil || patient == "" {
		return notYet(c, asked, req, err)
	}
	who, err := h.Source.Patient(c.UserContext(), patient)
	if err != nil {
		return err
	}
	request.NoStore(c)
	t := h.Pages.Language(c)
	return h.Pages.Render(c, "consent", "consent.title", fiber.Map{
		"Controls": append(h.origin(c.UserContext(), t, req),
			h.Wording.Controls(t, req.ClientID, req.Scopes)...),
		"Back":             plainAddress(req.RedirectURI),
		"Patient":          who,
		"Request":          req,
		"Asks":             h.Wording.Asks(t, req.Scopes),
		"Fields":           asked,
		"SignedIn":         true,
		"ApplicationsLink": page.Link("/my/applications", t.Say("applications.title")),
	})
}

// handleConsent takes the patient's decision.
func (h *Authorization) handleConsent(c *fiber.Ctx) error {
	asked, req, patient, err := h.consent(c)
	if err != nil || patient == "" {
		return notYet(c, asked, req, err)
	}
	if page.Field(c, "decision") == "allow" {
		return h.agree(c, req, patient)
	}
	return h.deny(c, req, patient)
}

// notYet answers an invalid request, or leads to the sign-in if nobody is signed in.
func notYet(c *fiber.Ctx, asked url.Values, req auth.Request, err error) error {
	if err != nil {
		return refuseAuthorize(c, req, err)
	}
	back := "/authorize-app?" + asked.Encode()
	return page.Redirect(c, patient.LoginPath(back, asked.Get("redirect_uri")), nil)
}

// origin tells the patient where the application is, and whether somebody at the hospital has
// checked it. Its name proves nothing: an application can choose any name.
func (h *Authorization) origin(
	ctx context.Context, t *web.Catalogue, req auth.Request,
) []string {
	out := []string{t.Say("consent.device")}
	if u, err := weburl.Parse(req.RedirectURI); err == nil && u.IsWeb() && !isLocal(u.Hostname()) {
		out[0] = t.Say("consent.from", u.Origin())
	}
	c, err := h.Auth.Client(ctx, req.ClientID)
	if err == nil && c.CreatedBy == auth.SelfRegistered {
		out = append(out, t.Say("consent.unchecked"))
	}
	return out
}

// isLocal reports whether a host is the patient's own device.
func isLocal(host string) bool {
	at, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && at.IsLoopback()
}

// plainAddress returns an address as it is shown to people. It writes the host in ASCII, because
// letters of other scripts can imitate a host that the reader knows.
func plainAddress(address string) string {
	if u, err := weburl.Parse(address); err == nil && u.IsWeb() {
		return u.String()
	}
	return address
}
