package auth

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

// accessType is the typ of our access tokens (RFC 9068 2.1). It prevents the use of an ID token,
// which the same key signs, as a bearer token.
const accessType = "at+jwt"

// unaskedClaim is true in a token that no account has approved.
const unaskedClaim = "unasked"

// madeClaim is when the token's client was registered (Origin.Made), in nanoseconds since 1970
// in base 36.
const madeClaim = "of"

// Access is what a valid access token allows.
type Access struct {
	ClientID string
	// Patient is the patient whose record the token opens; "" for a backend service.
	Patient string
	Scopes  Scopes
	issued  time.Time
	expires time.Time
	Origin
	family  string
	unasked bool // no account of the patient has approved it
}

// Grant returns the patient's authorization behind the token, or "" for a backend service.
func (a *Access) Grant() string {
	if a.System() {
		return ""
	}
	return a.family
}

// System reports whether the token belongs to a backend service.
func (a *Access) System() bool { return a.Patient == "" }

// ErrToken is returned by Verify for anything but a valid access token of this server.
var ErrToken = errors.New("invalid token")

func (s *Server) signAccess(ctx context.Context, g grant, scopes Scopes) (string, error) {
	now := s.Now()
	subject := g.Patient
	if subject == "" {
		subject = g.ClientID
	}
	b := jwt.NewBuilder().Issuer(s.Issuer).Audience([]string{s.Issuer +
		"/fhir"}).Subject(subject).JwtID(random()).
		IssuedAt(now).Expiration(now.Add(s.AccessTTL)).Claim("client_id", g.ClientID).Claim("scope",
		scopes.String()).Claim("family", g.Family).Claim("begun", g.Begun)
	if !g.ClientMade.IsZero() {
		b = b.Claim(madeClaim, strconv.FormatInt(g.ClientMade.UnixNano(), 36))
	}
	if g.Patient != "" {
		b = b.Claim("patient", g.Patient)
		if g.Account == "" {
			b = b.Claim(unaskedClaim, true)
		}
	}
	tok, err := b.Build()
	if err != nil {
		return "", err
	}
	return s.sign(ctx, tok, s.Algorithm, accessType)
}

func (s *Server) signID(ctx context.Context, g grant, scopes Scopes) (string, error) {
	now := s.Now()
	b := jwt.NewBuilder().Issuer(s.Issuer).Audience([]string{
		g.ClientID,
	}).Subject(g.Patient).IssuedAt(now).Expiration(now.Add(s.AccessTTL))
	if g.Nonce != "" {
		b = b.Claim("nonce", g.Nonce)
	}
	if scopes.Contains(FHIRUser) {
		b = b.Claim("fhirUser", s.Issuer+"/fhir/Patient/"+g.Patient)
	}
	tok, err := b.Build()
	if err != nil {
		return "", err
	}
	return s.sign(ctx, tok, IDAlgorithm, "JWT")
}

func (s *Server) sign(ctx context.Context, tok jwt.Token, alg, typ string) (string, error) {
	k, err := s.signer(ctx, alg)
	if err != nil {
		return "", err
	}
	h := jws.NewHeaders()
	if err := h.Set(jws.TypeKey, typ); err != nil {
		return "", err
	}
	out, err := jwt.Sign(tok, jwt.WithKey(k.alg, k.key, jws.WithProtectedHeaders(h)))
	return string(out), err
}

// Verify checks a bearer token (SMART-6). The result of the signature check is cached; expiry
// and revocation are checked every time. Errors: ErrToken; any other error means that NATS is
// unreachable and the token cannot be checked now.
func (s *Server) Verify(ctx context.Context, bearer string) (*Access, error) {
	a, known := s.verified.Get(bearer)
	if !known {
		removed, err := s.ring.removed.Load(), error(nil)
		if a, err = s.parse(ctx, bearer); err != nil {
			return nil, err
		}
		s.verified.Add(strings.Clone(bearer), a)
		// The key may have been removed, and the cache emptied, while this token was being
		// verified.
		if s.ring.removed.Load() != removed {
			s.verified.Remove(bearer)
			return s.Verify(ctx, bearer)
		}
	}
	if !a.lives(s.Now()) {
		return nil, ErrToken
	}
	holds, err := s.Holds(ctx, a)
	if err != nil {
		return nil, err
	}
	if !holds {
		return nil, ErrToken
	}
	return a, nil
}

// clockSlack is how much the clocks of servers with shared state may differ, and how far a clock
// may be set back.
const clockSlack = time.Minute

// lives reports whether a token is within its lifetime. A token that was issued while a clock
// was ahead, possibly with a very late expiry, is invalid once the clock is right.
func (a *Access) lives(now time.Time) bool {
	return now.Before(a.expires) && !a.issued.After(now.Add(clockSlack))
}

// ahead reports whether a time, in Unix seconds, lies in the future because a clock was ahead.
func (s *Server) ahead(begun int64) bool {
	return time.Unix(begun, 0).After(s.Now().Add(clockSlack))
}

func (s *Server) parse(ctx context.Context, bearer string) (*Access, error) {
	msg, err := jws.Parse([]byte(bearer), jws.WithCompact())
	if err != nil || len(msg.Signatures()) != 1 {
		return nil, ErrToken
	}
	if typ, ok := msg.Signatures()[0].ProtectedHeaders().Type(); !ok || typ != accessType {
		return nil, ErrToken
	}
	keys := s.ring.set()
	kid, _ := msg.Signatures()[0].ProtectedHeaders().KeyID()
	if _, known := keys.LookupKeyID(kid); !known {
		if err := s.fetchKey(ctx, kid); err != nil {
			return nil, err
		}
		keys = s.ring.set()
	}
	opts := []jwt.ParseOption{jwt.WithKeySet(keys), jwt.WithClock(jwt.ClockFunc(s.Now))}
	if s.CheckIssuer {
		opts = append(opts, jwt.WithIssuer(s.Issuer), jwt.WithAudience(s.Issuer+"/fhir"))
	}
	tok, err := jwt.Parse([]byte(bearer), opts...)
	if err != nil {
		return nil, ErrToken
	}
	a := &Access{}
	var scope string
	err = errors.Join(tok.Get("client_id", &a.ClientID), tok.Get("scope", &scope),
		tok.Get("family", &a.family))
	if tok.Has("patient") {
		err = errors.Join(err, tok.Get("patient", &a.Patient))
	}
	if tok.Has(unaskedClaim) {
		err = errors.Join(err, tok.Get(unaskedClaim, &a.unasked))
	}
	if tok.Has("begun") { // absent in tokens of the first version
		var begun float64
		err = errors.Join(err, tok.Get("begun", &begun))
		a.Begun = time.Unix(int64(begun), 0)
	}
	if tok.Has(madeClaim) { // absent in tokens of older builds and of the sandbox's client
		var made string
		err = errors.Join(err, tok.Get(madeClaim, &made))
		nanoseconds, unread := strconv.ParseInt(made, 36, 64)
		a.Made, err = time.Unix(0, nanoseconds), errors.Join(err, unread)
	}
	exp, ok := tok.Expiration()
	if err != nil || !ok {
		return nil, ErrToken
	}
	a.Scopes, a.expires = ParseScopes(scope), exp
	a.issued, _ = tok.IssuedAt()
	if a.System() {
		a.Scopes = ParseSystemScopes(scope)
	}
	return a, nil
}
