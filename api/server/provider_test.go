package server

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ehi-server/api/openid"
	"ehi-server/api/openid/openidtest"
	"ehi-server/api/staff"
)

const providerForm = "/admin/ui/login/openid"

// withProvider is a browser at a server whose administrators can also sign in with a provider.
func withProvider(t *testing.T) (b *seat, provider *openidtest.Provider) {
	t.Helper()
	provider = openidtest.Open(t)
	return atProvider(t, provider.Config()), provider
}

// atProvider is a browser at a server with a provider's configuration.
func atProvider(t *testing.T, config openid.Config) *seat {
	t.Helper()
	const base = "http://ehi.example"
	p, err := openid.New(config, staff.OpenIDCallback(base))
	if err != nil {
		t.Fatal(err)
	}
	s := routedWith(t, func(c *Config, d *Deps) { c.Origins.BaseURL, d.OpenID = base, p })
	return &seat{t: t, s: s, cookies: map[string]string{}}
}

// toProvider begins a sign-in with the provider, and returns the provider's address.
func (b *seat) toProvider() string {
	b.t.Helper()
	b.visit(signInPage+"?next=/admin/ui/system", 200)
	a := b.submit(providerForm)
	if a.StatusCode() != http.StatusSeeOther {
		b.t.Fatalf("%d %s", a.StatusCode(), a.Body())
	}
	return string(a.Header.Peek("Location"))
}

// comesBack returns where the provider sends the browser back to, as the named person.
func (b *seat) comesBack(provider *openidtest.Provider, name string) (path string) {
	b.t.Helper()
	return strings.TrimPrefix(provider.SignsIn(name, b.toProvider()), b.s.Origins.BaseURL)
}

// stranger requires that nobody is signed in in the browser.
func (b *seat) stranger() {
	b.t.Helper()
	b.visit("/admin/ui/jobs", 200, "User name")
}

// A sign-in with the provider ends only in the browser where it began (login CSRF, OpenID Connect
// Core 3.1.2.1, RFC 6749 10.12). Another site cannot begin one.
func TestASignInWithTheProviderBelongsToOneBrowser(t *testing.T) {
	attacker, provider := withProvider(t)
	victim, answer := attacker.another(), attacker.comesBack(provider, "nora")
	victim.visit(answer, 401, "begun in another browser")
	victim.stranger()
	victim.toProvider() // with a sign-in of her own under way
	victim.visit(answer, 401, "began in another browser")
	victim.stranger()
	attacker.visit(signInPage, 200)
	a := attacker.ask("POST", providerForm, "next=/admin/ui/jobs", "Accept", "text/html",
		"Content-Type", "application/x-www-form-urlencoded", "Referer", "https://evil.example/")
	attacker.sees(a, 403)
}

// The provider's answer counts once (OpenID Connect Core 3.1.3.2).
func TestTheProvidersAnswerCountsOnce(t *testing.T) {
	b, provider := withProvider(t)
	answer, again := b.comesBack(provider, "nora"), b.copied()
	b.visit(answer, 200, "You are signed in")
	b.visit("/admin/ui/jobs", 200, "nora (OpenID) (reviewer)")
	again.visit(answer, 401, "over already")
	again.stranger()
}

// Sign-ins that are begun without end leave no records (CWE-770).
func TestASignInThatIsOnlyBegunStoresNothing(t *testing.T) {
	b, _ := withProvider(t)
	kept := func() int {
		keys, err := b.s.Bus.Sessions.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(keys)
	}
	before := kept()
	for range 10 {
		b.another().toProvider()
		forged := b.another()
		forged.cookies["ehi_openid"], forged.cookies["__Host-ehi_openid"] = "x", "x"
		forged.visit("/admin/ui/login/openid/callback?state=x&code=x", 401)
	}
	if after := kept(); after > before {
		t.Errorf("%d records are left", after-before)
	}
}

// An answer with another state, code or issuer than that of the sign-in, or with an error, signs
// nobody in, and the page does not repeat it (RFC 9700 4.4, RFC 9207).
func TestAChangedAnswerOfTheProviderSignsNobodyIn(t *testing.T) {
	first, provider := withProvider(t)
	for name, value := range map[string]string{
		"state": "x",
		"code":  "x",
		"iss":   "https://evil.example",
		"error": "access_denied",
	} {
		b := first.another()
		u, err := url.Parse(b.comesBack(provider, "adam"))
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		q.Set(name, value)
		u.RawQuery = q.Encode()
		b.visit(u.String(), 401, "You are not signed in")
		if strings.Contains(b.page, "access_denied") || strings.Contains(b.page, "evil") {
			t.Errorf("the page repeats what the browser brought along: %s", b.page)
		}
		b.stranger()
	}
}

// Without a role from the provider nobody is signed in, whatever the name (CWE-863).
func TestTheProviderGivesARoleOrNobodyIsSignedIn(t *testing.T) {
	first, provider := withProvider(t)
	for _, name := range []string{"nina", "admin", "root", "ada"} {
		b := first.another()
		b.visit(b.comesBack(provider, name), 403, "has not given you a role")
		b.stranger()
	}
}

// A session ends when the provider reports another role, or none, and does not return with the
// role (CWE-613).
func TestASessionEndsWithTheRoleThatTheProviderGave(t *testing.T) {
	old, provider := withProvider(t)
	at := old.another()
	signIn := func(b *seat, role string, status int) {
		t.Helper()
		provider.Gives("adam", role)
		b.visit(b.comesBack(provider, "adam"), status)
	}
	clients := func(b *seat, status int) {
		t.Helper()
		b.wants("GET", "/admin/clients", "", status, "")
	}
	signIn(old, "ehi-admins", 200)
	clients(old, 200)
	signIn(at, "ehi-reviewers", 200)
	clients(at, 403)
	clients(old, 401)
	signIn(at, "", 403)
	signIn(old.another(), "ehi-admins", 200)
	clients(old, 401) // it does not come back with the role
	clients(at, 401)
	signIn(old, "ehi-admins", 200)
	clients(old, 200)
	signIn(old.another(), "", 403)
	clients(old, 401)
}
