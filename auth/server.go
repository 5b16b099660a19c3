package auth

import (
	"context"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"ehi-server/shared/kv"
	"ehi-server/shared/weburl"
)

// SandboxClientID is the public client that exists in sandbox mode (SMART-10).
const SandboxClientID = "test_client_id"

// Config sets up a Server.
type Config struct {
	// KV is the bucket of the package comment.
	KV *kv.Bucket
	// Issuer is the origin that clients see; tokens carry it as iss, and Issuer + "/fhir" as aud.
	Issuer string
	// CheckIssuer makes tokens of another issuer invalid. Off where the issuer is only the
	// listener's address, which may be another one after a restart; the signing key tells our
	// tokens from others' in any case.
	CheckIssuer bool
	// Sandbox lets SandboxClientID in: any http(s) redirect_uri, PKCE checked only where it is
	// used.
	Sandbox bool
	// ByAccounts voids what no account of the patient's has agreed to, such as what a sandbox of
	// the same state has let in, where anybody may choose a patient.
	ByAccounts bool
	// SandboxSecret is by what SandboxClientID may authenticate as a backend service; "" for by
	// no secret.
	SandboxSecret string
	// SandboxKeys is the file of the keys by which SandboxClientID signs assertions, see
	// SandboxKeys; it may be absent.
	SandboxKeys string
	// Algorithm is what access tokens are signed by, one of TokenAlgorithms. Default ES256.
	Algorithm string
	// KeyAge is how long a key signs before Tend rotates it. Default 90 days.
	KeyAge time.Duration
	// PrivateKeySets are address ranges of private networks from which clients' keys may be
	// fetched by jwks_uri, also over plain HTTP.
	PrivateKeySets []netip.Prefix
	// AccessTTL is the life of an access token. Default 1 h.
	AccessTTL time.Duration
	// RefreshTTL is the life of a refresh token, counted anew at each rotation. Default 90 days.
	RefreshTTL time.Duration
	// Lasts is how long something may last that was begun under an authorization: it is
	// remembered for that long that the authorization has ended. Default RefreshTTL; less than
	// that counts as that.
	Lasts time.Duration
	// Reserved is the name of the configuration's administrator, which is no account's: no
	// administrator's account may have it, or one that looks like it. "" reserves none.
	Reserved string
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
	ring    *ring
	clients *registry
	admins  *directory
	// configured has the administrator of the configuration, where a second factor is set up.
	configured *directory
	// provided has those whom the OpenID provider has named.
	provided *directory
	sandbox  *clientRecord
	hashes   *hasher
	keySets  *keySets
	verified *lru.Cache[string, *Access]
	revoked  sync.Map // family -> Withdrawal, the zero one where its tokens alone are void
	stop     func()
}

// New begins to follow what is registered, the signing keys and revocations. The caller closes
// the Server.
func New(ctx context.Context, c Config) (*Server, error) {
	if c.AccessTTL <= 0 {
		c.AccessTTL = time.Hour
	}
	if c.RefreshTTL <= 0 {
		c.RefreshTTL = 90 * 24 * time.Hour
	}
	c.Lasts = max(c.Lasts, c.RefreshTTL, c.AccessTTL)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Algorithm == "" {
		c.Algorithm = TokenAlgorithms()[0]
	}
	if c.KeyAge <= 0 {
		c.KeyAge = 90 * 24 * time.Hour
	}
	s := &Server{Config: c, keySets: newKeySets(c.PrivateKeySets, c.Now)}
	s.sandbox = s.sandboxClient()
	var err error
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.verified, err = lru.New[string, *Access](cachedTokens); err != nil {
		return nil, err
	}
	if s.hashes, err = newHasher(); err != nil {
		return nil, err
	}
	if err = s.followKeys(ctx); err != nil {
		return nil, err
	}
	if s.clients, err = followClients(ctx, c.KV); err != nil {
		return nil, err
	}
	if s.admins, err = followAdmins(ctx, c.KV, adminKind); err != nil {
		return nil, err
	}
	if s.configured, err = followAdmins(ctx, c.KV, configuredKind); err != nil {
		return nil, err
	}
	if s.provided, err = followAdmins(ctx, c.KV, providedKind); err != nil {
		return nil, err
	}
	if s.stop, err = c.KV.Follow(ctx, revokedRecords.Under(), s.followRevocation, nil); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the watches.
func (s *Server) Close() {
	if s.ring != nil && s.ring.stop != nil {
		s.ring.stop()
	}
	if s.clients != nil && s.clients.stop != nil {
		s.clients.stop()
	}
	for _, d := range []*directory{s.admins, s.configured, s.provided} {
		if d != nil && d.stop != nil {
			d.stop()
		}
	}
	if s.stop != nil {
		s.stop()
	}
	s.keySets.close()
}

// Request is an authorization request that may be shown to the patient.
type Request struct {
	ClientID    string
	RedirectURI string
	Scopes      Scopes
	State       string
	Challenge   string // S256 code challenge, "" where the client uses no PKCE
	Nonce       string // for the id token, may be empty
	// ClientName is what the patient reads of the client.
	ClientName string
	// Issuer goes back with every answer, so that the client knows whose it is (RFC 9207).
	Issuer string
	// Account is the patient's account that agreed; "" where there are none, in the sandbox.
	Account string
	// AccountMade is Account.Created of it.
	AccountMade time.Time
	// clientMade says which client of the id it is, see Origin.
	clientMade time.Time
}

// Check validates the parameters of /auth/authorize (SMART-2). audiences are the FHIR bases that
// aud may name, the main one first. Errors: *Error, Redirectable once client and redirect_uri
// are known good; req holds what is needed for that. Anything else is ours.
func (s *Server) Check(
	ctx context.Context, q url.Values, audiences []string,
) (req Request, err error) {
	req = Request{
		ClientID:    q.Get("client_id"),
		RedirectURI: q.Get("redirect_uri"),
		State:       q.Get("state"),
		Nonce:       q.Get("nonce"),
		Issuer:      s.Issuer,
	}
	c, err := s.client(ctx, req.ClientID)
	if err != nil {
		return req, err
	}
	if e := s.checkClient(c, req, q); e != nil {
		return req, e
	}
	req.ClientName, req.clientMade = c.Name, c.Created
	if e := s.checkRest(c, &req, q, audiences); e != nil {
		e.Redirectable = true
		return req, e
	}
	return req, nil
}

func (s *Server) checkClient(c *clientRecord, req Request, q url.Values) *Error {
	switch {
	case req.ClientID == "":
		return missing("client_id")
	case c == nil || len(q["client_id"]) > 1:
		return invalid("client_id")
	case req.RedirectURI == "":
		return missing("redirect_uri")
	case !c.redirectsTo(req.RedirectURI) ||
		len(q["redirect_uri"]) > 1, !c.anyRedirect && s.isOwn(req.RedirectURI):
		return invalid("redirect_uri")
	}
	return nil
}

// LeadsTo reports whether the browser may be sent to an address on behalf of a client, behind the
// release form (EHI-7). to is the address as browsers read it, "" where it may not.
func (s *Server) LeadsTo(ctx context.Context, clientID, address string) (to string, ok bool) {
	c, err := s.client(ctx, clientID)
	if err != nil || c == nil || !c.anyRedirect && s.isOwn(address) {
		return "", false
	}
	return c.leadsTo(address)
}

func (s *Server) checkRest(c *clientRecord, req *Request, q url.Values, audiences []string) *Error {
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
	case !slices.Contains(audiences, weburl.Canonical(aud)):
		return refuse("invalid_request", "Bad audience value %q. Expected %q.", aud, audiences[0])
	}
	var e *Error
	if req.Scopes, e = c.grants(q.Get("scope"), ParseScopes); e != nil {
		return e
	}
	// RFC 9101 6.1: what is not understood must not be passed over
	if q.Has("request") || q.Has("request_uri") {
		return refuse("request_not_supported", "Request objects are not supported")
	}
	if len(req.State) > maxEcho || len(req.Nonce) > maxEcho {
		return refuse("invalid_request", "state and nonce may have %d bytes", maxEcho)
	}
	return checkChallenge(c, req, q)
}

// maxEcho bounds what is sent back as it came.
const maxEcho = 2048

func checkChallenge(c *clientRecord, req *Request, q url.Values) *Error {
	challenge, method := q.Get("code_challenge"), q.Get("code_challenge_method")
	switch {
	case challenge == "" && method == "" && c.optionalPKCE:
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
	u, err := weburl.Parse(r.RedirectURI)
	if err != nil { // Check let it through, so it parses
		panic(err)
	}
	all := maps.Clone(params)
	if r.State != "" {
		all.Set("state", r.State)
	}
	all.Set("iss", r.Issuer)
	return u.With(all)
}

// ErrorRedirect builds the way back with an OAuth error.
func (r Request) ErrorRedirect(e *Error) string {
	return r.Redirect(url.Values{"error": {e.Code}, "error_description": {e.Description}})
}
