package jobs

import (
	"context"
	"errors"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// Decision is what comes with an approval or a rejection. All of it may be left out, but for
// Contents of an approval by two.
type Decision struct {
	// Reason is told to the patient.
	Reason string
	// Contents is the digest of the export as whoever decides has seen it (see ehi.Job.Contents).
	Contents string
}

// Approve releases the files of an export, or records the first of two approvals. Errors:
// ehi.Conflict if the export does not wait for approval, has changed, or has lost its
// authorization; ehi.Forbidden; ehi.Invalid.
func (s *Service) Approve(
	ctx context.Context, a ehi.Actor, j *ehi.Job, d Decision,
) (*ehi.Job, error) {
	return s.decide(ctx, a, j, ehi.ActionApprove, d, func(j *ehi.Job) error {
		if err := s.mayGoOn(ctx, j); err != nil {
			return err
		}
		if !s.FourEyes {
			return j.Approve(a.Name, now(), s.FileTTL)
		}
		if err := s.second(j, a.Name); err != nil {
			return err
		}
		return j.ApproveByTwo(d.Contents, a.Name, a.Mark, s.Reviewers.MayApprove, now(), s.FileTTL)
	})
}

// Reject closes an export without a release. Errors: those of Approve.
func (s *Service) Reject(
	ctx context.Context, a ehi.Actor, j *ehi.Job, d Decision,
) (*ehi.Job, error) {
	return s.decide(ctx, a, j, ehi.ActionReject, d, func(j *ehi.Job) error {
		return j.Reject(a.Name, now())
	})
}

func (s *Service) decide(
	ctx context.Context, a ehi.Actor, before *ehi.Job, action ehi.Action, d Decision,
	do func(*ehi.Job) error,
) (j *ehi.Job, err error) {
	var retrieved time.Time
	if err = a.May(ehi.DutyReview); err == nil {
		j, err = s.Bus.Jobs.Update(ctx, before.ID, func(j *ehi.Job) error {
			retrieved = j.CompletedAt
			if err := j.Unchanged(d.Contents); err != nil {
				return err
			}
			if err := j.Explain(d.Reason); err != nil {
				return err
			}
			return do(j)
		})
	}
	s.audit(a, err, ehi.About(action, before))
	if err == nil && j.Status != ehi.Retrieved { // not the first of two approvals
		telemetry.JobsEnded.WithLabelValues(j.Level.Kind(), string(j.Status)).Inc()
		s.Log.Info("job decided", "job", j.ID, "status", j.Status, "by", a.Name, "request",
			a.Request)
		tracing.Observe(ctx, telemetry.JobPhase.WithLabelValues("review", string(j.Lane)),
			now().Sub(retrieved))
	}
	return j, err
}

// second is an error for an administrator who is the same person as one whose approval of the
// export counts already. Errors: ehi.Conflict.
func (s *Service) second(j *ehi.Job, name string) error {
	if j.Status != ehi.Retrieved {
		return nil // what is decided is no longer to be approved, by nobody
	}
	for _, other := range j.Approvers(s.Reviewers.MayApprove) {
		if s.Reviewers.SamePerson(other, name) {
			return ehi.Errorf(ehi.Conflict, "A second administrator has to approve this export")
		}
	}
	return nil
}

// Approvers are the administrators who have approved an export, and may approve still.
func (s *Service) Approvers(j *ehi.Job) []string { return j.Approvers(s.Reviewers.MayApprove) }

// Delete deletes a job in any state (EHI-13, REAL-6): at an administrator's wish, at its
// client's, or at its patient's while it is not finished. Errors: ehi.Forbidden, and
// ehi.NotFound where it is gone already.
func (s *Service) Delete(ctx context.Context, a ehi.Actor, j *ehi.Job) error {
	err := mayDelete(a, j)
	if err == nil {
		err = s.Remove(ctx, j.ID)
	}
	s.audit(a, err, ehi.About(ehi.ActionDelete, j))
	if err != nil {
		return err
	}
	switch a.Kind {
	case ehi.ActorStaff:
		s.Log.Info("job deleted", "job", j.ID, "by", a.Name, "request", a.Request)
	case ehi.ActorClient:
		s.Log.Log(ctx, j.Level.LogLevel(), "job deleted", "job", j.ID, "client", j.ClientID,
			"request", a.Request)
	}
	return nil
}

func mayDelete(a ehi.Actor, j *ehi.Job) error {
	switch {
	case a.Kind == ehi.ActorStaff:
		return a.May(ehi.DutyAdminister)
	case a.Kind == ehi.ActorClient && owns(a, j), a.Kind == ehi.ActorPatient && j.IsOf(a.Name):
		return nil
	}
	return ErrNotFound
}

// Detach takes documents away by their names (EHI-11). Errors: ehi.Conflict, ehi.NotFound,
// ehi.Forbidden.
func (s *Service) Detach(
	ctx context.Context, a ehi.Actor, before *ehi.Job, names ...string,
) (j *ehi.Job, err error) {
	var removed []string
	if err = a.May(ehi.DutyReview); err == nil {
		j, err = s.Bus.Jobs.Update(ctx, before.ID, func(j *ehi.Job) (err error) {
			removed, err = j.Detach(names...)
			return err
		})
	}
	for _, object := range removed {
		err = errors.Join(err, s.Files.RemoveAttachment(before.ID, object))
	}
	s.audit(a, err, ehi.About(ehi.ActionDetach, before))
	if err != nil {
		return nil, err
	}
	return j, nil
}
