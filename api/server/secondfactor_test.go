package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/segmentio/encoding/json"

	"ehi-server/auth"
)

// If a second factor is required, an administrator sets it up at the first sign-in and can do
// nothing before. Later sign-ins require a code, and each code works once.
func TestASecondFactorIsSetUpAtTheFirstSignIn(t *testing.T) {
	b, _ := seated(t, func(c *Config) { c.Admins.RequireSecondFactor = true })
	before := b.another()
	if a := before.program("admin", seatPassword, ""); a.StatusCode() != http.StatusOK {
		t.Fatalf("%d %s", a.StatusCode(), a.Body())
	}
	before.wants("GET", "/admin/jobs", "", 403, "Set up a second factor first")
	before.wants("GET", "/admin/backup", "", 403, "Set up a second factor first")

	b.visit("/admin/ui/system", 200, "Second factor", "<svg", "Open an authenticator app")
	for _, path := range []string{"/admin/ui/jobs", "/admin/ui/accounts", "/admin/ui/audit"} {
		b.visit(path, 200, "Open an authenticator app")
	}
	first := b.secret()
	b.sees(b.submit(factorPage, "code", "000000"), 400, "The code does not fit")
	if b.secret() != first {
		t.Error("a wrong code changes the secret")
	}
	setUpCode := appCode(t, first, -1)
	secret, recovery := b.setUp()
	b.visit(factorPage, 200, "You have 10 recovery codes left")
	if strings.Contains(b.page, recovery[0]) || strings.Contains(b.page, secret) {
		t.Error("the codes or the secret are shown again")
	}
	b.visit("/admin/ui/accounts", 200, "Add an account", "admin has a second factor")
	before.wants("GET", "/admin/jobs", "", 401, "") // an earlier session
	code := signInWithACode(b.another(), secret, setUpCode, recovery[0])

	// The sign-in of programs requires a code too.
	for code, text := range map[string]string{
		"":    `as \"code\" too`,
		code:  "used before",
		"123": "wrong",
	} {
		a := b.another().program("admin", seatPassword, code)
		if a.StatusCode() != 401 || !strings.Contains(string(a.Body()), text) {
			t.Errorf("with the code %q: %d %s", code, a.StatusCode(), a.Body())
		}
	}
	admin := b.another()
	if a := admin.program("admin", seatPassword, appCode(t, secret, 1)); a.StatusCode() != 200 {
		t.Fatalf("%d %s", a.StatusCode(), a.Body())
	}
	admin.wants("GET", "/admin/jobs", "", 200, "")
	resetAColleague(admin)
}

// signInWithACode signs in on the pages, which ask for a code. A session without it opens
// nothing. It returns the code of the app that was used.
func signInWithACode(b *seat, secret, setUpCode, recovery string) (code string) {
	b.t.Helper()
	b.sees(b.signIn("/admin/ui/accounts", "admin", seatPassword), 200, "Enter the six-digit code")
	half := b.copied()
	half.wants("GET", "/admin/jobs", "", 401, "Authorization required")
	half.wants("GET", "/jobs/x/metadata", "", 401, "")
	half.visit("/admin/ui/jobs", 200, "Sign in")
	half.visit(factorPage, 200, "Sign in")
	for _, wrong := range []string{setUpCode, "", "000000"} {
		b.sees(b.submit(codePage, "code", wrong), 401, "code")
	}
	b.sees(b.submit(codePage, "code", recovery), 200, "Add an account", "Sign out")
	b.sees(b.submit("/admin/ui/logout"), 200, "Sign in")
	b.sees(b.signIn("/admin/ui/jobs", "admin", seatPassword), 200, "Enter the six-digit code")
	b.sees(b.submit(codePage, "code", recovery), 401, "wrong, or was used before")
	code = appCode(b.t, secret, 0)
	b.sees(b.submit(codePage, "code", code), 200, "Exports")
	return code
}

// resetAColleague sets up the second factor of an account, which another administrator resets.
func resetAColleague(admin *seat) {
	t := admin.t
	t.Helper()
	const password, factor = "four plain words here", "/second-factor"
	admin.wants("POST", "/admin/accounts",
		`{"username":"vera","role":"viewer","password":"`+password+`"}`, 201, "vera")
	vera := admin.another()
	vera.sees(vera.signIn("/admin", "vera", password), 200, "Open an authenticator app")
	vera.setUp()
	vera.visit("/admin/ui/jobs", 200, "Exports")
	var list []auth.Account
	err := json.Unmarshal(admin.wants("GET", "/admin/accounts", "", 200, "").Body(), &list)
	if err != nil || len(list) != 1 || !list[0].SecondFactor {
		t.Errorf("%+v, %v", list, err)
	}
	admin.wants("DELETE", "/admin/accounts/admin/vera"+factor, "", 200, "")
	for _, kind := range []string{"admin", "patient"} { // twice, and of a patient
		a := admin.ask("DELETE", "/admin/accounts/"+kind+"/vera"+factor, "")
		if a.StatusCode() < 400 {
			t.Errorf("again, of kind %s: %d %s", kind, a.StatusCode(), a.Body())
		}
	}
	vera.visit("/admin/ui/jobs", 200, "Sign in")
	vera.sees(vera.submit(signInPage, "username", "vera", "password", password), 200,
		"Open an authenticator app")
	if err := admin.s.Bus.Audit.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	trail := string(admin.wants("GET", "/admin/audit?action=administrate", "", 200, "").Body())
	for _, what := range []string{
		"set up a second factor", "reset the second factor of an administrator, vera",
	} {
		if !strings.Contains(trail, what) {
			t.Errorf("the trail does not say %q: %s", what, trail)
		}
	}
}

// Without the requirement, administrators sign in with a password, as in a sandbox. They can set
// up a second factor, renew its recovery codes, change the app, and remove it.
func TestASecondFactorIsAnAdministratorsChoice(t *testing.T) {
	b, _ := seated(t)
	signsIn := func(what, code string, want bool) {
		t.Helper()
		a := b.another().program("admin", seatPassword, code)
		if in := a.StatusCode() == http.StatusOK; in != want {
			t.Errorf("%s signs in: %v: %d %s", what, in, a.StatusCode(), a.Body())
		}
	}
	signsIn("a password alone", "", true)
	b.visit(factorPage, 200)
	secret, recovery := b.setUp()
	signsIn("a password alone", "", false)
	b.visit(factorPage, 200)
	b.sees(b.submit(factorPage, "do", "codes"), 200, "The old codes no longer work")
	signsIn("an old recovery code", recovery[0], false)
	signsIn("a new recovery code", b.recovery()[0], true)
	b.visit(factorPage+"?anew=yes", 200)
	another, _ := b.setUp()
	if another == secret {
		t.Error("another app gets the same secret")
	}
	signsIn("the old app", appCode(t, secret, 1), false)
	signsIn("the new app", appCode(t, another, 1), true)
	b.visit(factorPage, 200)
	b.sees(b.submit(factorPage, "do", "remove"), 200, "Your second factor is removed",
		"Open an authenticator app")
	signsIn("a password alone", "", true)
}
