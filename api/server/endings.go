package server

import (
	"context"
	"log/slog"
	"time"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// Whose authorization has ended may have begun thousands of exports. They are closed to it at once; deleting them
// may take longer than a request has. What a request does not come to goes on behind its answer.

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

// endInRequest deletes what does not stand on behalf of a request whose own work is done. What takes too long, or
// NATS has no answer to, goes on behind the answer. told is called of what is deleted within the request.
func (s *Server) endInRequest(ctx context.Context, told func(*ehi.Job, error)) error {
	within, cancel := context.WithTimeout(ctx, endingsInRequest)
	defer cancel()
	err := s.endWhatDoesNotStand(within, told)
	if within.Err() == nil && !bus.IsAway(err) {
		return err
	}
	s.endings.wake()
	return nil
}
