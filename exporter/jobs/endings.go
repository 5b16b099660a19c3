package jobs

import (
	"context"
	"log/slog"
	"time"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// Whose authorization has ended may have begun thousands of exports. They are closed to it at
// once; deleting them may take longer than a request has. What a request does not come to goes
// on behind its answer.

const (
	// endingsInRequest is how long a request deletes exports before it leaves the rest.
	endingsInRequest = 3 * time.Second
	// endingsAgain is the pause after a round that failed.
	endingsAgain = time.Second
)

// endings deletes what does not stand, whenever it is woken, until all of it is gone.
type endings struct {
	round func(context.Context) error
	log   *slog.Logger
	stop  func()        // and wait until nothing goes on
	more  chan struct{} // has something where there is more to do since it was last received from
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
	default: // it has not looked yet
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
			e.log.Warn("exports that nobody may have any more are not all deleted yet", "err", err)
			again = time.After(endingsAgain)
		}
	}
}

// EndNow deletes what does not stand, on behalf of a request that has ended an authorization.
// What takes too long, or NATS has no answer to, goes on behind the answer.
func (s *Service) EndNow(ctx context.Context) error {
	return s.endNow(ctx, ended{ehi.Actor{Kind: ehi.ActorServer}, "its authorization has ended"})
}

func (s *Service) endNow(ctx context.Context, as ended) error {
	within, cancel := context.WithTimeout(ctx, endingsInRequest)
	defer cancel()
	err := s.endWhatDoesNotStand(within, as)
	if within.Err() == nil && !bus.IsAway(err) {
		return err
	}
	s.endings.wake()
	return nil
}

// Withdraw ends what an application has begun for a patient who has withdrawn its access. What
// it may do by another authorization that the patient has not withdrawn goes on; what it began
// by an older one that ran out does not. valid are the authorizations of that application that
// the patient has not withdrawn, and end ends another one.
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
			!j.Status.Settled(): // of an older build
			errs = append(errs, s.Remove(ctx, j.ID))
		}
	}
	return joined(errs, s.endNow(ctx, ended{a, "its authorization was withdrawn"}))
}
