package session

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/openid"
	"ehi-server/api/request"
	"ehi-server/api/trail"
	"ehi-server/auth"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

const password = "a long password of a test"

// desk makes administrators' sessions on a separate bus.
type desk struct {
	bus   *bus.Bus
	auth  *auth.Server
	trail *trail.Recorder
	at    time.Time
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{Audit: &bus.AuditConfig{}, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	a, err := auth.New(
		t.Context(),
		auth.Config{KV: b.Auth, Issuer: "http://server.test", Sandbox: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	r, err := trail.New(b.Audit, request.Origins{})
	if err != nil {
		t.Fatal(err)
	}
	return &desk{bus: b, auth: a, trail: r, at: time.Now()}
}

// administrators returns the Administrators of a configuration.
func (d *desk) administrators(change ...func(*AdministratorsConfig)) *Administrators {
	c := AdministratorsConfig{User: "chief", Password: password}
	for _, f := range change {
		f(&c)
	}
	return NewAdministrators(c, AdministratorsDeps{
		Sessions: d.bus.Sessions,
		Auth:     d.auth,
		Trail:    d.trail,
		Clock:    func() time.Time { return d.at },
	})
}

// An approval by the configured administrator counts while the name, the password and the mode
// stay the same.
func TestApprovalsEndWithTheConfigurationOfTheirApprover(t *testing.T) {
	d := newDesk(t)
	s := d.administrators()
	mark := s.present("chief", ByConfig, "").Mark
	if !s.MayApprove("chief", mark) || !d.administrators().MayApprove("chief", mark) {
		t.Error("an approval does not count")
	}
	for name, change := range map[string]func(*AdministratorsConfig){
		"another password": func(c *AdministratorsConfig) {
			c.Password = "another password of a test"
		},
		"no password":  func(c *AdministratorsConfig) { c.Password = "" },
		"another name": func(c *AdministratorsConfig) { c.User = "other" },
		"the sandbox":  func(c *AdministratorsConfig) { c.Sandbox = true },
	} {
		if d.administrators(change).MayApprove("chief", mark) {
			t.Errorf("with %s the approval counts still", name)
		}
	}
	if s.MayApprove("chief", ByConfig) || s.MayApprove("other", mark) {
		t.Error("an approval of somebody else counts")
	}
}

// An approval ends with its reviewer's account: it does not count if the account was removed, or
// is another one with the same name, whatever its role.
func TestApprovalsEndWithTheAccountOfTheirApprover(t *testing.T) {
	d := newDesk(t)
	s := d.administrators()
	added := func(role auth.Role) {
		t.Helper()
		a := auth.Account{Name: "rita", Role: role}
		if _, err := d.auth.AddAccount(t.Context(), a, "four plain words here"); err != nil {
			t.Fatal(err)
		}
	}
	removed := func() {
		t.Helper()
		if err := d.auth.RemoveAccount(t.Context(), ByAccount, "rita"); err != nil {
			t.Fatal(err)
		}
	}
	added(auth.Reviewer)
	mark := s.present("rita", ByAccount, "").Mark
	if !s.MayApprove("rita", mark) {
		t.Error("an approval does not count")
	}
	removed()
	if s.MayApprove("rita", mark) {
		t.Error("an approval counts although its account was removed")
	}
	added(auth.Viewer)
	if now := s.present("rita", ByAccount, "").Mark; s.MayApprove("rita", now) {
		t.Error("a viewer approves")
	}
	removed()
	added(auth.Reviewer)
	now := s.present("rita", ByAccount, "").Mark
	if s.MayApprove("rita", mark) || !s.MayApprove("rita", now) {
		t.Error("an approval of another account of the same name counts, or a new one does not")
	}
}

// A person with two names that differ only in case, or with an account and the same name at the
// provider, counts as one administrator.
func TestOnePersonApprovesOnceUnderAllNames(t *testing.T) {
	d := newDesk(t)
	ada := auth.Account{Name: "ada", Role: auth.Reviewer}
	if _, err := d.auth.AddAccount(t.Context(), ada, "four plain words here"); err != nil {
		t.Fatal(err)
	}
	for name, another := range map[string]bool{
		"ada": false, "Ada": false, "ada (OpenID)": false, "ADA (OpenID)": false, "ａｄａ": false,
		"nora (OpenID)": true, "nora": true,
	} {
		if d.administrators().SamePerson("ada", name) == another {
			t.Errorf("%q is another person: %v", name, !another)
		}
	}
}

// The provider manages the second factor of the people whom it signs in.
func TestTheProviderTakesCareOfASecondFactor(t *testing.T) {
	s := &Administrators{config: AdministratorsConfig{RequireSecondFactor: true}}
	for factor, unfinished := range map[string]bool{
		"":         true,
		"totp":     false,
		"recovery": false,
		ByOpenID:   false,
	} {
		if s.unfinished(&request.Administrator{Factor: factor}) != unfinished {
			t.Errorf("with the factor %q: %v", factor, !unfinished)
		}
	}
}

// ask sends a request with a cookie to a handler, and returns its error and the cookie of its
// response.
func ask(t *testing.T, cookie string, handler func(c *fiber.Ctx) error) (string, error) {
	t.Helper()
	var failed error
	app := fiber.New()
	app.Get("/", func(c *fiber.Ctx) error { failed = handler(c); return nil })
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if cookie != "" {
		r.Header.Set("Cookie", request.StaffSession+"="+cookie)
	}
	a, err := app.Test(r, -1)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range a.Cookies() {
		cookie = set.Value
	}
	return cookie, failed
}

// A session allows its administrator what the role allows until sign-out. A proof of identity
// gets old, and half a sign-in allows nothing.
func TestASessionLetsInWhoSignedIn(t *testing.T) {
	d := newDesk(t)
	viewer := auth.Account{Name: "vera", Role: auth.Viewer}
	if _, err := d.auth.AddAccount(t.Context(), viewer, "four plain words here"); err != nil {
		t.Fatal(err)
	}
	s := d.administrators(func(c *AdministratorsConfig) { c.ProofAge = 10 * time.Minute })
	signIn := func(c *fiber.Ctx) error {
		_, err := s.SignIn(c, "vera", "four plain words here", "")
		return err
	}
	require := func(least auth.Role) func(*fiber.Ctx) error {
		return func(c *fiber.Ctx) error { return s.Require(c, least) }
	}
	wrong := func(c *fiber.Ctx) error {
		_, err := s.SignIn(c, "vera", "four wrong words here", "")
		return err
	}
	if cookie, err := ask(t, "", wrong); ehi.CodeOf(err) != ehi.Unauthenticated || cookie != "" {
		t.Errorf("a wrong password: %v, %q", err, cookie)
	}
	cookie, err := ask(t, "", signIn)
	if err != nil || cookie == "" {
		t.Fatalf("%v, %q", err, cookie)
	}
	if _, err := ask(t, cookie, require(auth.Viewer)); err != nil {
		t.Error(err)
	}
	if _, err := ask(t, cookie, require(auth.Reviewer)); ehi.CodeOf(err) != ehi.Forbidden {
		t.Errorf("a viewer reviews: %v", err)
	}
	if _, err := ask(t, "", require(auth.Viewer)); !errors.Is(err, ErrNobody) {
		t.Errorf("a stranger: %v", err)
	}
	recent := func() (is bool) {
		_, _ = ask(t, cookie, func(c *fiber.Ctx) error {
			err := s.Require(c, auth.Viewer)
			is = err == nil && s.Recent(request.SignedIn(c))
			return err
		})
		return is
	}
	if !recent() {
		t.Error("a new proof is old")
	}
	if d.at = d.at.Add(11 * time.Minute); recent() {
		t.Error("an old proof is recent")
	}
	if _, err := ask(t, cookie, s.LogOut); err != nil {
		t.Error(err)
	}
	if _, err := ask(t, cookie, require(auth.Viewer)); !errors.Is(err, ErrNobody) {
		t.Errorf("after the log-out: %v", err)
	}
	half, err := ask(t, "", func(c *fiber.Ctx) error {
		return s.BeginHalf(c, s.present("vera", ByAccount, ""))
	})
	if err != nil || half == "" {
		t.Fatalf("%v, %q", err, half)
	}
	if _, err := ask(t, half, require(auth.Viewer)); !errors.Is(err, ErrNobody) {
		t.Errorf("half a log-in: %v", err)
	}
}

// A session of the configured administrator ends when the server starts with another password,
// name or mode, even if the first ones return later. It continues if the server starts with the
// same ones.
func TestSessionsOfTheConfiguredAdministratorEndWithTheConfiguration(t *testing.T) {
	d := newDesk(t)
	started := func(change ...func(*AdministratorsConfig)) *Administrators {
		s := d.administrators(change...)
		if err := s.NoteConfiguration(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	signIn := func(s *Administrators, name, password string) (string, error) {
		return ask(t, "", func(c *fiber.Ctx) error {
			_, err := s.SignIn(c, name, password, "")
			return err
		})
	}
	same := func(*AdministratorsConfig) {}
	another := func(c *AdministratorsConfig) { c.Password += " of others" }
	cookie, err := signIn(started(), "chief", password)
	if err != nil || cookie == "" {
		t.Fatalf("%v, %q", err, cookie)
	}
	for _, c := range []struct {
		what   string
		change func(*AdministratorsConfig)
		want   error
	}{
		{"the same", same, nil},
		{"another password", another, ErrNobody},
		{"another name", func(c *AdministratorsConfig) { c.User = "admin" }, ErrNobody},
		{"another mode", func(c *AdministratorsConfig) { c.Sandbox = true }, ErrNobody},
		{"the first again", same, ErrNobody},
	} {
		s := started(c.change)
		require := func(c *fiber.Ctx) error { return s.Require(c, auth.Viewer) }
		if _, err := ask(t, cookie, require); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
		own, err := signIn(s, s.config.User, s.config.Password)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if _, err := ask(t, own, require); err != nil {
			t.Errorf("%s: its own session: %v", c.what, err)
		}
	}
}

// A session of an administrator whom the provider has named ends with the configuration of the
// provider (CWE-613).
func TestSessionsOfTheProviderEndWithItsConfiguration(t *testing.T) {
	d := newDesk(t)
	config := openid.Config{
		Issuer: "https://login.example.org", ClientID: "ehi", NameClaim: "sub",
		RolesClaim: "roles", Role: []string{"ehi-admins=admin"},
	}
	at := func(config openid.Config) *Administrators {
		provider, err := openid.New(config, "http://server.test/back")
		if err != nil {
			t.Fatal(err)
		}
		s := d.administrators()
		s.deps.OpenID = provider
		return s
	}
	const name = "adam (OpenID)"
	told, err := d.auth.Provide(t.Context(), name, auth.Admin)
	if err != nil {
		t.Fatal(err)
	}
	cookie, err := ask(t, "", func(c *fiber.Ctx) error {
		s := at(config)
		person := openid.Person{Name: name, Role: auth.Admin, Proved: d.at}
		who, err := s.Provided(told, person)
		return s.Finish(c, AtLogIn, who, ByOpenID, err)
	})
	if err != nil || cookie == "" {
		t.Fatalf("%v, %q", err, cookie)
	}
	for what, c := range map[string]struct {
		change func(*openid.Config)
		want   error
	}{
		"the same":       {func(*openid.Config) {}, nil},
		"another issuer": {func(c *openid.Config) { c.Issuer = "https://other.example" }, ErrNobody},
		"another client": {func(c *openid.Config) { c.ClientID = "other" }, ErrNobody},
		"another claim":  {func(c *openid.Config) { c.RolesClaim = "groups" }, ErrNobody},
		"another role":   {func(c *openid.Config) { c.Role[0] = "ehi-admins=viewer" }, ErrNobody},
	} {
		changed := config
		changed.Role = slices.Clone(config.Role)
		c.change(&changed)
		_, err := ask(t, cookie, func(c *fiber.Ctx) error {
			return at(changed).Require(c, auth.Viewer)
		})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	alone := d.administrators() // without a provider
	_, err = ask(t, cookie, func(c *fiber.Ctx) error { return alone.Require(c, auth.Viewer) })
	if !errors.Is(err, ErrNobody) {
		t.Errorf("without a provider: %v", err)
	}
}

// How long a proof of identity counts depends on the mode, unless the flag says otherwise.
func TestProofsAreRecentForTenMinutesInProduction(t *testing.T) {
	for _, c := range []struct {
		flag                time.Duration
		sandbox, production time.Duration
	}{
		{-time.Second, 0, 10 * time.Minute},
		{0, 0, 0},
		{time.Nanosecond, time.Nanosecond, time.Nanosecond},
		{time.Hour, time.Hour, time.Hour},
	} {
		f := Flags{ReauthenticateAfter: c.flag}
		if got := f.In(true).ProofAge; got != c.sandbox {
			t.Errorf("%v in the sandbox: %v", c.flag, got)
		}
		if got := f.In(false).ProofAge; got != c.production {
			t.Errorf("%v in production: %v", c.flag, got)
		}
	}
}
