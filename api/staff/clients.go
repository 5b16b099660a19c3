package staff

import (
	"context"
	"net/http"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/trail"
	"ehi-server/auth"
)

// ClientStore keeps the registered clients (auth.Server).
type ClientStore interface {
	Clients(ctx context.Context) ([]auth.Client, error)
	// Client finds a client. Errors: ehi.NotFound.
	Client(ctx context.Context, id string) (auth.Client, error)
	// AddClient adds a client; an ID is made where it has none. secret is "" for a client without.
	// Errors: ehi.Invalid, ehi.Conflict.
	AddClient(ctx context.Context, c auth.Client) (_ auth.Client, secret string, err error)
	RotateSecret(ctx context.Context, id string) (secret string, err error)
	RemoveClient(ctx context.Context, id string) error
}

// Endings end exports whose authorization has ended (jobs.Service).
type Endings interface {
	DeleteUnauthorizedNow(ctx context.Context) error
}

// Clients lets administrators manage the registered clients by the JSON API. The page of clients
// uses it as well.
type Clients struct {
	Store ClientStore
	Jobs  Endings
	Trail Trail
}

// Routes registers the JSON API.
func (h *Clients) Routes(r Router) {
	r.On("GET", "/admin/clients", h.handleList)
	r.On("POST", "/admin/clients", h.handleAdd)
	r.On("GET", "/admin/clients/:id", h.handleClient)
	r.On("DELETE", "/admin/clients/:id", h.handleRemove)
	r.On("POST", "/admin/clients/:id/rotate", h.handleRotateSecret)
}

// registered is a client with its secret, which is sent once and cannot be read again.
type registered struct {
	auth.Client
	Secret string `json:"client_secret,omitempty"`
}

func (h *Clients) handleList(c *fiber.Ctx) error {
	list, err := h.Store.Clients(c.UserContext())
	if err != nil {
		return err
	}
	return c.JSON(list)
}

func (h *Clients) handleClient(c *fiber.Ctx) error {
	client, err := h.Store.Client(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	return c.JSON(client)
}

func (h *Clients) handleAdd(c *fiber.Ctx) error {
	var in auth.Client
	if err := content.DecodeStrictly(c, &in); err != nil {
		return err
	}
	client, secret, err := h.add(c, in)
	if err != nil {
		return err
	}
	return c.Status(http.StatusCreated).JSON(registered{client, secret})
}

// add adds a client.
func (h *Clients) add(c *fiber.Ctx, in auth.Client) (_ auth.Client, secret string, err error) {
	in.CreatedBy = trail.Agent(c)
	client, secret, err := h.Store.AddClient(c.UserContext(), in)
	return client, secret, h.Trail.Change(c, err, additionOf(client, err))
}

// additionOf tells the audit trail which client was added, and what it may do that others may not.
// A client that was refused is not named: its name may be anything.
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

func (h *Clients) handleRotateSecret(c *fiber.Ctx) error {
	client, secret, err := h.rotateSecret(c, c.Params("id"))
	if err != nil {
		return err
	}
	return c.JSON(registered{client, secret})
}

// rotateSecret gives a client a new secret.
func (h *Clients) rotateSecret(
	c *fiber.Ctx, id string,
) (client auth.Client, secret string, err error) {
	secret, err = h.Store.RotateSecret(c.UserContext(), id)
	if err = h.Trail.Change(c, err, "rotate the secret of client "+h.name(c, id)); err != nil {
		return client, "", err
	}
	client, err = h.Store.Client(c.UserContext(), id)
	return client, secret, err
}

func (h *Clients) handleRemove(c *fiber.Ctx) error {
	if err := h.remove(c, c.Params("id")); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Client removed"})
}

// remove removes a client, and ends its exports.
func (h *Clients) remove(c *fiber.Ctx, id string) error {
	what := "remove client " + h.name(c, id)
	if err := h.Trail.Change(c, h.Store.RemoveClient(c.UserContext(), id), what); err != nil {
		return err
	}
	return h.Jobs.DeleteUnauthorizedNow(c.UserContext())
}

// name names a client as the audit trail does. An ID of no client is not repeated: it is whatever
// was typed.
func (h *Clients) name(c *fiber.Ctx, id string) string {
	client, err := h.Store.Client(c.UserContext(), id)
	if err != nil {
		return "that is not known"
	}
	return client.ID + " (" + client.Name + ")"
}
