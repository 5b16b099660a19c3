package staff

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// setUpAge is how long a secret waits for its first code.
const setUpAge = time.Hour

// FactorStore keeps the second factors of administrators (auth.Server).
type FactorStore interface {
	// Enrol sets a second factor up, by a code of its secret. Errors: ehi.Invalid.
	Enrol(
		ctx context.Context, kind, name, secret, code string,
	) (recovery []string, a auth.Account, err error)
	RecoveryLeft(ctx context.Context, kind, name string) (int, error)
	RenewRecovery(ctx context.Context, kind, name string) (recovery []string, err error)
	ResetSecondFactor(ctx context.Context, kind, name string) error
}

// FactorSessions are the sessions of administrators whose second factor changes
// (session.Administrators).
type FactorSessions interface {
	// Account is what is stored of an administrator.
	Account(who *request.Administrator) auth.Account
	// Renew opens a new session for an administrator whose account has just become a. factor is by
	// what its second factor is proved, "" by nothing.
	Renew(c *fiber.Ctx, who *request.Administrator, a auth.Account, factor string) error
}

// SecondFactor lets administrators set up, renew and remove their own second factor.
type SecondFactor struct {
	Pages    *Pages
	Store    FactorStore
	Sessions FactorSessions
	Trail    Trail
	// Required is whether every administrator needs a second factor.
	Required bool
}

// Routes registers the page.
func (h *SecondFactor) Routes(r Router) {
	guard := h.Pages.guarded()
	r.OnPage("GET", factorPath, guard, h.handlePage)
	r.OnPage("POST", factorPath, guard, h.handleChange)
}

// service is the name of this server in authenticator apps.
func (h *SecondFactor) service() string {
	host := h.Pages.Site.Origins.BaseURL
	if u, err := url.Parse(host); err == nil {
		host = u.Host
	}
	return "EHI export " + strings.ReplaceAll(host, ":", " ")
}

// pending is the secret of the second factor that is being set up in this session. It is made where
// there is none, and kept sealed by the session's cookie.
func (h *SecondFactor) pending(c *fiber.Ctx) (secret string, err error) {
	key := "second factor " + h.Pages.session(c)
	kept, err := h.Pages.Flashes.Safe.Get(c, key)
	if err != nil || kept != nil {
		return string(kept), err
	}
	if secret, _, err = auth.NewSecret(h.service(), request.AdministratorName(c)); err != nil {
		return "", err
	}
	return secret, h.Pages.Flashes.Safe.Put(c, key, []byte(secret), setUpAge)
}

// handlePage shows administrators their second factor, or how to set one up.
func (h *SecondFactor) handlePage(c *fiber.Ctx) error {
	who := request.SignedIn(c)
	data := fiber.Map{"Who": who, "Next": h.Pages.next(c), "Required": h.Required}
	if who.TwoFactors {
		left, err := h.Store.RecoveryLeft(c.UserContext(), who.By, who.Name)
		if err != nil {
			return err
		}
		data["Left"] = left
	}
	if anew := c.Query("anew") != ""; who.By != session.ByOpenID && (!who.TwoFactors || anew) {
		secret, err := h.pending(c)
		if err != nil {
			return err
		}
		uri, err := auth.SecretURI(secret, h.service(), who.Name)
		if err != nil {
			return err
		}
		if data["QR"], err = drawQR(uri); err != nil {
			return err
		}
		data["Secret"], data["Anew"] = grouped(secret), anew
	}
	return h.Pages.render(c, "second-factor", "", "Second factor", data)
}

// grouped is a secret in groups of four, as people type it.
func grouped(secret string) string {
	var out []string
	for ; len(secret) > 4; secret = secret[4:] {
		out = append(out, secret[:4])
	}
	return strings.Join(append(out, secret), " ")
}

// handleChange sets an administrator's own second factor up, renews its recovery codes, or
// removes it where none is required.
func (h *SecondFactor) handleChange(c *fiber.Ctx) error {
	to := withNext(factorPath, h.Pages.next(c))
	done, err := h.change(c, request.SignedIn(c))
	if err != nil {
		if page.Field(c, "anew") != "" {
			to += "&anew=yes"
		}
		return h.Pages.again(c, to, err)
	}
	done.Owner = request.AdministratorName(c) // in a new session
	return h.Pages.Flashes.Leave(c, to, &done)
}

func (h *SecondFactor) change(
	c *fiber.Ctx, who *request.Administrator,
) (done flash, err error) {
	ctx := c.UserContext()
	if who.By == session.ByOpenID {
		return done, ehi.Errorf(ehi.Invalid, "Your organisation takes care of your second factor")
	}
	switch page.Field(c, "do") {
	case "set-up":
		return h.setUp(c, who)
	case "codes":
		done.Message = "These are new recovery codes. The old codes no longer work."
		done.Codes, err = h.Store.RenewRecovery(ctx, who.By, who.Name)
		return done, h.Trail.Change(c, err, "renew recovery codes")
	case "remove":
		if h.Required {
			return done, ehi.Errorf(ehi.Invalid, "A second factor is required here")
		}
		err = h.Store.ResetSecondFactor(ctx, who.By, who.Name)
		if err = h.Trail.Change(c, err, "remove the second factor of "+who.Name); err != nil {
			return done, err
		}
		done.Message = "Your second factor is removed."
		return done, h.Sessions.Renew(c, who, h.Sessions.Account(who), "")
	}
	return done, errNoSuchChange
}

func (h *SecondFactor) setUp(
	c *fiber.Ctx, who *request.Administrator,
) (done flash, err error) {
	secret, err := h.pending(c)
	if err != nil {
		return done, err
	}
	var a auth.Account
	done.Codes, a, err = h.Store.Enrol(
		c.UserContext(), who.By, who.Name, secret, page.Field(c, "code"),
	)
	if err = h.Trail.Change(c, err, "set up a second factor"); err != nil {
		return done, err
	}
	done.Message = "Your second factor is set up."
	return done, h.Sessions.Renew(c, who, a, string(auth.ByApp))
}
