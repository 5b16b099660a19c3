package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/telemetry"
)

// Backend services (SMART Backend Services 2.2): a client without a user authenticates by a secret or by an assertion that it
// signed, and is given system scopes.

const (
	// assertionType is the one of RFC 7523 2.2.
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// assertionLife is how far ahead an assertion may expire (SMART-5).
	assertionLife = 5 * time.Minute
	// assertionLeeway forgives clocks that differ (REAL-8).
	assertionLeeway = 30 * time.Second

	jtiPrefix = "jti."
)

// AssertionAlgorithms are the signature algorithms of assertions (SMART-1).
func AssertionAlgorithms() []string { return []string{"RS384", "ES384"} }

// fromClient answers the client_credentials grant.
func (s *Server) fromClient(ctx context.Context, r TokenRequest) (Tokens, error) {
	id, err := s.authenticate(ctx, r)
	if err != nil {
		return Tokens{}, err
	}
	if r.Form.Get("scope") == "" {
		return Tokens{}, missing("scope")
	}
	scopes := ParseSystemScopes(r.Form.Get("scope"))
	if len(scopes) == 0 {
		return Tokens{}, refuse("invalid_scope", "None of the scopes asked for is supported for a backend service")
	}
	telemetry.TokensIssued.WithLabelValues("client_credentials").Inc()
	return s.issue(ctx, grant{ClientID: id, Scopes: scopes, Family: random()}, scopes)
}

// errClient is the one answer to every failed authentication. Why it failed is nobody's business but the client's developer's, who
// learns it from the description.
func errClient(format string, args ...any) *Error { return refuse("invalid_client", format, args...) }

// authenticate finds out who the client is, by exactly one method (RFC 6749 2.3).
func (s *Server) authenticate(ctx context.Context, r TokenRequest) (id string, err error) {
	f := r.Form
	methods := 0
	for _, used := range []bool{r.HasBasic, f.Get("client_secret") != "", f.Get("client_assertion") != "" || f.Get("client_assertion_type") != ""} {
		if used {
			methods++
		}
	}
	switch {
	case methods == 0:
		return "", errClient("The client did not authenticate")
	case methods > 1:
		return "", refuse("invalid_request", "The client used more than one way to authenticate")
	case r.HasBasic:
		return r.BasicID, s.checkSecret(r.BasicID, r.BasicSecret)
	case f.Get("client_secret") != "":
		return f.Get("client_id"), s.checkSecret(f.Get("client_id"), f.Get("client_secret"))
	}
	return s.checkAssertion(ctx, r)
}

func (s *Server) checkSecret(id, secret string) error {
	want, got := sha256.Sum256([]byte(s.SandboxSecret)), sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || s.SandboxSecret == "" || !s.Sandbox || id != SandboxClientID {
		return errClient("Unknown client or wrong secret")
	}
	return nil
}

// checkAssertion is private_key_jwt (SMART-5).
func (s *Server) checkAssertion(ctx context.Context, r TokenRequest) (id string, err error) {
	if r.Form.Get("client_assertion_type") != assertionType {
		return "", errClient("Invalid %q parameter", "client_assertion_type")
	}
	keys, err := s.clientKeys()
	if err != nil {
		return "", err
	}
	tok, err := jwt.Parse([]byte(r.Form.Get("client_assertion")), jwt.WithKeySet(keys), jwt.WithClock(jwt.ClockFunc(s.Now)), jwt.WithAcceptableSkew(assertionLeeway),
		jwt.WithRequiredClaim("exp"), jwt.WithRequiredClaim("jti"))
	if err != nil {
		return "", errClient("The assertion cannot be verified")
	}
	issuer, _ := tok.Issuer()
	subject, _ := tok.Subject()
	audience, _ := tok.Audience()
	expires, _ := tok.Expiration()
	jti, _ := tok.JwtID()
	switch {
	case issuer != subject || issuer != SandboxClientID || !s.Sandbox:
		return "", errClient("iss and sub must both be the client's id")
	case r.Form.Get("client_id") != "" && r.Form.Get("client_id") != issuer:
		return "", errClient("client_id is not the assertion's")
	case !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(r.Audiences, a) }):
		return "", errClient("aud must be the URL of the token endpoint")
	case expires.After(s.Now().Add(assertionLife + assertionLeeway)):
		return "", errClient("exp is more than %v ahead", assertionLife)
	case jti == "":
		return "", errClient("jti is missing")
	}
	return issuer, s.useOnce(ctx, issuer, jti, expires)
}

// useOnce refuses an assertion that was used before, by whichever process.
func (s *Server) useOnce(ctx context.Context, client, jti string, expires time.Time) error {
	ttl := max(expires.Add(assertionLeeway).Sub(s.Now()), time.Second)
	_, err := s.KV.Create(ctx, jtiPrefix+hash(client+" "+jti), []byte("1"), jetstream.KeyTTL(ttl.Round(time.Second)))
	if errExists(err) {
		return errClient("The assertion was used before")
	}
	return err
}

// clientKeys reads the public keys of the sandbox's client. None is no error: no assertion verifies then.
func (s *Server) clientKeys() (jwk.Set, error) {
	private, err := readKeys(s.SandboxKeys)
	if s.SandboxKeys == "" || errors.Is(err, fs.ErrNotExist) {
		return jwk.NewSet(), nil
	}
	if err != nil {
		return nil, err
	}
	return jwk.PublicSetOf(private)
}

func readKeys(file string) (jwk.Set, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	set, err := jwk.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return set, nil
}

// SandboxKeys returns the private JWKS by which the sandbox's client signs assertions: one key for ES384 and one for RS384. It is read
// from the file, or made and written there with mode 0600.
func SandboxKeys(file string) ([]byte, error) {
	set, err := readKeys(file)
	if errors.Is(err, fs.ErrNotExist) {
		if set, err = makeKeys(); err != nil {
			return nil, err
		}
		data, err := json.MarshalIndent(set, "", "  ")
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, err
		}
		return data, os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(set, "", "  ")
}

func makeKeys() (jwk.Set, error) {
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	set := jwk.NewSet()
	for raw, alg := range map[any]jwa.SignatureAlgorithm{ec: jwa.ES384(), rs: jwa.RS384()} {
		key, err := jwk.Import(raw)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(jwk.AssignKeyID(key), key.Set(jwk.AlgorithmKey, alg), key.Set(jwk.KeyUsageKey, "sig"), set.AddKey(key)); err != nil {
			return nil, err
		}
	}
	return set, nil
}
