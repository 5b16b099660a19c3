package smart

import (
	"net/http"
	"strings"
	"testing"

	"github.com/segmentio/encoding/json"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// A registration is refused if a known member has a value that the server does not support. Unknown
// members are ignored.
func TestRegistrationsAskForWhatIsOffered(t *testing.T) {
	for member, bodies := range map[string][]string{
		"": {
			`{}`,
			`{"response_types":["code"]}`,
			`{"response_types":[]}`,
			`{"software_id":"x","tos":"y"}`,
			`{"grant_types":["authorization_code","refresh_token"],"response_types":["code"]}`,
			`{"grant_types":["client_credentials"],"response_types":[]}`,
			`{"id_token_signed_response_alg":"RS256","subject_type":"public"}`,
			`{"token_endpoint_auth_signing_alg":"ES384","dpop_bound_access_tokens":false}`,
		},
		"response_types": {
			`{"response_types":["token"]}`,
			`{"response_types":["code","token"]}`,
			`{"response_types":["code id_token"]}`,
			`{"response_types":["none"]}`,
			`{"response_types":[""]}`,
			`{"response_types":["CODE"]}`,
			`{"grant_types":["client_credentials"],"response_types":["code"]}`,
		},
		"grant_types": {
			`{"grant_types":["implicit"]}`,
			`{"grant_types":["authorization_code","password"]}`,
			`{"grant_types":["urn:ietf:params:oauth:grant-type:device_code"]}`,
			`{"grant_types":["urn:ietf:params:oauth:grant-type:jwt-bearer"]}`,
			`{"grant_types":[""]}`,
		},
		"token_endpoint_auth_method": {
			`{"token_endpoint_auth_method":"client_secret_jwt"}`,
			`{"token_endpoint_auth_method":"tls_client_auth"}`,
			`{"token_endpoint_auth_method":""}`,
		},
		"token_endpoint_auth_signing_alg": {
			`{"token_endpoint_auth_signing_alg":"HS256"}`,
			`{"token_endpoint_auth_signing_alg":"none"}`,
		},
		"id_token_signed_response_alg": {`{"id_token_signed_response_alg":"none"}`},
		"subject_type":                 {`{"subject_type":"pairwise"}`},
		"response_mode":                {`{"response_mode":"fragment"}`},
		"dpop_bound_access_tokens":     {`{"dpop_bound_access_tokens":true}`},
		"tls_client_certificate_bound_access_tokens": {
			`{"tls_client_certificate_bound_access_tokens":true}`,
		},
		"require_signed_request_object": {`{"require_signed_request_object":true}`},
		"require_pushed_authorization_requests": {
			`{"require_pushed_authorization_requests":true}`,
		},
	} {
		for _, body := range bodies {
			in := metadata{AuthMethod: "client_secret_basic"}
			if err := json.Unmarshal([]byte(body), &in); err != nil {
				t.Fatal(err)
			}
			if got := in.unsupported(); got != member {
				t.Errorf("%s: %q, want %q", body, got, member)
			}
		}
	}
}

// registration is the metadata of a patient's application, with further members.
func registration(further string) string {
	return `{"client_name":"An app","redirect_uris":["` + callback + `"],
		"scope":"patient/$ehi-export"` + further + `}`
}

// enroll sends a registration with an initial access token.
func (f *fixture) enroll(token, body string) answer {
	f.t.Helper()
	return f.ask(http.MethodPost, "/auth/register", body,
		"Authorization", "Bearer "+token, "Content-Type", "application/json")
}

// RFC 7591 3.2.1: the answer says what was registered. A secret is in it once.
func TestRegistrationsAreAnsweredWithWhatIsRegistered(t *testing.T) {
	f := newFixture(t)
	a := f.enroll(initialToken, registration(""))
	told := f.read(a)
	id, _ := told["client_id"].(string)
	if a.status != http.StatusCreated || id == "" || told["client_secret"] == "" ||
		told["client_secret_expires_at"] != 0.0 || a.header("Cache-Control") != "no-store" ||
		told["token_endpoint_auth_method"] != "client_secret_basic" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	c, err := f.auth.Client(t.Context(), id)
	if err != nil || c.CreatedBy != auth.SelfRegistered || c.Kind != auth.Symmetric {
		t.Errorf("registered is %+v, %v", c, err)
	}
	if e := f.last(); e.Action != ehi.ActionRegister || e.Client != id || e.Outcome != "" {
		t.Errorf("recorded is %+v", e)
	}
	public := registration(`,"token_endpoint_auth_method":"none"`)
	if told := f.read(f.enroll(initialToken, public)); told["client_secret"] != nil {
		t.Errorf("a public client has a secret: %v", told)
	}
}

// RFC 7591 3.2.2: refusals have the codes of registration.
func TestRefusalsOfRegistrations(t *testing.T) {
	f := newFixture(t)
	const invalid, invalidRedirect = "invalid_client_metadata", "invalid_redirect_uri"
	for what, c := range map[string]struct{ body, code string }{
		"no JSON":         {"client_name=x", invalid},
		"a member twice":  {registration(`,"scope":"system/*.rs"`), invalid},
		"unsupported":     {registration(`,"subject_type":"pairwise"`), invalid},
		"keys from here":  {registration(`,"jwks_uri":"https://127.0.0.1/"`), invalid},
		"a service":       {`{"client_name":"x","scope":"system/*.rs"}`, invalid},
		"no redirect_uri": {`{"client_name":"x","scope":"patient/*.rs"}`, invalidRedirect},
		"another's redirect_uri": {
			strings.Replace(registration(""), callback, "https://other.example.org/", 1),
			invalidRedirect,
		},
	} {
		if f.reg.Limits.Hosts = nil; what == "another's redirect_uri" {
			f.reg.Limits.Hosts = []string{"app.example.org"}
		}
		f.refused(what, f.enroll(initialToken, c.body), http.StatusBadRequest, c.code)
		if e := f.last(); e.Action != ehi.ActionRegister || e.Outcome != ehi.Denied {
			t.Errorf("%s: recorded is %+v", what, e)
		}
	}
}

// RFC 6750 3.1: a wrong initial access token is answered with a challenge, and recorded.
func TestRegistrationNeedsItsToken(t *testing.T) {
	f := newFixture(t)
	for _, token := range []string{"", "wrong", initialToken + "x"} {
		a := f.enroll(token, registration(""))
		f.refused(token, a, http.StatusUnauthorized, "invalid_token")
		if got := a.header("WWW-Authenticate"); got != `Bearer realm="ehi", error="invalid_token"` {
			t.Errorf("%q: the challenge is %q", token, got)
		}
		if e := f.last(); e.Action != ehi.ActionRegister || e.Outcome != ehi.Denied {
			t.Errorf("%q: recorded is %+v", token, e)
		}
	}
	f.reg.Token = ""
	if a := f.enroll("", registration("")); a.status != http.StatusNotFound {
		t.Errorf("where registration is off: %d %s", a.status, a.body)
	}
	if len(f.events) != 3 {
		t.Errorf("recorded are %+v", f.events)
	}
}
