package staff

import (
	"encoding/json"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/page"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// ClientsPage lists the registered clients, and lets administrators change them.
type ClientsPage struct {
	Pages   *Pages
	Clients *Clients
	// Sandbox is whether clients may skip the form and the review.
	Sandbox bool
}

// Routes registers the page.
func (h *ClientsPage) Routes(r Router) {
	guard := h.Pages.guarded()
	r.OnPage("GET", clientsPath, guard, h.handleList)
	r.OnPage("POST", clientsPath, guard, h.handleChange)
}

func (h *ClientsPage) handleList(c *fiber.Ctx) error {
	list, err := h.Clients.Store.Clients(c.UserContext())
	if err != nil {
		return err
	}
	list, pages := paged(c, list, func(one auth.Client, s search) bool {
		return s.name(one.Name) || s.id(one.ID)
	})
	return h.Pages.render(c, "clients", "clients", "Clients", fiber.Map{
		"Clients": list,
		"Pages":   pages,
		"Kinds":   []auth.Kind{auth.Public, auth.Symmetric, auth.Asymmetric},
		"Sandbox": h.Sandbox,
	})
}

// handleChange adds a client, gives it a new secret, or removes it.
func (h *ClientsPage) handleChange(c *fiber.Ctx) error {
	done, err := h.change(c)
	if err != nil {
		return h.Pages.again(c, clientsPath, err)
	}
	return h.Pages.leave(c, clientsPath, done)
}

var errNoSuchChange = ehi.Errorf(ehi.Invalid, "There is no such change")

func (h *ClientsPage) change(c *fiber.Ctx) (done flash, err error) {
	id := strings.TrimSpace(page.Field(c, "id"))
	var client auth.Client
	var secret string
	switch page.Field(c, "do") {
	case "add":
		client, secret, err = h.Clients.add(c, newClient(c))
	case "rotate":
		client, secret, err = h.Clients.rotateSecret(c, id)
	case "remove":
		done.Message = "The client was removed."
		return done, h.Clients.remove(c, id)
	default:
		err = errNoSuchChange
	}
	done.Added = &addedClient{client.ID, client.Name, secret}
	return done, err
}

// newClient is the client that a form describes.
func newClient(c *fiber.Ctx) auth.Client {
	return auth.Client{
		ID:            strings.TrimSpace(page.Field(c, "id")),
		Name:          page.Field(c, "name"),
		Kind:          auth.Kind(page.Field(c, "kind")),
		RedirectURIs:  strings.Fields(page.Field(c, "redirects")),
		Scope:         strings.Join(strings.Fields(page.Field(c, "scope")), " "),
		JWKSURI:       strings.TrimSpace(page.Field(c, "jwks_uri")),
		JWKS:          json.RawMessage(strings.TrimSpace(page.Field(c, "jwks"))),
		MaySkipForm:   page.IsTick(page.Field(c, "may_skip_form")),
		MaySkipReview: page.IsTick(page.Field(c, "may_skip_review")),
		Package:       ehi.Packaging(page.Field(c, "package")),
	}
}
