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

// SandboxClientID is the ID of the public client of sandbox mode (SMART-10).
const SandboxClientID = "test_client_id"

// Flags are the settings of a Server.
type Flags struct {
	KeyFlags
	// RefreshTTL is the lifetime of a refresh token, which restarts at each rotation. Default 90
	// days.
	RefreshTTL time.Duration `name:"refresh-ttl" help:"Lifetime of a refresh token. Each use starts it again." default:"2160h" env:"EHI_REFRESH_TTL" range:"1s..87600h"`
	// KeyAge is how long a key signs before Tend rotates it. Default 90 days.
	KeyAge time.Duration `name:"key-age" help:"Age at which the server rotates its signing keys." default:"2160h" env:"EHI_KEY_AGE" range:"1m..87600h"`
	// PrivateKeySets are address ranges of private networks from which the server may fetch
	// clients' keys (jwks_uri), also over plain HTTP.
	PrivateKeySets []netip.Prefix `name:"private-key-sets" help:"Private networks (CIDR) from which the server may fetch clients' keys (jwks_uri), also over plain HTTP. Default: only public addresses, over HTTPS." env:"EHI_PRIVATE_KEY_SETS"`
	// SandboxSecret is the secret of SandboxClientID as a backend service; "" means none.
	SandboxSecret string `name:"sandbox-secret" secret:"" help:"Secret of test_client_id as a backend service in sandbox mode. Empty: only assertions signed with a key from the keys command." default:"test_client_secret" env:"EHI_SANDBOX_SECRET" form:"text"`
}

// KeyFlags are the settings that decide about signing keys, and how long they are published.
type KeyFlags struct {
	// Algorithm is the signature algorithm of access tokens, one of TokenAlgorithms. Default
	// ES256.
	Algorithm string `name:"token-alg" help:"Signature algorithm of new signing keys for access tokens: ES256, ES384 or RS256." enum:"ES256,ES384,RS256" default:"ES256" env:"EHI_TOKEN_ALG"`
	// AccessTTL is the lifetime of an access token. Default 1 h.
	AccessTTL time.Duration `name:"access-ttl" help:"Lifetime of an access token. A retired signing key stays published for that time." default:"1h" env:"EHI_ACCESS_TTL" range:"1s..24h"`
}

// Config configures a Server.
type Config struct {
	Flags
	// KV is the bucket that the package comment describes.
	KV *kv.Bucket
	// Issuer is the public origin of the server. Tokens have it as iss, and Issuer + "/fhir" as
	// aud.
	Issuer string
	// CheckIssuer rejects tokens of another issuer. It is off if the issuer is only the
	// listener's address, which may change at a restart. The signing key identifies our tokens
	// in any case.
	CheckIssuer bool
	// Sandbox enables SandboxClientID: any http(s) redirect_uri, PKCE checked only if used.
	Sandbox bool
	// ByAccounts rejects grants that no account of the patient has approved, such as those of a
	// sandbox on the same state, where anybody may choose a patient.
	ByAccounts bool
	// SandboxKeys is the file of the keys with which SandboxClientID signs assertions, see
	// SandboxKeys. It need not exist.
	SandboxKeys string
	// Lasts is how long something that was started under an authorization, such as an export,
	// may last. The end of an authorization is remembered for that long. Default and minimum:
	// RefreshTTL.
	Lasts time.Duration
	// Reserved is the name of the configured administrator. No administrator's account may have
	// this name or one that looks like it. "" reserves none.
	Reserved string
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// codeTTL is the lifetime of an authorization code (SMART-3).
const codeTTL = time.Minute

// cachedTokens is how many access tokens have their signature check cached.
const cachedTokens = 16384

// Server is the authorization server. It is safe for concurrent use.
type Server struct {
	Config
	ring    *ring
	clients *registry
	admins  *directory
	// configured holds the configured administrator, if a second factor is set up.
	configured *directory
	// provided holds the users that the OpenID provider has reported.
	provided *directory
	sandbox  *clientRecord
	hashes   *hasher
	keySets  *keySets
	verified *lru.Cache[string, *Access]
	revoked  sync.Map // family -> Withdrawal; the zero Withdrawal if only its tokens are revoked
	stop     func()
}

// New starts to follow clients, accounts, signing keys and revocations. The caller closes the
// Server.
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
	keySets, err := newKeySets(c.PrivateKeySets, c.Now)
	if err != nil {
		return nil, err
	}
	s := &Server{Config: c, keySets: keySets}
	s.sandbox = s.sandboxClient()
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

// Close stops the watches.
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

// Request is a valid authorization request that may be shown to the patient.
type Request struct {
	ClientID    string
	RedirectURI string
	Scopes      Scopes
	State       string
	Challenge   string // S256 code challenge; "" if the client does not use PKCE
	Nonce       string // for the ID token; may be empty
	// ClientName is the client's name for the patient.
	ClientName string
	// Issuer is returned with every answer, so that the client can identify the server (RFC
	// 9207).
	Issuer string
	// Account is the patient's account that agreed; "" in the sandbox, which has none.
	Account string
	// AccountMade is Account.Created of it.
	AccountMade time.Time
	// clientMade identifies the client's registration, see Origin.
	clientMade time.Time
}

// Check validates the parameters of /auth/authorize (SMART-2). audiences are the FHIR bases that
// aud may name, the main one first. Errors: *Error, which is Redirectable once client and
// redirect_uri are valid; req then has what the redirect needs. Any other error is the server's.
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

// FormRedirect reports whether the release form may redirect the browser to an address on behalf
// of a client (EHI-7). to is the address as browsers parse it, or "" if it is not allowed.
func (s *Server) FormRedirect(ctx context.Context, clientID, address string) (to string, ok bool) {
	c, err := s.client(ctx, clientID)
	if err != nil || c == nil || !c.anyRedirect && s.isOwn(address) {
		return "", false
	}
	return c.leadsTo(address)
}

func (s *Server) checkRest(c *clientRecord, req *Request, q url.Values, audiences []string) *Error {
	for name, values := range q {
		if len(values) > 1 { // parameters must not be repeated (RFC 6749 3.1)
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
	// A request object must not be ignored (RFC 9101 6.1).
	if q.Has("request") || q.Has("request_uri") {
		return refuse("request_not_supported", "Request objects are not supported")
	}
	if len(req.State) > maxEcho || len(req.Nonce) > maxEcho {
		return refuse("invalid_request", "state and nonce may have %d bytes", maxEcho)
	}
	return checkChallenge(c, req, q)
}

// maxEcho is the longest value that is returned unchanged, in bytes.
const maxEcho = 2048

func checkChallenge(c *clientRecord, req *Request, q url.Values) *Error {
	challenge, method := q.Get("code_challenge"), q.Get("code_challenge_method")
	switch {
	case challenge == "" && method == "" && c.optionalPKCE:
		return nil
	case challenge == "":
		return missing("code_challenge")
	// without a method RFC 7636 4.3 assumes plain, which is rejected (SMART-2)
	case method != "S256":
		return invalid("code_challenge_method")
	case len(challenge) != 43:
		return invalid("code_challenge")
	}
	req.Challenge = challenge
	return nil
}

// Redirect returns the redirect_uri with the given parameters and the request's state.
func (r Request) Redirect(params url.Values) string {
	u, err := weburl.Parse(r.RedirectURI)
	if err != nil { // cannot fail: Check parsed it
		panic(err)
	}
	all := maps.Clone(params)
	if r.State != "" {
		all.Set("state", r.State)
	}
	all.Set("iss", r.Issuer)
	return u.With(all)
}

// ErrorRedirect returns the redirect_uri with an OAuth error.
func (r Request) ErrorRedirect(e *Error) string {
	return r.Redirect(url.Values{"error": {e.Code}, "error_description": {e.Description}})
}
