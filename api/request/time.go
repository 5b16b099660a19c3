package request

import (
	"context"
	"time"

	"github.com/gofiber/fiber/v2"
)

// A request may ask NATS several questions in turn, each with its own time limit. To limit their
// sum, the context of the request ends after questionTime: later questions fail, and the
// response is 503. Waiting for anything else does not count: for the body, for a change of a
// job, for more of an upload.

const (
	// questionTime is the time limit for the questions of a request. endTime is the additional
	// time for what must be done after a failure: undoing what has begun and rendering the page
	// with the error.
	questionTime = 10 * time.Second
	endTime      = 3 * time.Second
)

// timing is the time limit of a request.
type timing struct {
	whole  context.Context // of the request, without a limit
	cancel context.CancelFunc
}

// Timed is middleware that limits the time of a request.
func Timed(c *fiber.Ctx) error {
	t := &timing{whole: c.UserContext(), cancel: func() {}}
	c.Locals(timeKey, t)
	t.give(c, questionTime)
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

// RestartTime gives a request its full time again, after a wait that was not for NATS.
func RestartTime(c *fiber.Ctx) { timeOf(c).give(c, questionTime) }

// TimeToFail gives a failed request the time to report the failure.
func TimeToFail(c *fiber.Ctx) { timeOf(c).give(c, endTime) }

// WithoutTimeLimit returns the context of a request without its time limit, for work that does
// not ask NATS, such as a long search of the records.
func WithoutTimeLimit(c *fiber.Ctx) context.Context { return timeOf(c).whole }

func timeOf(c *fiber.Ctx) *timing {
	if t, ok := c.Locals(timeKey).(*timing); ok {
		return t
	}
	return &timing{whole: c.UserContext(), cancel: func() {}} // a request without the middleware
}
