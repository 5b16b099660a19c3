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

// Ask is a kick-off as it was asked for.
type Ask struct {
	Level     ehi.Level
	Operation ehi.Operation
	// Subject is the id of the patient or the group, as the path has it.
	Subject string
	// URL is the kick-off's, which the manifest repeats (EHI-5), and Base the FHIR base that
	// errors lead to.
	URL, Base string
	// SkipForm and SkipReview ask to do without the patient's form, and without review (EHI-1).
	SkipForm, SkipReview bool
	// Parameters are those of the query and the body.
	Parameters []fhir.Parameter
	// Lenient is Prefer: handling=lenient, and SeparateStatus Prefer: separate-export-status
	// (BULK-7).
	Lenient, SeparateStatus bool
	// Own tells the FHIR bases of this server, by which a client may name what is here.
	Own func(base string) bool
	// Types are those that the token opens, all of them where AllTypes is set (SMART-7).
	Types    []string
	AllTypes bool
	// BareLink has the Link header sent without angle brackets (EHI-2).
	BareLink bool
	// Faults are what the client has ordered to go wrong.
	Faults []ehi.Fault
}

// KickOff makes a job, and begins its export where no form comes before (EHI-1, 2, 6; BULK-1,
// 2).
//
// Errors: ehi.Transient while the server is being stopped or has no room, ehi.Throttled where
// the client has too much, ehi.NotFound where the subject is not there or not the token's,
// ehi.Forbidden, ehi.Invalid. Nothing is made then.
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
		return nil, ehi.Errorf(ehi.Unauthenticated, "An export is kicked off by a client")
	}
	if err := s.able(); err != nil {
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

// able refuses kick-offs while the process is being stopped, or cannot or may not store what is
// exported.
func (s *Service) able() error {
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

// start stores the job and, where no form comes before, queues its export.
func (s *Service) start(ctx context.Context, j *ehi.Job) error {
	err := s.Bus.Jobs.Create(ctx, j)
	if ehi.CodeOf(err) == ehi.Conflict {
		return err // the job that is there is another one
	}
	if err == nil {
		// The authorization may have ended in the meantime, before this job could be found.
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

// admit refuses a client that has too many exports running (BULK-4). release is called when the
// job is there.
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

// newJob makes the job that is asked for, once it is clear that the token opens what it is about.
func (s *Service) newJob(ctx context.Context, a ehi.Actor, ask Ask) (*ehi.Job, error) {
	if err := s.skips(a.ClientID, ask); err != nil {
		return nil, err
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
	if ask.Level !=
		// no patient, no form; and a bulk export is a machine's business from end to end
		ehi.OnePatient {
		j.Lane, j.Tasks, j.WithForm = ehi.Bulk, 0, false
		j.AutoApprove = j.AutoApprove || ask.Operation != ehi.EHIExport
		j.SeparateStatus = ask.Operation == ehi.BulkExportV4 && ask.SeparateStatus
	}
	if !j.WithForm {
		j.Status, j.RequestedAt, j.RequestedBy, j.Starts = ehi.Requested, at, "client "+
			a.ClientID, 1
	}
	if err := s.aim(ctx, a, j, ask.Subject); err != nil {
		return nil, err
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
	return j, nil
}

// skips refuses to do without the patient's form, or without review, where that is not allowed
// (EHI-1). In the sandbox everybody may; elsewhere an administrator has decided so for the
// client: the party that form and review control does not choose them. Where two administrators
// have to approve, review is never skipped.
func (s *Service) skips(client string, ask Ask) error {
	mayForm, mayReview := s.MaySkip(client)
	switch {
	case ask.SkipForm && !mayForm:
		return ehi.Errorf(ehi.Forbidden,
			"This client may not skip the patient's form: kick off at %s", ask.Base)
	case ask.SkipReview && s.FourEyes:
		return ehi.Errorf(ehi.Forbidden,
			"Two administrators have to approve every export here: review cannot be skipped")
	case ask.SkipReview && !mayReview:
		return ehi.Errorf(ehi.Forbidden,
			"This client may not skip review: kick off without /auto-approve")
	}
	return nil
}

// MaySkip tells whether a client's exports may do without the form, and without review.
func (s *Service) MaySkip(client string) (form, review bool) {
	form, review = s.Authority.MaySkip(client)
	return form || s.Sandbox, (review || s.Sandbox) && !s.FourEyes
}

// aim finds the patient or group of a kick-off. A patient other than the token's gets the same
// answer as one that does not exist.
func (s *Service) aim(ctx context.Context, a ehi.Actor, j *ehi.Job, subject string) (err error) {
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

// limitTypes holds an export to the types that the token opens (SMART-7).
func limitTypes(ask Ask, k *ehi.KickOff) error {
	if ask.AllTypes {
		return nil
	}
	return k.LimitTypes(func(typ string) bool { return slices.Contains(ask.Types, typ) }, ask.Types)
}

// NewID is a job's id: at least 128 random bits, URL-safe (REAL-11), and a FHIR id.
func NewID() string { return rand.Text() }
