package e2e

import (
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// appCode returns the code of an authenticator app for a secret, some steps of 30 s ahead.
func appCode(t *testing.T, secret string, ahead int) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, time.Now().Add(time.Duration(ahead)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

var (
	shownSecret = regexp.MustCompile(`Secret: <code>([A-Z2-7 ]+)</code>`)
	shownCode   = regexp.MustCompile(`<li><code>([a-z2-7-]+)</code></li>`)
)

// secret returns the secret on the page of the second factor.
func (b *browser) secret() string {
	b.t.Helper()
	m := shownSecret.FindStringSubmatch(b.page)
	if m == nil {
		b.t.Fatalf("no secret on %s: %s", b.at, b.page)
	}
	return strings.ReplaceAll(m[1], " ", "")
}

// setUp sets up the second factor of a signed-in administrator, with the code of the previous
// step, so that two more are still valid.
func (b *browser) setUp() (secret string, recovery []string) {
	b.t.Helper()
	secret = b.secret()
	b.submitTo("/admin/ui/second-factor", "code", appCode(b.t, secret, -1))
	if b.code == http.StatusBadRequest { // the step, and the code with it, has ended meanwhile
		b.submitTo("/admin/ui/second-factor", "code", appCode(b.t, secret, -1))
	}
	b.sees(200, "Recovery codes (shown only once)")
	for _, m := range shownCode.FindAllStringSubmatch(b.page, -1) {
		recovery = append(recovery, html.UnescapeString(m[1]))
	}
	if len(recovery) != 10 {
		b.t.Fatalf("%d recovery codes: %s", len(recovery), b.page)
	}
	return secret, recovery
}

// If a second factor is required, an administrator sets it up at the first sign-in and can do
// nothing before. Later sign-ins require a code, and each code works once.
func TestASecondFactorIsSetUpAtTheFirstSignIn(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Admin.SecondFactor = new(true)
	w := start(t, t.TempDir(), cfg, node.Options{})
	w.want(w.do(w.admin, "GET", "/admin/jobs"), 403, "Set up a second factor first")
	w.want(w.do(w.admin, "GET", "/admin/backup"), 403, "Set up a second factor first")

	b := newBrowser(t)
	b.visit(w.open.Base + "/admin/ui/system")
	b.submit("username", "admin", "password", "admin-password")
	b.sees(200, "Second factor", "<svg", "Open an authenticator app")
	for _, path := range []string{"/admin/ui/jobs", "/admin/ui/accounts", "/admin/ui/audit"} {
		b.visit(w.open.Base + path)
		b.sees(200, "Open an authenticator app")
	}
	first := b.secret()
	b.submitTo("/admin/ui/second-factor", "code", "000000")
	b.sees(400, "The code does not fit")
	if b.secret() != first {
		t.Error("a wrong code changes the secret")
	}
	setUpCode := appCode(t, first, -1)
	secret, recovery := b.setUp()
	b.visit(b.at.String())
	b.sees(200, "You have 10 recovery codes left")
	if strings.Contains(b.page, recovery[0]) || strings.Contains(b.page, secret) {
		t.Error("the codes or the secret are shown again")
	}
	b.visit(w.open.Base + "/admin/ui/accounts")
	b.sees(200, "Add an account", "admin has a second factor")
	w.want(w.do(w.admin, "GET", "/admin/jobs"), 401, "") // an earlier session

	// The pages ask for a code, and a session without it opens nothing.
	next := newBrowser(t)
	next.visit(w.open.Base + "/admin/ui/system")
	next.submit("username", "admin", "password", "admin-password")
	next.sees(200, "Enter the six-digit code")
	w.want(w.do(w.open, "GET", "/admin/jobs", "Cookie", next.cookies()), 401,
		"Authorization required")
	w.want(w.do(w.open, "GET", "/jobs/x/metadata", "Cookie", next.cookies()), 401, "")
	half := *next
	half.visit(w.open.Base + "/admin/ui/jobs")
	half.sees(200, "Sign in")
	half.visit(w.open.Base + "/admin/ui/second-factor")
	half.sees(200, "Sign in")
	for _, wrong := range []string{setUpCode, "", "000000"} {
		next.submit("code", wrong)
		next.sees(401, "code")
	}
	next.submit("code", recovery[0])
	next.sees(200, "System", "Sign out")
	next.submitTo("/admin/ui/logout")
	next.submit("username", "admin", "password", "admin-password")
	next.submit("code", recovery[0])
	next.sees(401, "wrong, or was used before")
	code := appCode(t, secret, 0)
	next.submit("code", code)
	next.sees(200, "Exports")

	// So does the sign-in of programs.
	login := func(code string) (*client.Client, error) {
		return w.open.AdminLoginWithCode(t.Context(), "admin", "admin-password", code)
	}
	for code, text := range map[string]string{
		"":    `as \"code\" too`,
		code:  "used before",
		"123": "wrong",
	} {
		if _, err := login(code); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("with the code %q: %v", code, err)
		}
	}
	admin, err := login(appCode(t, secret, 1))
	if err != nil {
		t.Fatal(err)
	}
	w.want(w.do(admin, "GET", "/admin/jobs"), 200, "")
	w.colleague(admin)
}

// colleague sets up the second factor of an account, which another administrator resets.
func (w *world) colleague(admin *client.Client) {
	t := w.t
	t.Helper()
	_, err := admin.AddAccount(t.Context(), auth.Account{Name: "vera", Role: auth.Viewer},
		"four plain words here")
	if err != nil {
		t.Fatal(err)
	}
	vera := newBrowser(t)
	vera.visit(w.open.Base + "/admin")
	vera.submit("username", "vera", "password", "four plain words here")
	vera.sees(200, "Open an authenticator app")
	vera.setUp()
	vera.visit(w.open.Base + "/admin/ui/jobs")
	vera.sees(200, "Exports")
	list, err := admin.Accounts(t.Context())
	if err != nil || len(list) != 1 || !list[0].SecondFactor {
		t.Errorf("%+v, %v", list, err)
	}
	if err := admin.ResetSecondFactor(t.Context(), "admin", "vera"); err != nil {
		t.Fatal(err)
	}
	if err := admin.ResetSecondFactor(t.Context(), "admin", "vera"); err == nil {
		t.Error("it is reset twice")
	}
	if err := admin.ResetSecondFactor(t.Context(), "patient", "vera"); err == nil {
		t.Error("a patient's is reset")
	}
	vera.visit(w.open.Base + "/admin/ui/jobs")
	vera.sees(200, "Sign in")
	vera.submit("username", "vera", "password", "four plain words here")
	vera.sees(200, "Open an authenticator app")
	trail := ""
	await(t, "the trail", func() bool {
		a := w.do(admin, "GET", "/admin/audit?action=administrate")
		trail = string(a.Body)
		return a.Status == http.StatusOK &&
			strings.Contains(trail, "reset the second factor of an administrator, vera")
	})
	if !strings.Contains(trail, "set up a second factor") {
		t.Errorf("the trail lacks the set-up: %s", trail)
	}
}

// Without the requirement, administrators sign in with a password, as in a sandbox. They can set
// up a second factor, renew its recovery codes, change the app, and remove it.
func TestASecondFactorIsAnAdministratorsChoice(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	b := staffIn(w, "admin", "admin-password")
	b.visit(w.open.Base + "/admin/ui/second-factor")
	secret, recovery := b.setUp()
	b.visit(w.open.Base + "/admin/ui/second-factor")
	b.submitTo("/admin/ui/second-factor", "do", "codes")
	b.sees(200, "The old codes no longer work")
	renewed := shownCode.FindAllStringSubmatch(b.page, -1)
	_, err := w.open.AdminLoginWithCode(t.Context(), "admin", "admin-password", recovery[0])
	if err == nil {
		t.Error("an old recovery code is good")
	}
	_, err = w.open.AdminLoginWithCode(t.Context(), "admin", "admin-password", renewed[0][1])
	if err != nil {
		t.Error(err)
	}
	b.visit(w.open.Base + "/admin/ui/second-factor?anew=yes")
	another := b.secret()
	if another == secret {
		t.Error("another app gets the same secret")
	}
	b.setUp()
	_, err = w.open.AdminLoginWithCode(t.Context(), "admin", "admin-password",
		appCode(t, secret, 1))
	if err == nil {
		t.Error("the old app is good")
	}
	_, err = w.open.AdminLoginWithCode(t.Context(), "admin", "admin-password",
		appCode(t, another, 1))
	if err != nil {
		t.Error(err)
	}
	b.visit(w.open.Base + "/admin/ui/second-factor")
	b.submitTo("/admin/ui/second-factor", "do", "remove")
	b.sees(200, "Your second factor is removed", "Open an authenticator app")
	if _, err := w.open.AdminLogin(t.Context(), "admin", "admin-password"); err != nil {
		t.Error(err)
	}
}

// Without a recent proof, an administrator's session can neither approve nor change accounts and
// clients, on the pages or with the API. It can still view and add documents.
func TestAnOldProofApprovesNothing(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Admin.ReauthenticateAfter = time.Nanosecond
	w := start(t, t.TempDir(), cfg, node.Options{})
	w.leftOpen("admin", "admin-password", w.admin)
}

// leftOpen tries what an old session must not do.
func (w *world) leftOpen(name, password string, api *client.Client) {
	t := w.t
	t.Helper()
	p := w.demoPatient()
	j := w.kickOff(w.patient(p), "/no-form", p, nil)
	w.wait(j.ID, ehi.Retrieved)
	for _, route := range []string{
		"POST /admin/jobs/" + j.ID + "/approve",
		"POST /admin/jobs/" + j.ID + "/reject",
		"DELETE /admin/jobs/" + j.ID,
		"POST /admin/clients",
		"DELETE /admin/clients/x",
		"POST /admin/clients/x/rotate",
		"POST /admin/accounts",
		"PUT /admin/accounts/admin/x",
		"DELETE /admin/accounts/admin/x",
		"POST /admin/keys/rotate",
		"GET /admin/backup",
	} {
		method, path, _ := strings.Cut(route, " ")
		a := w.do(api, method, path)
		w.want(a, 401, "no older than")
		if !strings.Contains(a.Header.Get("WWW-Authenticate"), "insufficient_user_authentication") {
			t.Errorf("%s: %q", route, a.Header.Get("WWW-Authenticate"))
		}
	}
	w.want(w.do(api, "GET", "/admin/jobs/"+j.ID), 200, "")
	a, err := api.AddFiles(t.Context(), j.ID, client.File{
		Name: "letter.txt",
		Data: []byte("a letter"),
	})
	if err != nil || a.Status != 200 {
		t.Errorf("a document: %+v, %v", a, err)
	}

	b := staffIn(w, name, password)
	b.visit(w.open.Base + "/admin/ui/jobs/" + j.ID)
	b.submitTo("/admin/ui/jobs/"+j.ID, "do", "approve", "reason", "All of it is hers")
	b.sees(200, "Confirm that it is you")
	b.submit("password", password)
	b.sees(200, "Nothing was sent, because you had to confirm that it is you",
		`value="All of it is hers"`, "Waits for review")
	b.visit(w.open.Base + "/admin/ui/jobs")
	b.submitTo("/admin/ui/jobs", "do", "approve", "job", j.ID)
	b.sees(200, "Confirm that it is you")
	b.submit("password", password)
	b.sees(200, "Approve 1 export?")
	b.submit("reason", "yes")
	b.sees(200, "Confirm that it is you")
	w.wait(j.ID, ehi.Retrieved)
}
