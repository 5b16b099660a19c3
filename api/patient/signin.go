package patient

import (
	"context"
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/abuse"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// pickerSize is the number of patients that the sandbox's sign-in page lists.
const pickerSize = 100

// Patients are the patients in the records (source.Source).
type Patients interface {
	// Patient finds a patient by ID. Errors: ehi.NotFound.
	Patient(ctx context.Context, id string) (ehi.Patient, error)
	// Patients lists at most limit of them.
	Patients(ctx context.Context, limit int) ([]ehi.Patient, error)
}

// Failures refuses addresses with too many failed requests (abuse.Failures).
type Failures interface {
	// Limit is middleware.
	Limit(c *fiber.Ctx) error
}

// SignIn lets patients sign in and out.
type SignIn struct {
	Pages *Pages
	// Accounts makes patients sign in with an account. Without it, they choose a patient as in
	// the sandbox.
	Accounts bool
	Source   Patients
	Sessions Sessions
	Trail    Trail
	Failures Failures
}

// Routes registers the pages.
func (h *SignIn) Routes(r Router) {
	guard := h.Pages.Guarded()
	r.On("GET", "/patient-login", h.handleLoginPage, guard)
	r.On("POST", "/patient-login", h.handleLogin, h.Failures.Limit, guard)
	r.On("POST", "/patient-logout", h.handleLogout, guard)
}

// handleLoginPage shows the sign-in page, for an account or, in the sandbox, with a list of
// patients and any password (SMART-10).
func (h *SignIn) handleLoginPage(c *fiber.Ctx) error {
	request.NoStore(c)
	action, redirect := h.Pages.Site.Local(c, c.Query("action")), c.Query("redirect")
	data := fiber.Map{
		"Accounts": h.Accounts,
		"Action":   action,
		"Redirect": redirect,
		"Kept":     c.Query("kept") != "",
		"At":       LoginPath(action, redirect),
	}
	if !h.Accounts {
		patients, err := h.Source.Patients(c.UserContext(), pickerSize)
		if err != nil {
			return err
		}
		data["Patients"], data["More"] = patients, len(patients) == pickerSize
	}
	return h.Pages.Render(c, "login", "login.title", data)
}

func (h *SignIn) handleLogin(c *fiber.Ctx) error {
	patient, account, err := h.checkPatient(c)
	e := ehi.Event{Action: ehi.ActionLogIn, Agent: "patient " + session.Unknown}
	if err == nil {
		e.Agent, e.Patient = "patient "+patient, patient
	}
	h.Trail.Record(c, err, e)
	switch ehi.CodeOf(err) {
	case ehi.Unauthenticated, ehi.NotFound, ehi.Throttled:
		return h.refuse(c, err)
	}
	if err != nil {
		return err
	}
	if err := h.Sessions.LogIn(c, patient, account); err != nil {
		return err
	}
	telemetry.Logins.WithLabelValues("patient", session.ByPassword, "ok").Inc()
	if next := h.Pages.Site.Local(c, page.Field(c, "action")); next != "" {
		return c.Redirect(next, http.StatusSeeOther)
	}
	return c.Redirect("/my/requests", http.StatusSeeOther)
}

// refuse redirects to sign-in and says why.
func (h *SignIn) refuse(c *fiber.Ctx, err error) error {
	telemetry.Logins.WithLabelValues("patient", session.ByPassword, "refused").Inc()
	status, why := http.StatusUnauthorized, "login.wrong"
	if ehi.CodeOf(err) == ehi.Throttled {
		status, why = http.StatusTooManyRequests, "fault.throttled.text"
	}
	abuse.NoteStatus(c, status)
	action := h.Pages.Site.Local(c, page.Field(c, "action"))
	return h.Pages.Flashes.Leave(c, LoginPath(action, page.Field(c, "redirect")), &page.Flash{
		Status: status, Problem: h.Pages.Language(c).Say(why), Fields: page.Typed(c),
	})
}

// checkPatient finds out which patient signs in and, if patients have accounts, with which
// account.
func (h *SignIn) checkPatient(c *fiber.Ctx) (patient string, a auth.Account, err error) {
	if h.Accounts {
		a, err = h.Sessions.Check(c, page.Field(c, "username"), page.Field(c, "password"))
		return a.Patient, a, err
	}
	patient = strings.TrimSpace(page.Field(c, "other"))
	if patient == "" {
		patient = page.Field(c, "patient")
	}
	_, err = h.Source.Patient(c.UserContext(), patient)
	return patient, a, err
}

func (h *SignIn) handleLogout(c *fiber.Ctx) error {
	patient, err := h.Sessions.LoggedIn(c)
	if err != nil {
		return err
	}
	if patient != "" {
		e := ehi.Event{Action: ehi.ActionLogOut, Agent: "patient " + patient, Patient: patient}
		h.Trail.Record(c, nil, e)
	}
	if err := h.Sessions.LogOut(c); err != nil {
		return err
	}
	return c.Redirect("/patient-login", http.StatusSeeOther)
}
