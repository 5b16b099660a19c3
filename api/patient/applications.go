package patient

import (
	"context"
	"net/http"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Consents are the consents of patients to applications (auth.Server).
type Consents interface {
	ClientName(client string) string
	Consents(ctx context.Context, patient string) ([]auth.Consent, error)
	// Withdraw ends a consent. Errors: ehi.NotFound.
	Withdraw(ctx context.Context, patient, id string) (auth.Consent, error)
	// End ends the tokens of a grant.
	End(ctx context.Context, grant string, w auth.Withdrawal) error
}

// Withdrawals ends the exports of applications (jobs.Service).
type Withdrawals interface {
	// Withdraw ends the client's exports of the acting patient, except those under valid
	// consents. It calls end with each grant that it ends.
	Withdraw(
		ctx context.Context, by ehi.Actor, client string, valid map[string]bool,
		end func(grant string) error,
	) error
}

// Applications shows patients the applications that have access, and lets them end it.
type Applications struct {
	Pages    *Pages
	Wording  Wording
	Auth     Consents
	Jobs     Withdrawals
	Sessions Sessions
	Trail    Trail
}

// Routes registers the pages.
func (h *Applications) Routes(r Router) {
	guard := h.Pages.Guarded()
	r.On("GET", "/my/applications", h.handleApplications, guard)
	r.On("POST", "/my/applications", h.handleWithdraw, guard)
}

// grantedApp is an entry of the patient's list.
type grantedApp struct {
	auth.Consent
	Name string
	Asks []string
}

// handleApplications lists the applications to which the patient has given access.
func (h *Applications) handleApplications(c *fiber.Ctx) error {
	patient, err := h.Sessions.LoggedIn(c)
	if err != nil {
		return err
	}
	if patient == "" {
		return c.Redirect(LoginPath("/my/applications", ""), http.StatusFound)
	}
	consents, err := h.Auth.Consents(c.UserContext(), patient)
	if err != nil {
		return err
	}
	var list []grantedApp
	t := h.Pages.Language(c)
	for _, consent := range consents {
		client := consent.ClientID
		asks := h.Wording.Asks(t, consent.Scopes)
		asks = append(asks, h.Wording.Controls(t, client, consent.Scopes)...)
		list = append(list, grantedApp{consent, h.Auth.ClientName(client), asks})
	}
	request.NoStore(c)
	data := fiber.Map{"Applications": list, "SignedIn": true}
	return h.Pages.Render(c, "applications", "applications.title", data)
}

// handleWithdraw ends an application's access at the patient's request.
func (h *Applications) handleWithdraw(c *fiber.Ctx) error {
	patient, err := h.Sessions.LoggedIn(c)
	if err != nil {
		return err
	}
	if patient == "" {
		return c.Redirect(LoginPath("/my/applications", ""), http.StatusSeeOther)
	}
	consent, err := h.Auth.Withdraw(c.UserContext(), patient, page.Field(c, "id"))
	h.Trail.Record(c, err, ehi.Event{
		Action: ehi.ActionWithdraw, Agent: "patient " + patient, Patient: patient,
		Client: consent.ClientID,
	})
	if ehi.CodeOf(err) == ehi.NotFound {
		return h.Pages.gone(c, "/my/applications", err)
	}
	if err == nil {
		err = h.withdrawn(c, patient, consent.ClientID)
	}
	if err != nil {
		return err
	}
	return c.Redirect("/my/applications", http.StatusSeeOther)
}

// withdrawn ends the exports of an application whose access a patient has ended.
func (h *Applications) withdrawn(c *fiber.Ctx, patient, client string) error {
	ctx := c.UserContext()
	consents, err := h.Auth.Consents(ctx, patient)
	if err != nil {
		return err
	}
	valid := map[string]bool{}
	for _, consent := range consents {
		if consent.ClientID == client {
			valid[consent.ID] = true
		}
	}
	end := func(grant string) error {
		return h.Auth.End(ctx, grant, auth.Withdrawal{Client: client, Patient: patient})
	}
	return h.Jobs.Withdraw(ctx, h.Pages.Site.Origins.ActingPatient(c, patient), client, valid, end)
}
