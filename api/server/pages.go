package server

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/abuse"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/api/web"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/weburl"
)

// pickerSize is how many patients the sandbox's login page offers to choose from.
const pickerSize = 100

// loginPath is the way to the log-in page, and where it leads on to.
func loginPath(action, redirect string) string {
	q := url.Values{}
	for name, value := range map[string]string{"action": action, "redirect": redirect} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return "/patient-login?" + q.Encode()
}

// handleLoginPage lets the patient say who he or she is: by an account or, in the sandbox, by a picker
// and any password (SMART-10).
func (s *Server) handleLoginPage(c *fiber.Ctx) error {
	request.NoStore(c)
	action, redirect := s.site.Local(c, c.Query("action")), c.Query("redirect")
	page := fiber.Map{
		"Accounts": s.Accounts, "Action": action, "Redirect": redirect, "Kept": c.Query("kept") != "",
		"At": loginPath(action, redirect),
	}
	if !s.Accounts {
		patients, err := s.Source.Patients(c.UserContext(), pickerSize)
		if err != nil {
			return err
		}
		page["Patients"], page["More"] = patients, len(patients) == pickerSize
	}
	return s.patientRender(c, "login", "login.title", page)
}

func (s *Server) handleLogin(c *fiber.Ctx) error {
	patient, account, err := s.checkPatient(c)
	e := ehi.Event{Action: ehi.ActionLogIn, Agent: "patient " + session.Unknown}
	if err == nil {
		e.Agent, e.Patient = "patient "+patient, patient
	}
	s.trail.Record(c, err, e)
	if code := ehi.CodeOf(err); code == ehi.Unauthenticated || code == ehi.NotFound || code == ehi.Throttled {
		telemetry.Logins.WithLabelValues("patient", session.ByPassword, "refused").Inc()
		again := &page.Flash{
			Status:  http.StatusUnauthorized,
			Problem: s.views.Language(c).Say("login.wrong"),
			Fields:  page.Typed(c),
		}
		if code == ehi.Throttled {
			again.Status, again.Problem = http.StatusTooManyRequests, s.views.Language(c).Say("fault.throttled.text")
		}
		abuse.NoteStatus(c, again.Status)
		return s.flashes.Leave(c, loginPath(s.site.Local(c, page.Field(c, "action")), page.Field(c, "redirect")), again)
	}
	if err != nil {
		return err
	}
	if err := s.patients.LogIn(c, patient, account); err != nil {
		return err
	}
	telemetry.Logins.WithLabelValues("patient", session.ByPassword, "ok").Inc()
	if next := s.site.Local(c, page.Field(c, "action")); next != "" {
		return c.Redirect(next, http.StatusSeeOther)
	}
	return c.Redirect("/my/requests", http.StatusSeeOther)
}

// checkPatient finds out which patient logs in, and by which account, where patients have accounts.
func (s *Server) checkPatient(c *fiber.Ctx) (patient string, a auth.Account, err error) {
	if s.Accounts {
		a, err = s.patients.Check(c, page.Field(c, "username"), page.Field(c, "password"))
		return a.Patient, a, err
	}
	patient = strings.TrimSpace(page.Field(c, "other"))
	if patient == "" {
		patient = page.Field(c, "patient")
	}
	_, err = s.Source.Patient(c.UserContext(), patient)
	return patient, a, err
}

func (s *Server) handlePatientLogout(c *fiber.Ctx) error {
	patient, err := s.patients.LoggedIn(c)
	if err != nil {
		return err
	}
	if patient != "" {
		s.trail.Record(c, nil, ehi.Event{Action: ehi.ActionLogOut, Agent: "patient " + patient, Patient: patient})
	}
	if err := s.patients.LogOut(c); err != nil {
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
	patient, err := s.patients.LoggedIn(c)
	if err != nil {
		return err
	}
	if patient == "" {
		return c.Redirect(loginPath("/my/applications", ""), http.StatusFound)
	}
	consents, err := s.Auth.Consents(c.UserContext(), patient)
	if err != nil {
		return err
	}
	var list []grantedApp
	t := s.views.Language(c)
	for _, consent := range consents {
		asks := append(s.plainScopes(t, consent.Scopes), s.controls(t, consent.ClientID, consent.Scopes)...)
		list = append(list, grantedApp{consent, s.Auth.ClientName(consent.ClientID), asks})
	}
	request.NoStore(c)
	return s.patientRender(c, "applications", "applications.title", fiber.Map{"Applications": list, "SignedIn": true})
}

// handleWithdraw ends an application's access at the patient's wish.
func (s *Server) handleWithdraw(c *fiber.Ctx) error {
	patient, err := s.patients.LoggedIn(c)
	if err != nil {
		return err
	}
	if patient == "" {
		return c.Redirect(loginPath("/my/applications", ""), http.StatusSeeOther)
	}
	consent, err := s.Auth.Withdraw(c.UserContext(), patient, page.Field(c, "id"))
	s.trail.Record(c, err, ehi.Event{
		Action: ehi.ActionWithdraw, Agent: "patient " + patient, Patient: patient, Client: consent.ClientID,
	})
	if ehi.CodeOf(err) == ehi.NotFound {
		return s.patientGone(c, "/my/applications", err)
	}
	if err == nil {
		err = s.withdrawn(c, patient, consent.ClientID)
	}
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
	return s.patientRender(c, "consent", "consent.title", fiber.Map{
		"Controls": append(s.whose(t, req), s.controls(t, req.ClientID, req.Scopes)...),
		"Back":     plainAddress(req.RedirectURI),
		"Patient":  who, "Request": req, "Asks": s.plainScopes(t, req.Scopes), "Fields": asked, "SignedIn": true, "ApplicationsLink": page.Link("/my/applications", t.Say("applications.title")),
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

// controlTexts say what stands between an application and the patient's record: what always does,
// what need not in the sandbox, and what need not by an administrator's decision.
var controlTexts = [2][3]string{
	{"consent.form", "consent.sandbox.form", "consent.no-form"},
	{"consent.review", "consent.sandbox.review", "consent.no-review"},
}

// plainAddress is an address as a person is shown it: in signs that look like no others, so that a host of
// other letters is not taken for one that is known.
func plainAddress(address string) string {
	if u, err := weburl.Parse(address); err == nil && u.IsWeb() {
		return u.String()
	}
	return address
}

// controls says what really stands between an application and the patient's record, where its scopes
// let it ask for that.
func (s *Server) controls(t *web.Catalogue, client string, scopes auth.Scopes) (out []string) {
	if !scopes.Contains(auth.PatientExport) {
		return nil
	}
	form, review := s.jobs.MaySkip(client)
	for i, may := range []bool{form, review} {
		at := 0
		if may && s.Sandbox {
			at = 1
		} else if may {
			at = 2
		}
		out = append(out, t.Say(controlTexts[i][at]))
	}
	return out
}

// notYet answers where there is nothing to consent to, or nobody is logged in who could.
func notYet(c *fiber.Ctx, asked url.Values, req auth.Request, err error) error {
	if err != nil {
		return refuseAuthorize(c, req, err)
	}
	return ahead(c, loginPath("/authorize-app?"+asked.Encode(), asked.Get("redirect_uri")), nil)
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

// scopeTexts are the texts of permissions, any of which is enough for the text, in the order in which patients read them. What is not here changes
// nothing for the patient.
var scopeTexts = []struct {
	anyOf []auth.Scopes
	key   string
}{
	{[]auth.Scopes{auth.PatientExport}, "scope.export"},
	{[]auth.Scopes{auth.On(auth.PatientContext, "Patient", auth.Read), auth.On(auth.PatientContext, "Patient", auth.Search)}, "scope.read"},
	{[]auth.Scopes{auth.On(auth.PatientContext, "Binary", auth.Read)}, scopeDocuments},
	{[]auth.Scopes{auth.FHIRUser}, "scope.user"},
	{[]auth.Scopes{auth.Offline}, "scope.offline"},
	{[]auth.Scopes{auth.Online}, "scope.online"},
}

// scopeDocuments says that an application reads documents one by one, see fhirapi.Handlers.ReadsBinaries.
const scopeDocuments = "scope.documents"

// plainScopes says in plain words what an application will be able to do.
func (s *Server) plainScopes(t *web.Catalogue, scopes auth.Scopes) (out []string) {
	for _, text := range scopeTexts {
		if text.key == scopeDocuments && !s.fhir.ReadsBinaries() {
			continue
		}
		if slices.ContainsFunc(text.anyOf, scopes.Contains) {
			out = append(out, t.Say(text.key))
		}
	}
	return out
}

// handleHome is the server's front page: in the sandbox the developer's console.
func (s *Server) handleHome(c *fiber.Ctx) error {
	if s.Sandbox {
		return s.tool(c, "console", "home", "Run an export", "console.js", fiber.Map{"Faults": ehi.Faults()})
	}
	return s.tool(c, "home", "home", "EHI export server", "", fiber.Map{"Base": s.Origins.Base(c)})
}

// handleAPIDocs shows the OpenAPI document.
func (s *Server) handleAPIDocs(c *fiber.Ctx) error {
	return s.tool(c, "api", "api", "The API", "api.js", fiber.Map{"Base": s.Origins.Base(c)})
}

// tool renders a page for developers, with the script that makes it work, if it has one.
func (s *Server) tool(c *fiber.Ctx, name, section, title, script string, data fiber.Map) error {
	data["Title"], data["Section"], data["Sandbox"] = title, section, s.Sandbox
	data["Site"], data["Description"] = "EHI export server", "Electronic health information export: console, API and format."
	if script != "" {
		data["Script"] = "/assets/" + script
	}
	return s.views.Render(c, "tools/"+name, "tools/layout", data)
}

// withdrawn ends what an application has begun for a patient who has withdrawn its access.
func (s *Server) withdrawn(c *fiber.Ctx, patient, client string) error {
	ctx := c.UserContext()
	consents, err := s.Auth.Consents(ctx, patient)
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
		return s.Auth.End(ctx, grant, auth.Withdrawal{Client: client, Patient: patient})
	}
	return s.jobs.Withdraw(ctx, s.Origins.ActingPatient(c, patient), client, valid, end)
}
