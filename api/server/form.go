package server

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// interactionTTL is how long a rendered form can be submitted.
const interactionTTL = time.Hour

// handleForm renders the release form for the job's patient (EHI-7).
func (s *Server) handleForm(c *fiber.Ctx) error {
	j, err := s.job(c)
	if err != nil {
		return err
	}
	mine, err := s.isPatient(c, j)
	if err != nil {
		return err
	}
	if !mine {
		q := url.Values{"action": {c.OriginalURL()}, "redirect": {c.Query("redirect")}}
		return c.Redirect("/patient-login?"+q.Encode(), http.StatusFound)
	}
	if j.Status != ehi.AwaitingInput {
		return ehi.Errorf(ehi.Conflict, "There is no form to fill in for an export in %q state", j.Status)
	}
	return s.renderForm(c, j, "", formValues{})
}

// isPatient reports whether the visitor is logged in as the job's patient, or uses the sandbox's shortcut for that.
func (s *Server) isPatient(c *fiber.Ctx, j *ehi.Job) (bool, error) {
	if s.Sandbox && c.Query("_patient") == j.Patient.ID {
		return true, nil
	}
	patient, err := s.loggedIn(c)
	return patient == j.Patient.ID, err
}

// formValues is what was chosen, to fill the form with; empty at first.
type formValues map[string]string

// renderForm shows the form, with a problem where there is one, and a fresh one-time interaction token.
func (s *Server) renderForm(c *fiber.Ctx, j *ehi.Job, problem string, v formValues) error {
	token := newID()
	if err := s.Bus.Sessions.Set(interactionKey(token), []byte(j.ID), interactionTTL); err != nil {
		return err
	}
	redirect := c.Query("redirect", c.FormValue("redirect"))
	if !s.Auth.RedirectAllowed(j.ClientID, redirect) {
		redirect = ""
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Render("form", fiber.Map{
		"Title": "Choose what to release", "Job": j, "Categories": formLines(v), "Authorizations": formTicks(v),
		"Interaction": token, "Redirect": redirect, "Problem": problem, "Today": now().Format(time.DateOnly), "Action": "/jobs/" + j.ID,
	}, "layout")
}

// formLine is a line of the form's first part, as the template shows it.
type formLine struct {
	ehi.CategoryInfo
	On              bool
	From, To, Notes string
}

func formLines(v formValues) (out []formLine) {
	for _, c := range ehi.Categories() {
		k := "p." + string(c.Key)
		out = append(out, formLine{c, v[k] != "", v[k+".from"], v[k+".to"], v[k+".notes"]})
	}
	return out
}

// formTick is a line of the form's second part.
type formTick struct {
	ehi.AuthorizationInfo
	On    bool
	Value string
}

func formTicks(v formValues) (out []formTick) {
	for _, a := range ehi.Authorizations() {
		k := "a." + string(a.Key)
		out = append(out, formTick{a, v[k] != "", v[k]})
	}
	return out
}

func interactionKey(token string) string {
	h := sha256.Sum256([]byte(token))
	return "interaction-" + base64.RawURLEncoding.EncodeToString(h[:])
}

// handleSubmit takes the patient's choices, from the page or from the job's client (EHI-7).
func (s *Server) handleSubmit(c *fiber.Ctx) error {
	fromPage := strings.HasPrefix(c.Get(fiber.HeaderContentType), fiber.MIMEApplicationForm)
	var token string
	if fromPage {
		token = c.FormValue("interaction")
	} else {
		token = c.Get("X-Interaction-Token")
	}
	j, by, err := s.submitter(c, token)
	if err != nil {
		return err
	}
	body := c.Body()
	if fromPage {
		if body, err = formJSON(c); err != nil {
			return err
		}
	}
	form, err := ehi.ParseReleaseForm(body)
	if err != nil && fromPage {
		c.Status(http.StatusBadRequest)
		return s.renderForm(c, j, err.Error(), values(c))
	}
	if err != nil {
		return err
	}
	done, err := s.submit(c, j.ID, form, by)
	e := aboutJob(ehi.ActionForm, j)
	if e.Agent = by; by == "patient" {
		e.Agent = "patient " + j.Patient.ID
	}
	s.audit(c, err, e)
	if ehi.CodeOf(err) == ehi.Conflict && !wantsPage(c) { // clients read this very text
		return c.Status(http.StatusBadRequest).SendString(err.Error())
	}
	if err != nil {
		return err
	}
	if token != "" {
		if err := s.Bus.Sessions.Delete(interactionKey(token)); err != nil {
			s.Log.Warn("forget an interaction token", "err", err)
		}
	}
	if fromPage {
		return s.afterForm(c, done)
	}
	return c.JSON(s.jobJSON(c, done))
}

// submitter finds the job and who submits: the holder of the page's token, or the job's client.
func (s *Server) submitter(c *fiber.Ctx, token string) (*ehi.Job, string, error) {
	if token == "" {
		a, err := s.authenticate(c)
		if err != nil {
			return nil, "", err
		}
		if !a.Scopes.Has(auth.ScopePatientExport) {
			return nil, "", ehi.Errorf(ehi.Forbidden, "This needs the scope %s", auth.ScopePatientExport)
		}
		j, err := s.ownJob(c)
		return j, "client " + a.ClientID, err
	}
	j, err := s.job(c)
	if err != nil {
		return nil, "", err
	}
	job, err := s.Bus.Sessions.Get(interactionKey(token))
	if err != nil {
		return nil, "", err
	}
	if string(job) != j.ID {
		if j.Status != ehi.AwaitingInput {
			return nil, "", ehi.Errorf(ehi.Conflict, "Exports job already customized")
		}
		return nil, "", ehi.Errorf(ehi.Forbidden, "The page has expired. Open the form again.")
	}
	return j, "patient", nil
}

// submit stores the choices and starts the export.
func (s *Server) submit(c *fiber.Ctx, id string, form ehi.ReleaseForm, by string) (*ehi.Job, error) {
	j, err := s.Bus.Jobs.Update(c.UserContext(), id, func(j *ehi.Job) error { return j.Submit(form, by, now()) })
	if err != nil {
		return nil, err
	}
	s.Log.Log(c.UserContext(), j.Level.LogLevel(), "form submitted", "job", j.ID, "request", requestID(c))
	tracing.Observe(c.UserContext(), telemetry.JobPhase.WithLabelValues("form", string(j.Lane)), j.RequestedAt.Sub(j.CreatedAt))
	ctx, span := s.Tracer.Continue(c.UserContext(), j.Trace, "submit form", trace.SpanKindInternal, attribute.String(tracing.Job, j.ID))
	defer span.End()
	if err := s.Bus.PublishStart(ctx, j.Lane, j.ID, j.Starts); err != nil {
		// The choices are stored: the reconciler publishes the command.
		s.Log.Warn("start an export", "job", j.ID, "err", err)
	}
	return j, nil
}

// afterForm sends the patient back to the application, where that may be done, or says what happens next.
func (s *Server) afterForm(c *fiber.Ctx, j *ehi.Job) error {
	if r := c.FormValue("redirect"); r != "" && s.Auth.RedirectAllowed(j.ClientID, r) {
		return c.Redirect(r, http.StatusSeeOther)
	}
	if patient, err := s.loggedIn(c); err != nil {
		return err
	} else if patient == j.Patient.ID {
		return c.Redirect("/my/requests/"+j.ID, http.StatusSeeOther)
	}
	return c.Render("message", fiber.Map{
		"Title": "Thank you", "Text": "Your choices were saved and your records are being put together. The hospital may look at them before your application can download them. You can close this page.",
	}, "layout")
}

// values reads the fields of the page.
func values(c *fiber.Ctx) formValues {
	v := formValues{}
	for key, value := range c.Request().PostArgs().All() {
		v[string(key)] = string(value)
	}
	return v
}

// formJSON turns the fields of the page into the JSON of EHI-7.
func formJSON(c *fiber.Ctx) ([]byte, error) {
	v := values(c)
	parameters, authorizations := fiber.Map{}, fiber.Map{}
	for _, l := range formLines(v) {
		parameters[string(l.Key)] = fiber.Map{"name": l.Name, "enabled": l.On, "from": l.From, "to": l.To, "notes": l.Notes}
	}
	for _, a := range formTicks(v) {
		var value any = a.On
		if a.Text {
			value = a.Value
		}
		authorizations[string(a.Key)] = fiber.Map{"name": a.Name, "value": value}
	}
	return json.Marshal(fiber.Map{"parameters": parameters, "authorizations": authorizations})
}
