package auth_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"

	"ehi-server/auth"
)

// REAL-8: clocks may differ by up to 30 seconds in both directions. The ID of an assertion is
// remembered for as long as the assertion is valid.
func TestREAL8AssertionsHaveALeeway(t *testing.T) {
	_, clock, b := newServer(t)
	s := production(t, b, clock, nil)
	key, public := signer(t)
	registered(t, s, []auth.Client{
		{ID: "signs", Name: "Signs", Kind: auth.Asymmetric, Scope: "system/*.rs", JWKS: public},
	})
	const tokenURL = "http://server.test/auth/token"
	ask := func(id string, issued, expires time.Duration) error {
		form := url.Values{
			"grant_type": {"client_credentials"}, "scope": {"system/*.rs"},
			"client_assertion": {assertionOf(t, key, id, clock.now().Add(issued),
				clock.now().Add(expires))},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		}
		_, err := s.Token(t.Context(), auth.TokenRequest{Audiences: []string{tokenURL}, Form: form})
		return err
	}
	const life = 5 * time.Minute
	for name, c := range map[string]struct {
		issued, expires time.Duration
		good            bool
	}{
		"as it should be":             {0, life, true},
		"one second too long":         {0, life + time.Second, true},
		"a minute too long":           {0, life + time.Minute, false},
		"expired ten seconds ago":     {-time.Minute, -10 * time.Second, true},
		"expired a minute ago":        {-2 * time.Minute, -time.Minute, false},
		"issued in ten seconds":       {10 * time.Second, life, true},
		"issued in two minutes' time": {2 * time.Minute, life, false},
	} {
		if err := ask(name, c.issued, c.expires); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := ask("once", 0, time.Minute); err != nil {
		t.Fatal(err)
	}
	clock.Add(int64(time.Minute + 20*time.Second)) // an assertion of that time would still be valid
	wantError(t, ask("once", -time.Minute-20*time.Second, -20*time.Second), "invalid_client")
}

// assertionOf returns an assertion of the client "signs".
func assertionOf(t *testing.T, key jwk.Key, id string, issued, expires time.Time) string {
	t.Helper()
	return signed(t, "signs", key, jwt.NewBuilder().JwtID(id).IssuedAt(issued).Expiration(expires))
}

// signed returns an assertion of a client for the token endpoint, with further claims.
func signed(t *testing.T, client string, key jwk.Key, says *jwt.Builder) string {
	t.Helper()
	tok, err := says.Issuer(client).Subject(client).Audience([]string{
		"http://server.test/auth/token",
	}).Build()
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Sign(tok, jwt.WithKey(jwa.ES384(), key))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
