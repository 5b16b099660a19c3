package staff

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
)

// KeyStore keeps the keys that tokens are signed by (auth.Server).
type KeyStore interface {
	Keys(ctx context.Context) ([]auth.KeyInfo, error)
	RotateKeys(ctx context.Context, compromised bool) ([]auth.KeyInfo, error)
}

// Keys lets administrators list and rotate the signing keys by the JSON API.
type Keys struct {
	Store KeyStore
	Trail Trail
}

// Routes registers the JSON API.
func (h *Keys) Routes(r Router) {
	r.On("GET", "/admin/keys", h.handleList)
	r.On("POST", "/admin/keys/rotate", h.handleRotate)
}

func (h *Keys) handleList(c *fiber.Ctx) error {
	keys, err := h.Store.Keys(c.UserContext())
	if err != nil {
		return err
	}
	return c.JSON(keys)
}

func (h *Keys) handleRotate(c *fiber.Ctx) error {
	compromised := c.QueryBool("compromised")
	keys, err := h.Store.RotateKeys(c.UserContext(), compromised)
	what := "rotate signing keys"
	if compromised {
		what += ", compromised"
	}
	if err := h.Trail.Change(c, err, what); err != nil {
		return err
	}
	return c.JSON(keys)
}
