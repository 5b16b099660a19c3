package staff

import (
	"bufio"

	"github.com/gofiber/fiber/v2"
)

// Feed is what open pages follow (live.Feed).
type Feed interface {
	// Stream lets one more page follow. Errors: ehi.Transient where too many do.
	Stream() (write func(*bufio.Writer) error, err error)
}

// Live sends open pages of administrators what changes.
type Live struct {
	Feed   Feed
	Sender Streamer
}

// Routes registers the stream of events.
func (h *Live) Routes(r Router) { r.On("GET", Base+"/events", h.handleEvents) }

func (h *Live) handleEvents(c *fiber.Ctx) error {
	write, err := h.Feed.Stream()
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "text/event-stream")
	c.Set("X-Accel-Buffering", "no") // nginx passes each event on at once
	h.Sender.SendChunked(c, write)
	return nil
}
