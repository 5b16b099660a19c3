package staff

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// people are one administrator's account; everything that is changed of another fails.
type people struct{ AccountStore }

func (people) Administrator(name string) (auth.Account, bool) {
	return auth.Account{Name: name, Role: auth.Reviewer}, name == "vera"
}

func (people) PatientAccount(context.Context, string) (a auth.Account, err error) {
	return a, auth.ErrNoAccount
}

func (people) AddAccount(
	_ context.Context, a auth.Account, password string,
) (auth.Account, error) {
	if password == "" {
		return a, ehi.Errorf(ehi.Invalid, "no password")
	}
	return a, nil
}

func (p people) change(name string) error {
	if _, known := p.Administrator(name); !known {
		return auth.ErrNoAccount
	}
	return nil
}

func (p people) SetPassword(_ context.Context, _, name, _ string) error { return p.change(name) }

func (p people) RemoveAccount(_ context.Context, _, name string) error { return p.change(name) }

func (p people) ResetSecondFactor(_ context.Context, _, name string) error {
	return p.change(name)
}

// notes are what the audit trail is told, and how often what was let in is looked at again.
type notes struct {
	details       []string
	ended, ending int
}

func (n *notes) Record(_ *fiber.Ctx, _ error, e ehi.Event) {
	n.details = append(n.details, e.Detail)
}

func (n *notes) Change(_ *fiber.Ctx, err error, what string) error {
	n.details = append(n.details, what)
	return err
}

func (n *notes) NoteEnded() { n.ended++ }

func (n *notes) DeleteUnauthorizedNow(context.Context) error {
	n.ending++
	return nil
}

// What is typed in place of an account's name may be a password: the audit trail names accounts
// that exist, and no other. Only a change ends what an account has let in.
func TestOnlyAccountsThatExistAreNamed(t *testing.T) {
	const typed = "correct horse"
	for _, c := range []struct {
		method, path, body string
		status, ended      int
		detail             string
	}{
		{"POST", "", `{"username":"` + typed + `","role":"viewer"}`, http.StatusBadRequest, 0,
			"add account of kind admin"},
		{"POST", "", `{"username":"otto","role":"viewer","password":"x"}`, http.StatusCreated, 0,
			"add account otto of kind admin, role viewer"},
		{"PUT", "/admin/correct%20horse", `{"password":"x"}`, http.StatusNotFound, 0,
			"set the password of account that is not known: "},
		{"PUT", "/admin/vera", `{"password":"x"}`, http.StatusOK, 1,
			"set the password of account vera of kind admin, role reviewer"},
		{"DELETE", "/admin/correct%20horse", "", http.StatusNotFound, 0,
			"remove account that is not known: "},
		{"DELETE", "/admin/vera", "", http.StatusOK, 1,
			"remove account vera of kind admin, role reviewer"},
		{"DELETE", "/admin/correct%20horse/second-factor", "", http.StatusNotFound, 0,
			"reset the second factor of an administrator"},
		{"DELETE", "/admin/vera/second-factor", "", http.StatusOK, 1,
			"reset the second factor of an administrator, vera"},
		{"DELETE", "/config/root/second-factor", "", http.StatusNotFound, 0,
			"reset the second factor of an administrator, root"},
	} {
		d, n := newDesk(t), &notes{}
		accounts := &Accounts{ConfigUser: "root", Store: people{}, Authority: n, Jobs: n, Trail: n}
		accounts.Routes(routes{d.app})
		a := d.ask(c.method, "/admin/accounts"+c.path, c.body, "Content-Type", "application/json")
		if a.StatusCode() != c.status || n.ended != c.ended {
			t.Errorf("%s %s: %d, ended %d times", c.method, c.path, a.StatusCode(), n.ended)
		}
		if len(n.details) != 1 || !strings.HasPrefix(n.details[0], c.detail) ||
			strings.Contains(n.details[0], typed) {
			t.Errorf("%s %s: the trail says %q", c.method, c.path, n.details)
		}
	}
}

// A member that an account lacks is refused, so that a misspelt one does not count as absent; so is
// one that is there twice.
func TestAccountsAreReadStrictly(t *testing.T) {
	for _, body := range []string{
		`{"username":"otto","rolle":"viewer","password":"x"}`,
		`{"username":"otto","role":"viewer","role":"admin","password":"x"}`,
		`{"username":"otto"`, "", "username=otto",
	} {
		d, n := newDesk(t), &notes{}
		accounts := &Accounts{Store: people{}, Authority: n, Jobs: n, Trail: n}
		accounts.Routes(routes{d.app})
		a := d.ask("POST", "/admin/accounts", body, "Content-Type", "application/json")
		if a.StatusCode() != http.StatusBadRequest || len(n.details) > 0 {
			t.Errorf("%s: %d, and the trail says %q", body, a.StatusCode(), n.details)
		}
	}
}
