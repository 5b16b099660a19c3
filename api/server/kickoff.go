package server

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/telemetry"
)

// handleKickOff creates a job and answers at once; the export runs in a worker (EHI-1, 2, 6).
func (s *Server) handleKickOff(c *fiber.Ctx) error {
	if err := negotiate(c); err != nil {
		return err
	}
	a := access(c)
	if c.Params("id") != a.Patient { // another patient is as absent as one that never was
		return ehi.Errorf(ehi.NotFound, "Patient not found")
	}
	patient, err := s.Source.Patient(c.Context(), a.Patient)
	if err != nil {
		return err
	}
	asked, err := kickOffParameters(c)
	if err != nil {
		return err
	}
	j := s.newJob(c, a, patient, asked)
	if err := s.Bus.Jobs.Create(c.Context(), j); err != nil {
		return err
	}
	if j.Status == ehi.Requested {
		if err := s.Bus.PublishStart(c.Context(), j.ID, j.Starts); err != nil {
			_ = s.Bus.Jobs.Delete(c.Context(), j.ID) // else the reconciler starts it, and the client never knows
			return err
		}
	}
	telemetry.JobsCreated.Inc()
	origin := s.origin(c)
	c.Set(fiber.HeaderContentLocation, jobURL(origin, j.ID, "/status"))
	s.setLink(c, j)
	return outcome(c, http.StatusAccepted, "information", "informational", "The export was accepted; its status is at "+jobURL(origin, j.ID, "/status"))
}

func (s *Server) newJob(c *fiber.Ctx, a *auth.Access, patient ehi.Patient, asked ehi.KickOff) *ehi.Job {
	base, _, _ := strings.Cut(c.Path(), "/fhir/")
	at := now()
	j := &ehi.Job{
		Version: ehi.RecordVersion, ID: newID(), Patient: patient, ClientID: a.ClientID, Lane: ehi.Interactive, Status: ehi.AwaitingInput,
		WithForm: !strings.Contains(base, "/no-form"), AutoApprove: strings.Contains(base, "/auto-approve"),
		BareLink: s.BareLink || s.Sandbox && a.ClientID == auth.SandboxClientID,
		Request:  s.origin(c) + c.OriginalURL(), KickOff: asked, CreatedAt: at, ExpiresAt: at.Add(s.JobTTL), Tasks: 1,
	}
	if !j.WithForm {
		j.Status, j.RequestedAt, j.RequestedBy, j.Starts = ehi.Requested, at, "client "+a.ClientID, 1
	}
	return j
}

// newID is a job's id: 128 random bits, URL-safe (REAL-11).
func newID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails (crypto/rand since Go 1.24)
	return base64.RawURLEncoding.EncodeToString(b)
}

// setLink shows the way to the form while it is open (EHI-2, EHI-3).
func (s *Server) setLink(c *fiber.Ctx, j *ehi.Job) {
	if j.Status != ehi.AwaitingInput {
		return
	}
	u := jobURL(s.origin(c), j.ID, "/customize")
	if !j.BareLink {
		u = "<" + u + ">"
	}
	c.Set(fiber.HeaderLink, u+`; rel="patient-interaction"`)
}

// kickOffParameters reads the optional Parameters body (EHI-6).
func kickOffParameters(c *fiber.Ctx) (ehi.KickOff, error) {
	body := c.Body()
	if len(body) == 0 {
		return ehi.KickOff{}, nil
	}
	if mime, _, _ := strings.Cut(c.Get(fiber.HeaderContentType), ";"); !strings.HasSuffix(strings.TrimSpace(mime), "json") {
		return ehi.KickOff{}, ehi.Errorf(ehi.Invalid, "The body must be a Parameters resource in application/fhir+json")
	}
	params, err := fhir.ParseParameters(body)
	if err != nil {
		return ehi.KickOff{}, ehi.Errorf(ehi.Invalid, "%v", err)
	}
	return ehi.ParseKickOff(params, lenient(c))
}

// lenient reports Prefer: handling=lenient (RFC 7240), among other preferences.
func lenient(c *fiber.Ctx) bool {
	return slices.ContainsFunc(strings.FieldsFunc(c.Get("Prefer"), func(r rune) bool { return r == ',' || r == ';' || r == ' ' }),
		func(p string) bool { return strings.EqualFold(p, "handling=lenient") })
}

// jsonFormats are the values of _format and Accept that ask for JSON (BULK-9).
var jsonFormats = []string{"json", "text/json", "application/json", "application/fhir+json", "application/json+fhir"}

// negotiate holds _format and Accept to what the server can answer (BULK-2, BULK-9). Absence is forgiven.
func negotiate(c *fiber.Ctx) error {
	// An unescaped + in a query arrives as a space.
	if f := strings.ReplaceAll(c.Query("_format"), " ", "+"); f != "" && !slices.Contains(jsonFormats, strings.ToLower(f)) {
		return ehi.Errorf(ehi.Invalid, "Unsupported _format parameter %q", f)
	}
	accept := c.Get(fiber.HeaderAccept)
	if accept == "" {
		return nil
	}
	for _, offer := range strings.Split(accept, ",") {
		mime, _, _ := strings.Cut(offer, ";")
		switch mime = strings.ToLower(strings.TrimSpace(mime)); {
		case mime == "*/*", mime == "application/*", slices.Contains(jsonFormats, mime):
			return nil
		}
	}
	return ehi.Errorf(ehi.Invalid, "Unsupported value %q in accept header", accept)
}
