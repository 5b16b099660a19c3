// Package openidtest is for tests of sign-ins with an OpenID provider. It has a provider that
// signs in the person that a test names, without asking.
package openidtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"ehi-server/api/openid"
)

// Provider is a small OpenID provider. It gives nora the role of reviewers and adam the role of
// administrators.
type Provider struct {
	t      *testing.T
	server *httptest.Server
	key    jwk.Key

	mu    sync.Mutex
	roles map[string]string     // values of the claim by subject
	codes map[string]url.Values // authorization requests by code
}

// Open starts a provider that runs until the test ends.
func Open(t *testing.T) *Provider {
	t.Helper()
	raw, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwk.Import(raw)
	if err == nil {
		err = errors.Join(key.Set(jwk.KeyIDKey, "k1"), key.Set(jwk.AlgorithmKey, jwa.ES256()))
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &Provider{t: t, key: key, codes: map[string]url.Values{}, roles: map[string]string{
		"nora": "ehi-reviewers", "adam": "ehi-admins",
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration",
		func(w http.ResponseWriter, _ *http.Request) {
			base := p.server.URL
			p.say(w, map[string]any{
				"issuer":                 base,
				"authorization_endpoint": base + "/auth",
				"token_endpoint":         base + "/token",
				"jwks_uri":               base + "/jwks",
				"authorization_response_iss_parameter_supported": true,
			})
		})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		public, err := jwk.PublicKeyOf(p.key)
		if err != nil {
			t.Error(err)
		}
		p.say(w, map[string]any{"keys": []any{public}})
	})
	// for a real browser, as another site
	mux.HandleFunc("GET /auth", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		to := html.EscapeString(p.SignsIn("nora", p.server.URL+r.URL.String()))
		// its test reports it
		_, _ = w.Write([]byte(
			`<!doctype html><link rel="icon" href="data:,"><title>provider</title><p><a ` +
				`id="nora" href="` +
				to + `">Nora</a>`))
	})
	mux.HandleFunc("POST /token", p.token)
	p.server = httptest.NewServer(mux)
	// another site than the servers of tests
	p.server.URL = strings.Replace(p.server.URL, "127.0.0.1", "localhost", 1)
	t.Cleanup(p.server.Close)
	return p
}

// Config returns the configuration of a server that uses the provider.
func (p *Provider) Config() openid.Config { return Config(p.server.URL) }

// Config returns the configuration of a server that uses the provider of an issuer.
func Config(issuer string) openid.Config {
	return openid.Config{
		Issuer:     issuer,
		ClientID:   "ehi",
		Secret:     Secret,
		NameClaim:  "sub",
		RolesClaim: "roles",
		Role:       []string{"ehi-reviewers=reviewer", "ehi-admins=admin", "ehi-viewers=viewer"},
	}
}

// Secret is the secret of the server at the provider.
const Secret = "a secret of the test"

// Origin returns the origin of the provider, which is another site than 127.0.0.1.
func (p *Provider) Origin() string { return p.server.URL }

func (p *Provider) say(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(what); err != nil {
		p.t.Error(err)
	}
}

// SignsIn returns where the provider redirects a browser that came to an address, as the named
// person.
func (p *Provider) SignsIn(name, address string) string {
	p.t.Helper()
	u, err := url.Parse(address)
	if err != nil || !strings.HasPrefix(address, p.server.URL+"/auth?") {
		p.t.Fatalf("%q does not lead to the provider: %v", address, err)
	}
	code, asked := rand.Text(), u.Query()
	asked.Set("sub", name)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes[code] = asked
	return asked.Get("redirect_uri") + "?" + url.Values{
		"code":  {code},
		"state": {asked.Get("state")},
		"iss":   {p.server.URL},
	}.Encode()
}

// Gives changes a person's claim; "" for none.
func (p *Provider) Gives(name, role string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.roles[name] = role
}

// token redeems a code. It does not check PKCE, which the real provider does.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked, ok := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code"))
	if !ok {
		w.WriteHeader(http.StatusBadRequest)
		p.say(w, map[string]any{"error": "invalid_grant"})
		return
	}
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss":   p.server.URL,
		"sub":   asked.Get("sub"),
		"aud":   asked.Get("client_id"),
		"nonce": asked.Get("nonce"),
		"exp":   now.Add(time.Minute).Unix(), "iat": now.Unix(), "auth_time": now.Unix(),
		"roles": p.roles[asked.Get("sub")],
	})
	if err != nil {
		p.t.Error(err)
	}
	id, err := jws.Sign(claims, jws.WithKey(jwa.ES256(), p.key))
	if err != nil {
		p.t.Error(err)
	}
	p.say(w, map[string]any{
		"access_token": "of no use",
		"token_type":   "Bearer",
		"id_token":     string(id),
	})
}
