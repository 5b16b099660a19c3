package e2e

import (
	"bufio"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"ehi-server/api/node"
	"ehi-server/api/openid"
	"ehi-server/api/openid/openidtest"
	"ehi-server/shared/ehi"
)

const callbackPath = "/admin/ui/login/openid/callback"

// npmProvider starts the OpenID provider of testdata/oidc, which redirects browsers to the given
// servers. It skips the test without Node, or if the provider is not available.
func npmProvider(t *testing.T, bases ...string) openid.Config {
	t.Helper()
	run, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is absent (Debian: nodejs)")
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "provider.js"} {
		data, err := os.ReadFile(filepath.Join("testdata", "oidc", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	npmInstall(t, dir)
	var redirects []string
	for _, base := range bases {
		redirects = append(redirects, base+callbackPath)
	}
	list, err := json.Marshal(redirects)
	if err != nil {
		t.Fatal(err)
	}
	provider := exec.Command(run, "provider.js") // it ends when its input ends
	provider.Dir = dir
	provider.Env = append(os.Environ(), "REDIRECTS="+string(list), "SECRET="+openidtest.Secret,
		`PEOPLE={
		"nora": {"roles": ["staff", "ehi-reviewers"]}, "olaf": {"roles": "ehi-reviewers"}, "adam": {"roles": ["ehi-admins"]},
		"nina": {"roles": ["staff"]}, "theo": {"roles": {"ehi-admins": true}}, "vito": {}, "ada": {"roles": ["ehi-viewers"]}}`)
	in, errIn := provider.StdinPipe()
	out, errOut := provider.StdoutPipe()
	if errIn != nil || errOut != nil || provider.Start() != nil {
		t.Fatal("node does not start", errIn, errOut)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		if err := provider.Wait(); err != nil {
			t.Error(err)
		}
	})
	issuer, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return openidtest.Config(strings.TrimSpace(issuer))
}

var providerForm = regexp.MustCompile(
	`(?s)<form[^>]*action="([^"]+)"[^>]*>.*?name="prompt" value="(\w+)"`)

var providerEnd = regexp.MustCompile(`action="([^"]+/session/end/confirm)"`)

// atProvider signs in at the provider and consents until it redirects the browser back.
func (b *browser) atProvider(name string) {
	b.t.Helper()
	for range 6 {
		m := providerForm.FindStringSubmatch(b.page)
		// of another person's session
		if end := providerEnd.FindStringSubmatch(b.page); end != nil {
			form := url.Values{}
			for _, h := range hidden.FindAllStringSubmatch(b.page, -1) {
				form.Set(h[1], html.UnescapeString(h[2]))
			}
			b.forge(html.UnescapeString(end[1]), b.at.String(), form.Encode())
			continue
		}
		if m == nil {
			return
		}
		form := url.Values{"prompt": {m[2]}}
		if m[2] == "login" {
			form.Set("login", name)
			form.Set("password", "any")
		}
		to, err := b.at.Parse(html.UnescapeString(m[1]))
		if err != nil {
			b.t.Fatal(err)
		}
		b.forge(to.String(), b.at.String(), form.Encode())
	}
	b.t.Fatalf("the provider asks on and on: %s", b.page)
}

// byProvider begins a sign-in with the provider, on the way to a page.
func (w *world) byProvider(b *browser, name string) {
	w.t.Helper()
	b.visit(w.open.Base + "/admin/ui/system")
	b.submitTo("/admin/ui/login/openid")
	b.atProvider(name)
}

// keepBack stops a browser from following the redirect back from the provider, and returns its
// target.
func (b *browser) keepBack() func() string {
	var last string
	follow := b.http.CheckRedirect
	b.http.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if r.URL.Path == callbackPath {
			last = r.URL.String()
			return http.ErrUseLastResponse
		}
		return follow(r, via)
	}
	return func() string {
		b.http.CheckRedirect = follow
		if last == "" {
			b.t.Fatalf("the provider does not send back: %s", b.page)
		}
		return last
	}
}

// Administrators sign in with an OpenID provider that is not part of this project, in production
// mode over TLS: with the role of their claim or not at all, only in their own browser, and only
// once.
func TestAdministratorsSignInByARealProvider(t *testing.T) {
	t.Parallel()
	p := startProduction(t, func(c *node.Config) {
		c.StaffOIDC = npmProvider(t, c.BaseURL)
	})
	nora := p.person()
	p.byProvider(nora, "nora")
	nora.sees(200, "You are signed in", `href="/admin/ui/system"`)
	if nora.header.Get("Refresh") != "0; url=/admin/ui/system" {
		t.Errorf("it goes on to %q", nora.header.Get("Refresh"))
	}
	nora.visit(p.open.Base + "/admin/ui/system")
	nora.sees(200, "nora (OpenID) (reviewer)")
	for _, path := range []string{"/admin/ui/accounts", "/admin/ui/clients", "/admin/ui/audit"} {
		nora.visit(p.open.Base + path)
		nora.sees(403, "This requires the role admin")
	}
	nora.visit(p.open.Base + "/admin/ui/second-factor")
	nora.sees(200, "manages your second factor")
	p.want(p.do(p.open, "GET", "/admin/jobs", "Cookie", nora.cookies()), 200, "")

	for _, name := range []string{"nina", "theo", "vito"} {
		b := p.person()
		p.byProvider(b, name)
		b.sees(403, "You are not signed in", "has not given you a role", "Go to sign-in")
		b.visit(p.open.Base + "/admin/ui/jobs")
		b.sees(200, "User name")
	}
	ada := p.person() // of the provider, not an account
	p.byProvider(ada, "ada")
	ada.visit(p.open.Base + "/admin/ui/jobs")
	ada.sees(200, "ada (OpenID) (viewer)")

	// A sign-in that began in one browser cannot end in another (login CSRF), and ends only
	// once.
	attacker := p.person()
	back := attacker.keepBack()
	p.byProvider(attacker, "nora")
	answer := back()
	victim := p.person()
	victim.visit(answer)
	victim.sees(401, "begun in another browser")
	began := victim.keepBack()
	p.byProvider(victim, "olaf")
	began()
	victim.visit(answer)
	victim.sees(401, "began in another browser")
	victim.visit(p.open.Base + "/admin/ui/jobs")
	victim.sees(200, "User name")
	before := attacker.cookies()
	attacker.visit(answer)
	attacker.sees(200, "You are signed in")
	attacker.visit(answer)
	attacker.sees(401, "another browser")
	p.want(p.do(p.open, "GET", strings.TrimPrefix(answer, p.open.Base), "Cookie", before, "Accept",
		"text/html"), 401, "over already")

	adam := p.person()
	p.byProvider(adam, "adam")
	trail := ""
	await(t, "the trail", func() bool {
		trail = string(
			p.do(p.open, "GET", "/admin/audit?action=log-in", "Cookie", adam.cookies()).Body)
		return strings.Contains(trail, "admin nora (OpenID)") &&
			strings.Contains(trail, "admin ada (OpenID)")
	})
	metrics := string(p.do(p.open, "GET", "/metrics").Body)
	for _, outcome := range []string{"ok", "refused"} {
		if !regexp.MustCompile(`ehi_logins_total\{method="openid",outcome="` + outcome +
			`",page="admin"\} [1-9]`).MatchString(metrics) {
			t.Errorf("no metric of a sign-in that was %s", outcome)
		}
	}
}

// An administrator from the provider proves their identity there again, as the same person.
func TestAnAdministratorProvesByTheProviderWhoHeIs(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Addr, cfg.Admin.ReauthenticateAfter = freeAddr(t), time.Nanosecond
	cfg.StaffOIDC = npmProvider(t, "http://"+cfg.Addr)
	w := start(t, t.TempDir(), cfg, node.Options{})
	patient := w.demoPatient()
	j := w.kickOff(w.patient(patient), "/no-form", patient, nil)
	w.wait(j.ID, ehi.Retrieved)
	b := newBrowser(t)
	w.byProvider(b, "nora")
	page := w.open.Base + "/admin/ui/jobs/" + j.ID
	for _, as := range []string{"olaf", "nora"} {
		b.visit(page)
		b.submitTo("/admin/ui/jobs/"+j.ID, "do", "approve", "reason", "All of it is hers")
		b.sees(200, "Confirm that it is you", "Sign in again with your organisation")
		session := b.cookies()
		b.submitTo("/admin/ui/prove")
		b.sees(200, `name="login"`) // although the provider has a session
		b.atProvider(as)
		if as != "nora" {
			b.sees(401, "as somebody else")
			continue
		}
		b.sees(200, "You are signed in")
		w.want(w.do(w.open, "GET", "/admin/jobs", "Cookie", session), 401, "")
		b.visit(page)
		b.sees(200, `value="All of it is hers"`,
			"Nothing was sent, because you had to confirm that it is you")
	}
	w.wait(j.ID, ehi.Retrieved)
}

// A real browser goes to the provider, which is another site, and back, over HTTPS. The session
// cookie is SameSite=Strict and is sent with the next page.
func TestAdministratorsSignInByAProviderInARealBrowser(t *testing.T) {
	t.Parallel()
	provider, cfg := openidtest.Open(t), productionConfig(t)
	cfg.StaffOIDC = provider.Config()
	w := start(t, t.TempDir(), cfg, node.Options{})
	ctx, found := openBrowser(t, w.open.Base, provider.Origin())
	do(t, ctx, chromedp.Navigate(w.open.Base+"/admin/ui/system"), chromedp.WaitVisible("#username"))
	tabTo(t, ctx, `form[action="/admin/ui/login/openid"] button`)
	do(t, ctx, chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible("#nora"), chromedp.Click("#nora"),
		chromedp.WaitVisible(".plots"))
	named(t, ctx)
	if at := location(t, ctx); at != w.open.Base+"/admin/ui/system" {
		t.Errorf("behind the provider at %s", at)
	}
	for _, f := range found.take() {
		t.Error(f)
	}
}

// toProvider begins a sign-in with the provider in a browser, and returns the provider's
// address.
func (w *world) toProvider(b *browser) (address string) {
	w.t.Helper()
	follow := b.http.CheckRedirect
	defer func() { b.http.CheckRedirect = follow }()
	b.http.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), w.open.Base+"/") {
			return follow(r, via)
		}
		address = r.URL.String()
		return http.ErrUseLastResponse
	}
	b.visit(w.open.Base + "/admin/ui/login?next=/admin/ui/system")
	b.submitTo("/admin/ui/login/openid")
	return address
}
