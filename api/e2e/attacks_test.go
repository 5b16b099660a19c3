package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// attack is one row of the table: what is tried, the source that describes it, and a trial that
// fails unless the attack is refused as the source says.
type attack struct {
	name, source string
	try          func(p *target)
}

// target is a production server under attack, with what an attacker and an honest client have.
type target struct {
	*production
	ann, bob  *client.Client // of the public application
	annTokens tokens
	service   *client.Client
	annJob    client.Job // approved, with a document
	annForm   client.Job // its form is open
	bulkJob   client.Job // of the service
}

func newTarget(t *testing.T) *target {
	p := &target{
		production: startProduction(t, func(c *node.Config) {
			c.Registration.Token = registrationToken
		}),
	}
	p.ann, p.annTokens = p.letIn("app", "ann")
	p.bob, _ = p.letIn("app", "bob")
	p.service = p.open.WithToken(p.tokens(p.post("/auth/token", p.asserted(nil))).AccessToken)
	p.annJob = p.kickOff(p.ann, "/no-form", p.production.ann, nil)
	p.wait(p.annJob.ID, ehi.Retrieved)
	if a, err := p.admin.AddFiles(t.Context(), p.annJob.ID,
		client.File{
			Name: "page.html",
			Data: []byte("<html><script>alert(1)</script></html>"),
		}); err != nil || a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := p.admin.Act(t.Context(), p.annJob.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	p.annForm = p.kickOff(p.ann, "", p.production.ann, nil)
	var err error
	if p.bulkJob, err = p.service.Start(t.Context(), "GET", "/fhir/Patient/$export",
		nil); err != nil {
		t.Fatal(err)
	}
	p.manifest(p.service, p.bulkJob)
	return p
}

// assertion signs valid claims with the service's key. change replaces claims; nil removes one.
func (p *target) assertion(change map[string]any) string {
	return p.sign(p.svcKeys, jwa.ES384(), nil, change)
}

func (p *target) sign(
	keys []byte, alg jwa.SignatureAlgorithm, header, change map[string]any,
) string {
	p.t.Helper()
	now := time.Now()
	claims := map[string]any{
		"iss": "svc",
		"sub": "svc",
		"aud": p.open.Base + "/auth/token",
		"exp": now.Add(time.Minute).Unix(),
		"iat": now.Unix(),
		"jti": rand.Text(),
	}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	set, err := jwk.Parse(keys)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := range set.Len() {
		key, _ := set.Key(i)
		if of, _ := key.Algorithm(); fmt.Sprint(of) != alg.String() {
			continue
		}
		if header["kid"] != nil { // otherwise the key's own kid would be used
			if key, err = key.Clone(); err == nil {
				err = key.Remove(jwk.KeyIDKey)
			}
		}
		payload, e := json.Marshal(claims)
		if err != nil || e != nil {
			p.t.Fatal(err, e)
		}
		h := jws.NewHeaders()
		for name, v := range header {
			if err := h.Set(name, v); err != nil {
				p.t.Fatal(err)
			}
		}
		signed, err := jws.Sign(payload, jws.WithKey(alg, key, jws.WithProtectedHeaders(h)))
		if err != nil {
			p.t.Fatal(err)
		}
		return string(signed)
	}
	p.t.Fatalf("no key for %s", alg)
	return ""
}

// unsigned returns a JWS with any header and claims, and a signature that the attacker chooses.
func unsigned(header string, claims any, signature []byte) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err) // maps and strings: cannot fail
	}
	b64 := base64.RawURLEncoding
	return b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString(payload) + "." +
		b64.EncodeToString(signature)
}

// asserted returns the token request of the backend service.
func (p *target) asserted(change map[string]any) url.Values {
	return withAssertion(p.assertion(change))
}

func withAssertion(assertion string) url.Values {
	return url.Values{
		"grant_type":            {"client_credentials"},
		"scope":                 {"system/*.rs system/$ehi-export"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {assertion},
	}
}

// strangerKeys returns a JWKS of somebody else, with the ids of the service's keys.
func (p *target) strangerKeys() []byte {
	p.t.Helper()
	raw, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	key, err := jwk.Import(raw)
	if err == nil {
		err = key.Set(jwk.AlgorithmKey, jwa.ES384())
	}
	set, e := jwk.Parse(p.svcKeys)
	if err != nil || e != nil {
		p.t.Fatal(err, e)
	}
	for i := range set.Len() {
		theirs, _ := set.Key(i)
		if alg, _ := theirs.Algorithm(); fmt.Sprint(alg) == "ES384" {
			kid, _ := theirs.KeyID()
			if err := key.Set(jwk.KeyIDKey, kid); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	out := jwk.NewSet()
	if err := out.AddKey(key); err != nil {
		p.t.Fatal(err)
	}
	data, err := json.Marshal(out)
	if err != nil {
		p.t.Fatal(err)
	}
	return data
}

// refuses requires that an assertion is refused with 400 or 401 invalid_client (SMART-5,
// REAL-5).
func (p *target) refuses(assertion string) {
	p.t.Helper()
	p.want(p.post("/auth/token", withAssertion(assertion)), 401, "invalid_client")
}

// authorize sends an authorization request from a browser in which nobody is signed in.
func (p *target) authorize(q url.Values) *client.Answer {
	return p.do(p.open, "GET", "/auth/authorize?"+q.Encode())
}

// notTrusted requires that an authorization request is answered with an error page, not with a
// redirect to the redirect_uri (RFC 6749 4.1.2.1).
func (p *target) notTrusted(q url.Values) {
	p.t.Helper()
	a := p.authorize(q)
	p.want(a, 400, "invalid_request")
	if l := a.Header.Get("Location"); l != "" {
		p.t.Errorf("it leads to %s", l)
	}
}

// sentBack requires that an authorization request is refused with an error at the client's
// redirect_uri.
func (p *target) sentBack(q url.Values, code string) {
	p.t.Helper()
	a := p.authorize(q)
	back, err := url.Parse(a.Header.Get("Location"))
	if err != nil || a.Status != 302 || back.Host != "app.example" ||
		back.Query().Get("error") != code || back.Query().Get("code") != "" {
		p.t.Errorf("%d, back to %s", a.Status, back)
	}
}

// raw sends a request exactly as written, and returns the response.
func (p *target) raw(request string) string {
	p.t.Helper()
	conn := p.dialTLS()
	defer conn.Close() // the response has been read
	// a server that has read enough may close the connection first; the response shows it
	_, _ = conn.Write([]byte(request))
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	answer := make([]byte, 64<<10)
	n, err := conn.Read(answer)
	if n == 0 && err != nil {
		return ""
	}
	return string(answer[:n])
}

// noBearer requires that a token opens nothing: 401 with WWW-Authenticate (RFC 6750 3.1).
func (p *target) noBearer(token string) {
	p.t.Helper()
	a := p.do(p.open.WithToken(token), "GET", p.annJob.StatusURL)
	p.want(a, 401, "Invalid token")
	if !strings.Contains(a.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
		p.t.Errorf("WWW-Authenticate %q", a.Header.Get("WWW-Authenticate"))
	}
}

// claims returns the claims of ann's access token, for forgeries.
func (p *target) claims() map[string]any {
	p.t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(
		strings.Split(p.annTokens.AccessToken, ".")[1])
	out := map[string]any{}
	if err == nil {
		err = json.Unmarshal(payload, &out)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// Every attack is refused with the status that its source names. The rows are grouped: codes and
// redirects, clients, assertions, bearers, access, paths, requests, pages, administrators,
// guessing, requests made by the server, control by the controlled, limits, signing in.
func TestAttacksAreRefused(t *testing.T) {
	t.Parallel()
	p := newTarget(t)
	groups := map[string][]attack{
		"codes and redirects": codeAttacks,
		"clients":             clientAttacks,
		"assertions":          assertionAttacks,
		"bearers":             bearerAttacks,
		"access":              accessAttacks,
		"paths":               pathAttacks,
		"requests":            requestAttacks, "pages": pageAttacks, "administrators": adminAttacks,
		"made to ask": askAttacks,
		"control":     controlAttacks,
		"limits":      limitAttacks,
		"signing in":  signInAttacks,
		"release":     releaseAttacks, "starts": startAttacks, // docs/security.md names the groups
	}
	rows := 0
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		for _, a := range groups[group] {
			rows++
			t.Run(group+"/"+a.name, func(t *testing.T) {
				here := *p
				its := *p.production
				world := *p.world
				world.t, its.world, here.production = t, &world, &its
				a.try(&here)
				if t.Failed() {
					t.Logf("source: %s", a.source)
				}
			})
		}
	}
	t.Logf("%d attacks", rows)
	if rows < 260 {
		t.Errorf("only %d attacks", rows)
	}
}

var codeAttacks = []attack{
	{"code replay ends what it gave", "RFC 6749 4.1.2, RFC 9700 4.5", func(p *target) {
		form := p.redemption("app", p.code("ann", p.request("app")))
		got := p.tokens(p.post("/auth/token", form))
		p.want(p.post("/auth/token", form), 400, "invalid_grant")
		p.noBearer(got.AccessToken)
		p.want(p.post("/auth/token", url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {got.RefreshToken},
			"client_id":     {"app"},
		}), 400, "invalid_grant")
	}},
	{"code injection at another client", "RFC 9700 4.5", func(p *target) {
		code := p.code("ann", p.request("app"))
		p.want(p.post("/auth/token", p.redemption("web", code)), 400, "invalid_grant")
	}},
	{"code with a wrong verifier", "RFC 7636 4.6", func(p *target) {
		p.want(p.post("/auth/token",
			p.redemption("app", p.code("ann", p.request("app")), "code_verifier",
				strings.Repeat("x", 43))), 400, "invalid_grant")
	}},
	{"code without its verifier", "RFC 9700 4.8.2", func(p *target) {
		p.want(p.post("/auth/token",
			p.redemption("app", p.code("ann", p.request("app")), "code_verifier", "")), 400,
			"invalid_grant")
	}},
	{"PKCE left out", "RFC 9700 2.1.1", func(p *target) {
		p.sentBack(p.request("app", "code_challenge", "", "code_challenge_method", ""),
			"invalid_request")
	}},
	{
		"PKCE plain",
		"SMART App Launch 2.2, RFC 9700 2.1.1",
		func(p *target) {
			p.sentBack(p.request("app", "code_challenge_method", "plain"), "invalid_request")
		},
	},
	{
		"PKCE without a method is plain",
		"RFC 7636 4.3",
		func(p *target) {
			p.sentBack(p.request("app", "code_challenge_method", ""), "invalid_request")
		},
	},
	{
		"PKCE challenge that is no hash",
		"RFC 7636 4.2",
		func(p *target) {
			p.sentBack(p.request("app", "code_challenge", "short"), "invalid_request")
		},
	},
	{
		"redirect to another path",
		"RFC 9700 2.1",
		func(p *target) { p.notTrusted(p.request("app", "redirect_uri", appRedirect+"/x")) },
	},
	{"redirect to another host that begins alike", "RFC 9700 4.1.1", func(p *target) {
		p.notTrusted(p.request("app", "redirect_uri", "https://app.example.evil.example/cb"))
	}},
	{
		"redirect with a query added",
		"RFC 9700 2.1",
		func(p *target) { p.notTrusted(p.request("app", "redirect_uri", appRedirect+"?x=1")) },
	},
	{"redirect with credentials for a host", "RFC 9700 4.1.1", func(p *target) {
		p.notTrusted(p.request("app", "redirect_uri", "https://app.example@evil.example/cb"))
	}},
	{
		"redirect with dots",
		"RFC 9700 4.1.1",
		func(p *target) { p.notTrusted(p.request("app", "redirect_uri", appRedirect+"/../evil")) },
	},
	{
		"redirect in capitals",
		"RFC 3986 6.2.1",
		func(p *target) {
			p.notTrusted(p.request("app", "redirect_uri", "https://app.example/CB"))
		},
	},
	{
		"redirect with a fragment",
		"RFC 6749 3.1.2",
		func(p *target) { p.notTrusted(p.request("app", "redirect_uri", appRedirect+"#x")) },
	},
	{
		"redirect to a script",
		"OWASP open redirect",
		func(p *target) { p.notTrusted(p.request("app", "redirect_uri", "javascript:alert(1)")) },
	},
	{
		"redirect over http",
		"RFC 9700 2.6",
		func(p *target) { p.notTrusted(p.request("app", "redirect_uri", "http://app.example/cb")) },
	},
	{
		"redirect to the loopback name",
		"RFC 8252 8.3",
		func(p *target) { p.notTrusted(p.request("app", "redirect_uri", "http://localhost:9/cb")) },
	},
	{"redirect to loopback with another path", "RFC 8252 7.3", func(p *target) {
		p.notTrusted(p.request("app", "redirect_uri", "http://127.0.0.1:9/other"))
	}},
	{
		"redirect left out",
		"SMART App Launch 2.2",
		func(p *target) { p.notTrusted(p.request("app", "redirect_uri", "")) },
	},
	{
		"redirect of another client",
		"RFC 6749 10.6",
		func(p *target) { p.notTrusted(p.request("app", "redirect_uri", webRedirect)) },
	},
	{"redirect twice", "RFC 6749 3.1", func(p *target) {
		p.want(p.do(p.open, "GET",
			"/auth/authorize?"+p.request("app").Encode()+
				"&redirect_uri=https%3A%2F%2Fevil.example%2F"), 400, "invalid_request")
	}},
	{"client twice", "RFC 6749 3.1", func(p *target) {
		p.want(p.do(p.open, "GET", "/auth/authorize?"+p.request("app").Encode()+"&client_id=web"),
			400, "invalid_request")
	}},
	{"scope twice", "RFC 6749 3.1", func(p *target) {
		a := p.do(p.open, "GET", "/auth/authorize?"+p.request("app").Encode()+"&scope=x")
		if !strings.Contains(a.Header.Get("Location"), "error=invalid_request") {
			p.t.Errorf("%d %s", a.Status, a.Header.Get("Location"))
		}
	}},
	{"another redirect at the token endpoint", "RFC 6749 4.1.3", func(p *target) {
		p.want(p.post("/auth/token",
			p.redemption("app", p.code("ann", p.request("app")), "redirect_uri", webRedirect)), 400,
			"invalid_grant")
	}},
	{
		"unknown client",
		"RFC 6749 4.1.2.1",
		func(p *target) { p.notTrusted(p.request("app", "client_id", "nobody")) },
	},
	{
		"implicit grant",
		"RFC 9700 2.1.2",
		func(p *target) {
			p.sentBack(p.request("app", "response_type", "token"), "unsupported_response_type")
		},
	},
	{"hybrid grant", "RFC 9700 2.1.2", func(p *target) {
		p.sentBack(p.request("app", "response_type", "code id_token"), "unsupported_response_type")
	}},
	{
		"token for another resource server",
		"SMART App Launch 2.2, aud",
		func(p *target) {
			p.sentBack(p.request("app", "aud", "https://evil.example/fhir"), "invalid_request")
		},
	},
	{
		"no aud",
		"SMART App Launch 2.2, aud",
		func(p *target) { p.sentBack(p.request("app", "aud", ""), "invalid_request") },
	},
	{
		"request object",
		"RFC 9101 6.1",
		func(p *target) {
			p.sentBack(p.request("app", "request", "e30.e30."), "request_not_supported")
		},
	},
	{"request object by URL", "RFC 9101 10.4.1 (SSRF)", func(p *target) {
		p.sentBack(p.request("app", "request_uri", "http://169.254.169.254/"),
			"request_not_supported")
	}},
	{"mix-up of authorization servers", "RFC 9207, RFC 9700 4.4", func(p *target) {
		a := p.authorize(p.request("app", "response_type", "token"))
		back, err := url.Parse(a.Header.Get("Location"))
		if err != nil || back.Query().Get("iss") != p.open.Base {
			p.t.Errorf("the answer does not say whose it is: %s", a.Header.Get("Location"))
		}
	}},
	{"system scope by a patient's consent", "SMART App Launch 2.2, scopes", func(p *target) {
		p.sentBack(p.request("app", "scope", "system/*.rs system/$ehi-export"), "invalid_scope")
	}},
	{"scope that is not enforced", "SMART App Launch 2.2, scopes v2", func(p *target) {
		p.sentBack(p.request("app", "scope", "patient/Observation.rs?category=laboratory"),
			"invalid_scope")
	}},
	{"state that breaks the header", "CWE-113", func(p *target) {
		a := p.authorize(
			p.request("app", "response_type", "token", "state", "x\r\nSet-Cookie: sid=1"))
		if a.Header.Get("Set-Cookie") != "" ||
			strings.ContainsAny(a.Header.Get("Location"), "\r\n") {
			p.t.Errorf("%v", a.Header)
		}
	}},
	{
		"state of a megabyte",
		"OWASP API4",
		func(p *target) {
			p.sentBack(p.request("app", "state", strings.Repeat("x", 4000)), "invalid_request")
		},
	},
	{"refresh token reuse ends the family", "RFC 9700 4.14.2", func(p *target) {
		_, got := p.letIn("app", "ann")
		form := url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {got.RefreshToken},
			"client_id":     {"app"},
		}
		next := p.tokens(p.post("/auth/token", form))
		p.want(p.post("/auth/token", form), 400, "invalid_grant")
		p.noBearer(next.AccessToken)
		form.Set("refresh_token", next.RefreshToken)
		p.want(p.post("/auth/token", form), 400, "invalid_grant")
		events := string(p.do(p.admin, "GET", "/admin/audit?action=token-reuse").Body)
		await(p.t, "the alert in the trail", func() bool {
			events = string(p.do(p.admin, "GET", "/admin/audit?action=token-reuse").Body)
			return strings.Contains(events, "Security Alert")
		})
	}},
	{"refresh token of another client", "RFC 6749 10.4", func(p *target) {
		_, got := p.letIn("app", "ann")
		p.want(p.post("/auth/token", url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {got.RefreshToken},
			"client_id":     {"web"},
			"client_secret": {p.secrets["web"]},
		}), 400, "invalid_grant")
	}},
	{"refresh that widens the scope", "RFC 6749 6", func(p *target) {
		got := p.tokens(p.post("/auth/token",
			p.redemption("app",
				p.code("ann", p.request("app", "scope", "launch/patient offline_access")))))
		p.want(p.post("/auth/token", url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {got.RefreshToken},
			"client_id":     {"app"},
			"scope":         {"patient/$ehi-export"},
		}), 400, "invalid_scope")
	}},
}

var clientAttacks = []attack{
	{"confidential client's code without its secret", "RFC 6749 3.2.1", func(p *target) {
		p.want(p.post("/auth/token",
			p.redemption("web", p.code("ann", p.request("web")), "client_secret", "")), 401,
			"invalid_client")
	}},
	{"confidential client's refresh without its secret", "RFC 6749 6", func(p *target) {
		_, got := p.letIn("web", "ann")
		p.want(p.post("/auth/token", url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {got.RefreshToken},
			"client_id":     {"web"},
		}), 401, "invalid_client")
	}},
	{"wrong secret and unknown client are answered alike", "RFC 6749 5.2", func(p *target) {
		wrong := p.post("/auth/token", p.redemption("web", "x", "client_secret", "guessed"))
		unknown := p.post("/auth/token",
			p.redemption("web", "x", "client_secret", "guessed", "client_id", "nobody"))
		p.want(wrong, 401, "invalid_client")
		if string(wrong.Body) != string(unknown.Body) || wrong.Status != unknown.Status {
			p.t.Errorf("%s and %s", wrong.Body, unknown.Body)
		}
	}},
	{"wrong secret by Basic", "RFC 6749 5.2", func(p *target) {
		guessed := base64.StdEncoding.EncodeToString([]byte("web:guessed"))
		for _, header := range []string{"Basic " + guessed, "basic " + guessed, "Basic zzz"} {
			a := p.post("/auth/token",
				p.redemption("web", "x", "client_secret", "", "client_id", ""), "Authorization",
				header)
			p.want(a, 401, "invalid_client")
			if !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Basic") {
				p.t.Errorf("WWW-Authenticate %q", a.Header.Get("WWW-Authenticate"))
			}
		}
	}},
	{"old secret after a rotation", "OWASP API2", func(p *target) {
		old := p.secrets["gate"]
		if _, err := p.admin.RotateSecret(p.t.Context(), "gate"); err != nil {
			p.t.Fatal(err)
		}
		await(p.t, "the new secret", func() bool {
			return p.post("/auth/introspect", url.Values{
				"token":         {"x"},
				"client_id":     {"gate"},
				"client_secret": {old},
			}).Status == 401
		})
	}},
	{"two ways to authenticate", "RFC 6749 2.3", func(p *target) {
		p.want(p.post("/auth/token", p.redemption("web", "x"), "Authorization",
			"Basic "+base64.StdEncoding.EncodeToString([]byte("web:"+p.secrets["web"]))), 400,
			"invalid_request")
	}},
	{"secret in the URL", "RFC 6749 2.3.1", func(p *target) {
		p.want(p.post("/auth/token?client_secret="+p.secrets["web"],
			p.redemption("web", "x", "client_secret", "")), 401, "invalid_client")
	}},
	{"token request by GET", "RFC 6749 3.2", func(p *target) {
		p.want(p.do(p.open, "GET", "/auth/token?"+p.redemption("app", "x").Encode()), 405, "")
	}},
	{"token request as JSON", "RFC 6749 3.2", func(p *target) {
		a, err := p.open.Do(p.t.Context(), "POST", "/auth/token",
			strings.NewReader(`{"grant_type":"client_credentials"}`), "Content-Type",
			"application/json")
		if err != nil {
			p.t.Fatal(err)
		}
		p.want(a, 400, "invalid_request")
	}},
	{"password grant", "RFC 9700 2.4", func(p *target) {
		p.want(p.post("/auth/token", url.Values{
			"grant_type": {"password"},
			"username":   {"ann"},
			"password":   {patientPassword},
			"client_id":  {"app"},
		}), 400, "unsupported_grant_type")
	}},
	{"public client as a backend service", "RFC 6749 4.4", func(p *target) {
		p.want(p.post("/auth/token", url.Values{
			"grant_type": {"client_credentials"},
			"client_id":  {"app"},
			"scope":      {"system/*.rs"},
		}), 401, "invalid_client")
	}},
	{"confidential application as a backend service", "OWASP API5", func(p *target) {
		p.want(p.post("/auth/token", url.Values{
			"grant_type":    {"client_credentials"},
			"client_id":     {"web"},
			"client_secret": {p.secrets["web"]},
			"scope":         {"system/*.rs system/$ehi-export"},
		}), 400, "invalid_scope")
	}},
	{"introspection by nobody", "RFC 7662 2.1", func(p *target) {
		p.want(p.post("/auth/introspect", url.Values{"token": {p.annTokens.AccessToken}}), 401,
			"invalid_client")
	}},
	{"introspection by a public client", "RFC 7662 4", func(p *target) {
		p.want(p.post("/auth/introspect", url.Values{
			"token":     {p.annTokens.AccessToken},
			"client_id": {"app"},
		}), 401, "invalid_client")
	}},
	{"introspection of another client's token", "RFC 7662 4", func(p *target) {
		a := p.post("/auth/introspect", url.Values{
			"token":         {p.annTokens.AccessToken},
			"client_id":     {"web"},
			"client_secret": {p.secrets["web"]},
		})
		if string(a.Body) != `{"active":false}` {
			p.t.Errorf("%d %s", a.Status, a.Body)
		}
	}},
	{"revocation of another client's token", "RFC 7009 2.1", func(p *target) {
		p.want(p.post("/auth/revoke", url.Values{
			"token":         {p.annTokens.AccessToken},
			"client_id":     {"web"},
			"client_secret": {p.secrets["web"]},
		}), 400, "invalid_grant")
		p.want(p.do(p.ann, "GET", p.annJob.StatusURL), 200, "")
	}},
	{
		"registration without a token",
		"RFC 7591 3",
		func(p *target) { p.want(p.do(p.open, "POST", "/auth/register"), 401, "invalid_token") },
	},
	{
		"registration with a patient's token",
		"RFC 7591 5",
		func(p *target) { p.want(p.do(p.ann, "POST", "/auth/register"), 401, "invalid_token") },
	},
	{"registration of a wildcard redirect", "RFC 9700 2.1", func(p *target) {
		_, _, err := p.admin.AddClient(p.t.Context(), auth.Client{
			Name:         "x",
			RedirectURIs: []string{"https://*.example/cb"},
			Scope:        appScope,
		})
		p.refused(err, 400)
	}},
	{"registration of a redirect over http", "RFC 9700 2.6", func(p *target) {
		_, _, err := p.admin.AddClient(p.t.Context(), auth.Client{
			Name:         "x",
			RedirectURIs: []string{"http://app.example/cb"},
			Scope:        appScope,
		})
		p.refused(err, 400)
	}},
	{"registration with a private key", "RFC 7591 5", func(p *target) {
		_, _, err := p.admin.AddClient(p.t.Context(), auth.Client{
			Name:  "x",
			Kind:  auth.Asymmetric,
			Scope: "system/*.rs",
			JWKS:  p.svcKeys,
		})
		p.refused(err, 400)
	}},
	{"registration of a name that turns the text round", "CWE-451", func(p *target) {
		_, _, err := p.admin.AddClient(p.t.Context(), auth.Client{
			Name:         "x\u202egpj",
			RedirectURIs: []string{appRedirect},
			Scope:        appScope,
		})
		p.refused(err, 400)
	}},
	{"tokens of a removed client", "OWASP API2", func(p *target) {
		_, _, err := p.admin.AddClient(p.t.Context(), auth.Client{
			ID:           "gone",
			Name:         "Gone",
			RedirectURIs: []string{appRedirect},
			Scope:        appScope,
		})
		if err != nil {
			p.t.Fatal(err)
		}
		code := p.code("ann", p.request("app", "client_id", "gone"))
		got := p.tokens(p.post("/auth/token", p.redemption("app", code, "client_id", "gone")))
		if err := p.admin.RemoveClient(p.t.Context(), "gone"); err != nil {
			p.t.Fatal(err)
		}
		await(p.t, "the removal", func() bool {
			return p.do(p.open.WithToken(got.AccessToken), "GET", p.annForm.StatusURL).Status == 401
		})
		p.want(p.post("/auth/token", url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {got.RefreshToken},
			"client_id":     {"gone"},
		}), 401, "invalid_client")
	}},
}

// refused requires that an error is a response with a status.
func (p *target) refused(err error, status int) {
	p.t.Helper()
	if e, ok := err.(*client.Error); !ok || e.Status != status {
		p.t.Errorf("%v, want %d", err, status)
	}
}

var assertionAttacks = []attack{
	{"alg none", "RFC 8725 3.1", func(p *target) {
		p.refuses(unsigned(`{"alg":"none"}`,
			map[string]any{"iss": "svc", "sub": "svc", "aud": p.open.Base +
				"/auth/token", "exp": time.Now().Add(time.Minute).Unix(), "jti": "1"}, nil))
	}},
	{"HS256 by the public key", "RFC 8725 2.1", func(p *target) {
		key, err := jwk.Import(publicKeys(p.t, p.svcKeys))
		if err != nil {
			p.t.Fatal(err)
		}
		tok, err := jwt.NewBuilder().Issuer("svc").Subject("svc").Audience([]string{p.open.Base +
			"/auth/token"}).Expiration(time.Now().Add(time.Minute)).JwtID("2").Build()
		if err != nil {
			p.t.Fatal(err)
		}
		signed, err := jwt.Sign(tok, jwt.WithKey(jwa.HS256(), key))
		if err != nil {
			p.t.Fatal(err)
		}
		p.refuses(string(signed))
	}},
	{
		"somebody else's key under the client's kid",
		"RFC 7523 3",
		func(p *target) { p.refuses(p.sign(p.strangerKeys(), jwa.ES384(), nil, nil)) },
	},
	{"kid that is a path", "OWASP JWT kid injection", func(p *target) {
		p.refuses(
			p.sign(p.svcKeys, jwa.ES384(), map[string]any{"kid": "../../../../etc/passwd"}, nil))
	}},
	{"kid that is a query", "OWASP JWT kid injection", func(p *target) {
		p.refuses(p.sign(p.svcKeys, jwa.ES384(), map[string]any{"kid": "' OR 1=1 --"}, nil))
	}},
	{"key brought along in jwk", "RFC 8725 3.10", func(p *target) {
		set, err := jwk.Parse(publicKeys(p.t, p.strangerKeys()))
		if err != nil {
			p.t.Fatal(err)
		}
		key, _ := set.Key(0)
		p.refuses(p.sign(p.strangerKeys(), jwa.ES384(), map[string]any{"jwk": key}, nil))
	}},
	{"key brought along by jku", "RFC 8725 3.10", func(p *target) {
		asked := &atomic.Int64{}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
		}))
		defer s.Close()
		p.refuses(p.sign(p.strangerKeys(), jwa.ES384(), map[string]any{"jku": s.URL}, nil))
		if asked.Load() > 0 {
			p.t.Error("the server asked for it")
		}
	}},
	{"certificate brought along by x5u", "RFC 8725 3.10", func(p *target) {
		p.refuses(p.sign(p.strangerKeys(), jwa.ES384(),
			map[string]any{"x5u": "https://evil.example/cert"}, nil))
	}},
	{
		"expired",
		"RFC 7523 3",
		func(p *target) {
			p.refuses(p.assertion(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}))
		},
	},
	{
		"not yet valid",
		"RFC 7523 3",
		func(p *target) {
			p.refuses(p.assertion(map[string]any{"nbf": time.Now().Add(2 * time.Minute).Unix()}))
		},
	},
	{
		"good for an hour",
		"SMART Backend Services 2.2",
		func(p *target) {
			p.refuses(p.assertion(map[string]any{"exp": time.Now().Add(time.Hour).Unix()}))
		},
	},
	{
		"without an end",
		"SMART Backend Services 2.2",
		func(p *target) { p.refuses(p.assertion(map[string]any{"exp": nil})) },
	},
	{"replayed", "SMART Backend Services 2.2", func(p *target) {
		assertion := p.assertion(nil)
		p.tokens(p.post("/auth/token", withAssertion(assertion)))
		p.refuses(assertion)
	}},
	{
		"without a jti",
		"SMART Backend Services 2.2",
		func(p *target) { p.refuses(p.assertion(map[string]any{"jti": nil})) },
	},
	{
		"for another server",
		"RFC 7523 3",
		func(p *target) {
			p.refuses(p.assertion(map[string]any{"aud": "https://evil.example/auth/token"}))
		},
	},
	{"for another server too", "draft-ietf-oauth-rfc7523bis", func(p *target) {
		ours := p.open.Base + "/auth/token"
		for _, aud := range []any{
			[]string{ours, "https://evil.example"},
			[]string{"https://evil.example", ours},
			[]string{},
			ours + "/",
			p.open.Base + "/",
			p.open.Base + "/fhir",
			strings.ToUpper(ours),
		} {
			p.refuses(p.assertion(map[string]any{"aud": aud}))
		}
	}},
	{"for whom a header names", "RFC 7523 3", func(p *target) {
		form := withAssertion(p.assertion(map[string]any{
			"aud": "https://evil.example/auth/token",
		})).Encode()
		a := p.raw(fmt.Sprintf("POST /auth/token HTTP/1.1\r\nHost: "+
			"evil.example\r\nX-Forwarded-Host: evil.example\r\nConnection: "+
			"close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "+
			"%d\r\n\r\n%s", len(form), form))
		if !strings.Contains(a, " 401 ") || !strings.Contains(a, "invalid_client") {
			p.t.Errorf("%.500q", a)
		}
	}},
	{"with extensions that nobody here understands", "RFC 7515 4.1.11", func(p *target) {
		for _, crit := range [][]string{{"x"}, {"exp"}, {"b64"}} {
			p.refuses(p.sign(p.svcKeys, jwa.ES384(),
				map[string]any{"crit": crit, "x": "y", "b64": true}, nil))
		}
	}},
	{"with times that are no numbers", "RFC 7519 2", func(p *target) {
		for _, name := range []string{"exp", "nbf", "iat"} {
			p.refuses(p.assertion(map[string]any{
				name: fmt.Sprint(time.Now().Add(time.Second).Unix()),
			}))
		}
	}},
	{
		"iss is not sub",
		"SMART Backend Services 2.2",
		func(p *target) { p.refuses(p.assertion(map[string]any{"sub": "app"})) },
	},
	{
		"another client's name by one's own key",
		"RFC 7523 3",
		func(p *target) { p.refuses(p.assertion(map[string]any{"iss": "web", "sub": "web"})) },
	},
	{"an id beside it that is another's", "RFC 7521 4.2", func(p *target) {
		f := p.asserted(nil)
		f.Set("client_id", "web")
		p.want(p.post("/auth/token", f), 401, "invalid_client")
	}},
	{"changed payload", "RFC 7515", func(p *target) {
		parts := strings.Split(p.assertion(nil), ".")
		other := strings.Split(p.assertion(nil), ".")
		p.refuses(parts[0] + "." + other[1] + "." + parts[2])
	}},
	{"JSON serialization", "RFC 7523 3", func(p *target) {
		parts := strings.Split(p.assertion(nil), ".")
		p.refuses(fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`,
			parts[1], parts[0], parts[2]))
	}},
	{"other assertion type", "RFC 7521 4.2", func(p *target) {
		f := p.asserted(nil)
		f.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")
		p.want(p.post("/auth/token", f), 401, "invalid_client")
	}},
}

var bearerAttacks = []attack{
	{
		"alg none",
		"RFC 8725 3.1",
		func(p *target) { p.noBearer(unsigned(`{"alg":"none","typ":"at+jwt"}`, p.claims(), nil)) },
	},
	{"HS256 by the published key", "RFC 8725 2.1", func(p *target) {
		var set struct{ Keys []json.RawMessage }
		if err := json.Unmarshal(p.do(p.open, "GET", "/auth/jwks").Body, &set); err != nil ||
			len(set.Keys) == 0 {
			p.t.Fatal(err)
		}
		key, err := jwk.Import([]byte(set.Keys[0]))
		if err != nil {
			p.t.Fatal(err)
		}
		payload, err := json.Marshal(p.claims())
		if err != nil {
			p.t.Fatal(err)
		}
		h := jws.NewHeaders()
		if err := h.Set("typ", "at+jwt"); err != nil {
			p.t.Fatal(err)
		}
		signed, err := jws.Sign(payload, jws.WithKey(jwa.HS256(), key, jws.WithProtectedHeaders(h)))
		if err != nil {
			p.t.Fatal(err)
		}
		p.noBearer(string(signed))
	}},
	{"signed by a client's key", "RFC 9068 4", func(p *target) {
		p.noBearer(p.sign(p.svcKeys, jwa.ES384(), map[string]any{"typ": "at+jwt"}, p.claims()))
	}},
	{"kid that is a path", "OWASP JWT kid injection", func(p *target) {
		p.noBearer(unsigned(`{"alg":"ES256","typ":"at+jwt","kid":"../key.current"}`, p.claims(),
			make([]byte, 64)))
	}},
	{"kid that is a wildcard", "OWASP JWT kid injection", func(p *target) {
		p.noBearer(
			unsigned(`{"alg":"ES256","typ":"at+jwt","kid":"*"}`, p.claims(), make([]byte, 64)))
	}},
	{"changed payload", "RFC 7515", func(p *target) {
		parts := strings.Split(p.annTokens.AccessToken, ".")
		claims := p.claims()
		claims["patient"] = p.production.bob
		p.noBearer(parts[0] + "." + strings.Split(unsigned("{}", claims, nil), ".")[1] + "." +
			parts[2])
	}},
	{"signature of noughts", "CVE-2022-21449", func(p *target) {
		parts := strings.Split(p.annTokens.AccessToken, ".")
		p.noBearer(parts[0] + "." + parts[1] + "." +
			base64.RawURLEncoding.EncodeToString(make([]byte, 64)))
	}},
	{"refresh token", "RFC 9700 2.3", func(p *target) { p.noBearer(p.annTokens.RefreshToken) }},
	{"id token", "RFC 9068 2.1", func(p *target) { p.noBearer(p.annTokens.IDToken) }},
	{"code", "RFC 6749 10.5", func(p *target) { p.noBearer(p.code("ann", p.request("app"))) }},
	{"in the URL", "RFC 9700 4.3.2", func(p *target) {
		p.want(p.do(p.open, "GET", p.annJob.StatusURL+"?access_token="+p.annTokens.AccessToken),
			401, "No authorization header")
	}},
	{"as Basic", "RFC 6750 2.1", func(p *target) {
		p.want(p.do(p.open, "GET", p.annJob.StatusURL, "Authorization",
			"Basic "+p.annTokens.AccessToken), 401, "Invalid token")
	}},
	{"revoked", "RFC 7009 2", func(p *target) {
		_, got := p.letIn("app", "ann")
		p.want(p.post("/auth/revoke", url.Values{"token": {got.AccessToken}, "client_id": {"app"}}),
			200, "")
		p.noBearer(got.AccessToken)
	}},
	{"of a megabyte", "OWASP API4", func(p *target) {
		a := p.raw("GET /fhir/Patient HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " +
			strings.Repeat("A", 1<<20) + "\r\n\r\n")
		if a != "" && !strings.Contains(a, " 431 ") {
			p.t.Errorf("%.100s", a)
		}
	}},
}
