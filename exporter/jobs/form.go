package jobs

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// Submit stores the patient's choices and starts the export. Except in the sandbox, only the
// patient can send the form (EHI-7).
//
// Errors: ehi.Conflict if the form was sent before; ehi.NotFound if the job's authorization has
// ended; ehi.Throttled; ehi.Forbidden.
func (s *Service) Submit(
	ctx context.Context, a ehi.Actor, j *ehi.Job, form ehi.ReleaseForm,
) (*ehi.Job, error) {
	done, err := s.submit(ctx, a, j, form)
	e := ehi.About(ehi.ActionForm, j)
	if a.Kind == ehi.ActorClient { // the client is the sender, whichever patient its token is for
		e.Agent = sender(a)
	}
	s.audit(a, err, e)
	return done, err
}

// sender returns who sent a form, for the job's record.
func sender(a ehi.Actor) string {
	if a.Kind == ehi.ActorClient {
		return "client " + a.ClientID
	}
	return "patient"
}

func (s *Service) submit(
	ctx context.Context, a ehi.Actor, to *ehi.Job, form ehi.ReleaseForm,
) (*ehi.Job, error) {
	switch {
	case a.Kind == ehi.ActorPatient && to.IsOf(a.Name):
	case a.Kind == ehi.ActorClient && owns(a, to) && s.Sandbox:
	default:
		return nil, ErrPatientsForm
	}
	undo, err := s.mayExport(ctx, to)
	if err != nil {
		return nil, err
	}
	j, err := s.Bus.Jobs.Update(ctx, to.ID, func(j *ehi.Job) error {
		valid, err := s.StillValid(ctx, j)
		if err != nil {
			return err
		}
		if !valid {
			return ErrNotFound
		}
		j.Rules = s.Rules.Digest() // the form page has told the patient what these rules release
		return j.Submit(form, sender(a), now())
	})
	if err != nil {
		undo()
		return nil, err
	}
	s.Log.Log(ctx, j.Level.LogLevel(), "form submitted", "job", j.ID, "request", a.Request)
	tracing.Observe(ctx, telemetry.JobPhase.WithLabelValues("form", string(j.Lane)),
		j.RequestedAt.Sub(j.CreatedAt))
	ctx, span := s.Tracer.Continue(ctx, j.Trace, "submit form", trace.SpanKindInternal,
		attribute.String(tracing.Job, j.ID))
	defer span.End()
	if err := s.Bus.PublishStart(ctx, j.Lane, j.ID, j.Starts); err != nil {
		// The choices are stored. The keeper will publish the command.
		s.Log.Warn("cannot publish a start command; the keeper will try again", "job", j.ID,
			"err", err)
	}
	return j, nil
}

// ErrPatientsForm is returned to anyone who sends another person's form.
var ErrPatientsForm = ehi.Errorf(ehi.Forbidden,
	"Only the patient can send this form, signed in on the form's page. Direct the patient to "+
		"the URL in the Link header.")
