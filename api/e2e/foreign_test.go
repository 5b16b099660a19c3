package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"ehi-server/auth"
)

// trusting returns a context in which golang.org/x/oauth2 trusts the server's certificate.
func (p *production) trusting() context.Context {
	transport := &http.Transport{TLSClientConfig: roots(p.t, p.cert())}
	p.t.Cleanup(transport.CloseIdleConnections)
	return context.WithValue(p.t.Context(), oauth2.HTTPClient, &http.Client{Transport: transport})
}

// golang.org/x/oauth2 gets a code with PKCE, redeems it, refreshes, and requests a patient's
// record; with a secret and without.
func TestGosOAuth2ClientWorks(t *testing.T) {
	t.Parallel()
	p := startProduction(t, nil)
	ctx := p.trusting()
	for _, c := range []struct {
		id, redirect, secret string
		style                oauth2.AuthStyle
	}{
		{"app", appRedirect, "", oauth2.AuthStyleInParams},
		{"web", webRedirect, p.secrets["web"], oauth2.AuthStyleInHeader},
		{"web", webRedirect, p.secrets["web"], oauth2.AuthStyleInParams},
	} {
		config := &oauth2.Config{
			ClientID:     c.id,
			ClientSecret: c.secret,
			RedirectURL:  c.redirect,
			Scopes:       strings.Fields(appScope),
			Endpoint: oauth2.Endpoint{
				AuthURL:   p.open.Base + "/auth/authorize",
				TokenURL:  p.open.Base + "/auth/token",
				AuthStyle: c.style,
			},
		}
		secret := oauth2.GenerateVerifier()
		b := p.person()
		b.visit(config.AuthCodeURL("a state", oauth2.S256ChallengeOption(secret),
			oauth2.SetAuthURLParam("aud", p.open.Base+"/fhir")))
		b.submit("username", "ann", "password", patientPassword)
		b.submit("decision", "allow")
		tok, err := config.Exchange(ctx, b.at.Query().Get("code"), oauth2.VerifierOption(secret))
		if err != nil || !tok.Valid() || tok.Extra("patient") != p.ann {
			t.Fatalf("%+v, %v", tok, err)
		}
		old := *tok
		old.Expiry = time.Now().Add(-time.Minute)
		source := config.TokenSource(ctx, &old)
		renewed, err := source.Token()
		if err != nil || renewed.AccessToken == tok.AccessToken ||
			renewed.RefreshToken == tok.RefreshToken {
			t.Fatalf("renewed %+v, %v", renewed, err)
		}
		resp, err := oauth2.NewClient(ctx, source).Get(p.open.Base + "/fhir/Patient/" + p.ann)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != 200 {
			t.Errorf("the record: %d, %v", resp.StatusCode, err)
		}
	}
}

// Its client credentials grant authenticates a backend service with a secret.
func TestGosClientCredentialsWork(t *testing.T) {
	t.Parallel()
	p := startProduction(t, nil)
	_, secret, err := p.admin.AddClient(t.Context(), auth.Client{
		ID:    "batch",
		Name:  "A batch",
		Kind:  auth.Symmetric,
		Scope: "system/*.rs",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		config := clientcredentials.Config{
			ClientID:     "batch",
			ClientSecret: secret,
			TokenURL:     p.open.Base + "/auth/token",
			Scopes:       []string{"system/*.rs"},
			AuthStyle:    style,
		}
		tok, err := config.Token(p.trusting())
		if err != nil || !tok.Valid() {
			t.Fatalf("%+v, %v", tok, err)
		}
		p.want(p.do(p.open.WithToken(tok.AccessToken), "GET", "/fhir/Group"), 200, "searchset")
	}
}

// npmInstall installs packages, or those in the package.json of dir. It skips the test if they
// are not available.
func npmInstall(t *testing.T, dir string, packages ...string) {
	t.Helper()
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skip("npm is absent (Debian: npm)")
	}
	wait, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	install := exec.CommandContext(wait, npm,
		append([]string{
			"install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund",
			"--legacy-peer-deps", "--omit=optional", "--cache", filepath.Join(dir, "cache"),
		}, packages...)...)
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("the packages cannot be had: %v: %s", err, out)
	}
}

// npmClients installs the clients of testdata/npm and starts them. It skips the test without
// Node, or if they are not available.
func npmClients(t *testing.T, env ...string) (base string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is absent (Debian: nodejs)")
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "clients.js"} {
		data, err := os.ReadFile(filepath.Join("testdata", "npm", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	npmInstall(t, dir)
	run := exec.Command(node, "clients.js") // it ends when its input ends
	run.Dir, run.Stderr = dir, os.Stderr
	run.Env = append(os.Environ(), env...)
	in, errIn := run.StdinPipe()
	out, errOut := run.StdoutPipe()
	if errIn != nil || errOut != nil || run.Start() != nil {
		t.Fatal("node does not start", errIn, errOut)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		if err := run.Wait(); err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// fhirclient and openid-client, from npm: discovery, code with PKCE, ID token, refresh,
// introspection, revocation, assertion.
func TestClientsOfNPMWork(t *testing.T) {
	t.Parallel()
	p := startProduction(t, nil)
	base := npmClients(t, "SERVER="+p.open.Base, "NODE_EXTRA_CA_CERTS="+p.cert(),
		"SERVICE_KEYS="+string(p.svcKeys), "GATE_SECRET="+p.secrets["gate"])
	_, _, err := p.admin.AddClient(t.Context(), auth.Client{
		ID:           "npm",
		Name:         "Of npm",
		RedirectURIs: []string{"http://127.0.0.1/fhirclient", "http://127.0.0.1/openid"},
		Scope:        appScope,
	})
	if err != nil {
		t.Fatal(err)
	}
	through := func(name string) (out map[string]any) {
		t.Helper()
		b := p.person()
		b.visit(base + "/launch/" + name)
		b.sees(200, "Sign in")
		b.submit("username", "ann", "password", patientPassword)
		b.sees(200, "Allow access?", "Of npm")
		b.submit("decision", "allow")
		b.sees(200, "{")
		if err := json.Unmarshal([]byte(b.page), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := through("fhirclient"); out["patient"] != p.ann || out["again"] != p.ann ||
		out["renewed"] != true || !strings.HasSuffix(out["user"].(string), "Patient/"+p.ann) {
		t.Errorf("fhirclient: %v", out)
	}
	out := through("openid")
	claims, _ := out["claims"].(map[string]any)
	if out["patient"] != p.ann || out["renewed"] != true || out["active"] != true ||
		out["client"] != "npm" || out["later"] != false || out["system"] != "system/*.rs" ||
		claims["sub"] != p.ann || claims["iss"] != p.open.Base {
		t.Errorf("openid-client: %v", out)
	}
}

// Everything that discovery lists is used here or by the test that is named: each endpoint
// responds, and each capability has a test.
func TestWhatDiscoveryListsIsExercised(t *testing.T) {
	t.Parallel()
	p := startProduction(t, nil)
	var told map[string]any
	for _, path := range []string{
		"/fhir/.well-known/smart-configuration",
		"/.well-known/openid-configuration",
		"/.well-known/oauth-authorization-server",
	} {
		a := p.do(p.open, "GET", path)
		p.want(a, 200, `"issuer":"`+p.open.Base+`"`)
		if err := json.Unmarshal(a.Body, &told); err != nil {
			t.Fatal(err)
		}
	}
	endpoints := map[string]int{ // the response of each to an empty request
		"jwks_uri":               200,
		"authorization_endpoint": 400,
		"token_endpoint":         400,
		"revocation_endpoint":    400,
		"introspection_endpoint": 401,
		"service_documentation":  200,
	}
	for name, value := range told {
		u, ok := value.(string)
		if !ok || name == "issuer" {
			continue
		}
		status, known := endpoints[name]
		if !known {
			t.Errorf("nothing exercises %s", name)
			continue
		}
		delete(endpoints, name)
		a := p.do(p.open, "GET", u)
		if strings.HasSuffix(name, "_endpoint") && name != "authorization_endpoint" {
			a = p.post(strings.TrimPrefix(u, p.open.Base), url.Values{})
		}
		if a.Status != status {
			t.Errorf("%s answers %d: %s", name, a.Status, a.Body)
		}
	}
	for name := range endpoints {
		t.Errorf("discovery lacks %s", name)
	}
	exercised := map[string]string{
		"launch-standalone":              "TestProductionModeServesTheWholeFlowOverTLS",
		"authorize-post":                 "TestSMARTEndpoints",
		"client-public":                  "TestGosOAuth2ClientWorks",
		"client-confidential-symmetric":  "TestGosOAuth2ClientWorks",
		"client-confidential-asymmetric": "TestClientsOfNPMWork",
		"context-standalone-patient":     "TestClientsOfNPMWork",
		"context-banner":                 "TestSMART4CodeGivesTokens",
		"permission-patient":             "TestGosOAuth2ClientWorks",
		"permission-offline":             "TestGosOAuth2ClientWorks",
		"permission-online":              "TestOnlineAccessRefreshes",
		"permission-v1":                  "TestBothVersionsOfScopesOpenTheRecord",
		"permission-v2":                  "TestBothVersionsOfScopesOpenTheRecord",
		"sso-openid-connect":             "TestClientsOfNPMWork",
	}
	for _, c := range told["capabilities"].([]any) {
		if exercised[c.(string)] == "" {
			t.Errorf("nothing exercises the capability %s", c)
		}
		delete(exercised, c.(string))
	}
	for c := range exercised {
		t.Errorf("discovery lacks the capability %s", c)
	}
}

// online_access can be refreshed like offline_access.
func TestOnlineAccessRefreshes(t *testing.T) {
	t.Parallel()
	p := startProduction(t, nil)
	_, _, err := p.admin.AddClient(t.Context(), auth.Client{
		ID:           "online",
		Name:         "Online",
		RedirectURIs: []string{appRedirect},
		Scope:        "launch/patient online_access patient/*.rs",
	})
	if err != nil {
		t.Fatal(err)
	}
	got := p.tokens(p.post("/auth/token",
		p.redemption("app",
			p.code("ann",
				p.request("app", "client_id", "online", "scope", "launch/patient online_access")),
			"client_id", "online")))
	if got = p.tokens(p.post("/auth/token",
		url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {got.RefreshToken},
			"client_id":     {"online"},
		})); got.Scope != "launch/patient online_access" {
		t.Errorf("%+v", got)
	}
}

// SMART-7: scopes of version 1 and 2, for all types and for one.
func TestBothVersionsOfScopesOpenTheRecord(t *testing.T) {
	t.Parallel()
	p := &target{production: startProduction(t, nil)}
	_, _, err := p.admin.AddClient(t.Context(), auth.Client{
		ID:           "wide",
		Name:         "Wide",
		RedirectURIs: []string{appRedirect},
		Scope:        "patient/*.rs",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, scope := range []string{
		"patient/*.rs", "patient/*.read", "patient/Patient.rs", "patient/Patient.read",
	} {
		got := p.tokens(p.post("/auth/token",
			p.redemption("app",
				p.code("ann", p.request("app", "client_id", "wide", "scope", scope)), "client_id",
				"wide")))
		if got.Scope != scope {
			t.Errorf("%s is granted as %s", scope, got.Scope)
		}
		c := p.open.WithToken(got.AccessToken)
		p.want(p.do(c, "GET", "/fhir/Patient/"+p.production.ann), 200, "")
		p.want(p.do(c, "POST", "/fhir/Patient/"+p.production.ann+"/$ehi-export"), 403, "")
	}
	for _, scope := range []string{
		"system/*.rs", "system/*.read", "system/Patient.rs", "system/Patient.read",
	} {
		f := p.asserted(nil)
		f.Set("scope", scope)
		c := p.open.WithToken(p.tokens(p.post("/auth/token", f)).AccessToken)
		p.want(p.do(c, "GET", "/fhir/Patient/"+p.production.ann), 200, "")
	}
}
