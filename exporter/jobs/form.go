package jobs

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// Submit stores the choices of a form and begins the export. Elsewhere than in the sandbox a
// form is the patient's alone (EHI-7).
//
// Errors: ehi.Conflict where the form was sent before, ehi.NotFound where the job's
// authorization has ended, ehi.Throttled, ehi.Forbidden.
func (s *Service) Submit(
	ctx context.Context, a ehi.Actor, j *ehi.Job, form ehi.ReleaseForm,
) (*ehi.Job, error) {
	done, err := s.submit(ctx, a, j, form)
	e := ehi.About(ehi.ActionForm, j)
	if a.Kind == ehi.ActorClient { // it sends the form as itself, whoever its token is about
		e.Agent = sender(a)
	}
	s.audit(a, err, e)
	return done, err
}

// sender is who has sent a form, as the job's record names him.
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
		stands, err := s.Stands(ctx, j)
		if err != nil {
			return err
		}
		if !stands {
			return ErrNotFound
		}
		j.Rules = s.Rules.Digest() // by which the page has said what the choices release
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
		// The choices are stored: the reconciler publishes the command.
		s.Log.Warn("start an export", "job", j.ID, "err", err)
	}
	return j, nil
}

// ErrPatientsForm is the answer to who sends somebody else's form.
var ErrPatientsForm = ehi.Errorf(ehi.Forbidden,
	"The patient alone fills in this form, signed in on its page. Lead them to the address of "+
		"the Link header.")
