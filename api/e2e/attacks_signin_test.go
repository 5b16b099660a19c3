package e2e

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
)

// withSecondFactor returns a new administrator with a second factor, and the browser that has
// set it up.
func (p *target) withSecondFactor(name string) (b *browser, secret string, recovery []string) {
	p.t.Helper()
	_, err := p.admin.AddAccount(p.t.Context(), auth.Account{Name: name, Role: auth.Admin},
		staffPassword)
	if err != nil {
		p.t.Fatal(err)
	}
	b = p.person()
	b.visit(p.open.Base + "/admin/ui/second-factor")
	b.submit("username", name, "password", staffPassword)
	secret, recovery = b.setUp()
	return b, secret, recovery
}

// logsIn returns the status of a program's sign-in.
func (p *target) logsIn(name, code string) int {
	p.t.Helper()
	_, err := p.open.AdminLoginWithCode(p.t.Context(), name, staffPassword, code)
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Status
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return http.StatusOK
}

// refusesCode requires that a sign-in is refused.
func (p *target) refusesCode(name, code string) {
	p.t.Helper()
	if got := p.logsIn(name, code); got != http.StatusUnauthorized {
		p.t.Errorf("%s with the code %q: %d", name, code, got)
	}
}

// atProvider returns a production server whose administrators can also sign in with a provider.
func (p *target) atProvider() (*world, *smallProvider, func() *browser) {
	p.t.Helper()
	provider, cfg := openProvider(p.t), productionConfig(p.t)
	cfg.StaffOIDC = staffOIDC(provider.server.URL)
	w := start(p.t, p.t.TempDir(), cfg, node.Options{})
	return w, provider, (&production{world: w}).person
}

// stranger requires that nobody is signed in in a browser.
func (w *world) stranger(b *browser) {
	w.t.Helper()
	b.visit(w.open.Base + "/admin/ui/jobs")
	b.sees(200, "User name")
}

// signInAttacks are attempts to act as an administrator with only part of what signs one in.
var signInAttacks = []attack{
	{"a stolen password where there is a second factor", "NIST SP 800-63B 4.2", func(p *target) {
		p.withSecondFactor("twofold")
		for _, code := range []string{"", "000000", "0", "null", strings.Repeat("1", 1000)} {
			p.refusesCode("twofold", code)
		}
	}},
	{"the half of a log-in as a session", "CWE-287", func(p *target) {
		p.withSecondFactor("halfway")
		b := p.person()
		b.visit(p.open.Base + "/admin")
		b.submit("username", "halfway", "password", staffPassword)
		b.sees(200, "Enter the six-digit code")
		for _, path := range []string{
			"/admin/jobs",
			"/admin/accounts",
			"/admin/backup",
			"/admin/ui/events",
			"/jobs/" + p.annJob.ID + "/metadata",
		} {
			p.want(p.do(p.open, "GET", path, "Cookie", b.cookies()), 401, "")
		}
		b.visit(p.open.Base + "/admin/ui/second-factor")
		b.sees(200, "User name")
	}},
	{"a code that was seen over a shoulder", "RFC 6238 5.2", func(p *target) {
		_, secret, _ := p.withSecondFactor("watched")
		code := appCode(p.t, secret, 0)
		if got := p.logsIn("watched", code); got != http.StatusOK {
			p.t.Fatal(got)
		}
		p.refusesCode("watched", code)
		p.refusesCode("watched", appCode(p.t, secret, -1))
	}},
	{"a recovery code twice", "NIST SP 800-63B 3.1.2.2", func(p *target) {
		_, _, recovery := p.withSecondFactor("recovering")
		if got := p.logsIn("recovering", recovery[0]); got != http.StatusOK {
			p.t.Fatal(got)
		}
		p.refusesCode("recovering", recovery[0])
	}},
	{"another administrator's codes", "CWE-287", func(p *target) {
		_, secret, recovery := p.withSecondFactor("codes-of-mine")
		p.withSecondFactor("codes-of-others")
		p.refusesCode("codes-of-others", appCode(p.t, secret, 0))
		p.refusesCode("codes-of-others", recovery[0])
	}},
	{"codes are guessed", "RFC 4226 7.3", func(p *target) {
		_, secret, _ := p.withSecondFactor("guessed")
		defer p.clock.stop()()
		for range 5 {
			p.refusesCode("guessed", "123456")
		}
		if got := p.logsIn("guessed", appCode(p.t, secret, 0)); got != http.StatusTooManyRequests {
			p.t.Errorf("after five wrong codes: %d", got)
		}
	}},
	{"a session from before the second factor", "CWE-613", func(p *target) {
		_, err := p.admin.AddAccount(p.t.Context(), auth.Account{Name: "earlier", Role: auth.Admin},
			staffPassword)
		if err != nil {
			p.t.Fatal(err)
		}
		before := p.staff("earlier")
		b := p.person()
		b.visit(p.open.Base + "/admin/ui/second-factor")
		b.submit("username", "earlier", "password", staffPassword)
		b.setUp()
		p.want(p.do(before, "GET", "/admin/jobs"), 401, "")
	}},
	{"a session from before the second factor's reset", "CWE-613", func(p *target) {
		b, _, _ := p.withSecondFactor("lost-it")
		if err := p.admin.ResetSecondFactor(p.t.Context(), "admin", "lost-it"); err != nil {
			p.t.Fatal(err)
		}
		b.visit(p.open.Base + "/admin/ui/jobs")
		b.sees(200, "User name")
	}},
	{"a reviewer resets a second factor", "OWASP API5", func(p *target) {
		p.withSecondFactor("kept")
		p.want(p.do(p.staff("rita"), "DELETE", "/admin/accounts/admin/kept/second-factor"), 403,
			"role admin")
		p.refusesCode("kept", "")
	}},
	{"a session that was left open", "CWE-613, RFC 9470", func(p *target) {
		cfg := productionConfig(p.t)
		cfg.Admin.ReauthenticateAfter = time.Nanosecond
		w := start(p.t, p.t.TempDir(), cfg, node.Options{})
		for _, route := range []string{
			"POST /admin/jobs/x/approve",
			"DELETE /admin/jobs/x",
			"POST /admin/clients",
			"DELETE /admin/clients/x",
			"POST /admin/clients/x/rotate",
			"POST /admin/accounts", "PUT /admin/accounts/admin/x", "DELETE /admin/accounts/admin/x",
			"DELETE /admin/accounts/admin/x/second-factor",
			"POST /admin/keys/rotate",
			"GET /admin/backup",
		} {
			method, path, _ := strings.Cut(route, " ")
			w.want(w.do(w.admin, method, path), 401, "POST /admin/login")
		}
		w.want(w.do(w.admin, "GET", "/admin/jobs"), 200, "")
	}},
	{
		"a sign-in that an attacker began (login CSRF)",
		"OpenID Connect Core 3.1.2.1, RFC 6749 10.12",
		func(p *target) {
			w, provider, person := p.atProvider()
			attacker, victim := person(), person()
			answer := provider.signsIn("nora", w.toProvider(attacker))
			victim.visit(answer)
			victim.sees(401, "begun in another browser")
			w.stranger(victim)
			w.toProvider(victim) // with a sign-in of her own under way
			victim.visit(answer)
			victim.sees(401, "began in another browser")
			w.stranger(victim)
			attacker.visit(w.open.Base + "/admin/ui/login")
			attacker.forge(w.open.Base+"/admin/ui/login/openid", "https://evil.example/",
				"next=/admin/ui/jobs")
			attacker.sees(403, "")
		},
	},
	{"the provider's answer a second time", "OpenID Connect Core 3.1.3.2", func(p *target) {
		w, provider, person := p.atProvider()
		b := person()
		answer := provider.signsIn("nora", w.toProvider(b))
		here, err := url.Parse(w.open.Base)
		if err != nil {
			p.t.Fatal(err)
		}
		var cookies []string
		for _, c := range b.http.Jar.Cookies(here) {
			cookies = append(cookies, c.String())
		}
		b.visit(answer)
		b.sees(200, "You are signed in")
		p.want(w.do(w.open, "GET", strings.TrimPrefix(answer, w.open.Base), "Cookie",
			strings.Join(cookies, "; "), "Accept", "text/html"), 401, "over already")
	}},
	{"sign-ins that are begun without end", "CWE-770", func(p *target) {
		w, _, person := p.atProvider()
		kept := func() int {
			keys, err := w.node.Bus.Sessions.Keys(p.t.Context())
			if err != nil {
				p.t.Fatal(err)
			}
			return len(keys)
		}
		before := kept()
		for range 10 {
			w.toProvider(person())
			p.want(w.do(w.open, "GET", "/admin/ui/login/openid/callback?state=x&code=x", "Cookie",
				"__Host-ehi_openid=x; ehi_openid=x", "Accept", "text/html"), 401, "")
		}
		if after := kept(); after > before {
			p.t.Errorf("%d records are left", after-before)
		}
	}},
	{
		"the provider's answer with another state, code or issuer",
		"RFC 9700 4.4, RFC 9207",
		func(p *target) {
			w, provider, person := p.atProvider()
			for name, value := range map[string]string{
				"state": "x",
				"code":  "x",
				"iss":   "https://evil.example",
				"error": "access_denied",
			} {
				b := person()
				u, err := url.Parse(provider.signsIn("adam", w.toProvider(b)))
				if err != nil {
					p.t.Fatal(err)
				}
				u.RawQuery = changed(u.Query(), []string{name, value}).Encode()
				b.visit(u.String())
				b.sees(401, "You are not signed in")
				if strings.Contains(b.page, "access_denied") || strings.Contains(b.page, "evil") {
					p.t.Errorf("the page repeats what the browser brought along: %s", b.page)
				}
				w.stranger(b)
			}
		},
	},
	{"somebody whom the provider gives no role", "CWE-863", func(p *target) {
		w, provider, person := p.atProvider()
		for _, name := range []string{"nina", "admin", "root", "ada"} {
			b := person()
			b.visit(provider.signsIn(name, w.toProvider(b)))
			b.sees(403, "has not given you a role")
			w.stranger(b)
		}
	}},
	{"a session of a provider that is the server's no more", "CWE-613", func(p *target) {
		provider, cfg, data, cookies := openProvider(p.t), productionConfig(p.t), p.t.TempDir(), ""
		cfg.StaffOIDC = staffOIDC(provider.server.URL)
		p.t.Run("before", func(t *testing.T) {
			w := start(t, data, cfg, node.Options{})
			b := (&production{world: w}).person()
			b.visit(provider.signsIn("adam", w.toProvider(b)))
			w.want(w.do(w.open, "GET", "/admin/jobs", "Cookie", b.cookies()), 200, "")
			cookies = b.cookies()
		})
		cfg.StaffOIDC.Role = []string{"ehi-admins=viewer"}
		w := start(p.t, data, cfg, node.Options{})
		w.want(w.do(w.open, "GET", "/admin/jobs", "Cookie", cookies), 401, "")
	}},
	{"a session with a role that the provider has taken back", "CWE-613", func(p *target) {
		w, provider, person := p.atProvider()
		old, at := person(), person()
		signIn := func(b *browser, role string, status int) {
			provider.gives("adam", role)
			b.visit(provider.signsIn("adam", w.toProvider(b)))
			b.sees(status, "")
		}
		clients := func(b *browser, status int) {
			p.t.Helper()
			p.want(w.do(w.open, "GET", "/admin/clients", "Cookie", b.cookies()), status, "")
		}
		signIn(old, "ehi-admins", 200)
		clients(old, 200)
		signIn(at, "ehi-reviewers", 200)
		clients(at, 403)
		clients(old, 401)
		signIn(at, "", 403)
		signIn(person(), "ehi-admins", 200)
		clients(old, 401) // it does not come back with the role
		clients(at, 401)
		signIn(old, "ehi-admins", 200)
		clients(old, 200)
		signIn(person(), "", 403)
		clients(old, 401)
	}},
	{"another site changes the second factor", "CWE-352", func(p *target) {
		b, _, _ := p.withSecondFactor("forged")
		b.forge(p.open.Base+"/admin/ui/second-factor", "https://evil.example/", "do=remove")
		b.sees(403, "")
		p.refusesCode("forged", "")
		p.want(p.do(p.staff("ada"), "DELETE", "/admin/accounts/admin/forged/second-factor",
			"Sec-Fetch-Site", "cross-site"), 403, "another site")
		p.refusesCode("forged", "")
	}},
}
