package jobs

import (
	"context"
	"errors"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// Decision accompanies an approval or a rejection. All fields are optional, except Contents if
// two administrators must approve.
type Decision struct {
	// Reason is shown to the patient.
	Reason string
	// Contents is the digest of the export that the administrator has seen (see
	// ehi.Job.Contents).
	Contents string
}

// Approve releases the files of an export, or records the first of two approvals. Errors:
// ehi.Conflict if the export does not wait for approval, has changed, or has lost its
// authorization; ehi.Forbidden; ehi.Invalid.
func (s *Service) Approve(
	ctx context.Context, a ehi.Actor, j *ehi.Job, d Decision,
) (*ehi.Job, error) {
	return s.decide(ctx, a, j, ehi.ActionApprove, d, func(j *ehi.Job) error {
		if err := s.checkRelease(ctx, j); err != nil {
			return err
		}
		if !s.FourEyes {
			return j.Approve(a.Name, now(), s.FileTTL)
		}
		if err := s.checkSecondApprover(j, a.Name); err != nil {
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

// checkSecondApprover returns ehi.Conflict if the administrator is the same person as one who
// has already approved the export.
func (s *Service) checkSecondApprover(j *ehi.Job, name string) error {
	if j.Status != ehi.Retrieved {
		return nil // already decided: the approval itself is refused
	}
	for _, other := range j.Approvers(s.Reviewers.MayApprove) {
		if s.Reviewers.SamePerson(other, name) {
			return ehi.Errorf(ehi.Conflict, "A second administrator has to approve this export")
		}
	}
	return nil
}

// Approvers returns the administrators who have approved an export and may still approve.
func (s *Service) Approvers(j *ehi.Job) []string { return j.Approvers(s.Reviewers.MayApprove) }

// Delete deletes a job in any state (EHI-13, REAL-6). Administrators, the job's client and its
// patient may do this. Errors: ehi.Forbidden; ehi.NotFound if the job is already deleted or is
// somebody else's.
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

// Detach removes attachments by name (EHI-11). Errors: ehi.Conflict, ehi.NotFound,
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
