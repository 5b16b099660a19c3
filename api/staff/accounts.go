package staff

import (
	"context"
	"net/http"
	"net/url"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/session"
	"ehi-server/api/trail"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// AccountStore keeps the accounts of administrators and patients (auth.Server). A kind is that of
// auth.Account.Kind, or session.ByConfig for the administrator of the configuration.
type AccountStore interface {
	Accounts(ctx context.Context) ([]auth.Account, error)
	// Configured is what is stored of the administrator of the configuration.
	Configured(name string) auth.Account
	// Administrator and PatientAccount find an account by its name.
	Administrator(name string) (_ auth.Account, known bool)
	PatientAccount(ctx context.Context, name string) (auth.Account, error)
	AddAccount(ctx context.Context, a auth.Account, password string) (auth.Account, error)
	SetPassword(ctx context.Context, kind, name, password string) error
	ResetSecondFactor(ctx context.Context, kind, name string) error
	RemoveAccount(ctx context.Context, kind, name string) error
}

// Patients are the patients in the records (source.Source).
type Patients interface {
	// Patient finds one by ID. Errors: ehi.NotFound.
	Patient(ctx context.Context, id string) (ehi.Patient, error)
}

// Authority lets answers go on for as long as their readers are let in (session.Authority).
type Authority interface {
	// NoteEnded says that this process has ended something by which requests were let in.
	NoteEnded()
}

// Accounts lets administrators manage accounts by the JSON API. The page of accounts uses it as
// well.
type Accounts struct {
	// ConfigUser is the name of the administrator of the configuration.
	ConfigUser string
	Store      AccountStore
	Patients   Patients
	Authority  Authority
	Jobs       Endings
	Trail      Trail
}

// Routes registers the JSON API.
func (h *Accounts) Routes(r Router) {
	r.On("GET", "/admin/accounts", h.handleList)
	r.On("POST", "/admin/accounts", h.handleAdd)
	r.On("PUT", "/admin/accounts/:kind/:name", h.handleSetPassword)
	r.On("DELETE", "/admin/accounts/:kind/:name", h.handleRemove)
	r.On("DELETE", "/admin/accounts/:kind/:name/second-factor", h.handleResetSecondFactor)
}

func (h *Accounts) handleList(c *fiber.Ctx) error {
	list, err := h.Store.Accounts(c.UserContext())
	if err != nil {
		return err
	}
	return c.JSON(list)
}

func (h *Accounts) handleAdd(c *fiber.Ctx) error {
	var in struct {
		auth.Account
		Password string `json:"password"`
	}
	if err := content.DecodeStrictly(c, &in); err != nil {
		return err
	}
	a, err := h.add(c, in.Account, in.Password)
	if err != nil {
		return err
	}
	return c.Status(http.StatusCreated).JSON(a)
}

// add adds an account. One that is refused is not named in the audit trail: a password may have
// been typed into the field of its name.
func (h *Accounts) add(c *fiber.Ctx, in auth.Account, password string) (auth.Account, error) {
	a, err := in, error(nil)
	if in.Patient != "" {
		_, err = h.Patients.Patient(c.UserContext(), in.Patient)
	}
	if err == nil {
		a, err = h.Store.AddAccount(c.UserContext(), in, password)
	}
	if err != nil {
		return a, h.Trail.Change(c, err, "add account of kind "+in.Kind())
	}
	return a, h.Trail.Change(c, nil, "add "+described(a))
}

// described names an account that exists, for the audit trail.
func described(a auth.Account) string {
	if a.Patient != "" {
		return "account " + a.Name + " of kind patient"
	}
	return "account " + a.Name + " of kind admin, role " + string(a.Role)
}

// accountParams are the kind and the name in the path.
func accountParams(c *fiber.Ctx) (kind, name string, err error) {
	kind = c.Params("kind")
	name, err = url.PathUnescape(c.Params("name"))
	if err != nil || kind != "admin" && kind != "patient" {
		return "", "", auth.ErrNoAccount
	}
	return kind, name, nil
}

func (h *Accounts) handleSetPassword(c *fiber.Ctx) error {
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
	if err := h.setPassword(c, kind, name, in.Password); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Password set"})
}

func (h *Accounts) handleRemove(c *fiber.Ctx) error {
	kind, name, err := accountParams(c)
	if err != nil {
		return err
	}
	if err := h.remove(c, kind, name); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Account removed"})
}

// find finds an account, to name it.
func (h *Accounts) find(c *fiber.Ctx, kind, name string) (a auth.Account, known bool) {
	if kind == session.ByAccount {
		return h.Store.Administrator(name)
	}
	a, err := h.Store.PatientAccount(c.UserContext(), name)
	return a, err == nil
}

// change does something to an account, and records it, with the account's name if there is such an
// account.
func (h *Accounts) change(c *fiber.Ctx, what, kind, name string, do func() error) error {
	a, known := h.find(c, kind, name)
	if !known {
		a = auth.Account{}
	}
	err := do()
	e := ehi.Event{
		Action: ehi.ActionAdministrate, Patient: a.Patient,
		Detail: what + " account that is not known",
	}
	if known {
		e.Detail = what + " " + described(a)
	}
	if err != nil {
		e.Detail += ": " + trail.Reason(err)
	}
	if h.Trail.Record(c, err, e); err != nil {
		return err
	}
	h.Authority.NoteEnded()
	return h.Jobs.DeleteUnauthorizedNow(c.UserContext())
}

// setPassword gives an account a new password, which ends its sessions.
func (h *Accounts) setPassword(c *fiber.Ctx, kind, name, password string) error {
	return h.change(c, "set the password of", kind, name, func() error {
		return h.Store.SetPassword(c.UserContext(), kind, name, password)
	})
}

// remove removes an account, and ends the authorizations that it has granted.
func (h *Accounts) remove(c *fiber.Ctx, kind, name string) error {
	return h.change(c, "remove", kind, name, func() error {
		return h.Store.RemoveAccount(c.UserContext(), kind, name)
	})
}

// handleResetSecondFactor removes the second factor of a colleague who has lost it.
func (h *Accounts) handleResetSecondFactor(c *fiber.Ctx) error {
	kind := c.Params("kind")
	name, err := url.PathUnescape(c.Params("name"))
	if err != nil || kind != session.ByAccount && kind != session.ByConfig {
		return auth.ErrNoAccount
	}
	if err := h.resetSecondFactor(c, kind, name); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Second factor reset"})
}

// resetSecondFactor removes the second factor of an administrator.
func (h *Accounts) resetSecondFactor(c *fiber.Ctx, kind, name string) error {
	err := h.Store.ResetSecondFactor(c.UserContext(), kind, name)
	what := "reset the second factor of an administrator"
	_, known := h.Store.Administrator(name)
	if kind == session.ByConfig {
		known = name == h.ConfigUser
	}
	if known || err == nil { // else a password may have been typed into the field
		what += ", " + name
	}
	if err == nil {
		h.Authority.NoteEnded()
	}
	return h.Trail.Change(c, err, what)
}
