package server

import (
	"github.com/gofiber/fiber/v2"

	"ehi-server/api/session"
	"ehi-server/auth"
)

// staff lets signed-in administrators pass that have at least a role.
func (s *Server) staff(least auth.Role) fiber.Handler {
	return func(c *fiber.Ctx) error {
		switch err := s.admins.Require(c, least); err {
		case nil:
			return c.Next()
		case session.ErrUnfinished:
			return s.setUpFirst(c)
		default:
			return err
		}
	}
}

// staffPage is staff for pages: who is not signed in is led to the log-in, and from there back.
func (s *Server) staffPage(least auth.Role) fiber.Handler {
	return func(c *fiber.Ctx) error {
		switch err := s.admins.Require(c, least); err {
		case nil:
			return c.Next()
		case session.ErrNobody:
			return s.signInFirst(c)
		case session.ErrUnfinished:
			return s.setUpFirst(c)
		default:
			return err
		}
	}
}

// staffSelf lets every administrator pass to what is about himself, also before his second factor is
// set up.
func (s *Server) staffSelf(c *fiber.Ctx) error {
	err := s.admins.RequireSelf(c)
	if err == session.ErrNobody {
		return s.signInFirst(c)
	}
	if err != nil {
		return err
	}
	return c.Next()
}
