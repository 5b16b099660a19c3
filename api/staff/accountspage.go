package staff

import (
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/page"
	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// AccountsPage lists the accounts, and lets administrators change them.
type AccountsPage struct {
	Pages    *Pages
	Accounts *Accounts
}

// Routes registers the page.
func (h *AccountsPage) Routes(r Router) {
	guard := h.Pages.guarded()
	r.OnPage("GET", accountsPath, guard, h.handleList)
	r.OnPage("POST", accountsPath, guard, h.handleChange)
}

func (h *AccountsPage) handleList(c *fiber.Ctx) error {
	list, err := h.Accounts.Store.Accounts(c.UserContext())
	if err != nil {
		return err
	}
	list, pages := paged(c, list, func(one auth.Account, s search) bool {
		return s.name(one.Name) || s.id(one.Name) || s.id(one.Patient) || s.id(string(one.Role))
	})
	return h.Pages.render(c, "accounts", "accounts", "Accounts", fiber.Map{
		"Accounts":   list,
		"Pages":      pages,
		"Roles":      auth.Roles(),
		"Configured": h.Accounts.Store.Configured(h.Accounts.ConfigUser),
	})
}

// handleChange adds an account, sets its password, resets its second factor, or removes it.
func (h *AccountsPage) handleChange(c *fiber.Ctx) error {
	done, err := h.change(c)
	if err != nil {
		if ehi.CodeOf(err) == ehi.NotFound { // the form names a patient who is not in the records
			err = ehi.Errorf(ehi.Invalid, "%s", err.Error())
		}
		return h.Pages.again(c, accountsPath, err)
	}
	return h.Pages.leave(c, accountsPath, flash{Flash: page.Flash{Message: done}})
}

func (h *AccountsPage) change(c *fiber.Ctx) (done string, err error) {
	kind, name := page.Field(c, "kind"), strings.TrimSpace(page.Field(c, "username"))
	switch page.Field(c, "do") {
	case "add":
		in := auth.Account{
			Name:    name,
			Role:    auth.Role(page.Field(c, "role")),
			Patient: strings.TrimSpace(page.Field(c, "patient")),
		}
		if in.Patient != "" {
			in.Role = ""
		}
		_, err = h.Accounts.add(c, in, page.Field(c, "password"))
		return "The account was added.", err
	case "password":
		return "The password was set, and all earlier sessions have ended.",
			h.Accounts.setPassword(c, kind, name, page.Field(c, "password"))
	case "reset-second-factor":
		if kind != session.ByAccount && kind != session.ByConfig {
			return "", auth.ErrNoAccount
		}
		return "The second factor was reset, and all earlier sessions have ended.",
			h.Accounts.resetSecondFactor(c, kind, name)
	case "remove":
		return "The account was removed.", h.Accounts.remove(c, kind, name)
	}
	return "", errNoSuchChange
}
