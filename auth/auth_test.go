package auth_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ehi-server/auth"
	"ehi-server/shared/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	fhirBase = "http://server.test/fhir"
	redirect = "http://client.test/cb"
	verifier = "a-verifier-of-at-least-forty-three-characters-x"
)

type clock struct{ atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.Load())) }

// secret is the secret of the sandbox's client.
const secret = "the secret of the sandbox"

func newServer(t *testing.T) (*auth.Server, *clock, *bus.Bus) {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	c := &clock{}
	return attach(t, b, c), c, b
}

func attach(t *testing.T, b *bus.Bus, c *clock) *auth.Server {
	t.Helper()
	s, err := auth.New(t.Context(), auth.Config{
		KV:          b.Auth,
		Issuer:      "http://server.test",
		CheckIssuer: true,
		Sandbox:     true,
		Flags:       auth.Flags{SandboxSecret: secret},
		Now:         c.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func challenge() string {
	h := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

func authorizeQuery(change ...string) url.Values {
	q := url.Values{
		"response_type": {"code"},
		"client_id":     {auth.SandboxClientID},
		"redirect_uri":  {redirect},
		"state":         {"st"},
		"scope": {
			"patient/$ehi-export offline_access openid fhirUser launch/patient patient/*.rs " +
				"made/up",
		},
		"aud":                   {fhirBase},
		"code_challenge":        {challenge()},
		"code_challenge_method": {"S256"},
	}
	return with(q, change...)
}

// with sets pairs of name and value; an empty value deletes.
func with(q url.Values, change ...string) url.Values {
	for i := 0; i < len(change); i += 2 {
		if q.Set(change[i], change[i+1]); change[i+1] == "" {
			q.Del(change[i])
		}
	}
	return q
}

func code(t *testing.T, s *auth.Server, change ...string) string {
	t.Helper()
	req, err := s.Check(t.Context(), authorizeQuery(change...), []string{fhirBase})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.IssueCode(t.Context(), req, "p1")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func codeForm(code string, change ...string) auth.TokenRequest {
	return request(
		url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect},
			"client_id": {auth.SandboxClientID}, "code_verifier": {verifier}}, change...)
}

func refreshForm(token string, change ...string) auth.TokenRequest {
	return request(url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {token},
		"client_id":     {auth.SandboxClientID},
	}, change...)
}

func request(form url.Values, change ...string) auth.TokenRequest {
	return auth.TokenRequest{
		Form:      with(form, change...),
		Audiences: []string{"http://server.test/auth/token"},
	}
}

func mustToken(t *testing.T, s *auth.Server, form auth.TokenRequest) auth.Tokens {
	t.Helper()
	tok, err := s.Token(t.Context(), form)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func wantError(t *testing.T, err error, code string) {
	t.Helper()
	if e, ok := errors.AsType[*auth.Error](err); !ok || e.Code != code {
		t.Errorf("error %v, want %s", err, code)
	}
}

// SMART-2.
func TestSMART2AuthorizeRequestIsChecked(t *testing.T) {
	s, _, _ := newServer(t)
	for name, c := range map[string]struct {
		change       []string
		code         string
		redirectable bool
		text         string
	}{
		"good":             {nil, "", false, ""},
		"aud with a slash": {[]string{"aud", fhirBase + "/"}, "", false, ""},
		"no PKCE in sandbox": {
			[]string{"code_challenge", "", "code_challenge_method", ""},
			"",
			false,
			"",
		},
		"no client": {
			[]string{"client_id", ""}, "invalid_request", false, `Missing "client_id" parameter`,
		},
		"unknown client": {
			[]string{"client_id", "x"}, "invalid_request", false, `Invalid "client_id" parameter`,
		},
		"no redirect": {
			[]string{"redirect_uri", ""},
			"invalid_request",
			false,
			`Missing "redirect_uri" parameter`,
		},
		"script redirect": {
			[]string{"redirect_uri", "javascript:alert(1)"},
			"invalid_request",
			false,
			`Invalid "redirect_uri" parameter`,
		},
		"fragment redirect": {
			[]string{"redirect_uri", "http://x/#y"},
			"invalid_request",
			false,
			`Invalid "redirect_uri" parameter`,
		},
		"token flow": {
			[]string{"response_type", "token"},
			"unsupported_response_type",
			true,
			`Invalid "response_type" parameter`,
		},
		"no aud": {[]string{"aud", ""}, "invalid_request", true, `Missing "aud" parameter`},
		"other aud": {
			[]string{"aud", "http://other/fhir"},
			"invalid_request",
			true,
			`Bad audience value "http://other/fhir". Expected "http://server.test/fhir".`,
		},
		"no scope": {
			[]string{"scope", ""}, "invalid_scope", true, `Missing "scope" parameter`,
		},
		"unknown scopes": {
			[]string{"scope", "made/up system/*.rs"},
			"invalid_scope",
			true,
			"None of the scopes asked for can be granted to this client",
		},
		"plain PKCE": {
			[]string{"code_challenge_method", "plain"},
			"invalid_request",
			true,
			`Invalid "code_challenge_method" parameter`,
		},
		"method alone": {
			[]string{"code_challenge", ""},
			"invalid_request",
			true,
			`Missing "code_challenge" parameter`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := s.Check(t.Context(), authorizeQuery(c.change...), []string{fhirBase})
			if c.code == "" {
				if err != nil ||
					req.Scopes.String() != "patient/$ehi-export offline_access openid fhirUser "+
						"launch/patient patient/*.rs" {
					t.Fatalf("%+v, %v", req, err)
				}
				return
			}
			e, ok := errors.AsType[*auth.Error](err)
			if !ok || e.Code != c.code || e.Redirectable != c.redirectable ||
				e.Description != c.text {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestSMART4CodeGivesTokens(t *testing.T) {
	s, _, _ := newServer(t)
	tok := mustToken(t, s, codeForm(code(t, s)))
	if tok.TokenType != "Bearer" || tok.Patient != "p1" || tok.ExpiresIn != 3600 ||
		tok.RefreshToken == "" || tok.IDToken == "" || !tok.NeedPatientBanner {
		t.Errorf("tokens %+v", tok)
	}
	a, err := s.Verify(t.Context(), tok.AccessToken)
	if err != nil || a.Patient != "p1" || a.ClientID != auth.SandboxClientID ||
		!a.Scopes.Contains(auth.PatientExport) {
		t.Errorf("access %+v, %v", a, err)
	}
}

// SMART-3: a code is bound to its client, redirect_uri and challenge, and lives for a minute.
func TestSMART3CodeIsBoundToItsRequest(t *testing.T) {
	s, _, _ := newServer(t)
	for name, c := range map[string]struct {
		change []string
		code   string
	}{
		"unknown client":    {[]string{"client_id", "x"}, "invalid_client"},
		"no client":         {[]string{"client_id", ""}, "invalid_request"},
		"other redirect":    {[]string{"redirect_uri", redirect + "x"}, "invalid_grant"},
		"no redirect":       {[]string{"redirect_uri", ""}, "invalid_request"},
		"wrong verifier":    {[]string{"code_verifier", strings.Repeat("x", 43)}, "invalid_grant"},
		"no verifier":       {[]string{"code_verifier", ""}, "invalid_grant"},
		"unknown code":      {[]string{"code", "x"}, "invalid_grant"},
		"no code":           {[]string{"code", ""}, "invalid_request"},
		"no grant type":     {[]string{"grant_type", ""}, "invalid_request"},
		"unknown grant":     {[]string{"grant_type", "magic"}, "unsupported_grant_type"},
		"a code to refresh": {[]string{"grant_type", "refresh_token"}, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Token(t.Context(), codeForm(code(t, s), c.change...))
			wantError(t, err, c.code)
		})
	}
	t.Run("a verifier without a challenge", func(t *testing.T) {
		_, err := s.Token(t.Context(),
			codeForm(code(t, s, "code_challenge", "", "code_challenge_method", "")))
		wantError(t, err, "invalid_grant")
	})
}

func TestSMART3SecondUseOfACodeRevokesWhatTheFirstGave(t *testing.T) {
	s, _, _ := newServer(t)
	c := code(t, s)
	tok := mustToken(t, s, codeForm(c))
	_, err := s.Token(t.Context(), codeForm(c))
	wantError(t, err, "invalid_grant")
	if _, err := s.Verify(t.Context(), tok.AccessToken); err == nil {
		t.Error("the access token outlived the replay")
	}
	_, err = s.Token(t.Context(), refreshForm(tok.RefreshToken))
	wantError(t, err, "invalid_grant")
}

func TestSMART3OfManySimultaneousUsesOneWins(t *testing.T) {
	s, _, _ := newServer(t)
	c := code(t, s)
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := s.Token(context.Background(), codeForm(c)); err == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() > 1 {
		t.Errorf("%d uses of one code won", won.Load())
	}
}

func TestSMART4RefreshRotatesAndReuseRevokesTheFamily(t *testing.T) {
	s, _, _ := newServer(t)
	first := mustToken(t, s, codeForm(code(t, s)))
	second := mustToken(t, s, refreshForm(first.RefreshToken, "scope", "patient/$ehi-export"))
	if second.Scope != auth.PatientExport.String() || second.RefreshToken == first.RefreshToken {
		t.Errorf("second tokens %+v", second)
	}
	anonymous := mustToken(t, s,
		refreshForm(mustToken(t, s, codeForm(code(t, s))).RefreshToken, "client_id", ""))
	if anonymous.Patient != "p1" {
		t.Errorf("a public client that does not say its id: %+v", anonymous)
	}
	_, err := s.Token(t.Context(), refreshForm("unknown", "client_id", ""))
	wantError(t, err, "invalid_grant")
	_, err = s.Token(t.Context(),
		refreshForm(second.RefreshToken, "scope",
			"patient/$ehi-export patient/*.read online_access"))
	wantError(t, err, "invalid_scope")
	third := mustToken(t, s, refreshForm(second.RefreshToken))
	if third.Scope != first.Scope {
		t.Errorf("the narrowed scope stuck: %q", third.Scope)
	}
	_, err = s.Token(t.Context(), refreshForm(first.RefreshToken))
	wantError(t, err, "invalid_grant")
	_, err = s.Token(t.Context(), refreshForm(third.RefreshToken))
	wantError(t, err, "invalid_grant")
	if _, err := s.Verify(t.Context(), third.AccessToken); err == nil {
		t.Error("an access token of the revoked family is still valid")
	}
}

// SMART-6: only an access token is accepted as a bearer token.
func TestSMART6OnlyAccessTokensAreBearers(t *testing.T) {
	s, clock, _ := newServer(t)
	c := code(t, s)
	if _, err := s.Verify(t.Context(), c); err == nil {
		t.Error("a code is a bearer")
	}
	tok := mustToken(t, s, codeForm(c))
	parts := strings.Split(tok.AccessToken, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." +
		parts[1] + "."
	for name, bad := range map[string]string{
		"refresh token":     tok.RefreshToken,
		"id token":          tok.IDToken,
		"nothing":           "",
		"words":             "a.b.c",
		"alg none":          none,
		"changed signature": tok.AccessToken[:len(tok.AccessToken)-6] + "AAAAAA",
		"changed payload":   parts[0] + "." + parts[1][:20] + "A" + parts[1][21:] + "." + parts[2],
	} {
		if _, err := s.Verify(t.Context(), bad); !errors.Is(err, auth.ErrToken) {
			t.Errorf("%s is a bearer: %v", name, err)
		}
	}
	if _, err := s.Verify(t.Context(), tok.AccessToken); err != nil {
		t.Error(err)
	}
	clock.Store(int64(2 * time.Hour))
	if _, err := s.Verify(t.Context(), tok.AccessToken); err == nil {
		t.Error("an expired token is a bearer")
	}
}

// RFC 7009: a client revokes the grant behind its own tokens with an access token, a refresh
// token, or a used refresh token, in every process. It cannot revoke grants of other clients,
// and learns nothing about unknown tokens.
func TestAClientRevokesItsOwnTokensOnly(t *testing.T) {
	s, clock, b := newServer(t)
	other := attach(t, b, clock)
	for name, by := range map[string]func(auth.Tokens) string{
		"access":  func(tok auth.Tokens) string { return tok.AccessToken },
		"refresh": func(tok auth.Tokens) string { return tok.RefreshToken },
		"a used refresh": func(tok auth.Tokens) string {
			mustToken(t, s, refreshForm(tok.RefreshToken))
			return tok.RefreshToken
		},
	} {
		tok := mustToken(t, s, codeForm(code(t, s)))
		token := by(tok)
		wantError(t,
			s.RevokeToken(t.Context(),
				request(url.Values{"token": {token}, "client_id": {"somebody-else"}})),
			"invalid_client")
		if _, err := s.Verify(t.Context(), tok.AccessToken); err != nil {
			t.Fatalf("%s: somebody else has ended it", name)
		}
		if err := s.RevokeToken(t.Context(),
			request(url.Values{
				"token":     {token},
				"client_id": {auth.SandboxClientID},
			})); err != nil {
			t.Fatal(err)
		}
		_, err := s.Token(t.Context(), refreshForm(tok.RefreshToken))
		wantError(t, err, "invalid_grant")
		for _, process := range []*auth.Server{s, other} {
			for end := time.Now().Add(5 * time.Second); ; {
				if _, err := process.Verify(t.Context(), tok.AccessToken); err != nil {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%s: the access token is still good", name)
				}
			}
		}
	}
	err := s.RevokeToken(t.Context(),
		request(url.Values{"token": {"unknown"}, "client_id": {auth.SandboxClientID}}))
	if err != nil {
		t.Errorf("an unknown token: %v", err)
	}
	wantError(t,
		s.RevokeToken(t.Context(), request(url.Values{"client_id": {auth.SandboxClientID}})),
		"invalid_request")
	wantError(t, s.RevokeToken(t.Context(), request(url.Values{"token": {"x"}})), "invalid_request")
	wantError(t,
		s.RevokeToken(t.Context(),
			request(url.Values{
				"token":         {"x"},
				"client_id":     {auth.SandboxClientID},
				"client_secret": {"wrong"},
			})), "invalid_client")
}

// SMART-8, RFC 7662: an authenticated resource server learns what an access token allows. Every
// other token is reported as inactive.
func TestIntrospectionTellsResourceServersOnly(t *testing.T) {
	s, clock, _ := newServer(t)
	tok := mustToken(t, s, codeForm(code(t, s)))
	ask := func(token string) auth.Introspection {
		t.Helper()
		told, err := s.Introspect(t.Context(),
			request(url.Values{
				"token":         {token},
				"client_id":     {auth.SandboxClientID},
				"client_secret": {secret},
			}))
		if err != nil {
			t.Fatal(err)
		}
		return told
	}
	told := ask(tok.AccessToken)
	if !told.Active || told.Patient != "p1" || told.ClientID != auth.SandboxClientID ||
		told.Scope != tok.Scope || told.Expires <= clock.now().Unix() ||
		told.Audience != told.Issuer+"/fhir" {
		t.Errorf("%+v", told)
	}
	for _, token := range []string{
		tok.RefreshToken, tok.IDToken, "unknown", tok.AccessToken + "x",
	} {
		if told := ask(token); told != (auth.Introspection{}) {
			t.Errorf("%.20s...: %+v", token, told)
		}
	}
	clock.Add(int64(2 * time.Hour))
	if told := ask(tok.AccessToken); told.Active {
		t.Errorf("expired: %+v", told)
	}
	for _, form := range []url.Values{
		{"token": {"x"}},
		{"token": {"x"}, "client_id": {auth.SandboxClientID}},
		{"token": {"x"}, "client_id": {auth.SandboxClientID}, "client_secret": {"wrong"}},
	} {
		_, err := s.Introspect(t.Context(), request(form))
		wantError(t, err, "invalid_client")
	}
}

// All processes together are one authorization server.
func TestTokensAndRevocationsHoldInEveryProcess(t *testing.T) {
	a, clock, b := newServer(t)
	other := attach(t, b, clock)
	tok := mustToken(t, other, codeForm(code(t, a)))
	if _, err := a.Verify(t.Context(), tok.AccessToken); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Token(t.Context(), refreshForm(tok.RefreshToken)); err != nil {
		t.Fatal(err)
	}
	_, err := a.Token(t.Context(), refreshForm(tok.RefreshToken))
	wantError(t, err, "invalid_grant")
	for end := time.Now().Add(5 * time.Second); ; {
		if _, err := other.Verify(t.Context(), tok.AccessToken); err != nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the other process never heard of the revocation")
		}
	}
}

// Clients such as smart-fetch accept only a key whose key_ops includes sign. The keys stay the
// same.
func TestSandboxKeysSayThatTheySign(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	first, err := auth.SandboxKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	second, err := auth.SandboxKeys(file)
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("%s, then %s, %v", first, second, err)
	}
	if n := bytes.Count(first, []byte(`"sign"`)); n != 2 {
		t.Errorf("%d keys have sign in their key_ops: %s", n, first)
	}
}

// An assertion authenticates a client only if the client's key has signed it. Every other
// assertion results in an OAuth error.
func FuzzAssertion(f *testing.F) {
	b, err := bus.Open(f.Context(), bus.Config{StoreDir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	defer b.Close()
	keys := filepath.Join(f.TempDir(), "keys.json")
	if _, err := auth.SandboxKeys(keys); err != nil {
		f.Fatal(err)
	}
	s, err := auth.New(f.Context(), auth.Config{
		KV:          b.Auth,
		Issuer:      "http://server.test",
		Sandbox:     true,
		SandboxKeys: keys,
	})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJ0ZXN0X2NsaWVudF9pZCIsInN1YiI6InRlc3RfY2xpZW50X2lkIn0.",
		"system/*.rs")
	f.Add("eyJhbGciOiJFUzM4NCIsImp3ayI6e319.e30.AAAA", "system/Patient.rs")
	f.Fuzz(func(t *testing.T, assertion, scope string) {
		_, err := s.Token(t.Context(), auth.TokenRequest{
			Audiences: []string{"http://server.test/auth/token"},
			Form: url.Values{
				"grant_type":            {"client_credentials"},
				"scope":                 {scope},
				"client_assertion":      {assertion},
				"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			},
		})
		if _, ok := errors.AsType[*auth.Error](err); !ok {
			t.Fatalf("an assertion that nobody signed: %v", err)
		}
	})
}

func FuzzVerifyNeverPanics(f *testing.F) {
	b, err := bus.Open(f.Context(), bus.Config{StoreDir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	defer b.Close()
	s, err := auth.New(f.Context(), auth.Config{KV: b.Auth, Issuer: "http://server.test"})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		if a, err := s.Verify(t.Context(), token); err == nil {
			t.Fatalf("a forged token opens %+v", a)
		}
	})
}
