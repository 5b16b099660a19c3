package request

import (
	"context"
	"time"

	"github.com/gofiber/fiber/v2"
)

// A request may put many questions to NATS, one after the other, and each has a limit of its own. To
// bound their sum, the request's context ends after questionTime: what is asked then fails, and the
// answer is 503. Waiting for anything else does not count: for the body, for news of a job, for more
// of an upload.

const (
	// questionTime is how long a request may take over its questions, and endTime how much longer over
	// what has to be done after a failure: taking back what it began, and making the page that says
	// what went wrong.
	questionTime = 10 * time.Second
	endTime      = 3 * time.Second
)

// timing is the time of a request.
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

// TimeToFail gives a request that has failed the time to say so.
func TimeToFail(c *fiber.Ctx) { timeOf(c).give(c, endTime) }

// Unhurried is the context of a request without its limit, for work that does not ask NATS: a long
// search of the records may take its time.
func Unhurried(c *fiber.Ctx) context.Context { return timeOf(c).whole }

func timeOf(c *fiber.Ctx) *timing {
	if t, ok := c.Locals(timeKey).(*timing); ok {
		return t
	}
	return &timing{whole: c.UserContext(), cancel: func() {}} // a request that no middleware has seen
}
