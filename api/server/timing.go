package server

import (
	"context"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/session"

	"ehi-server/shared/kv"
)

// A request asks NATS many times, one after the other, and each question has a limit of its own. So that their sum
// has one too, the request's context ends after requestTime: what it then still asks fails, and the answer is 503.
// A wait that is no question to NATS does not count: for the body, for news of a job, for more of an upload.

const (
	// requestTime is how long a request may take over its questions, and endTime how much longer over what has
	// to be done after a failure: taking back what it began, and making the page that says what went wrong.
	requestTime = 10 * time.Second
	endTime     = 3 * time.Second
)

// timeKey is where the time of a request is kept.
const timeKey = "time"

// timing is the time of a request.
type timing struct {
	whole  context.Context // of the request, without a limit
	cancel context.CancelFunc
}

// timed gives a request its time.
func (s *Server) timed(c *fiber.Ctx) error {
	t := &timing{whole: c.UserContext(), cancel: func() {}}
	c.Locals(timeKey, t)
	t.give(c, requestTime)
	err := c.Next()
	t.cancel()
	c.SetUserContext(t.whole)
	return err
}

func (t *timing) give(c *fiber.Ctx, d time.Duration) {
	t.cancel()
	ctx, cancel := context.WithTimeout(t.whole, d)
	t.cancel = cancel
	c.SetUserContext(ctx)
}

// anew gives a request its time again: what it has waited for was no question to NATS.
func anew(c *fiber.Ctx) { timeOf(c).give(c, requestTime) }

// ending gives a request that has failed the time to say so.
func ending(c *fiber.Ctx) { timeOf(c).give(c, endTime) }

// unhurried is the context of a request for what asks no NATS: a long search of the records may take its time.
func unhurried(c *fiber.Ctx) context.Context { return timeOf(c).whole }

func timeOf(c *fiber.Ctx) *timing {
	if t, ok := c.Locals(timeKey).(*timing); ok {
		return t
	}
	return &timing{whole: c.UserContext(), cancel: func() {}} // a request that no middleware has seen
}

// sessionsOf is a store of sessions that takes no longer than the request does.
func sessionsOf(c *fiber.Ctx, store *session.Store) *session.Store {
	own := *store
	own.Storage = timely(c.UserContext(), own.Storage)
	return &own
}

// timely is a storage that takes no longer than ctx allows.
func timely(ctx context.Context, storage fiber.Storage) fiber.Storage {
	if part, ok := storage.(*kv.Storage); ok {
		return part.In(ctx)
	}
	return storage
}

// pagesOf is what pages keep, within the time of a request.
func (s *Server) pagesOf(c *fiber.Ctx) *kv.Storage { return s.kept.In(c.UserContext()) }
