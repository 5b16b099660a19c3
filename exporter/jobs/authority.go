package jobs

import (
	"context"
	"sync"
	"time"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// A job outlives what it was opened by: the patient may withdraw the application's access while
// the export runs, and the client may be removed. Whether the authority behind a job goes on is
// decided here, for all of them.

// Stands reports whether the authorization goes on that a job was kicked off under. Of one that
// does not nothing leaves any more for its application (EHI-7). Errors: where that cannot be
// read.
func (s *Service) Stands(ctx context.Context, j *ehi.Job) (bool, error) {
	return s.Authority.Stands(ctx, under(j))
}

// HasEnded reports whether this process has heard that a job does not stand any more. It asks
// nobody.
func (s *Service) HasEnded(j *ehi.Job) bool {
	stands, told := s.Authority.StandsAsHeard(under(j))
	return told && !stands
}

// mayBegin is an error for a job that was made under an authorization which has ended.
func (s *Service) mayBegin(ctx context.Context, j *ehi.Job) error {
	stands, err := s.Stands(ctx, j)
	if err == nil && !stands {
		err = errEnded
	}
	return err
}

// errEnded is the answer to a kick-off whose token is void by the time that there is a job.
var errEnded = ehi.Errorf(ehi.Unauthenticated, "Invalid token")

// mayGoOn is an error for what would release a job that does not stand: ehi.Conflict.
func (s *Service) mayGoOn(ctx context.Context, j *ehi.Job) error {
	stands, err := s.Stands(ctx, j)
	if err != nil {
		return err
	}
	if !stands {
		return ehi.Errorf(ehi.Conflict,
			"The application may not have this export any more: its access was withdrawn, or its "+
				"registration removed")
	}
	return nil
}

// EndWhatDoesNotStand deletes unfinished exports that nobody may have any more: the patient has
// withdrawn the application's access, or its registration is gone. What ends an authorization
// calls EndNow; the keeper calls this for what was ended elsewhere. A finished export stays for
// its patient, and is closed to its application.
func (s *Service) EndWhatDoesNotStand(ctx context.Context) error {
	return s.endWhatDoesNotStand(ctx, ended{
		ehi.Actor{Kind: ehi.ActorServer}, "its authorization has ended",
	})
}

// ended is who has ended an authorization, and how the trail says why its jobs are gone.
type ended struct {
	by  ehi.Actor
	why string
}

// endWhatDoesNotStand deletes the jobs that do not stand, several at once.
func (s *Service) endWhatDoesNotStand(ctx context.Context, as ended) error {
	withdrawn := s.Authority.Withdrawals()
	suspects := s.Bus.Jobs.List(func(j bus.Summary) bool {
		if j.Status.Settled() || s.Authority.Dormant(j.ClientID) {
			return false
		}
		stands, _ := s.Authority.StandsAsHeard(Authorization{
			Client:     j.ClientID,
			Begun:      j.CreatedAt,
			ClientMade: j.ClientMade,
		})
		return !stands || withdrawn(j.ClientID, j.Patient.ID)
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
		over := away || ctx.Err() != nil // for the others too; the keeper comes by again
		mu.Unlock()
		if over {
			break
		}
		ends.Go(func() {
			defer func() { <-slots }()
			err := s.endUnlessItStands(ctx, v.ID, as)
			mu.Lock()
			defer mu.Unlock()
			if !isNotFound(err) {
				errs = append(errs, err)
			}
			away = away || bus.IsAway(err)
		})
	}
	ends.Wait()
	return joined(errs, ctx.Err())
}

const (
	// endingsAtOnce is how many jobs are deleted at once, and endingTime how long one may take.
	endingsAtOnce = 8
	endingTime    = 5 * time.Second
)

// endUnlessItStands deletes a job that does not stand, and writes that to the trail.
func (s *Service) endUnlessItStands(ctx context.Context, job string, as ended) error {
	j, err := s.Bus.Jobs.Get(ctx, job)
	if err != nil {
		return err
	}
	stands, err := s.Stands(ctx, j)
	if err != nil || stands {
		return err
	}
	// What is begun is brought to its end: a job that is only marked as deleted would wait for
	// the keeper.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endingTime)
	defer cancel()
	err = s.Remove(ctx, j.ID)
	e := ehi.About(ehi.ActionDelete, j)
	e.Detail = as.why
	s.audit(as.by, err, e)
	return err
}
