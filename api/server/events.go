package server

import "github.com/gofiber/fiber/v2"

// handleEvents is the stream that a page of administrators follows.
func (s *Server) handleEvents(c *fiber.Ctx) error {
	write, err := s.feed.Stream()
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "text/event-stream")
	c.Set("X-Accel-Buffering", "no") // nginx shall pass each event on at once
	s.sender.SendChunked(c, write)
	return nil
}
