package smart

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/patient"
	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Authorizer checks authorization requests and issues codes (auth.Server).
type Authorizer interface {
	// Check validates the parameters of a request. Errors: *auth.Error, which is Redirectable once
	// client and redirect_uri are valid; any other error is the server's.
	Check(ctx context.Context, q url.Values, audiences []string) (auth.Request, error)
	// IssueCode returns a code for a request that the patient agreed to.
	IssueCode(ctx context.Context, req auth.Request, patient string) (string, error)
	// Client finds a client's registration.
	Client(ctx context.Context, id string) (auth.Client, error)
}

// Patients are the patients in the records (source.Source).
type Patients interface {
	// Patient finds one by ID. Errors: ehi.NotFound.
	Patient(ctx context.Context, id string) (ehi.Patient, error)
}

// Sessions know which patient is signed in (session.Patients).
type Sessions interface {
	// LoggedIn is the ID of the patient of the request's session, "" for nobody.
	LoggedIn(c *fiber.Ctx) (patient string, err error)
	// Account is the account by which a patient is signed in, the zero Account for none.
	Account(c *fiber.Ctx, patient string) (auth.Account, error)
}

// Authorization takes the requests of applications for a patient's record, and asks the patient.
type Authorization struct {
	Origins request.Origins
	// Sandbox allows requests that name the patient and the decision (SMART-10).
	Sandbox  bool
	Auth     Authorizer
	Source   Patients
	Sessions Sessions
	Pages    *patient.Pages
	Wording  patient.Wording
	Trail    Trail
	Failures Failures
}

// Routes registers the authorization endpoint and the consent page.
func (h *Authorization) Routes(r Router) {
	r.On("GET", "/auth/authorize", h.handleAuthorize, h.Failures.Limit)
	r.On("POST", "/auth/authorize", h.handleAuthorize, h.Failures.Limit)
	guard := h.Pages.Guarded()
	r.On("GET", "/authorize-app", h.handleConsentPage, guard)
	r.On("POST", "/authorize-app", h.handleConsent, guard)
}

// handleAuthorize checks the request and leads to the consent page (SMART-2), or takes the shortcut
// of the sandbox (SMART-10).
func (h *Authorization) handleAuthorize(c *fiber.Ctx) error {
	q, err := authorizeParameters(c)
	if err != nil {
		return err
	}
	if err := h.Failures.LimitClient(c, q.Get("client_id")); err != nil {
		return err
	}
	req, err := h.check(c, q)
	if err != nil {
		return refuseAuthorize(c, req, err)
	}
	if h.Sandbox && q.Get("_patient") != "" && q.Get("_auth_success") != "" {
		return h.shortcut(c, req, q)
	}
	return c.Redirect("/authorize-app?"+q.Encode(), http.StatusFound)
}

// check validates an authorization request. Errors: those of Authorizer.Check.
func (h *Authorization) check(c *fiber.Ctx, q url.Values) (auth.Request, error) {
	return h.Auth.Check(c.UserContext(), q, h.Origins.Audiences(c, q.Get("aud"), h.Sandbox))
}

// refuseAuthorize returns an error to the client if its redirect_uri is valid, else to the browser.
func refuseAuthorize(c *fiber.Ctx, req auth.Request, err error) error {
	e, ok := errors.AsType[*auth.Error](err)
	switch {
	case ok && e.Redirectable:
		return page.Redirect(c, req.ErrorRedirect(e), nil)
	case ok && content.WantsPage(c):
		return ehi.Errorf(ehi.Invalid,
			"The application's request cannot be trusted: %s", e.Description)
	}
	return err
}

// shortcut answers as if the given patient had agreed or refused.
func (h *Authorization) shortcut(c *fiber.Ctx, req auth.Request, q url.Values) error {
	patient := q.Get("_patient")
	if q.Get("_auth_success") == "0" {
		return h.deny(c, req, patient)
	}
	_, err := h.Source.Patient(c.UserContext(), patient)
	if ehi.CodeOf(err) == ehi.NotFound {
		return page.Redirect(c, req.ErrorRedirect(invalid(`Invalid "_patient" parameter`)), nil)
	}
	if err != nil {
		return err
	}
	return h.agree(c, req, patient)
}

// agree returns to the client with a code.
func (h *Authorization) agree(c *fiber.Ctx, req auth.Request, patient string) error {
	a, err := h.Sessions.Account(c, patient)
	if err != nil {
		return err
	}
	if a.Name != "" {
		req.Account, req.AccountMade = a.Name, a.Created
	}
	code, err := h.Auth.IssueCode(c.UserContext(), req, patient)
	h.record(c, err, req, patient)
	if err != nil {
		return err
	}
	return page.Redirect(c, req.Redirect(url.Values{"code": {code}}), nil)
}

var errDenied = &auth.Error{
	Code:        "access_denied",
	Description: "The patient refused the application's request",
}

// deny returns to the client with the patient's refusal.
func (h *Authorization) deny(c *fiber.Ctx, req auth.Request, patient string) error {
	h.record(c, errDenied, req, patient)
	return page.Redirect(c, req.ErrorRedirect(errDenied), nil)
}

// record records the patient's decision.
func (h *Authorization) record(c *fiber.Ctx, err error, req auth.Request, patient string) {
	h.Trail.Record(c, err, ehi.Event{
		Action: ehi.ActionAuthorize, Agent: "patient " + patient,
		Patient: patient, Client: req.ClientID, Detail: req.Scopes.String(),
	})
}
