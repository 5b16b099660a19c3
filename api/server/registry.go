package server

import (
	"net/http"
	"net/url"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/trail"
	"ehi-server/auth"
)

// registered is a client as it is told once: with its secret, which nobody can read again.
type registered struct {
	auth.Client
	Secret string `json:"client_secret,omitempty"`
}

func (s *Server) handleClients(c *fiber.Ctx) error {
	list, err := s.Auth.Clients(c.UserContext())
	if err != nil {
		return err
	}
	return c.JSON(list)
}

func (s *Server) handleClient(c *fiber.Ctx) error {
	client, err := s.Auth.Client(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	return c.JSON(client)
}

func (s *Server) handleAddClient(c *fiber.Ctx) error {
	var in auth.Client
	if err := content.DecodeStrictly(c, &in); err != nil {
		return err
	}
	in.CreatedBy = trail.Agent(c)
	client, secret, err := s.Auth.AddClient(c.UserContext(), in)
	if err := s.trail.Change(c, err, additionOf(client, err)); err != nil {
		return err
	}
	return c.Status(http.StatusCreated).JSON(registered{client, secret})
}

// additionOf tells the audit trail which client was added, and what it may that others may not. What was
// refused is not named: it may be anything.
func additionOf(client auth.Client, err error) string {
	if err != nil {
		return "add a client"
	}
	what := "add client " + client.ID + " (" + client.Name + ")"
	if may := client.Privileges(); may != "" {
		what += ", which " + may
	}
	return what
}

func (s *Server) handleRotateSecret(c *fiber.Ctx) error {
	id := c.Params("id")
	secret, err := s.rotateSecret(c, id)
	if err != nil {
		return err
	}
	client, err := s.Auth.Client(c.UserContext(), id)
	if err != nil {
		return err
	}
	return c.JSON(registered{client, secret})
}

func (s *Server) handleRemoveClient(c *fiber.Ctx) error {
	if err := s.removeClient(c, c.Params("id")); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Client removed"})
}

func (s *Server) handleAccounts(c *fiber.Ctx) error {
	list, err := s.Auth.Accounts(c.UserContext())
	if err != nil {
		return err
	}
	return c.JSON(list)
}

func (s *Server) handleAddAccount(c *fiber.Ctx) error {
	var in struct {
		auth.Account
		Password string `json:"password"`
	}
	if err := content.DecodeStrictly(c, &in); err != nil {
		return err
	}
	a, err := s.addAccount(c, in.Account, in.Password)
	if err != nil {
		return err
	}
	return c.Status(http.StatusCreated).JSON(a)
}

// accountParams are the kind and the name of the path.
func accountParams(c *fiber.Ctx) (kind, name string, err error) {
	kind = c.Params("kind")
	name, err = url.PathUnescape(c.Params("name"))
	if err != nil || kind != "admin" && kind != "patient" {
		return "", "", auth.ErrNoAccount
	}
	return kind, name, nil
}

func (s *Server) handleSetPassword(c *fiber.Ctx) error {
	kind, name, err := accountParams(c)
	if err != nil {
		return err
	}
	var in struct {
		Password string `json:"password"`
	}
	if err := content.DecodeStrictly(c, &in); err != nil {
		return err
	}
	if err := s.setPassword(c, kind, name, in.Password); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Password set"})
}

func (s *Server) handleRemoveAccount(c *fiber.Ctx) error {
	kind, name, err := accountParams(c)
	if err != nil {
		return err
	}
	if err := s.removeAccount(c, kind, name); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Account removed"})
}

func (s *Server) handleKeys(c *fiber.Ctx) error {
	keys, err := s.Auth.Keys(c.UserContext())
	if err != nil {
		return err
	}
	return c.JSON(keys)
}

func (s *Server) handleRotateKeys(c *fiber.Ctx) error {
	compromised := c.QueryBool("compromised")
	keys, err := s.Auth.RotateKeys(c.UserContext(), compromised)
	what := "rotate signing keys"
	if compromised {
		what += ", compromised"
	}
	if err := s.trail.Change(c, err, what); err != nil {
		return err
	}
	return c.JSON(keys)
}
