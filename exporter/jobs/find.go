package jobs

import (
	"context"

	"ehi-server/shared/ehi"
)

// Find returns a job as this process knows it, whether its authorization stands or not: for its
// patient, and for those who check that by Stands. Errors: ehi.NotFound; where the job's time is
// up and the janitor has not come by, the job comes with the error, for the trail.
func (s *Service) Find(ctx context.Context, id string) (*ehi.Job, error) {
	j, err := s.Bus.Jobs.Peek(ctx, id)
	return unexpired(j, err)
}

// FindStanding is Find where the job's authorization stands: of one whose authorization has
// ended nothing is there any more. Errors: ehi.NotFound.
func (s *Service) FindStanding(ctx context.Context, id string) (*ehi.Job, error) {
	j, err := s.Find(ctx, id)
	if err != nil {
		return j, err
	}
	stands, err := s.Stands(ctx, j)
	if err == nil && !stands {
		err = ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return j, nil
}

// FindOwn is FindStanding for the client that has kicked the job off. A backend service is bound
// to no patient, and a population is no patient's: nobody else sees its jobs. Errors:
// ehi.NotFound.
func (s *Service) FindOwn(ctx context.Context, a ehi.Actor, id string) (*ehi.Job, error) {
	j, err := s.FindStanding(ctx, id)
	if err != nil {
		return j, err
	}
	if a.Kind != ehi.ActorClient || !owns(a, j) {
		return nil, ErrNotFound
	}
	return j, nil
}

func owns(a ehi.Actor, j *ehi.Job) bool {
	return j.ClientID == a.ClientID && (a.Service || j.Patient.ID == a.Patient) &&
		j.ByService == a.Service
}

// Record returns a job as the bucket has it at this moment: what administrators see and decide
// by, at whichever process they are. Errors: ehi.NotFound.
func (s *Service) Record(ctx context.Context, id string) (*ehi.Job, error) {
	j, err := s.Bus.Jobs.Get(ctx, id)
	return unexpired(j, err)
}

func unexpired(j *ehi.Job, err error) (*ehi.Job, error) {
	if err == nil && j.Expired(now()) {
		err = ErrNotFound
	}
	return j, err
}
