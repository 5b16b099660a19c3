package server

import (
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
	"ehi-server/shared/weburl"
)

// kickOff answers the kick-off of an operation on one patient or a population: it creates a job and answers at once; the export runs
// in a worker (EHI-1, 2, 6; BULK-1, 2).
func (s *Server) kickOff(level ehi.Level, op ehi.Operation) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if err := s.limitClient(c, access(c).ClientID); err != nil {
			return err
		}
		j, err := s.kick(c, level, op)
		e := ehi.Event{Action: ehi.ActionKickOff, Detail: level.Kind()}
		switch {
		case err == nil:
			e.Job, e.Patient = j.ID, j.Patient.ID
		case level == ehi.OnePatient && fhir.ValidID(c.Params("id")):
			e.Patient = c.Params("id")
		}
		s.audit(c, err, e)
		if err != nil {
			return err
		}
		telemetry.JobsCreated.WithLabelValues(j.Level.Kind()).Inc()
		s.Log.Log(c.UserContext(), j.Level.LogLevel(), "job kicked off", "job", j.ID, "kind", j.Level.Kind(), "client", j.ClientID, "request", requestID(c))
		status := jobURL(s.origin(c), j.ID, "/status")
		c.Set(fiber.HeaderContentLocation, status)
		s.setLink(c, j)
		return outcome(c, http.StatusAccepted, "information", "informational", "The export was accepted; its status is at "+status)
	}
}

// kick makes the job and starts it.
func (s *Server) kick(c *fiber.Ctx, level ehi.Level, op ehi.Operation) (*ehi.Job, error) {
	if err := negotiate(c); err != nil {
		return nil, err
	}
	if err := s.able(); err != nil {
		return nil, err
	}
	j, err := s.newJob(c, level, op)
	if err != nil {
		return nil, err
	}
	s.noteJob(c, j)
	release, err := s.admit(j)
	if err != nil {
		return nil, err
	}
	defer release()
	undo, err := s.mayKickOff(c, j)
	if err != nil {
		return nil, err
	}
	if err := s.start(c, j); err != nil {
		undo()
		return nil, err
	}
	return j, nil
}

// able refuses kick-offs while the process is being stopped, or cannot or may not store what is exported.
func (s *Server) able() error {
	err := s.working()
	if err == nil && s.MaxExportBytes > 0 && s.Bus.Jobs.Stored() >= s.MaxExportBytes {
		err = errNoRoom
	}
	switch {
	case errors.Is(err, errNoRoom):
		telemetry.Refused.WithLabelValues("stored").Inc()
	case errors.Is(err, errNoSpace):
		telemetry.Refused.WithLabelValues("disk").Inc()
	case errors.Is(err, errDraining):
		telemetry.Refused.WithLabelValues("stopping").Inc()
	}
	return err
}

// working reports whether the process stays, and has space to work in.
func (s *Server) working() error {
	if s.draining.Load() {
		return errDraining
	}
	free, err := s.Files.Free()
	if err == nil && free < s.MinFreeBytes {
		err = errNoSpace
	}
	return err
}

var errNoRoom = ehi.Errorf(ehi.Transient, "As much is stored of exports as may be; more are taken when some are deleted or have expired")

var errNoSpace = ehi.Errorf(ehi.Transient, "The disk is full; more is taken when there is space again")

// start stores the job and, where no form comes before, queues its export.
func (s *Server) start(c *fiber.Ctx, j *ehi.Job) error {
	ctx := c.UserContext()
	err := s.Bus.Jobs.Create(ctx, j)
	if ehi.CodeOf(err) == ehi.Conflict {
		return err // the job that is there is another one
	}
	if err == nil { // the authorization may have ended meanwhile, and whoever ended it have missed this job
		err = s.mayBegin(ctx, j)
	}
	if err == nil && j.Status == ehi.Requested {
		err = s.Bus.PublishStart(ctx, j.Lane, j.ID, j.Starts)
	}
	if err != nil {
		s.recall(ctx, j.ID) // else it is made, and the client never knows
	}
	return err
}

// admit refuses a client that has too many exports running (BULK-4). release is called when the job is there.
func (s *Server) admit(j *ehi.Job) (release func(), err error) {
	limit := s.ClientJobs
	if j.Lane == ehi.Bulk {
		limit = s.ClientBulkJobs
	}
	release, err = s.Bus.Jobs.Admit(j, limit)
	switch ehi.CodeOf(err) {
	case ehi.Throttled:
		telemetry.Refused.WithLabelValues("client").Inc()
	case ehi.Transient:
		telemetry.Refused.WithLabelValues("queue").Inc()
	}
	return release, err
}

// newJob makes the job that a request asks for, once it is clear that the token opens what it is about.
func (s *Server) newJob(c *fiber.Ctx, level ehi.Level, op ehi.Operation) (*ehi.Job, error) {
	a, at := access(c), now()
	skipForm, skipReview, err := s.skips(c, a.ClientID)
	if err != nil {
		return nil, err
	}
	faults, err := ordered(c)
	if err == nil {
		err = s.faultyKickOff(c, faults)
	}
	if err != nil {
		return nil, err
	}
	j := &ehi.Job{
		Version: ehi.RecordVersion, ID: newID(), Level: level, Operation: op, ClientID: a.ClientID, ByService: a.System(), Grant: a.Grant(), Lane: ehi.Interactive,
		ClientMade: a.Made,
		Status:     ehi.AwaitingInput, WithForm: !skipForm, AutoApprove: skipReview,
		BareLink: s.BareLink || s.Sandbox && a.ClientID == auth.SandboxClientID,
		Request:  s.origin(c) + c.OriginalURL(), CreatedAt: at, ExpiresAt: at.Add(s.JobTTL), Tasks: 1,
		Trace: tracing.Parent(c.UserContext()), Faults: faults, Records: s.Source.Records(), Rules: s.Rules.Digest(),
	}
	if level != ehi.OnePatient { // no patient, no form; and a bulk export is a machine's business from end to end
		j.Lane, j.Tasks, j.WithForm = ehi.Bulk, 0, false
		j.AutoApprove = j.AutoApprove || op != ehi.EHIExport
		j.SeparateStatus = op == ehi.BulkExportV4 && preferred(c).has("separate-export-status")
	}
	if !j.WithForm {
		j.Status, j.RequestedAt, j.RequestedBy, j.Starts = ehi.Requested, at, "client "+a.ClientID, 1
	}
	if err := s.aim(c, j); err != nil {
		return nil, err
	}
	asked, err := kickOffParameters(c)
	if err != nil {
		return nil, err
	}
	j.KickOff, err = ehi.ParseKickOff(ehi.Asked{Level: level, Operation: op, Parameters: asked, Lenient: preferred(c).lenient(), Own: s.ownBase(c)})
	if err != nil {
		return nil, err
	}
	if j.KickOff.Compression == "" {
		j.KickOff.Compression = s.Compression
	}
	if op != ehi.EHIExport {
		return j, limitTypes(a, &j.KickOff)
	}
	return j, nil
}

// skips tells whether the path of a kick-off asks to do without the patient's form, and without review
// (EHI-1). In the sandbox everybody may; elsewhere an administrator has decided so for the client: the
// party that form and review control does not choose them. Where two administrators have to approve,
// review is never skipped.
func (s *Server) skips(c *fiber.Ctx, client string) (form, review bool, err error) {
	base, _, _ := strings.Cut(c.Path(), "/fhir/")
	form, review = strings.Contains(base, "/no-form"), strings.Contains(base, "/auto-approve")
	mayForm, mayReview := s.maySkip(client)
	switch {
	case form && !mayForm:
		return false, false, ehi.Errorf(ehi.Forbidden, "This client may not skip the patient's form: kick off at %s/fhir", s.origin(c))
	case review && s.FourEyes:
		return false, false, ehi.Errorf(ehi.Forbidden, "Two administrators have to approve every export here: review cannot be skipped")
	case review && !mayReview:
		return false, false, ehi.Errorf(ehi.Forbidden, "This client may not skip review: kick off without /auto-approve")
	}
	return form, review, nil
}

// maySkip tells whether a client's exports may do without the form, and without review.
func (s *Server) maySkip(client string) (form, review bool) {
	form, review = s.Auth.MaySkip(client)
	return form || s.Sandbox, (review || s.Sandbox) && !s.FourEyes
}

// aim finds the patient or group of the request. Another patient than the token's is as absent as one that never was.
func (s *Server) aim(c *fiber.Ctx, j *ehi.Job) (err error) {
	a := access(c)
	switch j.Level {
	case ehi.OnePatient:
		if !a.System() && c.Params("id") != a.Patient {
			return errPatientNotFound
		}
		j.Patient, err = s.Source.Patient(c.UserContext(), c.Params("id"))
	case ehi.OneGroup:
		j.Group = c.Params("id")
		read := func(id string) ([]byte, error) { return s.Source.Group(c.UserContext(), id) }
		_, err = source.Members(source.Groups{Read: read}, j.Group, now())
	}
	return err
}

var errPatientNotFound = ehi.Errorf(ehi.NotFound, "Patient not found")

// limitTypes holds an export to the types that the token opens (SMART-7).
func limitTypes(a *auth.Access, k *ehi.KickOff) error {
	granted, all := a.Scopes.Types(auth.SystemContext, auth.Export)
	if all {
		return nil
	}
	return k.LimitTypes(func(typ string) bool { return slices.Contains(granted, typ) }, granted)
}

// ownBase tells the FHIR bases of this server, by which a client may name what is here.
func (s *Server) ownBase(c *fiber.Ctx) func(base string) bool {
	return func(base string) bool {
		return slices.Contains(s.audiences(c, base), weburl.Canonical(base))
	}
}

// newID is a job's id: at least 128 random bits, URL-safe (REAL-11), and a FHIR id.
func newID() string { return rand.Text() }

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

// kickOffParameters reads the query, and the optional Parameters body (EHI-6, BULK-1).
func kickOffParameters(c *fiber.Ctx) ([]fhir.Parameter, error) {
	var params []fhir.Parameter
	for name, value := range c.Request().URI().QueryArgs().All() {
		p := fhir.Parameter{Name: string(name), Value: string(value)}
		switch {
		case p.Name == "_format", p.Name == "_pretty": // of the answer
		case p.Name == "patient" && c.Method() != fiber.MethodPost:
			return nil, ehi.Errorf(ehi.Invalid, "The parameter patient needs a POST request") // Bulk Data Access 3.0.0, "Query Parameters"
		default:
			params = append(params, p)
		}
	}
	body := c.Body()
	if len(body) == 0 || c.Method() != fiber.MethodPost {
		return params, nil
	}
	if !strings.HasSuffix(mediaType(c), "json") {
		return nil, ehi.Errorf(ehi.Invalid, "The body must be a Parameters resource in application/fhir+json")
	}
	more, err := fhir.ParseParameters(body)
	if err != nil {
		return nil, ehi.Errorf(ehi.Invalid, "%v", err)
	}
	return append(params, more...), nil
}

// mediaType is the content type of the body, without parameters.
func mediaType(c *fiber.Ctx) string {
	mime, _, _ := strings.Cut(c.Get(fiber.HeaderContentType), ";")
	return strings.ToLower(strings.TrimSpace(mime))
}
