package fhirapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/faulty"
	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/weburl"
)

// handleKickOff handles the kick-off of an operation on one patient or a population (EHI-1, 2,
// 6; BULK-1, 2). It creates a job and responds immediately; the export runs in a worker.
func (h *Handlers) handleKickOff(level ehi.Level, op ehi.Operation) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if err := h.Failures.LimitClient(c, request.Access(c).ClientID); err != nil {
			return err
		}
		ask, err := h.kickOffAsk(c, level, op)
		if err != nil {
			h.recordRefusal(c, err, ask)
			return err
		}
		j, err := h.Jobs.KickOff(c.UserContext(), h.Origins.Acting(c), ask)
		if err != nil {
			return err
		}
		request.NoteJob(c, j)
		status := jobURL(h.Origins.Base(c), j.ID, "/status")
		c.Set(fiber.HeaderContentLocation, status)
		h.setLink(c, j)
		return content.Outcome(c, http.StatusAccepted, "information", "informational",
			"The export was accepted; its status is at "+status)
	}
}

// recordRefusal records a kick-off that is refused here. Package jobs records the others.
func (h *Handlers) recordRefusal(c *fiber.Ctx, err error, ask jobs.Ask) {
	e := ehi.Event{Action: ehi.ActionKickOff, Detail: ask.Level.Kind()}
	if ask.Level == ehi.OnePatient && fhir.ValidID(ask.Subject) {
		e.Patient = ask.Subject
	}
	h.Trail.Record(c, err, e)
}

// kickOffAsk reads a kick-off. What is wrong with its parameters is for jobs.KickOff to return,
// because a patient who is not the token's comes first. With an error, it returns what it could
// read until then.
func (h *Handlers) kickOffAsk(
	c *fiber.Ctx, level ehi.Level, op ehi.Operation,
) (ask jobs.Ask, err error) {
	a, preferred := request.Access(c), content.Preferred(c)
	base, _, _ := strings.Cut(c.Path(), "/fhir/")
	ask = jobs.Ask{
		Level:          level,
		Operation:      op,
		Subject:        c.Params("id"),
		URL:            h.Origins.Base(c) + c.OriginalURL(),
		Base:           h.Origins.Base(c) + "/fhir",
		SkipForm:       strings.Contains(base, "/no-form"),
		SkipReview:     strings.Contains(base, "/auto-approve"),
		Lenient:        preferred.Lenient(),
		SeparateStatus: preferred.Has("separate-export-status"),
		Own:            h.ownBase(c),
		BareLink:       h.BareLink || h.Sandbox && a.ClientID == auth.SandboxClientID,
	}
	ask.Types, ask.AllTypes = a.Scopes.Types(auth.SystemContext, auth.Export)
	if err = content.Negotiate(c); err != nil {
		return ask, err
	}
	faults, malformed := faulty.Ordered(c)
	ask.Faults = faults
	ask.Fault = func() error {
		if malformed != nil {
			return malformed
		}
		return h.Faults.KickOff(c, faults)
	}
	ask.Parameters, ask.Unreadable = kickOffParameters(c)
	return ask, nil
}

// ownBase reports whether a FHIR base belongs to this server, so that URLs below it name
// resources here.
func (h *Handlers) ownBase(c *fiber.Ctx) func(base string) bool {
	return func(base string) bool {
		return slices.Contains(h.Origins.Audiences(c, base, h.Sandbox), weburl.Canonical(base))
	}
}

// setLink links to the form while it is open (EHI-2, EHI-3).
func (h *Handlers) setLink(c *fiber.Ctx, j *ehi.Job) {
	if j.Status != ehi.AwaitingInput {
		return
	}
	u := jobURL(h.Origins.Base(c), j.ID, "/customize")
	if !j.BareLink {
		u = "<" + u + ">"
	}
	c.Set(fiber.HeaderLink, u+`; rel="patient-interaction"`)
}

// kickOffParameters reads the query, and the optional Parameters body (EHI-6, BULK-1).
func kickOffParameters(c *fiber.Ctx) ([]fhir.Parameter, error) {
	var params []fhir.Parameter
	for name, value := range c.Request().URI().QueryArgs().All() {
		p := fhir.Parameter{Name: string(name), Value: string(value)}
		switch {
		case p.Name == "_format", p.Name == "_pretty": // they concern the response
		case p.Name == "patient" && c.Method() != fiber.MethodPost:
			// Bulk Data Access 3.0.0, "Query Parameters"
			return nil, ehi.Errorf(ehi.Invalid, "The parameter patient requires a POST request")
		default:
			params = append(params, p)
		}
	}
	body := c.Body()
	if len(body) == 0 || c.Method() != fiber.MethodPost {
		return params, nil
	}
	if !strings.HasSuffix(content.MediaType(c), "json") {
		return nil, ehi.Errorf(ehi.Invalid,
			"The body must be a Parameters resource in application/fhir+json")
	}
	more, err := fhir.ParseParameters(body)
	if err != nil {
		return nil, ehi.Errorf(ehi.Invalid, "Invalid Parameters: %v", err)
	}
	return append(params, more...), nil
}
