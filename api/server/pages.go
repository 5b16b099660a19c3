package server

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// pickerSize is how many patients the sandbox's login page offers to choose from.
const pickerSize = 100

// loggedIn is the patient who is logged in on the pages, "" for nobody.
func (s *Server) loggedIn(c *fiber.Ctx) (string, error) {
	return who(c, s.patients, "ehi_patient", "patient")
}

// localPath is where a page may lead on to: a path of this server, never another site.
func (s *Server) localPath(c *fiber.Ctx, action string) string {
	action = strings.TrimPrefix(action, s.origin(c))
	u, err := url.Parse(action)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(action, "//") || strings.Contains(action, `\`) {
		return ""
	}
	return u.RequestURI()
}

// handleLoginPage lets the patient say who he or she is. In the sandbox that is a picker and any password (SMART-10).
func (s *Server) handleLoginPage(c *fiber.Ctx) error { return s.renderLogin(c, "") }

func (s *Server) renderLogin(c *fiber.Ctx, problem string) error {
	patients, err := s.Source.Patients(c.UserContext(), pickerSize)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Render("login", fiber.Map{
		"Title": "Sign in", "Patients": patients, "More": len(patients) == pickerSize, "CSRF": c.Locals("csrf"), "Problem": problem,
		"Action": s.localPath(c, c.Query("action", c.FormValue("action"))), "Redirect": c.Query("redirect", c.FormValue("redirect")),
	}, "layout")
}

func (s *Server) handleLogin(c *fiber.Ctx) error {
	patient := strings.TrimSpace(c.FormValue("other"))
	if patient == "" {
		patient = c.FormValue("patient")
	}
	if _, err := s.Source.Patient(c.UserContext(), patient); err != nil {
		if ehi.CodeOf(err) != ehi.NotFound {
			return err
		}
		telemetry.Logins.WithLabelValues("patient", "refused").Inc()
		c.Status(http.StatusUnauthorized)
		return s.renderLogin(c, "Unknown patient or wrong password")
	}
	if err := logIn(c, s.patients, "patient", patient); err != nil {
		return err
	}
	telemetry.Logins.WithLabelValues("patient", "ok").Inc()
	if next := s.localPath(c, c.FormValue("action")); next != "" {
		return c.Redirect(next, http.StatusSeeOther)
	}
	return c.Render("message", fiber.Map{"Title": "You are signed in", "Text": "Go back to your application to go on."}, "layout")
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
	if req, err = s.Auth.Check(asked, s.audiences(c)); err != nil {
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
	return s.deny(c, req)
}

// plainScopes says in plain words what an application asks for; scopes that change nothing for the patient are left out.
func plainScopes(scopes auth.Scopes) []string {
	words := map[string]string{
		auth.ScopePatientExport: "Ask for a copy of your whole health record. You choose on the next page what is in it.",
		auth.ScopePatientRS:     "Read who you are: your name, birth date and address.",
		auth.ScopePatientRead:   "Read who you are: your name, birth date and address.",
		auth.ScopeFHIRUser:      "Know which patient you are.",
		auth.ScopeOffline:       "Keep this access when you are not using the application, until you or the hospital ends it.",
		auth.ScopeOnline:        "Keep this access while you use the application.",
	}
	var out []string
	for _, scope := range scopes {
		if w := words[scope]; w != "" {
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
