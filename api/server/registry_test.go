package server

import (
	"testing"

	"github.com/segmentio/encoding/json"
)

// A registration that asks for what is not offered is refused by the member that does, and no such member is passed
// over in silence; what nobody here has heard of is.
func TestRegistrationsAskForWhatIsOffered(t *testing.T) {
	for body, member := range map[string]string{
		`{}`:                            "",
		`{"response_types":["code"]}`:   "",
		`{"response_types":[]}`:         "",
		`{"software_id":"x","tos":"y"}`: "",
		`{"grant_types":["authorization_code","refresh_token"],"response_types":["code"]}`: "",
		`{"grant_types":["client_credentials"],"response_types":[]}`:                       "",
		`{"id_token_signed_response_alg":"RS256","subject_type":"public"}`:                 "",
		`{"token_endpoint_auth_signing_alg":"ES384","dpop_bound_access_tokens":false}`:     "",

		`{"response_types":["token"]}`:                                     "response_types",
		`{"response_types":["code","token"]}`:                              "response_types",
		`{"response_types":["code id_token"]}`:                             "response_types",
		`{"response_types":["none"]}`:                                      "response_types",
		`{"response_types":[""]}`:                                          "response_types",
		`{"response_types":["CODE"]}`:                                      "response_types",
		`{"grant_types":["client_credentials"],"response_types":["code"]}`: "response_types",
		`{"grant_types":["implicit"]}`:                                     "grant_types",
		`{"grant_types":["authorization_code","password"]}`:                "grant_types",
		`{"grant_types":["urn:ietf:params:oauth:grant-type:device_code"]}`: "grant_types",
		`{"grant_types":["urn:ietf:params:oauth:grant-type:jwt-bearer"]}`:  "grant_types",
		`{"grant_types":[""]}`:                                             "grant_types",
		`{"token_endpoint_auth_method":"client_secret_jwt"}`:               "token_endpoint_auth_method",
		`{"token_endpoint_auth_method":"tls_client_auth"}`:                 "token_endpoint_auth_method",
		`{"token_endpoint_auth_method":""}`:                                "token_endpoint_auth_method",
		`{"token_endpoint_auth_signing_alg":"HS256"}`:                      "token_endpoint_auth_signing_alg",
		`{"token_endpoint_auth_signing_alg":"none"}`:                       "token_endpoint_auth_signing_alg",
		`{"id_token_signed_response_alg":"none"}`:                          "id_token_signed_response_alg",
		`{"subject_type":"pairwise"}`:                                      "subject_type",
		`{"response_mode":"fragment"}`:                                     "response_mode",
		`{"dpop_bound_access_tokens":true}`:                                "dpop_bound_access_tokens",
		`{"tls_client_certificate_bound_access_tokens":true}`:              "tls_client_certificate_bound_access_tokens",
		`{"require_signed_request_object":true}`:                           "require_signed_request_object",
		`{"require_pushed_authorization_requests":true}`:                   "require_pushed_authorization_requests",
	} {
		in := metadata{AuthMethod: "client_secret_basic"}
		if err := json.Unmarshal([]byte(body), &in); err != nil {
			t.Fatal(err)
		}
		if got := in.unoffered(); got != member {
			t.Errorf("%s: %q, want %q", body, got, member)
		}
	}
}
