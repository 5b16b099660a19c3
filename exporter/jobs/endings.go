package jobs

import (
	"context"
	"log/slog"
	"time"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// A client or patient may have thousands of exports when the authorization ends. The application
// loses access to them immediately, but deleting them may take longer than a request. The rest
// is deleted in the background after the response.

const (
	// endingsInRequest limits how long a request deletes exports.
	endingsInRequest = 3 * time.Second
	// endingsAgain is the pause after a round that failed.
	endingsAgain = time.Second
)

// endings runs rounds in the background that delete the jobs whose authorization has ended. It
// runs a round after each wake, and repeats it until it succeeds.
type endings struct {
	round func(context.Context) error
	log   *slog.Logger
	stop  func()        // ends run and waits for it
	more  chan struct{} // holds a value if wake was called since the last round started
}

func newEndings(round func(context.Context) error, log *slog.Logger) *endings {
	e := &endings{round: round, log: log, more: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.run(ctx)
	}()
	e.stop = func() { cancel(); <-ended }
	return e
}

func (e *endings) wake() {
	select {
	case e.more <- struct{}{}:
	default: // a round is due already
	}
}

func (e *endings) run(ctx context.Context) {
	var again <-chan time.Time
	for {
		select {
		case <-e.more:
		case <-again:
		case <-ctx.Done():
			return
		}
		again = nil
		if err := e.round(ctx); err != nil && ctx.Err() == nil {
			e.log.Warn("some exports whose authorization has ended are not deleted yet; trying "+
				"again", "err", err)
			again = time.After(endingsAgain)
		}
	}
}

// DeleteUnauthorizedNow deletes the unfinished exports of an authorization that a request has
// just ended. If this takes too long, or if NATS is unreachable, the deletion continues in the
// background and the method returns nil.
func (s *Service) DeleteUnauthorizedNow(ctx context.Context) error {
	return s.deleteUnauthorizedNow(ctx, ending{
		ehi.Actor{Kind: ehi.ActorServer}, "its authorization has ended",
	})
}

func (s *Service) deleteUnauthorizedNow(ctx context.Context, as ending) error {
	within, cancel := context.WithTimeout(ctx, endingsInRequest)
	defer cancel()
	err := s.deleteUnauthorized(within, as)
	if within.Err() == nil && !bus.IsAway(err) {
		return err
	}
	s.endings.wake()
	return nil
}

// Withdraw ends what an application has started for a patient who has withdrawn its access. Jobs
// continue under other authorizations that the patient has not withdrawn, but not under older
// ones that have expired. valid contains the application's authorizations that the patient has
// not withdrawn. end ends one authorization.
func (s *Service) Withdraw(
	ctx context.Context, a ehi.Actor, client string, valid map[string]bool,
	end func(grant string) error,
) error {
	patient := a.Name
	var errs []error
	for _, v := range s.Bus.Jobs.List(func(j bus.Summary) bool {
		return j.ClientID == client && j.Patient.ID == patient
	}) {
		j, err := s.Bus.Jobs.Get(ctx, v.ID)
		switch {
		case err != nil:
			if !isNotFound(err) {
				errs = append(errs, err)
			}
		case j.Grant != "" && !valid[j.Grant] && !s.HasEnded(j):
			errs = append(errs, end(j.Grant))
		case j.Grant == "" && !j.ByService && len(valid) == 0 &&
			!j.Status.Settled(): // a job of an older build
			errs = append(errs, s.Remove(ctx, j.ID))
		}
	}
	return joinErrors(errs,
		s.deleteUnauthorizedNow(ctx, ending{a, "its authorization was withdrawn"}))
}
