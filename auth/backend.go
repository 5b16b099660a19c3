package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/kv"
	"ehi-server/shared/telemetry"
)

// Backend services (SMART Backend Services 2.2) are clients without a user. They authenticate
// with a secret or a signed assertion and receive system scopes.

const (
	// assertionType is the client_assertion_type of RFC 7523 2.2.
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// assertionLife is how far in the future an assertion may expire (SMART-5).
	assertionLife = 5 * time.Minute
	// assertionLeeway is the tolerance for clock differences (REAL-8).
	assertionLeeway = 30 * time.Second
)

// AssertionAlgorithms lists the signature algorithms of assertions (SMART-1).
func AssertionAlgorithms() []string { return []string{"RS384", "ES384"} }

// fromClient handles the client_credentials grant.
func (s *Server) fromClient(ctx context.Context, r TokenRequest) (Tokens, error) {
	c, err := s.authenticate(ctx, r)
	if err != nil {
		return Tokens{}, err
	}
	scopes, refusal := c.grants(r.Form.Get("scope"), ParseSystemScopes)
	if refusal != nil {
		return Tokens{}, refusal
	}
	telemetry.TokensIssued.WithLabelValues("client_credentials").Inc()
	g := grant{
		ClientID:   c.ID,
		Scopes:     scopes,
		Family:     random(),
		Begun:      s.Now().Unix(),
		ClientMade: c.Created,
	}
	return s.issue(ctx, g, scopes)
}

// errClient returns the error for a failed authentication: always invalid_client. The
// description tells the client's developer the reason.
func errClient(format string, args ...any) *Error {
	return refuse("invalid_client", format, args...)
}

// errSecret does not reveal whether the client is unknown or the secret is wrong.
var errSecret = errClient("Unknown client or wrong secret")

// finder returns a client, or nil if there is none.
type finder func(id string) *clientRecord

// judged returns the client that judge accepts. It first uses this process's copy of the
// clients, which may be out of date; before it rejects a request it reads the stored record. An
// unknown client takes as long as a wrong secret.
func (s *Server) judged(
	ctx context.Context, r TokenRequest,
	by func(context.Context, TokenRequest, finder) (*clientRecord, error),
) (*clientRecord, error) {
	id := r.client()
	known := s.clients.get(id) // read first: the copy may change meanwhile
	c, err := by(ctx, r, s.heard)
	refused, ok := errors.AsType[*Error](err)
	if !ok || refused.Code != "invalid_client" || s.isSandbox(id) {
		return c, err
	}
	stored, unread := s.clients.stored(ctx, id)
	if unread != nil {
		return nil, unread
	}
	if reflect.DeepEqual(stored, known) {
		return nil, err
	}
	return by(ctx, r, func(string) *clientRecord { return stored })
}

// client returns the client ID that a request claims, or "".
func (r TokenRequest) client() string {
	switch {
	case r.HasBasic:
		return r.BasicID
	case r.Form.Get("client_assertion") != "":
		return AssertionClient(r.Form.Get("client_assertion"))
	}
	return r.Form.Get("client_id")
}

// requester returns the client of a request. A confidential client must authenticate, a public
// one only gives its ID (RFC 6749 2.3, RFC 7009 2.1).
func (s *Server) requester(ctx context.Context, r TokenRequest) (*clientRecord, error) {
	return s.judged(ctx, r, s.requesterAmong)
}

func (s *Server) requesterAmong(
	ctx context.Context, r TokenRequest, find finder,
) (*clientRecord, error) {
	if r.authenticates() > 0 {
		return s.authenticateAmong(ctx, r, find)
	}
	id := r.Form.Get("client_id")
	if id == "" {
		return nil, missing("client_id")
	}
	c := find(id)
	if c == nil {
		return nil, errClient("Unknown client")
	}
	if !c.is(Public) {
		return nil, errClient("This client has to authenticate")
	}
	return c, nil
}

// authenticates counts the authentication methods that a request uses.
func (r TokenRequest) authenticates() (methods int) {
	f := r.Form
	for _, used := range []bool{
		r.HasBasic,
		f.Get("client_secret") != "",
		f.Get("client_assertion") != "" || f.Get("client_assertion_type") != "",
	} {
		if used {
			methods++
		}
	}
	return methods
}

// authenticate authenticates the client by exactly one method (RFC 6749 2.3).
func (s *Server) authenticate(ctx context.Context, r TokenRequest) (*clientRecord, error) {
	return s.judged(ctx, r, s.authenticateAmong)
}

func (s *Server) authenticateAmong(
	ctx context.Context, r TokenRequest, find finder,
) (*clientRecord, error) {
	f := r.Form
	switch n := r.authenticates(); {
	case n == 0:
		return nil, errClient("The client did not authenticate")
	case n > 1:
		return nil, refuse("invalid_request", "The client used more than one way to authenticate")
	case r.HasBasic && f.Get("client_id") != "" && f.Get("client_id") != r.BasicID:
		return nil,
			refuse("invalid_request", "client_id is not the one of the Authorization header")
	case r.HasBasic:
		return s.checkSecret(ctx, find(r.BasicID), r.BasicSecret)
	case f.Get("client_secret") != "":
		return s.checkSecret(ctx, find(f.Get("client_id")), f.Get("client_secret"))
	}
	return s.checkAssertion(ctx, r, find)
}

// checkSecret implements client_secret_basic and client_secret_post. An unknown client takes as
// long as a wrong secret.
func (s *Server) checkSecret(
	ctx context.Context, c *clientRecord, secret string,
) (*clientRecord, error) {
	if len(secret) > MaxPassword {
		return nil, errSecret
	}
	if c != nil && c.anyRedirect {
		if c.plainSecret == "" || !Equal(c.plainSecret, secret) {
			return nil, errSecret
		}
		return c, nil
	}
	if c == nil || c.SecretHash == "" {
		if err := s.hashes.waste(ctx, secret); err != nil {
			return nil, err
		}
		return nil, errSecret
	}
	right, err := s.hashes.checkOften(ctx, c.SecretHash, secret)
	if err != nil {
		return nil, err
	}
	if !right {
		return nil, errSecret
	}
	return c, nil
}

// checkAssertion implements private_key_jwt (SMART-5).
func (s *Server) checkAssertion(
	ctx context.Context, r TokenRequest, find finder,
) (*clientRecord, error) {
	if r.Form.Get("client_assertion_type") != assertionType {
		return nil, errClient("Invalid %q parameter", "client_assertion_type")
	}
	assertion := []byte(r.Form.Get("client_assertion"))
	c, kid, err := claimed(assertion, find)
	if err != nil {
		return nil, err
	}
	keys, err := s.keysOf(ctx, c, kid)
	if err != nil {
		return nil, err
	}
	tok, err := jwt.Parse(assertion, jwt.WithKeySet(keys), jwt.WithClock(jwt.ClockFunc(s.Now)),
		jwt.WithAcceptableSkew(assertionLeeway),
		jwt.WithRequiredClaim("exp"), jwt.WithRequiredClaim("jti"))
	if err != nil {
		return nil, errClient("The assertion cannot be verified")
	}
	issuer, _ := tok.Issuer()
	subject, _ := tok.Subject()
	audience, _ := tok.Audience()
	expires, _ := tok.Expiration()
	jti, _ := tok.JwtID()
	switch {
	case issuer != subject || issuer != c.ID:
		return nil, errClient("iss and sub must both be the client's id")
	case r.Form.Get("client_id") != "" && r.Form.Get("client_id") != issuer:
		return nil, errClient("client_id is not the assertion's")
	case !onlyFor(r.Audiences, audience):
		return nil,
			errClient("aud must be the URL of the token endpoint or the issuer, and nothing else")
	case expires.After(s.Now().Add(assertionLife + assertionLeeway)):
		return nil, errClient("exp is more than %v ahead", assertionLife)
	case jti == "":
		return nil, errClient("jti is missing")
	}
	return c, s.useOnce(ctx, issuer, jti, expires)
}

// onlyFor reports whether an assertion is addressed to this server only. Another addressee could
// otherwise use it here (draft-ietf-oauth-rfc7523bis).
func onlyFor(ours, audience []string) bool {
	foreign := func(a string) bool { return !slices.Contains(ours, a) }
	return len(audience) > 0 && !slices.ContainsFunc(audience, foreign)
}

// claimed returns the client and the key ID that an assertion claims. Nothing is verified yet
// except the algorithm: none, HS256 and other unsupported ones are rejected here, as is anything
// that is not a compact JWS. Headers that carry a key (jwk, jku, x5c, x5u) are ignored.
func claimed(assertion []byte, find finder) (*clientRecord, string, error) {
	unread := errClient("The assertion cannot be verified")
	if len(assertion) > maxAssertion {
		return nil, "", unread
	}
	msg, err := jws.Parse(assertion, jws.WithCompact())
	if err != nil || len(msg.Signatures()) != 1 {
		return nil, "", unread
	}
	header := msg.Signatures()[0].ProtectedHeaders()
	alg, _ := header.Algorithm()
	if !slices.Contains(AssertionAlgorithms(), alg.String()) {
		return nil, "",
			errClient("The assertion must be signed by %s",
				strings.Join(AssertionAlgorithms(), " or "))
	}
	// The server supports no critical extensions (RFC 7515 4.1.11).
	if header.Has("crit") || !isNumeric(assertion) {
		return nil, "", unread
	}
	kid, _ := header.KeyID()
	if kid == "" {
		return nil, "", errClient("The assertion's header must have a kid")
	}
	c := find(AssertionClient(string(assertion)))
	if c == nil || !c.is(Asymmetric) {
		return nil, "", unread
	}
	return c, kid, nil
}

// AssertionClient returns the client that an assertion claims, or "" if it is malformed. Nothing
// is verified.
func AssertionClient(assertion string) string {
	var claims struct {
		Issuer string `json:"iss"`
	}
	parts := strings.Split(assertion, ".")
	if len(assertion) > maxAssertion || len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Issuer
}

// isNumeric reports whether the times of an assertion, if present, are numbers (RFC 7519 2). The
// library accepts strings too.
func isNumeric(assertion []byte) bool {
	var claims struct {
		Expires   *float64 `json:"exp"`
		NotBefore *float64 `json:"nbf"`
		Issued    *float64 `json:"iat"`
	}
	parts := bytes.Split(assertion, []byte("."))
	payload, err := base64.RawURLEncoding.DecodeString(string(parts[1]))
	return err == nil && json.Unmarshal(payload, &claims) == nil
}

// maxAssertion is the longest assertion in bytes.
const maxAssertion = 16 << 10

// useOnce rejects an assertion that was used before, in any process.
func (s *Server) useOnce(ctx context.Context, client, jti string, expires time.Time) error {
	ttl := max(expires.Add(assertionLeeway).Sub(s.Now()), time.Second)
	_, err := s.KV.CreateFor(ctx, jtiRecords.Of(hash(client+" "+jti)), []byte("1"), ttl)
	if kv.IsConflict(err) {
		return errClient("The assertion was used before")
	}
	return err
}

// sandboxKeys returns the public keys of the sandbox's client. If there are none, no assertion
// verifies.
func (s *Server) sandboxKeys(context.Context) (jwk.Set, error) {
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

// SandboxKeys returns the private JWKS with which the sandbox's client signs assertions: one key
// for ES384 and one for RS384. It reads the file, or creates it with mode 0600.
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
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return nil, err
		}
		return signing(set)
	}
	if err != nil {
		return nil, err
	}
	return signing(set)
}

// signing returns the JSON of private keys. Some clients accept only keys whose key_ops include
// sign.
func signing(set jwk.Set) ([]byte, error) {
	for i := range set.Len() {
		key, _ := set.Key(i)
		if err := key.Set(jwk.KeyOpsKey, jwk.KeyOperationList{jwk.KeyOpSign}); err != nil {
			return nil, err
		}
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
		err = errors.Join(jwk.AssignKeyID(key), key.Set(jwk.AlgorithmKey, alg),
			key.Set(jwk.KeyUsageKey, "sig"), set.AddKey(key))
		if err != nil {
			return nil, err
		}
	}
	return set, nil
}
