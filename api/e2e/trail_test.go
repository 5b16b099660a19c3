package e2e

import (
	"net/url"
	"strings"
	"testing"

	"ehi-server/api/node"
	"ehi-server/auth"
)

// The trail names the accounts, roles and clients that administrators change, and says who has
// read the names, choices and withheld counts of patients. For refused requests, it does not
// repeat the input.
func TestTheTrailNamesWhatAdministratorsChangeAndRead(t *testing.T) {
	t.Parallel()
	p := startLasting(t)
	app, _ := p.letIn("app", "ann")
	j := p.kickOff(app, "", p.ann, nil)
	ada := p.staff("ada")
	for range 2 {
		p.want(p.do(ada, "GET", "/admin/jobs/"+j.ID), 200, "")
		p.want(p.do(ada, "GET", "/admin/jobs"), 200, "")
		p.want(p.do(ada, "GET", "/admin/accounts"), 200, "")
	}
	_, err := ada.AddAccount(t.Context(), auth.Account{Name: "nora", Role: auth.Reviewer},
		staffPassword)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []error{
		ada.SetPassword(t.Context(), "admin", "nora", staffPassword+" anew"),
		ada.RemoveAccount(t.Context(), "admin", "nora"),
		ada.RemoveClient(t.Context(), "web"),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	if _, err := ada.RotateKeys(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	const typed = "typed-by-mistake"
	_ = ada.RemoveClient(t.Context(), typed) // all of them are refused
	_ = ada.RemoveAccount(t.Context(), "admin", typed)
	_, _, _ = ada.AddClient(t.Context(), auth.Client{ID: typed, Name: typed, Scope: "nonsense"})
	_, _ = ada.AddAccount(t.Context(), auth.Account{Name: typed, Role: "nonsense"}, typed)

	var all string
	await(t, "the trail", func() bool {
		all = string(p.do(p.admin, "GET", "/admin/audit?agent=admin%20ada").Body)
		return strings.Contains(all, "add account of kind")
	})
	for _, want := range []string{
		"add account nora of kind admin, role reviewer",
		"set the password of account nora of kind admin, role reviewer",
		"remove account nora of kind admin, role reviewer",
		"remove client web (A web site)",
		"rotate signing keys",
		"/admin/jobs/:id", "/admin/accounts",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the trail does not say %q:\n%s", want, all)
		}
	}
	if strings.Contains(all, typed) {
		t.Errorf("the trail repeats what was typed:\n%s", all)
	}
	reads := string(
		p.do(p.admin, "GET", "/admin/audit?action=read&agent=admin%20ada&patient="+p.ann).Body)
	if n := strings.Count(reads, "\n"); n != 1 {
		t.Errorf("%d events of one job that was read twice:\n%s", n, reads)
	}
}

// Guessing the initial access token, or a client's secret at introspection, leaves an event,
// which does not repeat the guess.
func TestTheTrailTellsOfRefusedRegistrationsAndIntrospections(t *testing.T) {
	t.Parallel()
	p := &target{
		production: startProduction(t, func(c *node.Config) {
			c.Registration.Token = registrationToken
		}),
	}
	p.guessRegistrationToken()
	p.guessSecretAtIntrospection()
}

const strangersGuess = "guessed-by-a-stranger"

func (p *target) guessRegistrationToken() {
	p.t.Helper()
	a, err := p.open.WithToken(strangersGuess).Do(p.t.Context(), "POST", "/auth/register",
		strings.NewReader("{}"), "Content-Type", "application/json")
	if err != nil {
		p.t.Fatal(err)
	}
	p.want(a, 401, "invalid_token")
	p.leavesEvent("register", "invalid_token")
}

func (p *target) guessSecretAtIntrospection() {
	p.t.Helper()
	form := url.Values{
		"client_id":     {"web"},
		"client_secret": {strangersGuess},
		"token":         {strangersGuess},
	}
	p.want(p.post("/auth/introspect", form), 401, "invalid_client")
	p.leavesEvent("token", "introspect: invalid_client")
}

// leavesEvent waits for an event of an action with a text, and requires that the trail repeats
// no guess.
func (p *target) leavesEvent(action, says string) {
	p.t.Helper()
	var all string
	await(p.t, "the refusal in the trail", func() bool {
		all = string(p.do(p.admin, "GET", "/admin/audit?action="+action+"&limit=0").Body)
		return strings.Contains(all, says)
	})
	if strings.Contains(all, strangersGuess) {
		p.t.Errorf("the trail repeats a guess:\n%s", all)
	}
}
