package server

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// pickerSize is how many patients the sandbox's login page offers to choose from.
const pickerSize = 100

// localPath is where a page may lead on to: a path of this server, never another site.
func (s *Server) localPath(c *fiber.Ctx, action string) string {
	action = strings.TrimPrefix(action, s.origin(c))
	u, err := url.Parse(action)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(action, "//") || strings.Contains(action, `\`) {
		return ""
	}
	return u.RequestURI()
}

// handleLoginPage lets the patient say who he or she is: by an account or, in the sandbox, by a picker and any password (SMART-10).
func (s *Server) handleLoginPage(c *fiber.Ctx) error { return s.renderLogin(c, "") }

func (s *Server) renderLogin(c *fiber.Ctx, problem string) error {
	noStore(c)
	page := fiber.Map{"Title": "Sign in", "Accounts": s.Accounts, "CSRF": c.Locals("csrf"), "Problem": problem,
		"Action": s.localPath(c, c.Query("action", c.FormValue("action"))), "Redirect": c.Query("redirect", c.FormValue("redirect"))}
	if !s.Accounts {
		patients, err := s.Source.Patients(c.UserContext(), pickerSize)
		if err != nil {
			return err
		}
		page["Patients"], page["More"] = patients, len(patients) == pickerSize
	}
	return c.Render("login", page, "layout")
}

func (s *Server) handleLogin(c *fiber.Ctx) error {
	who, err := s.checkPatient(c)
	e := ehi.Event{Action: ehi.ActionLogIn, Agent: "patient " + known(err, who["patient"]), Patient: who["patient"]}
	s.audit(c, err, e)
	if code := ehi.CodeOf(err); code == ehi.Unauthenticated || code == ehi.NotFound || code == ehi.Throttled {
		telemetry.Logins.WithLabelValues("patient", "refused").Inc()
		problem := "Unknown patient or wrong password"
		c.Status(http.StatusUnauthorized)
		if code == ehi.Throttled {
			problem = err.Error()
			c.Status(http.StatusTooManyRequests)
		}
		return s.renderLogin(c, problem)
	}
	if err != nil {
		return err
	}
	if err := logIn(c, s.patients, who); err != nil {
		return err
	}
	telemetry.Logins.WithLabelValues("patient", "ok").Inc()
	if next := s.localPath(c, c.FormValue("action")); next != "" {
		return c.Redirect(next, http.StatusSeeOther)
	}
	return c.Redirect("/my/applications", http.StatusSeeOther)
}

// checkPatient finds out who logs in, and what the session says.
func (s *Server) checkPatient(c *fiber.Ctx) (map[string]string, error) {
	if s.Accounts {
		a, err := s.Auth.LogIn(c.UserContext(), "patient", c.FormValue("username"), c.FormValue("password"))
		if err != nil {
			return nil, locked(c, err)
		}
		return map[string]string{"patient": a.Patient, "account": a.Name, "changed": changed(a)}, nil
	}
	patient := strings.TrimSpace(c.FormValue("other"))
	if patient == "" {
		patient = c.FormValue("patient")
	}
	if _, err := s.Source.Patient(c.UserContext(), patient); err != nil {
		return nil, err
	}
	return map[string]string{"patient": patient}, nil
}

func (s *Server) handlePatientLogout(c *fiber.Ctx) error {
	patient, err := s.loggedIn(c)
	if err != nil {
		return err
	}
	if patient != "" {
		s.audit(c, nil, ehi.Event{Action: ehi.ActionLogOut, Agent: "patient " + patient, Patient: patient})
	}
	if err := logOut(c, s.patients, "ehi_patient"); err != nil {
		return err
	}
	return c.Redirect("/patient-login", http.StatusSeeOther)
}

// grantedApp is a line of the patient's list.
type grantedApp struct {
	auth.Consent
	Name string
	Asks []string
}

// handleApplications lists the applications that the patient has let in.
func (s *Server) handleApplications(c *fiber.Ctx) error {
	patient, err := s.loggedIn(c)
	if err != nil {
		return err
	}
	if patient == "" {
		return c.Redirect("/patient-login?action=%2Fmy%2Fapplications", http.StatusFound)
	}
	consents, err := s.Auth.Consents(c.UserContext(), patient)
	if err != nil {
		return err
	}
	var list []grantedApp
	for _, consent := range consents {
		list = append(list, grantedApp{consent, s.Auth.ClientName(consent.ClientID), plainScopes(consent.Scopes)})
	}
	noStore(c)
	return c.Render("applications", fiber.Map{"Title": "Applications with access", "Applications": list, "CSRF": c.Locals("csrf")}, "layout")
}

// handleWithdraw ends an application's access at the patient's wish.
func (s *Server) handleWithdraw(c *fiber.Ctx) error {
	patient, err := s.loggedIn(c)
	if err != nil {
		return err
	}
	if patient == "" {
		return c.Redirect("/patient-login?action=%2Fmy%2Fapplications", http.StatusSeeOther)
	}
	consent, err := s.Auth.Withdraw(c.UserContext(), patient, c.FormValue("id"))
	s.audit(c, err, ehi.Event{Action: ehi.ActionWithdraw, Agent: "patient " + patient, Patient: patient, Client: consent.ClientID})
	if err != nil {
		return err
	}
	return c.Redirect("/my/applications", http.StatusSeeOther)
}

// consent checks the authorization request that a consent page is about, and who is logged in.
func (s *Server) consent(c *fiber.Ctx) (q url.Values, req auth.Request, patient string, err error) {
	if q, err = authorizeParameters(c); err != nil {
		return q, req, "", err
	}
	asked := url.Values{}
	for k, v := range q {
		if k != "_csrf" && k != "decision" {
			asked[k] = v
		}
	}
	if req, err = s.Auth.Check(asked, s.audiences(c, asked.Get("aud"))); err != nil {
		return asked, req, "", err
	}
	patient, err = s.loggedIn(c)
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
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Render("consent", fiber.Map{
		"Title": "Allow access?", "Patient": who, "Request": req, "Asks": plainScopes(req.Scopes), "Fields": asked, "CSRF": c.Locals("csrf"),
	}, "layout")
}

// notYet answers where there is nothing to consent to, or nobody is logged in who could.
func notYet(c *fiber.Ctx, asked url.Values, req auth.Request, err error) error {
	if err != nil {
		return refuseAuthorize(c, req, err)
	}
	q := url.Values{"action": {"/authorize-app?" + asked.Encode()}, "redirect": {asked.Get("redirect_uri")}}
	return c.Redirect("/patient-login?"+q.Encode(), http.StatusFound)
}

func (s *Server) handleConsent(c *fiber.Ctx) error {
	asked, req, patient, err := s.consent(c)
	if err != nil || patient == "" {
		return notYet(c, asked, req, err)
	}
	if c.FormValue("decision") == "allow" {
		return s.agree(c, req, patient)
	}
	return s.deny(c, req, patient)
}

// plainScopes says in plain words what an application asks for; scopes that change nothing for the patient are left out.
func plainScopes(scopes auth.Scopes) []string {
	words := map[string]string{
		auth.ScopePatientExport:   "Ask for a copy of your whole health record. You choose on the next page what is in it.",
		auth.ScopePatientRS:       "Read who you are: your name, birth date and address.",
		auth.ScopePatientRead:     "Read who you are: your name, birth date and address.",
		auth.ScopePatientOnly:     "Read who you are: your name, birth date and address.",
		auth.ScopePatientOnlyRead: "Read who you are: your name, birth date and address.",
		auth.ScopeFHIRUser:        "Know which patient you are.",
		auth.ScopeOffline:         "Keep this access when you are not using the application, until you or the hospital ends it.",
		auth.ScopeOnline:          "Keep this access while you use the application.",
	}
	var out []string
	for _, scope := range scopes {
		if w := words[scope]; w != "" && !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

// handleDocs explains what an export holds (EHI-5, REAL-15).
func (s *Server) handleDocs(c *fiber.Ctx) error {
	c.Set(fiber.HeaderCacheControl, "public, max-age=300")
	return c.Render("docs", fiber.Map{"Title": "What an export holds", "Categories": ehi.Categories(), "Authorizations": ehi.Authorizations()}, "layout")
}

func (s *Server) handleHome(c *fiber.Ctx) error {
	return c.Render("home", fiber.Map{"Title": "EHI export server", "Base": s.origin(c), "Sandbox": s.Sandbox}, "layout")
}
