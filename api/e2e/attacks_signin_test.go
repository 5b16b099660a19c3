package e2e

import (
	"errors"
	"net/http"
	"strings"

	"ehi-server/api/client"
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
