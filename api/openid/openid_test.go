package openid

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"ehi-server/auth"
)

// hostile is a provider that answers whatever a test wants.
type hostile struct {
	t      *testing.T
	server *httptest.Server
	key    jwk.Key
	nonce  string
	// challenge is the one that the browser sent.
	challenge string
	// change changes the claims of the next ID token; sign makes the token from them. nil means
	// as it should be.
	change map[string]any
	sign   func(claims []byte) string
	// ownsAnswers is whether it announces iss in its responses.
	ownsAnswers bool
	exchanges   int
}

const clientID, callback = "ehi", "https://ehi.example/cb"

func key(t *testing.T, id string) jwk.Key {
	t.Helper()
	raw, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := jwk.Import(raw)
	if err == nil {
		err = errors.Join(k.Set(jwk.KeyIDKey, id), k.Set(jwk.AlgorithmKey, jwa.ES256()))
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func openHostile(t *testing.T) *hostile {
	h := &hostile{t: t, key: key(t, "k1")}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration",
		func(w http.ResponseWriter, _ *http.Request) {
			h.say(w, map[string]any{
				"issuer":                                h.server.URL,
				"authorization_endpoint":                h.server.URL + "/auth",
				"token_endpoint":                        h.server.URL + "/token",
				"jwks_uri":                              h.server.URL + "/jwks",
				"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"},
				"authorization_response_iss_parameter_supported": h.ownsAnswers,
			})
		})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		public, err := jwk.PublicKeyOf(h.key)
		if err != nil {
			t.Error(err)
		}
		h.say(w, map[string]any{"keys": []any{public}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		h.exchanges++
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if r.PostFormValue("code") != "good" ||
			base64.RawURLEncoding.EncodeToString(sum[:]) != h.challenge ||
			r.PostFormValue("redirect_uri") != callback {
			w.WriteHeader(http.StatusBadRequest)
			h.say(w, map[string]any{"error": "invalid_grant"})
			return
		}
		h.say(w, map[string]any{
			"access_token": "at",
			"token_type":   "Bearer",
			"id_token":     h.token(),
		})
	})
	h.server = httptest.NewServer(mux)
	t.Cleanup(h.server.Close)
	return h
}

func (h *hostile) say(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(what); err != nil {
		h.t.Error(err)
	}
}

// token returns the next ID token.
func (h *hostile) token() string {
	now := time.Now()
	claims := map[string]any{
		"iss":   h.server.URL,
		"sub":   "ada",
		"aud":   clientID,
		"exp":   now.Add(time.Minute).Unix(),
		"iat":   now.Unix(),
		"nonce": h.nonce, "auth_time": now.Unix(), "roles": []string{"staff", "ehi-reviewers"},
	}
	for name, value := range h.change {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	data, err := json.Marshal(claims)
	if err != nil {
		h.t.Error(err)
	}
	if h.sign != nil {
		return h.sign(data)
	}
	return h.signed(data, h.key)
}

func (h *hostile) signed(claims []byte, by jwk.Key) string {
	out, err := jws.Sign(claims, jws.WithKey(jwa.ES256(), by))
	if err != nil {
		h.t.Error(err)
	}
	return string(out)
}

// relying returns this server's Provider for it.
func (h *hostile) relying(change ...func(*Config)) *Provider {
	h.t.Helper()
	c := Config{
		Issuer:     h.server.URL,
		ClientID:   clientID,
		Secret:     "a secret",
		NameClaim:  "sub",
		RolesClaim: "roles",
		Role: []string{
			"ehi-reviewers=reviewer", "ehi-admins=admin", "everybody=viewer", "CN=a,OU=b=viewer",
		},
	}
	for _, f := range change {
		f(&c)
	}
	if p := c.Problems(); len(p) > 0 {
		h.t.Fatal(p)
	}
	p, err := New(c, callback)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// begin starts a sign-in at the provider.
func (h *hostile) begin(p *Provider, again bool) (Try, url.Values) {
	h.t.Helper()
	address, try, err := p.Begin(h.t.Context(), again)
	if err != nil {
		h.t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		h.t.Fatal(err)
	}
	q := u.Query()
	if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" ||
		q.Get("state") != try.State || len(try.State) < 20 || len(try.Nonce) < 20 ||
		strings.Contains(address, try.Verifier) || (q.Get("prompt") == "login") != again ||
		(q.Get("max_age") == "0") != again || q.Get("max_age") == "" {
		h.t.Errorf("it goes to %s", address)
	}
	h.nonce, h.challenge = q.Get("nonce"), q.Get("code_challenge")
	return try, url.Values{"code": {"good"}, "state": {try.State}, "iss": {h.server.URL}}
}

// A person whom the provider has signed in and given a role is accepted with the name from the
// provider.
func TestTheProviderSignsIn(t *testing.T) {
	h := openHostile(t)
	p := h.relying()
	for roles, want := range map[string]auth.Role{
		`["ehi-reviewers"]`:                          auth.Reviewer,
		`["everybody","ehi-admins","ehi-reviewers"]`: auth.Admin,
		`"everybody"`:                                auth.Viewer,
		`["CN=a,OU=b"]`:                              auth.Viewer,
	} {
		for _, again := range []bool{false, true} {
			h.change = map[string]any{"roles": json.RawMessage(roles)}
			try, answer := h.begin(p, again)
			got, err := p.Finish(t.Context(), try, answer)
			if err != nil || got.Name != "ada (OpenID)" || got.Role != want ||
				time.Since(got.Proved) > time.Minute {
				t.Errorf("%s: %+v, %v", roles, got, err)
			}
		}
	}
	h.change = map[string]any{
		"realm_access":   map[string]any{"roles": []string{"ehi-admins"}},
		"email":          "ada@hospital.example",
		"email_verified": true,
		"roles":          nil,
	}
	nested := h.relying(func(c *Config) {
		c.RolesClaim, c.NameClaim, c.Secret = "realm_access.roles", "email", ""
	})
	try, answer := h.begin(nested, false)
	got, err := nested.Finish(t.Context(), try, answer)
	if err != nil || got.Name != "ada@hospital.example (OpenID)" || got.Role != auth.Admin {
		t.Errorf("%+v, %v", got, err)
	}
	if p.Mark() == nested.Mark() || p.Mark() != h.relying().Mark() {
		t.Error("the mark does not stand for the configuration")
	}
}

// Invalid ID tokens are refused, whoever signs them.
func TestInvalidIDTokensAreRefused(t *testing.T) {
	h := openHostile(t)
	p := h.relying()
	stranger, b64 := key(t, "k1"), base64.RawURLEncoding.EncodeToString
	public, err := jwk.PublicKeyOf(h.key)
	if err != nil {
		t.Fatal(err)
	}
	known, err := json.Marshal(public)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for name, c := range map[string]struct {
		change map[string]any
		sign   func([]byte) string
		again  bool
		want   error
	}{
		"another nonce":    {change: map[string]any{"nonce": "another"}},
		"no nonce":         {change: map[string]any{"nonce": nil}},
		"an empty nonce":   {change: map[string]any{"nonce": ""}},
		"another audience": {change: map[string]any{"aud": "other"}},
		"no audience":      {change: map[string]any{"aud": nil}},
		"further audiences": {
			change: map[string]any{"aud": []string{clientID, "other"}, "azp": clientID},
		},
		"another party":            {change: map[string]any{"azp": "other"}},
		"another issuer":           {change: map[string]any{"iss": "https://other.example"}},
		"no issuer":                {change: map[string]any{"iss": nil}},
		"expired":                  {change: map[string]any{"exp": now.Add(-time.Hour).Unix()}},
		"without an end":           {change: map[string]any{"exp": nil}},
		"of the future":            {change: map[string]any{"iat": now.Add(time.Hour).Unix()}},
		"of no time":               {change: map[string]any{"iat": nil}},
		"of the beginning of time": {change: map[string]any{"iat": 0}},
		"of a time in words":       {change: map[string]any{"iat": "now"}},
		"not yet good":             {change: map[string]any{"nbf": now.Add(time.Hour).Unix()}},
		"no subject":               {change: map[string]any{"sub": nil}},
		"another access token":     {change: map[string]any{"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}},
		"signed in in the future": {
			change: map[string]any{"auth_time": now.Add(time.Hour).Unix()},
		},
		"signed in yesterday": {
			change: map[string]any{"auth_time": now.Add(-24 * time.Hour).Unix()},
			want:   ErrStale,
		},
		"proved before": {
			change: map[string]any{"auth_time": now.Add(-5 * time.Minute).Unix()},
			again:  true,
			want:   ErrStale,
		},
		"proved nobody knows when": {
			change: map[string]any{"auth_time": nil},
			again:  true,
			want:   ErrStale,
		},
		"proved in words": {
			change: map[string]any{"auth_time": "now"},
			again:  true,
			want:   ErrStale,
		},
		"no roles": {change: map[string]any{"roles": nil}, want: ErrNoRole},
		"roles of nobody": {
			change: map[string]any{"roles": []string{"nobody", ""}},
			want:   ErrNoRole,
		},
		"roles in another case": {
			change: map[string]any{"roles": "EHI-Admins"},
			want:   ErrNoRole,
		},
		"roles as an object": {
			change: map[string]any{"roles": map[string]any{"ehi-admins": true}},
			want:   ErrNoRole,
		},
		"roles as a number": {change: map[string]any{"roles": 1}, want: ErrNoRole},
		"roles as truth":    {change: map[string]any{"roles": true}, want: ErrNoRole},
		"roles in a list of lists": {
			change: map[string]any{"roles": []any{[]string{"ehi-admins"}}},
			want:   ErrNoRole,
		},
		"roles beside something": {
			change: map[string]any{"roles": []any{"ehi-admins", 1}},
			want:   ErrNoRole,
		},
		"roles in one text": {
			change: map[string]any{"roles": "ehi-admins ehi-reviewers"},
			want:   ErrNoRole,
		},
		"a name that hides":      {change: map[string]any{"sub": "ada\u202e"}},
		"a name of control":      {change: map[string]any{"sub": "ada\nadmin"}},
		"a name without an end":  {change: map[string]any{"sub": strings.Repeat("a", 200)}},
		"by somebody else's key": {sign: func(c []byte) string { return h.signed(c, stranger) }},
		"unsigned": {
			sign: func(c []byte) string {
				return b64([]byte(`{"alg":"none"}`)) + "." + b64(c) + "."
			},
		},
		"unsigned, in another case": {
			sign: func(c []byte) string {
				return b64([]byte(`{"alg":"nOnE"}`)) + "." + b64(c) + "."
			},
		},
		"by a secret": {sign: func(c []byte) string {
			out, err := jws.Sign(c, jws.WithKey(jwa.HS256(), []byte("a secret")))
			if err != nil {
				t.Error(err)
			}
			return string(out)
		}},
		"by the public key as a secret": {sign: func(c []byte) string {
			out, err := jws.Sign(c, jws.WithKey(jwa.HS256(), known))
			if err != nil {
				t.Error(err)
			}
			return string(out)
		}},
		"changed behind its signature": {sign: func(c []byte) string {
			parts := strings.Split(h.signed(c, h.key), ".")
			return parts[0] + "." +
				b64([]byte(strings.Replace(string(c), "ehi-reviewers", "ehi-admins", 1))) + "." +
				parts[2]
		}},
		"none":    {sign: func([]byte) string { return "" }},
		"no JWT":  {sign: func([]byte) string { return "a.b.c" }},
		"no JSON": {sign: func([]byte) string { return h.signed([]byte("claims"), h.key) }},
	} {
		h.change, h.sign = c.change, c.sign
		try, answer := h.begin(p, c.again)
		got, err := p.Finish(t.Context(), try, answer)
		_, refused := errors.AsType[*Refused](err)
		if !refused || c.want != nil && !errors.Is(err, c.want) || got.Role != "" {
			t.Errorf("an id token %s: %+v, %v", name, got, err)
		}
	}
	h.change, h.sign = map[string]any{"email": "ada@hospital.example"}, nil
	mail := h.relying(func(c *Config) { c.NameClaim = "email" })
	for _, verified := range []any{nil, false, "true"} {
		h.change["email_verified"] = verified
		try, answer := h.begin(mail, false)
		if got, err := mail.Finish(t.Context(), try, answer); err == nil {
			t.Errorf("an e-mail address that is verified: %v, is a name: %+v", verified, got)
		}
	}
}

// What a browser brings back must belong to its try and come from the provider.
func TestAnswersMustBelongToTheirSignIn(t *testing.T) {
	h := openHostile(t)
	h.ownsAnswers = true
	p := h.relying()
	for name, change := range map[string]url.Values{
		"another state":          {"state": {"another"}},
		"no state":               {"state": nil},
		"an empty state":         {"state": {""}},
		"another provider's":     {"iss": {"https://other.example"}},
		"nobody's":               {"iss": nil},
		"no code":                {"code": nil},
		"another code":           {"code": {"bad"}},
		"two codes":              {"code": {"good", "bad"}},
		"an error":               {"error": {"access_denied"}},
		"an error beside a code": {"error": {""}},
	} {
		try, answer := h.begin(p, false)
		maps.Copy(answer, change)
		for key, values := range answer {
			if values == nil {
				answer.Del(key)
			}
		}
		before := h.exchanges
		if got, err := p.Finish(t.Context(), try, answer); err == nil {
			t.Errorf("an answer with %s: %+v", name, got)
		} else if _, refused := errors.AsType[*Refused](err); !refused {
			t.Errorf("an answer with %s: %v", name, err)
		}
		if h.exchanges != before && name != "another code" {
			t.Errorf("an answer with %s reaches the provider", name)
		}
	}
	try, answer := h.begin(p, false)
	for name, change := range map[string]func(*Try){
		"another verifier": func(t *Try) { t.Verifier = strings.Repeat("x", 43) },
		"another state":    func(t *Try) { t.State = "x" },
		"no state":         func(t *Try) { t.State = "" },
		"no nonce":         func(t *Try) { t.Nonce = "" },
		"another nonce":    func(t *Try) { t.Nonce = "x" },
		"an old one":       func(t *Try) { t.Begun = t.Begun.Add(-time.Hour) },
	} {
		other := try
		change(&other)
		if got, err := p.Finish(t.Context(), other, answer); err == nil {
			t.Errorf("a try with %s: %+v", name, got)
		}
	}
	_, err := p.Finish(t.Context(), Try{}, url.Values{"code": {"good"}, "state": {""}})
	if err == nil {
		t.Error("nobody's try is finished")
	}
}

// A provider that is unreachable, or not the expected one, signs nobody in and does not stop
// anything.
func TestAProviderThatIsAwaySignsNobodyIn(t *testing.T) {
	h := openHostile(t)
	p := h.relying(func(c *Config) { c.Issuer = "http://127.0.0.1:1" })
	for range 2 {
		if _, _, err := p.Begin(t.Context(), false); !errors.Is(err, ErrAway) {
			t.Error(err)
		}
	}
	p = h.relying(func(c *Config) { c.Issuer = h.server.URL + "/" }) // it names another issuer
	if _, _, err := p.Begin(t.Context(), false); !errors.Is(err, ErrAway) {
		t.Error(err)
	}
}

// Problems with the flags are reported at the start. A secret can come from a file too.
func TestTheConfigurationOfAProviderIsChecked(t *testing.T) {
	good := Config{
		Issuer:     "https://login.example.org",
		ClientID:   "ehi",
		NameClaim:  "sub",
		RolesClaim: "roles",
		Role:       []string{"a=admin"},
	}
	if p := good.Problems(); len(p) > 0 {
		t.Error(p)
	}
	if p := (Config{NameClaim: "sub", RolesClaim: "roles"}).Problems(); len(p) > 0 {
		t.Error(p)
	}
	for text, change := range map[string]func(*Config){
		"https":                    func(c *Config) { c.Issuer = "http://login.example.org" },
		"https URL":                func(c *Config) { c.Issuer = "login" },
		"issuer is missing":        func(c *Config) { c.Issuer = "" },
		"client-id is missing":     func(c *Config) { c.ClientID = "" },
		"must not be empty":        func(c *Config) { c.RolesClaim = "" },
		"role is missing":          func(c *Config) { c.Role = nil },
		"VALUE=ROLE":               func(c *Config) { c.Role = []string{"a=root"} },
		"must be VALUE=ROLE":       func(c *Config) { c.Role = []string{"=admin"} },
		"two roles":                func(c *Config) { c.Role = []string{"a=admin", "a=viewer"} },
		"cannot be used together":  func(c *Config) { c.Secret, c.SecretFile = "x", "y" },
		"client-secret-file: open": func(c *Config) { c.SecretFile = t.TempDir() + "/none" },
	} {
		c := good
		change(&c)
		if p := fmt.Sprint(c.Problems()); !strings.Contains(p, text) {
			t.Errorf("it does not say %q: %s", text, p)
		}
	}
}
