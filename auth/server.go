package auth

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/bus"
)

// SandboxClientID is the public client that exists in sandbox mode (SMART-10).
const SandboxClientID = "test_client_id"

// Config sets up a Server.
type Config struct {
	// KV is the bucket of the package comment.
	KV *bus.Bucket
	// Issuer is the origin that clients see; tokens carry it as iss, and Issuer + "/fhir" as aud.
	Issuer string
	// CheckIssuer makes tokens of another issuer invalid. Off where the issuer is only the listener's address, which
	// may be another one after a restart; the signing key tells our tokens from others' in any case.
	CheckIssuer bool
	// Sandbox lets SandboxClientID in: any http(s) redirect_uri, PKCE checked only where it is used.
	Sandbox bool
	// SandboxSecret is by what SandboxClientID may authenticate as a backend service; "" for by no secret.
	SandboxSecret string
	// SandboxKeys is the file of the keys by which SandboxClientID signs assertions, see SandboxKeys; it may be absent.
	SandboxKeys string
	// AccessTTL is the life of an access token. Default 1 h.
	AccessTTL time.Duration
	// RefreshTTL is the life of a refresh token, counted anew at each rotation. Default 90 days.
	RefreshTTL time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// codeTTL is the life of an authorization code (SMART-3).
const codeTTL = time.Minute

// cachedTokens bounds the access tokens whose signature checks are remembered.
const cachedTokens = 16384

// Server is the authorization server. It is safe for concurrent use.
type Server struct {
	Config
	key      jwk.Key // private
	public   jwk.Set
	verified *lru.Cache[string, *Access]
	revoked  sync.Map // family -> struct{}
	stop     func()
}

// New loads or makes the signing key and starts to follow revocations. The caller closes the Server.
func New(ctx context.Context, c Config) (*Server, error) {
	if c.AccessTTL <= 0 {
		c.AccessTTL = time.Hour
	}
	if c.RefreshTTL <= 0 {
		c.RefreshTTL = 90 * 24 * time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	cache, err := lru.New[string, *Access](cachedTokens)
	if err != nil {
		return nil, err
	}
	s := &Server{Config: c, verified: cache}
	if err := s.loadKey(ctx); err != nil {
		return nil, err
	}
	if s.stop, err = c.KV.Follow(ctx, revokedPrefix+"*", s.followRevocation, nil); err != nil {
		return nil, err
	}
	return s, nil
}

// followRevocation keeps the set of revoked families as every process writes it.
func (s *Server) followRevocation(e jetstream.KeyValueEntry) {
	family := strings.TrimPrefix(e.Key(), revokedPrefix)
	if e.Operation() == jetstream.KeyValuePut {
		s.revoked.Store(family, struct{}{})
	} else {
		s.revoked.Delete(family)
	}
}

// Close ends the watch.
func (s *Server) Close() { s.stop() }

// Request is an authorization request that may be shown to the patient.
type Request struct {
	ClientID    string
	RedirectURI string
	Scopes      Scopes
	State       string
	Challenge   string // S256 code challenge, "" where the client uses no PKCE
}

// Check validates the parameters of /auth/authorize (SMART-2). audiences are the FHIR bases that aud may name, the main one
// first. Errors: *Error, Redirectable once client and redirect_uri are known good; req holds what is needed for that.
func (s *Server) Check(q url.Values, audiences []string) (req Request, err error) {
	req = Request{ClientID: q.Get("client_id"), RedirectURI: q.Get("redirect_uri"), State: q.Get("state")}
	if e := s.checkClient(req); e != nil {
		return req, e
	}
	if e := s.checkRest(&req, q, audiences); e != nil {
		e.Redirectable = true
		return req, e
	}
	return req, nil
}

func (s *Server) checkClient(req Request) *Error {
	switch {
	case req.ClientID == "":
		return missing("client_id")
	case !s.Sandbox || req.ClientID != SandboxClientID:
		return invalid("client_id")
	case req.RedirectURI == "":
		return missing("redirect_uri")
	case !s.RedirectAllowed(req.ClientID, req.RedirectURI):
		return invalid("redirect_uri")
	}
	return nil
}

// RedirectAllowed reports whether the browser may be sent to a URL on behalf of a client.
func (s *Server) RedirectAllowed(clientID, uri string) bool {
	if !s.Sandbox || clientID != SandboxClientID {
		return false
	}
	u, err := url.Parse(uri)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.Fragment == "" && u.User == nil
}

func (s *Server) checkRest(req *Request, q url.Values, audiences []string) *Error {
	for name, values := range q {
		if len(values) > 1 { // RFC 6749 3.1: parameters must not be repeated
			return refuse("invalid_request", "Repeated %q parameter", name)
		}
	}
	switch rt := q.Get("response_type"); {
	case rt == "":
		return missing("response_type")
	case rt != "code":
		return refuse("unsupported_response_type", "Invalid %q parameter", "response_type")
	}
	switch aud := q.Get("aud"); {
	case aud == "":
		return missing("aud")
	case !slices.Contains(audiences, strings.TrimRight(aud, "/")):
		return refuse("invalid_request", "Bad audience value %q. Expected %q.", aud, audiences[0])
	}
	if q.Get("scope") == "" {
		return missing("scope")
	}
	if req.Scopes = ParseScopes(q.Get("scope")); len(req.Scopes) == 0 {
		return refuse("invalid_scope", "None of the scopes asked for is supported")
	}
	return checkChallenge(req, q)
}

func checkChallenge(req *Request, q url.Values) *Error {
	challenge, method := q.Get("code_challenge"), q.Get("code_challenge_method")
	switch {
	case challenge == "" && method == "":
		return nil
	case challenge == "":
		return missing("code_challenge")
	case method != "S256": // RFC 7636 4.3 would default to plain, which is refused (SMART-2)
		return invalid("code_challenge_method")
	case len(challenge) != 43:
		return invalid("code_challenge")
	}
	req.Challenge = challenge
	return nil
}

// Redirect builds the way back to the client with the given parameters and the request's state.
func (r Request) Redirect(params url.Values) string {
	u, err := url.Parse(r.RedirectURI)
	if err != nil { // Check let it through, so it parses
		panic(err)
	}
	q := u.Query()
	for k, v := range params {
		q[k] = v
	}
	if r.State != "" {
		q.Set("state", r.State)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// ErrorRedirect builds the way back with an OAuth error.
func (r Request) ErrorRedirect(e *Error) string {
	return r.Redirect(url.Values{"error": {e.Code}, "error_description": {e.Description}})
}

// errExists tells whether a KV create lost to an earlier one.
func errExists(err error) bool { return errors.Is(err, jetstream.ErrKeyExists) }
