package auth_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/unicode/norm"

	"ehi-server/auth"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/subject"
)

// production returns a server without the sandbox's client.
func production(t *testing.T, b *bus.Bus, c *clock, change func(*auth.Config)) *auth.Server {
	t.Helper()
	cfg := auth.Config{KV: b.Auth, Issuer: "http://server.test", CheckIssuer: true, Now: c.now}
	if change != nil {
		change(&cfg)
	}
	s, err := auth.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// until waits for a condition: changes of another process arrive after a moment.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !so(); {
		if time.Now().After(end) {
			t.Fatalf("%s does not come", what)
		}
	}
}

const appScope = "patient/$ehi-export patient/*.rs launch/patient openid fhirUser offline_access"

// A registration is checked before it is stored, and the error says what is wrong.
func TestARegistrationIsChecked(t *testing.T) {
	_, clock, b := newServer(t)
	s := production(t, b, clock, nil)
	good := auth.Client{
		ID:           "good",
		Name:         "  An   application ",
		RedirectURIs: []string{redirect},
		Scope:        appScope,
	}
	good.RedirectURIs = []string{
		"https://app.example/cb", "http://127.0.0.1:3000/cb", "org.example.app:/cb",
	}
	added, secret, err := s.AddClient(t.Context(), good)
	if err != nil || secret != "" || added.Name != "An application" || added.Kind != auth.Public ||
		added.Created.IsZero() {
		t.Fatalf("%+v, %q, %v", added, secret, err)
	}
	for name, c := range map[string]struct {
		change func(*auth.Client)
		text   string
	}{
		"id":              {func(c *auth.Client) { c.ID = "a.b" }, "client_id"},
		"sandbox's id":    {func(c *auth.Client) { c.ID = auth.SandboxClientID }, "sandbox"},
		"no name":         {func(c *auth.Client) { c.Name = " " }, "client_name"},
		"name of control": {func(c *auth.Client) { c.Name = "a\x07b" }, "client_name"},
		"kind":            {func(c *auth.Client) { c.Kind = "secret" }, "kind"},
		"relative redirect": {func(c *auth.Client) {
			c.RedirectURIs = []string{"/cb"}
		}, "redirect_uri"},
		"redirect over http": {
			func(c *auth.Client) { c.RedirectURIs = []string{"http://app.example/cb"} },
			"redirect_uri",
		},
		"redirect fragment": {
			func(c *auth.Client) { c.RedirectURIs = []string{"https://app.example/cb#"} },
			"redirect_uri",
		},
		"redirect user": {
			func(c *auth.Client) { c.RedirectURIs = []string{"https://a@app.example/cb"} },
			"redirect_uri",
		},
		"redirect scheme": {
			func(c *auth.Client) { c.RedirectURIs = []string{"javascript:alert(1)"} },
			"redirect_uri",
		},
		"redirect wildcard": {
			func(c *auth.Client) { c.RedirectURIs = []string{"https://*.example/cb"} },
			"redirect_uri",
		},
		"too many": {func(c *auth.Client) {
			c.RedirectURIs = make([]string, 99)
		}, "At most"},
		"origin with a path": {
			func(c *auth.Client) { c.RedirectOrigins = []string{"https://app.example/x"} },
			"redirect_origin",
		},
		"origin over http": {
			func(c *auth.Client) { c.RedirectOrigins = []string{"http://app.example"} },
			"redirect_origin",
		},
		"no scope": {func(c *auth.Client) { c.Scope = "" }, "scope"},
		"unknown scope": {func(c *auth.Client) {
			c.Scope = "patient/*.write"
		}, "not supported"},
		"no redirect": {func(c *auth.Client) { c.RedirectURIs = nil }, "redirect_uris"},
		"public with system": {func(c *auth.Client) {
			c.Scope = "system/*.rs"
		}, "system scopes"},
		"public introspection": {func(c *auth.Client) { c.Introspect = true }, "introspect"},
		"keys of a public one": {func(c *auth.Client) {
			c.JWKSURI = "https://x.example/"
		}, "jwks"},
		"no keys": {func(c *auth.Client) {
			c.Kind = auth.Asymmetric
		}, "either jwks or jwks_uri"},
		"keys that are none": {
			func(c *auth.Client) {
				c.Kind, c.JWKS = auth.Asymmetric, json.RawMessage(`{"keys":1}`)
			},
			"jwks",
		},
		"keys that do not serve": {
			func(c *auth.Client) {
				c.Kind, c.JWKS = auth.Asymmetric, json.RawMessage(`{"keys":[]}`)
			},
			"no key",
		},
		"keys by another scheme": {
			func(c *auth.Client) { c.Kind, c.JWKSURI = auth.Asymmetric, "ftp://x.example/" },
			"jwks_uri",
		},
		"the same id again": {func(c *auth.Client) { c.ID = "good" }, "There is a client"},
	} {
		bad := good
		bad.ID = ""
		c.change(&bad)
		_, _, err := s.AddClient(t.Context(), bad)
		if err == nil || !strings.Contains(err.Error(), c.text) || ehi.CodeOf(err) == ehi.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := s.Clients(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// Registrations, rotations and removals by one process take effect in the others. A client with
// the ID of a removed client has none of its tokens.
func TestRegistrationsHoldInEveryProcess(t *testing.T) {
	_, clock, b := newServer(t)
	s, other := production(t, b, clock, nil), production(t, b, clock, nil)
	app := auth.Client{
		ID:           "app",
		Name:         "An application",
		Kind:         auth.Symmetric,
		RedirectURIs: []string{"https://app.example/cb"},
		Scope:        appScope,
	}
	app.RedirectURIs = append(app.RedirectURIs,
		strings.Replace(redirect, "http://client.test", "https://client.test", 1))
	_, secret, err := s.AddClient(t.Context(), app)
	if err != nil || len(secret) < 40 {
		t.Fatalf("%q, %v", secret, err)
	}
	until(t, "the client", func() bool { return other.Known("app") })
	ask := func(at *auth.Server, secret string) auth.Tokens {
		t.Helper()
		uri := app.RedirectURIs[1]
		return mustToken(t, at,
			codeForm(code(t, at, "client_id", "app", "redirect_uri", uri), "client_id", "app",
				"client_secret", secret, "redirect_uri", uri))
	}
	tok := ask(other, secret)
	renewed, err := other.RotateSecret(t.Context(), "app")
	if err != nil || renewed == secret {
		t.Fatal(renewed, err)
	}
	until(t, "the new secret", func() bool {
		_, err := s.Token(t.Context(),
			refreshForm("x", "client_id", "app", "client_secret", secret))
		e, ok := errors.AsType[*auth.Error](err)
		return ok && e.Code == "invalid_client"
	})
	tok = mustToken(t, s,
		refreshForm(tok.RefreshToken, "client_id", "app", "client_secret", renewed))
	if err := s.RemoveClient(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	until(t, "the removal", func() bool { return !other.Known("app") && !s.Known("app") })
	clock.Add(int64(2 * time.Second))
	_, secret, err = s.AddClient(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the client", func() bool { return s.Known("app") && other.Known("app") })
	if _, err := other.Verify(t.Context(), tok.AccessToken); err == nil {
		t.Error("a token of the client that was removed is good again")
	}
	_, err = s.Token(t.Context(),
		refreshForm(tok.RefreshToken, "client_id", "app", "client_secret", secret))
	wantError(t, err, "invalid_grant")
	if _, err := s.RotateSecret(t.Context(), "none"); !errors.Is(err, auth.ErrNoClient) {
		t.Error(err)
	}
	if err := s.RemoveClient(t.Context(), "none"); !errors.Is(err, auth.ErrNoClient) {
		t.Error(err)
	}
}

// Scopes are granted as far as the registration allows, by name or by wildcard, in either
// version.
func TestScopesAreGrantedAsRegistered(t *testing.T) {
	_, clock, b := newServer(t)
	s := production(t, b, clock, nil)
	for scope, c := range map[string]struct{ asked, granted string }{
		"patient/*.rs": {
			"patient/*.rs patient/*.read patient/Patient.rs patient/$ehi-export offline_access",
			"patient/*.rs patient/*.read patient/Patient.rs",
		},
		"patient/Patient.rs": {
			"patient/*.rs patient/Patient.read launch/patient",
			"patient/Patient.rs patient/Patient.read",
		},
		"launch/patient openid patient/$ehi-export": {
			"patient/$ehi-export fhirUser openid system/*.rs",
			"patient/$ehi-export openid",
		},
	} {
		added, _, err := s.AddClient(t.Context(), auth.Client{
			Name:         "x",
			RedirectURIs: []string{"https://client.test/cb"},
			Scope:        scope,
		})
		if err != nil {
			t.Fatal(err)
		}
		until(t, "the client", func() bool { return s.Known(added.ID) })
		q := authorizeQuery("client_id", added.ID, "redirect_uri", "https://client.test/cb",
			"scope", c.asked)
		req, err := s.Check(t.Context(), q, []string{fhirBase})
		if err != nil || req.Scopes.String() != c.granted {
			t.Errorf("%s: %q, %v", scope, req.Scopes, err)
		}
	}
}

// SMART-6: a key rotation has no gap. Tokens of the old key stay valid in every process until
// they expire, the new key signs immediately, and the old key is removed when all of its tokens
// have expired. Compromised keys are removed immediately.
func TestSMART6KeysAreRotated(t *testing.T) {
	s, clock, b := newServer(t)
	other := attach(t, b, clock)
	kid := func(token string) string {
		t.Helper()
		head, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
		if err != nil {
			t.Fatal(err)
		}
		var h struct{ Kid, Alg string }
		if err := json.Unmarshal(head, &h); err != nil {
			t.Fatal(err)
		}
		return h.Alg + " " + h.Kid
	}
	published := func(at *auth.Server) (ids []string) {
		t.Helper()
		data, err := at.JWKS(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var set struct {
			Keys []struct{ Kid, Alg, D string }
		}
		if err := json.Unmarshal(data, &set); err != nil {
			t.Fatal(err)
		}
		for _, k := range set.Keys {
			if k.D != "" {
				t.Error("a private key is published")
			}
			ids = append(ids, k.Alg+" "+k.Kid)
		}
		return ids
	}
	old := mustToken(t, s, codeForm(code(t, s)))
	until(t, "the other process hears of the keys, else it makes some of its own", func() bool {
		keys, err := other.Keys(t.Context())
		return err == nil && len(keys) == 2
	})
	if !strings.HasPrefix(kid(old.AccessToken), "ES256 ") ||
		!strings.HasPrefix(kid(old.IDToken), "RS256 ") ||
		!slices.Contains(published(other), kid(old.AccessToken)) ||
		!slices.Contains(published(other), kid(old.IDToken)) {
		t.Fatalf("%s and %s of %v", kid(old.AccessToken), kid(old.IDToken), published(other))
	}
	clock.Add(int64(91 * 24 * time.Hour))
	if err := s.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := other.Tend(t.Context()); err != nil { // a second process does not rotate again
		t.Fatal(err)
	}
	if keys := published(s); len(keys) != 4 {
		t.Fatalf("published: %v", keys)
	}
	fresh := mustToken(t, s, codeForm(code(t, s)))
	if kid(fresh.AccessToken) == kid(old.AccessToken) || kid(fresh.IDToken) == kid(old.IDToken) {
		t.Error("the old key signs")
	}
	if _, err := other.Verify(t.Context(), fresh.AccessToken); err != nil {
		t.Errorf("another process does not know the new key: %v", err)
	}
	clock.Add(int64(2 * time.Hour))
	if err := s.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the old keys' end", func() bool {
		return len(published(other)) == 2 &&
			!slices.Contains(published(other), kid(old.AccessToken))
	})

	last := mustToken(t, s, codeForm(code(t, s)))
	if _, err := other.Verify(t.Context(), last.AccessToken); err != nil {
		t.Fatal(err)
	}
	keys, err := s.RotateKeys(t.Context(), true)
	if err != nil || len(keys) < 2 {
		t.Fatalf("%v, %v", keys, err)
	}
	if slices.ContainsFunc(keys,
		func(k auth.KeyInfo) bool { return k.ID == kid(last.AccessToken) }) {
		t.Errorf("a compromised key is told to be there: %v", keys)
	}
	if _, err := s.Verify(t.Context(), last.AccessToken); err == nil {
		t.Error("the process that removed a compromised key takes what it signed")
	}
	for _, process := range []*auth.Server{s, other} {
		until(t, "the end of what a compromised key signed", func() bool {
			_, err := process.Verify(t.Context(), last.AccessToken)
			return err != nil
		})
	}
	if again := mustToken(t, s, refreshForm(last.RefreshToken)); again.AccessToken == "" {
		t.Error("nothing is issued after a compromise")
	}
}

// The key of the first version signs until it is rotated, so that both versions can run side by
// side.
func TestTheFirstVersionsKeySignsOn(t *testing.T) {
	_, clock, b := newServer(t)
	// RFC 7517 A.2
	first := `{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"first",` +
		`"x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",` +
		`"y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",` +
		`"d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}`
	_, err := b.Auth.Create(t.Context(), subject.KindOf("key").Of("current"), []byte(first))
	if err != nil {
		t.Fatal(err)
	}
	s := attach(t, b, clock)
	tok := mustToken(t, s, codeForm(code(t, s)))
	head, err := base64.RawURLEncoding.DecodeString(strings.Split(tok.AccessToken, ".")[0])
	if err != nil || !strings.Contains(string(head), `"kid":"first"`) {
		t.Fatalf("%s, %v", head, err)
	}
	if _, err := s.RotateKeys(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	until(t, "the old record's end", func() bool {
		_, err := b.Auth.Get(t.Context(), subject.KindOf("key").Of("current"))
		return err != nil
	})
	restarted := attach(t, b, clock)
	if _, err := restarted.Verify(t.Context(), tok.AccessToken); err != nil {
		t.Errorf("what it signed is void: %v", err)
	}
	next := mustToken(t, restarted, codeForm(code(t, restarted)))
	if strings.Split(next.AccessToken, ".")[0] == strings.Split(tok.AccessToken, ".")[0] {
		t.Error("it signs still")
	}
}

// A patient sees and ends the access of applications that hold tokens. Those of other patients
// are neither shown nor ended.
func TestPatientsWithdrawTheirConsents(t *testing.T) {
	s, clock, b := newServer(t)
	other := attach(t, b, clock)
	tok := mustToken(t, s, codeForm(code(t, s)))
	list, err := other.Consents(t.Context(), "p1")
	if err != nil || len(list) != 1 || list[0].ClientID != auth.SandboxClientID ||
		!list[0].Scopes.Contains(auth.PatientExport) {
		t.Fatalf("%+v, %v", list, err)
	}
	mustToken(t, s, refreshForm(tok.RefreshToken))
	if again, err := s.Consents(t.Context(), "p1"); err != nil || len(again) != 1 {
		t.Errorf("after a refresh: %+v, %v", again, err)
	}
	if others, err := s.Consents(t.Context(), "p2"); err != nil || len(others) != 0 {
		t.Errorf("of another patient: %+v, %v", others, err)
	}
	for _, id := range []string{"", "none", "*", "a.b", list[0].ID + ">"} {
		if _, err := s.Withdraw(t.Context(), "p1", id); !errors.Is(err, auth.ErrNoConsent) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := s.Withdraw(t.Context(), "p2", list[0].ID); !errors.Is(err, auth.ErrNoConsent) {
		t.Errorf("another patient ends it: %v", err)
	}
	if _, err := s.Verify(t.Context(), tok.AccessToken); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Withdraw(t.Context(), "p1", list[0].ID); err != nil {
		t.Fatal(err)
	}
	until(t, "the end", func() bool {
		_, err := s.Verify(t.Context(), tok.AccessToken)
		return err != nil
	})
	if left, err := s.Consents(t.Context(), "p1"); err != nil || len(left) != 0 {
		t.Errorf("%+v, %v", left, err)
	}
}

// Wrong passwords lock a name for increasing times in every process, whether or not the name
// exists. The right password, or a day, resets the lock.
func TestWrongPasswordsLockAName(t *testing.T) {
	s, clock, b := newServer(t)
	other := attach(t, b, clock)
	const password = "a password of a test"
	_, err := s.AddAccount(t.Context(), auth.Account{Name: "Ann", Patient: "p1"}, password)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := s.LogIn(t.Context(), "patient", "aNN", password); err != nil || a.Patient != "p1" {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := s.LogIn(t.Context(), "admin", "ann", password); !errors.Is(err, auth.ErrLogin) {
		t.Errorf("a patient as an administrator: %v", err)
	}
	for _, name := range []string{"ann", "unknown"} {
		for range 5 {
			_, err := s.LogIn(t.Context(), "patient", name, "wrong")
			if !errors.Is(err, auth.ErrLogin) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		var last time.Duration
		for range 12 {
			_, err := other.LogIn(t.Context(), "patient", name, password)
			l, locked := errors.AsType[*auth.Locked](err)
			if !locked || l.For <= 0 || l.For > 15*time.Minute {
				t.Fatalf("%s: %v", name, err)
			}
			clock.Add(int64(l.For + time.Millisecond))
			_, err = s.LogIn(t.Context(), "patient", name, "wrong")
			if !errors.Is(err, auth.ErrLogin) {
				t.Fatalf("%s, after %v: %v", name, l.For, err)
			}
			if l.For < last {
				t.Errorf("%s: the pause shrinks from %v to %v", name, last, l.For)
			}
			last = l.For.Truncate(time.Second)
		}
		clock.Add(int64(time.Hour))
	}
	if _, err := s.LogIn(t.Context(), "patient", "ann", password); err != nil {
		t.Errorf("after the pause: %v", err)
	}
	if _, err := s.LogIn(t.Context(), "patient", "ann", "wrong"); !errors.Is(err, auth.ErrLogin) {
		t.Errorf("the count was not cleared: %v", err)
	}
	err = s.SetPassword(t.Context(), "patient", "ann", "another plain password of hers")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.LogIn(t.Context(), "patient", "ann", password); !errors.Is(err, auth.ErrLogin) {
		t.Errorf("the old password: %v", err)
	}
	if err := s.RemoveAccount(t.Context(), "patient", "ann"); err != nil {
		t.Fatal(err)
	}
	_, err = s.LogIn(t.Context(), "patient", "ann", "another plain password of hers")
	if !errors.Is(err, auth.ErrLogin) {
		t.Errorf("removed: %v", err)
	}
	err = s.SetPassword(t.Context(), "patient", "ann", "another plain password of hers")
	if !errors.Is(err, auth.ErrNoAccount) {
		t.Error(err)
	}
}

// Passwords and secrets are stored only as argon2id hashes.
func TestSecretsAreKeptAsHashes(t *testing.T) {
	_, clock, b := newServer(t)
	s := production(t, b, clock, nil)
	_, secret, err := s.AddClient(t.Context(), auth.Client{
		ID:    "batch",
		Name:  "A batch",
		Kind:  auth.Symmetric,
		Scope: "system/*.rs",
	})
	if err != nil {
		t.Fatal(err)
	}
	const password = "a password of a test"
	if _, err := s.AddAccount(t.Context(), auth.Account{Name: "ada", Role: auth.Admin},
		password); err != nil {
		t.Fatal(err)
	}
	hashes := 0
	err = b.Entries(t.Context(), bus.AuthRecords, func(e bus.Entry) error {
		if strings.Contains(string(e.Value), secret) ||
			strings.Contains(string(e.Value), password) || strings.Contains(e.Key, "ada") {
			t.Errorf("%s keeps a secret: %s", e.Key, e.Value)
		}
		hashes += strings.Count(string(e.Value), "$argon2id$v=19$m=19456,t=2,p=1$")
		return nil
	})
	if err != nil || hashes != 2 {
		t.Errorf("%d hashes, %v", hashes, err)
	}
	until(t, "the client", func() bool { return s.Known("batch") })
	form := request(url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {"batch"},
		"client_secret": {secret},
		"scope":         {"system/*.rs system/Patient.rs"},
	})
	if tok := mustToken(t, s, form); tok.Scope != "system/*.rs system/Patient.rs" {
		t.Errorf("%+v", tok)
	}
	for role, may := range map[auth.Role]int{
		auth.Viewer:   1,
		auth.Reviewer: 2,
		auth.Admin:    3,
		"":            0,
		"root":        0,
	} {
		n := 0
		for _, least := range auth.Roles() {
			if role.May(least) {
				n++
			}
		}
		if n != may {
			t.Errorf("%s may what %d roles may", role, n)
		}
	}
}

// All spellings of a name belong to one account, and no administrator's name looks like
// another's.
func TestOneNameIsOneAccount(t *testing.T) {
	_, clock, b := newServer(t)
	s := production(t, b, clock, nil)
	add := func(a auth.Account) error {
		_, err := s.AddAccount(t.Context(), a, "a password of three words")
		return err
	}
	if err := add(auth.Account{Name: "José", Patient: "p"}); err != nil {
		t.Fatal(err)
	}
	if err := add(auth.Account{Name: "Ann", Role: auth.Admin}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"josé", norm.NFD.String("José"), "JOSÉ", "ｊｏｓé"} {
		if err := add(auth.Account{Name: name, Patient: "q"}); err != auth.ErrAccountExists {
			t.Errorf("a second account %q: %v", name, err)
		}
		a, err := s.LogIn(t.Context(), "patient", name, "a password of three words")
		if err != nil || a.Patient != "p" {
			t.Errorf("the log-in as %q: %+v, %v", name, a, err)
		}
	}
	for _, name := range []string{"ann", "ＡＮＮ"} {
		if err := add(auth.Account{Name: name, Role: auth.Viewer}); err != auth.ErrAccountExists {
			t.Errorf("a second administrator %q: %v", name, err)
		}
	}
	for _, name := range []string{"аnn", "a.n.n", "ànn", "ａ-nn"} {
		err := add(auth.Account{Name: name, Role: auth.Viewer})
		if ehi.CodeOf(err) != ehi.Conflict || err == auth.ErrAccountExists {
			t.Errorf("an administrator %q beside Ann: %v", name, err)
		}
	}
	for _, name := range []string{
		"a b", "a\u00a0b", "a\u200db", "\u202egpj", "a\u3000b", "☂", strings.Repeat("x", 65), "",
		"\xff", ".", "..",
	} {
		if err := add(auth.Account{Name: name, Patient: "q"}); ehi.CodeOf(err) != ehi.Invalid {
			t.Errorf("an account %q: %v", name, err)
		}
	}
	if err := add(auth.Account{Name: "anne@example.org", Role: auth.Viewer}); err != nil {
		t.Error(err)
	}
}

// No application has the address of this server. Neither a code nor the patient's browser is
// sent to one of the server's own pages, even if a client was registered while the server had
// another address.
func TestNoApplicationIsAtThisServersAddress(t *testing.T) {
	_, clock, b := newServer(t)
	s := production(t, b, clock, func(c *auth.Config) { c.Issuer = "https://ehi.example.org" })
	app := auth.Client{
		ID:           "app",
		Name:         "App",
		RedirectURIs: []string{"https://app.example/cb"},
		Scope:        appScope,
	}
	for _, own := range []string{
		"https://ehi.example.org",
		"https://ehi.example.org/my/requests",
		"https://EHI.example.org:443/",
		"https://ehi.exam%70le.org/cb", "https:/ehi.example.org/cb",
	} {
		c := app
		c.RedirectURIs = append(slices.Clone(app.RedirectURIs), own)
		if _, _, err := s.AddClient(t.Context(), c); ehi.CodeOf(err) != ehi.Invalid {
			t.Errorf("%s is registered: %v", own, err)
		}
	}
	c := app
	c.RedirectOrigins = []string{"https://ehi.example.org"}
	if _, _, err := s.AddClient(t.Context(), c); ehi.CodeOf(err) != ehi.Invalid {
		t.Errorf("this server's origin is registered: %v", err)
	}

	before := production(t, b, clock, nil)
	app.RedirectURIs = append(app.RedirectURIs, "https://ehi.example.org/cb")
	if _, _, err := before.AddClient(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	until(t, "the client", func() bool {
		_, err := s.Client(t.Context(), app.ID)
		return err == nil
	})
	for address, good := range map[string]bool{
		"https://app.example/cb":     true,
		"https://ehi.example.org/cb": false,
	} {
		_, err := s.Check(t.Context(), url.Values{"client_id": {app.ID}, "redirect_uri": {address}},
			nil)
		if refused := strings.Contains(fmt.Sprint(err), "redirect_uri"); refused == good {
			t.Errorf("a code for %s: %v", address, err)
		}
		if _, ok := s.FormRedirect(t.Context(), app.ID, address); ok != good {
			t.Errorf("the form leads to %s: %t", address, ok)
		}
	}
}

// SMART-2: a redirect URI has no encoded control characters. A reader may stop at a zero byte,
// or decode a line break.
func TestSMART2RedirectsHaveNoSpacesOrControls(t *testing.T) {
	_, clock, b := newServer(t)
	s := production(t, b, clock, nil)
	for _, uri := range []string{
		"https://app.example/c b", "https://app.example/c\tb", "https://app.example/c\u00a0b",
		"https://app.example/cb%00",
		"https://app.example/cb?a=%250d%250Ab", "https://app.example/%7f",
		"org.example.app:/c%00",
	} {
		c := auth.Client{Name: "x", RedirectURIs: []string{uri}, Scope: appScope}
		if _, _, err := s.AddClient(t.Context(), c); ehi.CodeOf(err) != ehi.Invalid {
			t.Errorf("%q: %v", uri, err)
		}
	}
	for _, uri := range []string{"https://app.example/a%20b?c=%25", "org.example.app:/cb"} {
		c := auth.Client{Name: "x", RedirectURIs: []string{uri}, Scope: appScope}
		if _, _, err := s.AddClient(t.Context(), c); err != nil {
			t.Errorf("%q: %v", uri, err)
		}
	}
}

// Where patients have accounts, codes and tokens without the approval of an account are invalid:
// a sandbox with the same state issued them to anybody who chose the patient.
func TestGrantsWithoutAnAccountAreInvalid(t *testing.T) {
	const back = "https://app.example/cb"
	sandbox, clock, b := newServer(t)
	app := auth.Client{ID: "app", Name: "An app", RedirectURIs: []string{back}, Scope: appScope}
	if _, _, err := sandbox.AddClient(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	ann := auth.Account{Name: "ann", Patient: "p1"}
	if _, err := sandbox.AddAccount(t.Context(), ann, "four plain words here 77"); err != nil {
		t.Fatal(err)
	}
	let := func(s *auth.Server, account string) string {
		q := authorizeQuery("client_id", "app", "redirect_uri", back, "scope", appScope)
		req, err := s.Check(t.Context(), q, []string{fhirBase})
		if err != nil {
			t.Fatal(err)
		}
		req.Account = account
		c, err := s.IssueCode(t.Context(), req, "p1")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	picked := mustToken(t, sandbox,
		codeForm(let(sandbox, ""), "client_id", "app", "redirect_uri", back))
	early := let(sandbox, "")
	if _, err := sandbox.Verify(t.Context(), picked.AccessToken); err != nil {
		t.Fatal("the sandbox refuses its own token:", err)
	}
	s := production(t, b, clock, func(c *auth.Config) { c.ByAccounts = true })
	if _, err := s.Verify(t.Context(), picked.AccessToken); !errors.Is(err, auth.ErrToken) {
		t.Errorf("the access token is answered %v", err)
	}
	_, err := s.Token(t.Context(), refreshForm(picked.RefreshToken, "client_id", "app"))
	wantError(t, err, "invalid_grant")
	_, err = s.Token(t.Context(), codeForm(early, "client_id", "app", "redirect_uri", back))
	wantError(t, err, "invalid_grant")
	own := mustToken(t, s, codeForm(let(s, "ann"), "client_id", "app", "redirect_uri", back))
	if _, err := s.Verify(t.Context(), own.AccessToken); err != nil {
		t.Errorf("the account's own token: %v", err)
	}
	mustToken(t, s, refreshForm(own.RefreshToken, "client_id", "app"))
}
