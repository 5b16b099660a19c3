package smart

import (
	"net/http"
	"strings"
	"testing"
)

// SMART-1, RFC 8414: the document is the same at its three paths, and every endpoint that it names
// is one.
func TestSMART1DiscoveryNamesWhatThereIs(t *testing.T) {
	f := newFixture(t)
	var first string
	for _, path := range []string{
		"/fhir/.well-known/smart-configuration",
		"/.well-known/openid-configuration",
		"/.well-known/oauth-authorization-server",
	} {
		a := f.ask(http.MethodGet, path, "")
		if a.status != http.StatusOK || !strings.HasPrefix(a.header("Cache-Control"), "public") {
			t.Errorf("%s: %d, %q", path, a.status, a.header("Cache-Control"))
		}
		if first == "" {
			first = a.body
		}
		if a.body != first {
			t.Errorf("%s differs: %s", path, a.body)
		}
		named := 0
		for name, value := range f.read(a) {
			if !strings.HasSuffix(name, "_endpoint") && name != "jwks_uri" {
				continue
			}
			named++
			path, ok := strings.CutPrefix(value.(string), origin)
			if !ok || !f.has(path) {
				t.Errorf("%s leads to %v, where there is nothing", name, value)
			}
		}
		if named != 6 {
			t.Errorf("%d endpoints are named", named)
		}
	}
}

// has reports whether there is a route at a path.
func (f *fixture) has(path string) bool {
	for _, r := range f.app.GetRoutes(true) {
		if r.Path == path {
			return true
		}
	}
	return false
}

// Without an initial access token nobody can register, and discovery names no endpoint for it.
func TestDiscoveryHidesRegistrationThatIsOff(t *testing.T) {
	f := newFixture(t)
	f.discover.Registers = false
	told := f.read(f.ask(http.MethodGet, "/fhir/.well-known/smart-configuration", ""))
	if at, has := told["registration_endpoint"]; has || told["token_endpoint"] == nil {
		t.Errorf("it names %v", at)
	}
	// RFC 8414 2: a client without credentials cannot introspect
	for _, method := range told["introspection_endpoint_auth_methods_supported"].([]any) {
		if method == "none" {
			t.Error("public clients are told that they can introspect")
		}
	}
}

// The key set holds public keys alone, and caches keep it for a short time: a key may be rotated.
func TestKeySetIsPublic(t *testing.T) {
	f := newFixture(t)
	f.post("/auth/token", redemption(f.code())) // makes a key
	a := f.ask(http.MethodGet, "/auth/jwks", "")
	keys, _ := f.read(a)["keys"].([]any)
	if a.status != http.StatusOK || len(keys) == 0 ||
		a.header("Cache-Control") != "public, max-age=300" {
		t.Fatalf("%d %s %q", a.status, a.body, a.header("Cache-Control"))
	}
	for _, key := range keys {
		k := key.(map[string]any)
		if k["d"] != nil || k["kid"] == "" || k["kty"] == nil {
			t.Errorf("it has the key %v", k)
		}
	}
}
