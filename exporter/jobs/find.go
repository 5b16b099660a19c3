package jobs

import (
	"context"

	"ehi-server/shared/ehi"
)

// Find returns a job as this process knows it, whether or not its authorization is still valid.
// It is for the job's patient, and for callers that check StillValid. Errors: ehi.NotFound. For an
// expired job that is not deleted yet it returns the job together with that error, for the audit
// trail.
func (s *Service) Find(ctx context.Context, id string) (*ehi.Job, error) {
	j, err := s.Bus.Jobs.Peek(ctx, id)
	return unexpired(j, err)
}

// FindAuthorized is Find for a job whose authorization is still valid. Otherwise the job does not
// exist for the caller. Errors: ehi.NotFound.
func (s *Service) FindAuthorized(ctx context.Context, id string) (*ehi.Job, error) {
	j, err := s.Find(ctx, id)
	if err != nil {
		return j, err
	}
	valid, err := s.StillValid(ctx, j)
	if err == nil && !valid {
		err = ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return j, nil
}

// FindOwn is FindAuthorized for the client that kicked the job off. A job of a backend service
// belongs to no patient, and neither does the export of a population: no other client sees them.
// Errors: ehi.NotFound.
func (s *Service) FindOwn(ctx context.Context, a ehi.Actor, id string) (*ehi.Job, error) {
	j, err := s.FindAuthorized(ctx, id)
	if err != nil {
		return j, err
	}
	if a.Kind != ehi.ActorClient || !owns(a, j) {
		return nil, ErrNotFound
	}
	return j, nil
}

// FindForPatient is Find for the patient whose record the job exports. For anyone else the job does
// not exist; neither does a deleted one, nor an unfinished one whose authorization has ended. A
// finished export remains its patient's. Errors: ehi.NotFound, with the job as in Find.
func (s *Service) FindForPatient(ctx context.Context, a ehi.Actor, id string) (*ehi.Job, error) {
	j, err := s.Find(ctx, id)
	if err != nil {
		return j, err
	}
	if a.Kind != ehi.ActorPatient || j.Level != ehi.OnePatient || j.Patient.ID != a.Name ||
		j.Status == ehi.Aborted {
		return j, ErrNotFound
	}
	if j.Status.Settled() {
		return j, nil
	}
	valid, err := s.StillValid(ctx, j)
	if err == nil && !valid {
		err = ErrNotFound
	}
	return j, err
}

func owns(a ehi.Actor, j *ehi.Job) bool {
	return j.ClientID == a.ClientID && (a.Service || j.Patient.ID == a.Patient) &&
		j.ByService == a.Service
}

// Record returns the current record of a job. Administrators see and decide by it, in whichever
// process. Errors: ehi.NotFound, and ehi.Transient while a cluster of NATS has no leader.
func (s *Service) Record(ctx context.Context, id string) (*ehi.Job, error) {
	j, err := s.Bus.Jobs.Newest(ctx, id)
	return unexpired(j, err)
}

func unexpired(j *ehi.Job, err error) (*ehi.Job, error) {
	if err == nil && j.Expired(now()) {
		err = ErrNotFound
	}
	return j, err
}
