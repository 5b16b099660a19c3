package smart

import (
	"net/http"
	"net/url"
	"slices"
	"testing"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// RFC 6749 2.3.1, RFC 9110 11.1: the scheme may be in any case, followed by one space or more.
func TestSMART4BasicCredentials(t *testing.T) {
	for _, header := range []string{"Basic YSUzQTpi", "basic YSUzQTpi", "BASIC   YSUzQTpi"} {
		id, secret, has, err := parseBasic(header)
		if id != "a:" || secret != "b" || !has || err != nil {
			t.Errorf("%q: %q %q %t, %v", header, id, secret, has, err)
		}
	}
	for _, header := range []string{"Basic zzz", "basic ====", "Basic JTp4"} {
		if _, _, has, err := parseBasic(header); !has || err == nil {
			t.Errorf("%q: %t, %v", header, has, err)
		}
	}
	for _, header := range []string{"", "Bearer YTpi", "Basically YTpi"} {
		if _, _, has, err := parseBasic(header); has || err != nil {
			t.Errorf("%q: %t, %v", header, has, err)
		}
	}
}

// RFC 6749 5.2: a refusal is JSON with the code of its error, in no cache. A client that tried the
// Authorization header is told how to use it.
func TestSMART4RefusalsOfTheTokenEndpoints(t *testing.T) {
	f := newFixture(t)
	const json, challenge = "application/json", `Basic realm="ehi"`
	wrong := []string{"Authorization", "Basic dGVzdF9jbGllbnRfaWQ6d3Jvbmc="}
	broken := []string{"Authorization", "Basic zzz"}
	for what, c := range map[string]struct {
		path, body string
		header     []string
		status     int
		code       string
		challenged bool
	}{
		"JSON": {
			"/auth/token", "{}", []string{"Content-Type", json}, 400, "invalid_request", false,
		},
		"a bad form": {"/auth/token", "a=%zz", nil, 400, "invalid_request", false},
		"no grant":   {"/auth/token", "", nil, 400, "invalid_request", false},
		"two grants": {
			"/auth/token", "grant_type=refresh_token&grant_type=refresh_token", nil,
			400, "invalid_request", false,
		},
		"another grant": {
			"/auth/token", "grant_type=password", nil, 400, "unsupported_grant_type", false,
		},
		"a bad code": {
			"/auth/token", redemption("x").Encode(), nil, 400, "invalid_grant", false,
		},
		"a bad secret": {
			"/auth/token", "grant_type=client_credentials&client_id=test_client_id&client_secret=x",
			nil, 401, "invalid_client", false,
		},
		"a bad secret by Basic": {
			"/auth/token", "grant_type=client_credentials", wrong, 401, "invalid_client", true,
		},
		"a broken header": {
			"/auth/token", "grant_type=client_credentials", broken, 401, "invalid_client", true,
		},
		"nobody revokes":     {"/auth/revoke", "token=x", nil, 400, "invalid_request", false},
		"nobody introspects": {"/auth/introspect", "token=x", nil, 401, "invalid_client", false},
		"introspection of nothing": {
			"/auth/introspect", "client_id=test_client_id&client_secret=" + url.QueryEscape(secret),
			nil, 400, "invalid_request", false,
		},
		"an unknown client": {
			"/auth/token", "grant_type=client_credentials&client_id=locked",
			nil, 401, "invalid_client", false,
		},
	} {
		a := f.ask(http.MethodPost, c.path, c.body, c.header...)
		f.refused(what, a, c.status, c.code)
		if a.header("Cache-Control") != "no-store" || a.header("Pragma") != "no-cache" {
			t.Errorf("%s: caches may keep the answer: %q", what, a.header("Cache-Control"))
		}
		if got := a.header("WWW-Authenticate"); (got == challenge) != c.challenged {
			t.Errorf("%s: the challenge is %q", what, got)
		}
	}
	if slices.Contains(f.clients, "locked") {
		t.Error("failures are counted for a client that nobody registered")
	}
}

// A code becomes a token, which is described to its client until it is revoked. Each step is
// recorded.
func TestSMART4TheLifeOfAToken(t *testing.T) {
	f := newFixture(t)
	a := f.post("/auth/token", redemption(f.code()))
	tokens := f.read(a)
	token, _ := tokens["access_token"].(string)
	if a.status != http.StatusOK || token == "" || tokens["patient"] != "p1" ||
		tokens["token_type"] != "Bearer" || a.header("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	sent := url.Values{
		"token": {token}, "client_id": {auth.SandboxClientID}, "client_secret": {secret},
	}
	told := f.read(f.post("/auth/introspect", sent))
	if told["active"] != true || told["patient"] != "p1" || told["scope"] != "patient/$ehi-export" {
		t.Errorf("it is described as %v", told)
	}
	revoking := url.Values{"token": {token}, "client_id": {auth.SandboxClientID}}
	if a := f.post("/auth/revoke", revoking); a.status != http.StatusOK || a.body != "" {
		t.Errorf("revoke: %d %q", a.status, a.body)
	}
	if told := f.read(f.post("/auth/introspect", sent)); told["active"] != false || len(told) != 1 {
		t.Errorf("once revoked, it is described as %v", told)
	}
	var actions []ehi.Action
	for _, e := range f.events {
		actions = append(actions, e.Action)
		if e.Client != auth.SandboxClientID || e.Outcome != "" {
			t.Errorf("recorded is %+v", e)
		}
	}
	want := []ehi.Action{ehi.ActionAuthorize, ehi.ActionToken, ehi.ActionRevoke}
	if !slices.Equal(actions, want) {
		t.Errorf("recorded are %q, want %q", actions, want)
	}
}

// RFC 9700 4.14.2: whose code comes a second time is recorded, because it may be stolen.
func TestSMART3ACodeThatComesTwiceIsRecorded(t *testing.T) {
	f := newFixture(t)
	code := f.code()
	if a := f.post("/auth/token", redemption(code)); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	f.refused("again", f.post("/auth/token", redemption(code)), 400, "invalid_grant")
	if e := f.last(); e.Action != ehi.ActionTokenReuse || e.Patient != "p1" ||
		e.Client != auth.SandboxClientID || e.Detail != "authorization_code: invalid_grant" {
		t.Errorf("recorded is %+v", e)
	}
}

// What a request claims is not recorded unless it names a client: it may be anything.
func TestTheTrailNamesRegisteredClientsOnly(t *testing.T) {
	f := newFixture(t)
	form := redemption("x")
	form.Set("client_id", "a name that nobody registered")
	f.post("/auth/token", form)
	if e := f.last(); e.Client != "" || e.Agent != "client " ||
		e.Detail != "authorization_code: invalid_client" {
		t.Errorf("recorded is %+v", e)
	}
}

// SMART-5: an assertion is for the token endpoint or the issuer, at any origin of the server.
func TestSMART5AudiencesOfAssertions(t *testing.T) {
	got := tokenAudiences([]string{"https://ehi.example", "http://localhost:8888"})
	if !slices.Equal(got, []string{
		"https://ehi.example/auth/token", "https://ehi.example",
		"http://localhost:8888/auth/token", "http://localhost:8888",
	}) {
		t.Errorf("%q", got)
	}
}
