package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// Ask is a kick-off request.
type Ask struct {
	Level     ehi.Level
	Operation ehi.Operation
	// Subject is the ID of the patient or the group in the path.
	Subject string
	// URL is the URL of the kick-off, which the manifest repeats (EHI-5). Base is the FHIR base
	// that error messages refer to.
	URL, Base string
	// SkipForm and SkipReview request an export without the patient's form, and without review
	// (EHI-1).
	SkipForm, SkipReview bool
	// Parameters are those of the query and the body. Unreadable is the error if they cannot be
	// read.
	Parameters []fhir.Parameter
	Unreadable error
	// Lenient is Prefer: handling=lenient, and SeparateStatus is Prefer: separate-export-status
	// (BULK-7).
	Lenient, SeparateStatus bool
	// Own reports whether a FHIR base is one of this server. A client may use it in absolute
	// references to resources.
	Own func(base string) bool
	// Types are the types that the token allows. AllTypes allows all (SMART-7).
	Types    []string
	AllTypes bool
	// BareLink omits the angle brackets of the Link header (EHI-2).
	BareLink bool
	// Faults are the failures to simulate, as requested by the client. Fault returns the one
	// that the kick-off itself is to end with; nil means none.
	Faults []ehi.Fault
	Fault  func() error
}

// KickOff creates a job. If the job needs no form, its export starts (EHI-1, 2, 6; BULK-1, 2).
//
// Errors: ehi.Transient if the server is stopping or has no space; ehi.Throttled if the client
// has too many exports; ehi.NotFound if the subject does not exist or is not the token's;
// ehi.Forbidden; ehi.Invalid. After an error there is no job.
func (s *Service) KickOff(ctx context.Context, a ehi.Actor, ask Ask) (*ehi.Job, error) {
	j, err := s.kickOff(ctx, a, ask)
	e := ehi.Event{Action: ehi.ActionKickOff, Detail: ask.Level.Kind()}
	switch {
	case err == nil:
		e.Job, e.Patient = j.ID, j.Patient.ID
	case ask.Level == ehi.OnePatient && fhir.ValidID(ask.Subject):
		e.Patient = ask.Subject
	}
	s.audit(a, err, e)
	if err != nil {
		return nil, err
	}
	telemetry.JobsCreated.WithLabelValues(j.Level.Kind()).Inc()
	s.Log.Log(ctx, j.Level.LogLevel(), "job kicked off",
		"job", j.ID, "kind", j.Level.Kind(), "client", j.ClientID, "request", a.Request)
	return j, nil
}

func (s *Service) kickOff(ctx context.Context, a ehi.Actor, ask Ask) (*ehi.Job, error) {
	if a.Kind != ehi.ActorClient {
		return nil, ehi.Errorf(ehi.Unauthenticated, "Only a client can kick off an export")
	}
	if err := s.checkCapacity(); err != nil {
		return nil, err
	}
	j, err := s.newJob(ctx, a, ask)
	if err != nil {
		return nil, err
	}
	release, err := s.admit(j)
	if err != nil {
		return nil, err
	}
	defer release()
	undo, err := s.mayKickOff(ctx, j)
	if err != nil {
		return nil, err
	}
	if err := s.start(ctx, j); err != nil {
		undo()
		return nil, err
	}
	return j, nil
}

// checkCapacity returns an error while the process is stopping, the disk is full, or the limit
// for stored exports is reached.
func (s *Service) checkCapacity() error {
	err := s.Working()
	if err == nil && s.MaxExportBytes > 0 && s.Bus.Jobs.Stored() >= s.MaxExportBytes {
		err = errNoRoom
	}
	switch {
	case errors.Is(err, errNoRoom):
		telemetry.Refused.WithLabelValues("stored").Inc()
	case errors.Is(err, ErrNoSpace):
		telemetry.Refused.WithLabelValues("disk").Inc()
	case errors.Is(err, errDraining):
		telemetry.Refused.WithLabelValues("stopping").Inc()
	}
	return err
}

// start stores the job and, if it needs no form, publishes its start command.
func (s *Service) start(ctx context.Context, j *ehi.Job) error {
	err := s.Bus.Jobs.Create(ctx, j)
	if ehi.CodeOf(err) == ehi.Conflict {
		return err // the existing job is another one
	}
	if err == nil {
		// the authorization may have ended meanwhile, before this job was visible to whoever
		// ended it
		err = s.checkStart(ctx, j)
	}
	if err == nil && j.Status == ehi.Requested {
		err = s.Bus.PublishStart(ctx, j.Lane, j.ID, j.Starts)
	}
	if err != nil {
		s.recall(ctx, j.ID) // otherwise the export may run although its client got an error
	}
	return err
}

// admit returns an error if the client has too many running exports (BULK-4). Call release after
// the job is stored.
func (s *Service) admit(j *ehi.Job) (release func(), err error) {
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

// newJob creates the job of a request, after checking that the token allows it.
func (s *Service) newJob(ctx context.Context, a ehi.Actor, ask Ask) (*ehi.Job, error) {
	if err := s.checkSkips(a.ClientID, ask); err != nil {
		return nil, err
	}
	if ask.Fault != nil {
		if err := ask.Fault(); err != nil {
			return nil, err
		}
	}
	at := now()
	j := &ehi.Job{
		Version: ehi.RecordVersion, ID: NewID(), Level: ask.Level, Operation: ask.Operation,
		ClientID:    a.ClientID,
		ClientMade:  a.ClientMade,
		ByService:   a.Service,
		Grant:       a.Grant,
		Lane:        ehi.Interactive,
		Status:      ehi.AwaitingInput,
		WithForm:    !ask.SkipForm,
		AutoApprove: ask.SkipReview,
		BareLink:    ask.BareLink,
		Request:     ask.URL, CreatedAt: at, ExpiresAt: at.Add(s.JobTTL), Tasks: 1,
		Trace:   tracing.Parent(ctx),
		Faults:  ask.Faults,
		Records: s.Source.Records(),
		Rules:   s.Rules.Digest(),
	}
	// A population's export has no patient who could fill in a form. A Bulk Data export has no
	// review either.
	if ask.Level != ehi.OnePatient {
		j.Lane, j.Tasks, j.WithForm = ehi.Bulk, 0, false
		j.AutoApprove = j.AutoApprove || ask.Operation != ehi.EHIExport
		j.SeparateStatus = ask.Operation == ehi.BulkExportV4 && ask.SeparateStatus
	}
	if !j.WithForm {
		j.Status, j.RequestedAt, j.RequestedBy, j.Starts = ehi.Requested, at, "client "+
			a.ClientID, 1
	}
	if err := s.setSubject(ctx, a, j, ask.Subject); err != nil {
		return nil, err
	}
	if ask.Unreadable != nil { // known only to those who may know the subject
		return nil, ask.Unreadable
	}
	var err error
	j.KickOff, err = ehi.ParseKickOff(ehi.Asked{
		Level:      ask.Level,
		Operation:  ask.Operation,
		Parameters: ask.Parameters,
		Lenient:    ask.Lenient,
		Own:        ask.Own,
	})
	if err != nil {
		return nil, err
	}
	if j.KickOff.Compression == "" {
		j.KickOff.Compression = s.Compression
	}
	if ask.Operation != ehi.EHIExport {
		return j, limitTypes(ask, &j.KickOff)
	}
	if j.Level == ehi.OnePatient && j.KickOff.Package == "" {
		j.KickOff.Package = s.Authority.Packaging(a.ClientID)
	}
	return j, nil
}

// checkSkips returns an error if a request skips the patient's form or the review without
// permission (EHI-1). In the sandbox every client may skip them. Otherwise only an administrator
// can permit it, because a client must not choose the checks that it is subject to. If two
// administrators must approve, no client may skip the review.
func (s *Service) checkSkips(client string, ask Ask) error {
	mayForm, mayReview := s.MaySkip(client)
	switch {
	case ask.SkipForm && !mayForm:
		return ehi.Errorf(ehi.Forbidden,
			"This client may not skip the patient's form: kick off at %s", ask.Base)
	case ask.SkipReview && s.FourEyes:
		return ehi.Errorf(ehi.Forbidden,
			"Two administrators must approve every export on this server: review cannot be skipped")
	case ask.SkipReview && !mayReview:
		return ehi.Errorf(ehi.Forbidden,
			"This client may not skip review: kick off without /auto-approve")
	}
	return nil
}

// MaySkip reports whether a client's exports may skip the form, and whether they may skip the
// review.
func (s *Service) MaySkip(client string) (form, review bool) {
	form, review = s.Authority.MaySkip(client)
	return form || s.Sandbox, (review || s.Sandbox) && !s.FourEyes
}

// setSubject sets the patient or group of a kick-off. A patient other than the token's gets the
// same error as one that does not exist.
func (s *Service) setSubject(
	ctx context.Context, a ehi.Actor, j *ehi.Job, subject string,
) (err error) {
	switch j.Level {
	case ehi.OnePatient:
		if !a.Service && subject != a.Patient {
			return ErrPatientNotFound
		}
		j.Patient, err = s.Source.Patient(ctx, subject)
	case ehi.OneGroup:
		j.Group = subject
		read := func(id string) ([]byte, error) { return s.Source.Group(ctx, id) }
		_, err = source.Members(source.Groups{Read: read}, j.Group, now())
	}
	return err
}

// limitTypes restricts an export to the types that the token allows (SMART-7).
func limitTypes(ask Ask, k *ehi.KickOff) error {
	if ask.AllTypes {
		return nil
	}
	return k.LimitTypes(func(typ string) bool { return slices.Contains(ask.Types, typ) }, ask.Types)
}

// NewID returns a new job ID: at least 128 random bits, URL-safe (REAL-11), and a valid FHIR id.
func NewID() string { return rand.Text() }
