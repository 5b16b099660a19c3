package jobs

import (
	"context"
	"sync"
	"time"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// A job can outlive its authorization: while the export runs, the patient may withdraw the
// application's access, or an administrator may remove the client. This file decides for all
// jobs whether the authorization is still valid.

// StillValid reports whether the authorization under which a job was kicked off is still valid.
// If it is not, the application no longer has access to the job (EHI-7). An error means that the
// authorization could not be checked.
func (s *Service) StillValid(ctx context.Context, j *ehi.Job) (bool, error) {
	return s.Authority.StillValid(ctx, authorizationOf(j))
}

// HasEnded reports whether this process knows that a job's authorization has ended. It reads
// memory only.
func (s *Service) HasEnded(j *ehi.Job) bool {
	valid, known := s.Authority.StillValidFromMemory(authorizationOf(j))
	return known && !valid
}

// checkStart returns an error if the authorization of a new job has ended.
func (s *Service) checkStart(ctx context.Context, j *ehi.Job) error {
	valid, err := s.StillValid(ctx, j)
	if err == nil && !valid {
		err = errEnded
	}
	return err
}

// errEnded is returned for a kick-off whose authorization has ended by the time its job is stored.
var errEnded = ehi.Errorf(ehi.Unauthenticated, "Invalid token")

// checkRelease returns ehi.Conflict if the job's authorization has ended, so that nobody can
// release its files.
func (s *Service) checkRelease(ctx context.Context, j *ehi.Job) error {
	valid, err := s.StillValid(ctx, j)
	if err != nil {
		return err
	}
	if !valid {
		return ehi.Errorf(ehi.Conflict,
			"The application no longer has access to this export: the access was withdrawn, or "+
				"its "+
				"registration removed")
	}
	return nil
}

// DeleteUnauthorized deletes unfinished exports whose authorization has ended: the patient has
// withdrawn the application's access, or the client was removed. A request that ends an
// authorization calls DeleteUnauthorizedNow; the keeper calls this method for authorizations
// that ended elsewhere. Finished exports stay for their patients, but the application no longer
// has access to them.
func (s *Service) DeleteUnauthorized(ctx context.Context) error {
	return s.deleteUnauthorized(ctx, ending{
		ehi.Actor{Kind: ehi.ActorServer}, "its authorization has ended",
	})
}

// ending says who ended an authorization. why is the reason in the audit trail for the deletion
// of its jobs.
type ending struct {
	by  ehi.Actor
	why string
}

// deleteUnauthorized deletes the jobs whose authorization has ended, several at once.
func (s *Service) deleteUnauthorized(ctx context.Context, as ending) error {
	withdrawn := s.Authority.Withdrawals()
	suspects := s.Bus.Jobs.List(func(j bus.Summary) bool {
		if j.Status.Settled() || s.Authority.Dormant(j.ClientID) {
			return false
		}
		valid, _ := s.Authority.StillValidFromMemory(Authorization{
			Client:     j.ClientID,
			Begun:      j.CreatedAt,
			ClientMade: j.ClientMade,
		})
		return !valid || withdrawn(j.ClientID, j.Patient.ID)
	})
	var (
		ends sync.WaitGroup
		mu   sync.Mutex
		errs []error
		away bool
	)
	slots := make(chan struct{}, endingsAtOnce)
	for _, v := range suspects {
		slots <- struct{}{}
		mu.Lock()
		// NATS is unreachable for the others too; the keeper tries again
		over := away || ctx.Err() != nil
		mu.Unlock()
		if over {
			break
		}
		ends.Go(func() {
			defer func() { <-slots }()
			err := s.deleteUnlessAuthorized(ctx, v.ID, as)
			mu.Lock()
			defer mu.Unlock()
			if !isNotFound(err) {
				errs = append(errs, err)
			}
			away = away || bus.IsAway(err)
		})
	}
	ends.Wait()
	return joinErrors(errs, ctx.Err())
}

const (
	// endingsAtOnce is how many jobs are deleted at once. endingTime limits one deletion.
	endingsAtOnce = 8
	endingTime    = 5 * time.Second
)

// deleteUnlessAuthorized deletes a job whose authorization has ended, and writes an audit event.
func (s *Service) deleteUnlessAuthorized(ctx context.Context, job string, as ending) error {
	j, err := s.Bus.Jobs.Get(ctx, job)
	if err != nil {
		return err
	}
	valid, err := s.StillValid(ctx, j)
	if err != nil || valid {
		return err
	}
	// Finish a deletion that has started, even if the request ends. Otherwise the job would only
	// be marked as deleted until the keeper runs.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endingTime)
	defer cancel()
	err = s.Remove(ctx, j.ID)
	e := ehi.About(ehi.ActionDelete, j)
	e.Detail = as.why
	s.audit(as.by, err, e)
	return err
}
