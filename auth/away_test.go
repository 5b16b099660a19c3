package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"

	"ehi-server/auth"
	"ehi-server/shared/bus"
	"ehi-server/shared/link/linktest"
)

// cutOff returns an authorization server whose NATS connection can be stalled, and another
// server with a working connection to the same NATS.
func cutOff(t *testing.T) (here, there *auth.Server, wire *linktest.Wire) {
	t.Helper()
	nats, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Close)
	wire = linktest.NewWire(t, nats.ClientURL())
	b, err := bus.Open(t.Context(), bus.Config{Flags: bus.Flags{URL: wire.URL()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return production(t, b, &clock{}, nil), production(t, nats, &clock{}, nil), wire
}

// signer returns a new key, and its public half in the form of a registration.
func signer(t *testing.T) (key jwk.Key, public json.RawMessage) {
	t.Helper()
	raw, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = jwk.Import(raw); err != nil {
		t.Fatal(err)
	}
	set := jwk.NewSet()
	err = errors.Join(jwk.AssignKeyID(key), key.Set(jwk.AlgorithmKey, jwa.ES384()))
	half, failed := key.PublicKey()
	if err = errors.Join(err, failed, set.AddKey(half)); err != nil {
		t.Fatal(err)
	}
	if public, err = json.Marshal(set); err != nil {
		t.Fatal(err)
	}
	return key, public
}

func assertion(t *testing.T, client string, key jwk.Key) string {
	t.Helper()
	return signed(t, client, key,
		jwt.NewBuilder().JwtID("once").Expiration(time.Now().Add(time.Minute)))
}

// asked is a request to a server about something that another process created while the server
// was cut off from NATS.
type asked struct {
	name string
	ask  func(context.Context) error
}

// isThere returns an error if yes is false.
func isThere(yes bool, err error) error {
	if err == nil && !yes {
		err = errors.New("it says no")
	}
	return err
}

// Nothing is rejected because evidence is missing. While NATS is unreachable, a server does not
// treat what it has not received as nonexistent. It answers that it cannot tell, and gives the
// right answer when NATS is back.
func TestNothingIsRefusedWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	here, there, wire := cutOff(t)
	register := func(c auth.Client) string {
		t.Helper()
		_, secret, err := there.AddClient(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	service := auth.Client{
		ID:         "known",
		Name:       "Known",
		Kind:       auth.Symmetric,
		Scope:      "system/*.rs",
		Introspect: true,
	}
	register(service)
	until(t, "the client", func() bool { return here.Known("known") })
	fromSecret := func(id, secret string) auth.TokenRequest {
		return request(url.Values{
			"grant_type":    {"client_credentials"},
			"client_id":     {id},
			"client_secret": {secret},
			"scope":         {"system/*.rs"},
		})
	}

	wire.Slow(linktest.Forever)
	service.ID = "new"
	fresh := register(service)
	ofNewClient := mustToken(t, there, fromSecret("new", fresh)).AccessToken
	rotated, err := there.RotateSecret(t.Context(), "known")
	if err != nil {
		t.Fatal(err)
	}
	key, public := signer(t)
	register(auth.Client{
		ID:    "signs",
		Name:  "Signs",
		Kind:  auth.Asymmetric,
		Scope: "system/*.rs",
		JWKS:  public,
	})
	const back = "https://app.example/cb"
	app := auth.Client{ID: "app", Name: "App", Scope: appScope, RedirectURIs: []string{back}}
	register(app)
	if _, err := there.RotateKeys(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	ofNewKey := mustToken(t, there, fromSecret("known", rotated)).AccessToken
	authorization := authorizeQuery("client_id", "app", "scope", appScope, "redirect_uri", back)
	let := func() auth.TokenRequest {
		req, err := there.Check(t.Context(), authorization, []string{fhirBase})
		if err != nil {
			t.Fatal(err)
		}
		code, err := there.IssueCode(t.Context(), req, "p1")
		if err != nil {
			t.Fatal(err)
		}
		return codeForm(code, "client_id", "app", "redirect_uri", back)
	}
	code, first, second := let(), mustToken(t, there, let()), mustToken(t, there, let())
	const password = "four plain words here 77"
	for _, a := range []auth.Account{
		{Name: "ann", Patient: "p1"}, {Name: "ada", Role: auth.Admin},
	} {
		if _, err := there.AddAccount(t.Context(), a, password); err != nil {
			t.Fatal(err)
		}
	}
	consents, err := there.Consents(t.Context(), "p1")
	if err != nil || len(consents) != 2 {
		t.Fatalf("%d, %v", len(consents), err)
	}

	token := func(r auth.TokenRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := here.Token(ctx, r); return err }
	}
	all := []asked{
		{
			"a token of a key",
			func(ctx context.Context) error { _, err := here.Verify(ctx, ofNewKey); return err },
		},
		{
			"a token of a client",
			func(ctx context.Context) error { _, err := here.Verify(ctx, ofNewClient); return err },
		},
		{"an introspection", func(ctx context.Context) error {
			told, err := here.Introspect(ctx, request(url.Values{
				"client_id": {"known"}, "client_secret": {rotated}, "token": {ofNewKey},
			}))
			return isThere(told.Active, err)
		}},
		{"a client's secret", token(fromSecret("new", fresh))},
		{"a secret that was rotated", token(fromSecret("known", rotated))},
		{"an assertion", token(request(url.Values{
			"grant_type": {"client_credentials"}, "scope": {"system/*.rs"},
			"client_assertion":      {assertion(t, "signs", key)},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		}))},
		{"a code", token(code)},
		{"a refresh token", token(refreshForm(first.RefreshToken, "client_id", "app"))},
		{"a refresh token alone", token(refreshForm(second.RefreshToken, "client_id", ""))},
		{"an authorization", func(ctx context.Context) error {
			_, err := here.Check(ctx, authorization, []string{fhirBase})
			return err
		}},
		{
			"a client",
			func(ctx context.Context) error { _, err := here.Client(ctx, "app"); return err },
		},
		{"a job's standing", func(ctx context.Context) error {
			return isThere(here.StillValid(ctx, "app", "", auth.Origin{Begun: time.Now()}))
		}},
		{"a patient's account", func(ctx context.Context) error {
			_, err := here.PatientAccount(ctx, "ann")
			return err
		}},
		{"an administrator", func(ctx context.Context) error {
			_, err := here.StoredAdministrator(ctx, "ada")
			return err
		}},
		{"a patient's log-in", func(ctx context.Context) error {
			_, err := here.LogIn(ctx, "patient", "ann", password)
			return err
		}},
		{"an administrator's log-in", func(ctx context.Context) error {
			_, err := here.LogIn(ctx, "admin", "ada", password)
			return err
		}},
		{"consents", func(ctx context.Context) error {
			list, err := here.Consents(ctx, "p1")
			return isThere(len(list) > 0, err)
		}},
		{"a withdrawal", func(ctx context.Context) error {
			_, err := here.Withdraw(ctx, "p1", consents[0].ID)
			return err
		}},
		{"a revocation", func(ctx context.Context) error {
			return here.RevokeToken(ctx, request(url.Values{
				"client_id": {"known"}, "client_secret": {rotated}, "token": {ofNewKey},
			}))
		}},
		{
			"a secret to rotate",
			func(ctx context.Context) error { _, err := here.RotateSecret(ctx, "new"); return err },
		},
		{"a removal", func(ctx context.Context) error { return here.RemoveClient(ctx, "new") }},
	}
	t.Run("away", func(t *testing.T) {
		for _, a := range all {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := a.ask(ctx); !bus.IsAway(err) {
					t.Errorf("it does not say that NATS is away: %v", err)
				}
			})
		}
	})
	wire.Slow(0)
	for _, a := range all {
		t.Run("back: "+a.name, func(t *testing.T) {
			var err error
			until(t, "NATS", func() bool { // the connection may still be reopening
				err = a.ask(t.Context())
				return !bus.IsAway(err)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// What a server knows to be invalid is rejected without NATS.
func TestEndedGrantsAreRefusedWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	here, there, wire := cutOff(t)
	c := auth.Client{ID: "batch", Name: "Batch", Kind: auth.Symmetric, Scope: "system/*.rs"}
	_, secret, err := there.AddClient(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	tok := mustToken(t, there, request(url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"batch"}, "client_secret": {secret},
		"scope": {"system/*.rs"},
	})).AccessToken
	a, err := here.Verify(t.Context(), tok)
	if err != nil {
		t.Fatal(err)
	}
	if err := there.RemoveClient(t.Context(), "batch"); err != nil {
		t.Fatal(err)
	}
	until(t, "the removal", func() bool { return here.Ended(a) })
	wire.Slow(linktest.Forever)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := here.Verify(ctx, tok); !errors.Is(err, auth.ErrToken) {
		t.Errorf("a token of a client that was removed: %v", err)
	}
	if _, err := here.Client(ctx, "batch"); !errors.Is(err, auth.ErrNoClient) {
		t.Errorf("a client that was removed: %v", err)
	}
}
