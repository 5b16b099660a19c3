package staff

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/auth"
)

// door is whether somebody is signed in, and whether they have proved it recently.
type door struct {
	err    error
	recent bool
}

func (d *door) Require(*fiber.Ctx, auth.Role) error    { return d.err }
func (d *door) RequireSelf(*fiber.Ctx) error           { return d.err }
func (d *door) Recent(who *request.Administrator) bool { return d.recent }
func (d *desk) gate(s *door) *Gate {
	return &Gate{Pages: d.pages, Sessions: s, ProofAge: 10 * time.Minute}
}

func passes(c *fiber.Ctx) error { return c.Status(http.StatusTeapot).SendString("passed") }

// People who are not signed in are led to the log-in, and from there to what they asked for.
// Programs are refused.
func TestStrangersAreLedToTheLogIn(t *testing.T) {
	d := newDesk(t)
	gate := d.gate(&door{err: session.ErrNobody})
	d.app.Get(Base+"/system", gate.PageFor(auth.Viewer), passes)
	d.app.Get("/admin/jobs", gate.AtLeast(auth.Viewer), passes)
	d.app.Get(factorPath, gate.Self, passes)
	for path, asked := range map[string]string{
		Base + "/system?q=a&b": Base + "/system?q=a&b", factorPath: factorPath,
	} {
		a := d.ask("GET", path, "")
		to, err := url.Parse(string(a.Header.Peek("Location")))
		if err != nil || to.Path != loginPath || to.Query().Get("next") != asked {
			t.Errorf("%s: %d, to %s, %v", path, a.StatusCode(), to, err)
		}
		a = d.ask("GET", path, "", "Accept", "application/json")
		if a.StatusCode() != http.StatusUnauthorized {
			t.Errorf("a program at %s: %d", path, a.StatusCode())
		}
	}
	if a := d.ask("GET", "/admin/jobs", ""); a.StatusCode() != http.StatusUnauthorized {
		t.Errorf("the API: %d", a.StatusCode())
	}
}

// Whoever still needs a second factor is led to its page, or told to sign in there.
func TestAMissingSecondFactorIsSetUpFirst(t *testing.T) {
	d := newDesk(t)
	gate := d.gate(&door{err: session.ErrUnfinished})
	d.app.Get(Base+"/system", gate.PageFor(auth.Viewer), passes)
	d.app.Post("/admin/sweep", gate.AtLeast(auth.Admin), passes)
	a := d.ask("GET", Base+"/system", "")
	if to := string(a.Header.Peek("Location")); !strings.Contains(to, factorPath+"?next=") {
		t.Errorf("a page leads to %q", to)
	}
	a = d.ask("POST", "/admin/sweep", "", "Accept", "application/json")
	if a.StatusCode() != http.StatusForbidden || !strings.Contains(string(a.Body()), loginPath) {
		t.Errorf("a program: %d %s", a.StatusCode(), a.Body())
	}
}

// A change that needs a recent proof waits for it: what was typed into a page's form comes back,
// except passwords, and a program is told how old the proof may be.
func TestAnOldProofIsRenewedFirst(t *testing.T) {
	d := newDesk(t)
	open := &door{}
	gate := d.gate(open)
	d.app.Post(clientsPath, signedIn, gate.Recently, passes)
	d.app.Post("/admin/clients", signedIn, gate.Recently, passes)
	d.app.Get(clientsPath, signedIn, func(c *fiber.Ctx) error {
		f := d.pages.left(c)
		return c.SendString(f.Problem + f.Get("name") + f.Get("password"))
	})
	to := d.send(clientsPath, "name=An+app&password=secret")
	if to != withNext(provePath, clientsPath) {
		t.Errorf("the form leads to %s", to)
	}
	if text := string(d.ask("GET", clientsPath, "").Body()); text != unproved+"An app" {
		t.Errorf("its page says %q", text)
	}
	a := d.ask("POST", "/admin/clients", "{}", "Accept", "application/json")
	header := string(a.Header.Peek("WWW-Authenticate"))
	if a.StatusCode() != http.StatusUnauthorized || !strings.HasSuffix(header, `max_age="600"`) {
		t.Errorf("a program: %d %s", a.StatusCode(), header)
	}
	open.recent = true
	a = d.ask("POST", "/admin/clients", "{}", "Accept", "application/json")
	if a.StatusCode() != http.StatusTeapot {
		t.Errorf("with a recent proof: %d", a.StatusCode())
	}
}

// The log-in leads on to pages of administrators alone, and not to itself.
func TestTheLogInLeadsToPagesOfAdministratorsAlone(t *testing.T) {
	d := newDesk(t)
	d.app.Get("/next", func(c *fiber.Ctx) error { return c.SendString(d.pages.next(c)) })
	for next, want := range map[string]string{
		Base + "/system?a=b":         Base + "/system?a=b",
		"":                           jobsPath,
		"/":                          jobsPath,
		"https://evil.example/":      jobsPath,
		"//evil.example/admin/ui/x":  jobsPath,
		"/admin/ui/../../my/request": jobsPath,
		loginPath + "/code":          jobsPath,
		provePath:                    jobsPath,
	} {
		a := d.ask("GET", "/next?next="+url.QueryEscape(next), "")
		if got := string(a.Body()); got != want {
			t.Errorf("%q leads to %q", next, got)
		}
	}
}
