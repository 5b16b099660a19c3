// Package openid signs administrators in by the OpenID provider of their hospital: it is the relying party
// of OpenID Connect's authorization code flow, with PKCE, state and nonce. It says who somebody is and
// which role a claim gives him, or why he is refused; sessions and pages are the server's business.
package openid

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"ehi-server/auth"
)

const (
	// tryAge is how long somebody may take at the provider.
	tryAge = 10 * time.Minute
	// leeway forgives clocks that differ.
	leeway = time.Minute
	// sessionAge is how long ago somebody may have signed in at the provider when he begins a session here.
	sessionAge = 8 * time.Hour
	// askTime bounds each request to the provider, maxAnswer each answer of it in bytes.
	askTime   = 10 * time.Second
	maxAnswer = 1 << 20
	// restAfter is for how long a provider that could not be reached is not asked again.
	restAfter = 5 * time.Second
	// maxName is the longest name that is taken, in bytes.
	maxName = 128
)

// algorithms are those by which an id token may be signed: none of a shared secret, and never none.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// Refused says why somebody is not signed in, in words for him.
type Refused struct {
	Why string
	// Cause is for the log; nil where Why says all.
	Cause error
}

func (r *Refused) Error() string { return r.Why }

// Unwrap is the cause.
func (r *Refused) Unwrap() error { return r.Cause }

func refuse(cause error, why string, args ...any) error {
	return &Refused{fmt.Sprintf(why, args...), cause}
}

var (
	// ErrNoRole refuses somebody whom the provider knows, and whose claim gives him no role here.
	ErrNoRole error = &Refused{Why: "Your organisation knows you, but has given you no role on this server"}
	// ErrStale refuses a proof of identity that the provider does not say to be a new one.
	ErrStale error = &Refused{Why: "Your organisation did not say that you have just signed in"}
	// ErrAway says that the provider cannot be reached.
	ErrAway = errors.New("the OpenID provider cannot be reached")
)

// Person is who has signed in at the provider.
type Person struct {
	// Name is what the claim of names says, marked as the provider's: no account here has such a name.
	Name string
	Role auth.Role
	// Proved is when he last proved to the provider who he is; zero where it does not say.
	Proved time.Time
}

// Try is one way of a browser to the provider and back. It is the browser's secret.
type Try struct {
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	Begun    time.Time `json:"begun"`
	// Again is whether the person has to sign in anew, whatever session he has at the provider.
	Again bool `json:"again,omitempty"`
}

// Provider is the OpenID provider of the administrators. It is safe for concurrent use.
type Provider struct {
	config   Config
	redirect string
	http     *http.Client
	now      func() time.Time

	mu    sync.Mutex
	found *discovered
	tried time.Time
}

// discovered is what the provider says of itself.
type discovered struct {
	*oidc.Provider
	// ownsAnswers is whether it says in each answer whose it is (RFC 9207).
	ownsAnswers bool
}

// New is the provider of a configuration, which has no problems. redirect is where it sends browsers back
// to. It is asked what it can do when somebody first wants to sign in.
func New(c Config, redirect string) (*Provider, error) {
	secret, err := c.secret()
	if err != nil {
		return nil, err
	}
	c.Secret = secret
	client := &http.Client{
		Timeout: askTime, Transport: bounded{http.DefaultTransport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Provider{config: c, redirect: redirect, http: client, now: time.Now}, nil
}

// Mark stands for the configuration: what was let in by another one has another mark.
func (p *Provider) Mark() string {
	c := p.config
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q", c.Issuer, c.ClientID, c.NameClaim, c.RolesClaim, c.Role))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// bounded bounds the answers of a server.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// context is ctx with the client that the libraries ask by.
func (p *Provider) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.http)
}

// discover asks the provider what it can do, once it is there. Errors: ErrAway.
func (p *Provider) discover(ctx context.Context) (*discovered, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	if p.now().Sub(p.tried) < restAfter {
		return nil, ErrAway
	}
	// Its keys are fetched later by the same context.
	found, err := oidc.NewProvider(p.context(context.WithoutCancel(ctx)), p.config.Issuer)
	if err != nil {
		p.tried = p.now()
		return nil, errors.Join(ErrAway, err)
	}
	var more struct {
		Own bool `json:"authorization_response_iss_parameter_supported"`
	}
	if err := found.Claims(&more); err != nil {
		return nil, err
	}
	p.found = &discovered{found, more.Own}
	return p.found, nil
}

func (p *Provider) client(d *discovered) *oauth2.Config {
	endpoint := d.Endpoint()
	if p.config.Secret == "" {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{
		ClientID: p.config.ClientID, ClientSecret: p.config.Secret, Endpoint: endpoint, RedirectURL: p.redirect,
		Scopes: append([]string{oidc.ScopeOpenID}, p.config.Scopes...),
	}
}

// Begin is where a browser goes to sign in, and the try that Finish needs. again makes the person sign in
// anew. Errors: ErrAway.
func (p *Provider) Begin(ctx context.Context, again bool) (address string, t Try, err error) {
	d, err := p.discover(ctx)
	if err != nil {
		return "", t, err
	}
	t = Try{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Begun: p.now(), Again: again}
	options := []oauth2.AuthCodeOption{oidc.Nonce(t.Nonce), oauth2.S256ChallengeOption(t.Verifier)}
	age := sessionAge // that it is asked for makes the provider say when the person has signed in
	if again {
		age = 0
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"))
	}
	options = append(options, oauth2.SetAuthURLParam("max_age", fmt.Sprint(int(age/time.Second))))
	return p.client(d).AuthCodeURL(t.State, options...), t, nil
}

// Finish is who came back from the provider by a try, with ErrNoRole too. answer is the query that he brought along.
// Errors: *Refused, ErrNoRole and ErrStale among them; ErrAway.
func (p *Provider) Finish(ctx context.Context, t Try, answer url.Values) (Person, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return Person{}, err
	}
	code, err := p.codeOf(d, t, answer)
	if err != nil {
		return Person{}, err
	}
	tokens, err := p.client(d).Exchange(p.context(ctx), code, oauth2.VerifierOption(t.Verifier))
	if err != nil {
		if _, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
			return Person{}, refuse(err, "Your organisation did not confirm who you are")
		}
		return Person{}, errors.Join(ErrAway, err)
	}
	raw, _ := tokens.Extra("id_token").(string)
	id, err := d.Verifier(&oidc.Config{
		ClientID: p.config.ClientID, SupportedSigningAlgs: algorithms, Now: p.now,
	}).Verify(p.context(ctx), raw)
	if err != nil {
		return Person{}, refuse(err, "What your organisation said of you cannot be trusted")
	}
	if err := p.fits(t, id, tokens.AccessToken); err != nil {
		return Person{}, refuse(err, "What your organisation said of you is not for this sign-in")
	}
	return p.person(t, id)
}

// codeOf checks the answer that a browser brings back.
func (p *Provider) codeOf(d *discovered, t Try, answer url.Values) (string, error) {
	for name, values := range answer {
		if len(values) > 1 {
			return "", refuse(fmt.Errorf("%q is repeated", name), "The answer of your organisation cannot be read")
		}
	}
	if t.State == "" || !auth.Equal(answer.Get("state"), t.State) || p.now().Sub(t.Begun) > tryAge {
		return "", refuse(nil, "This sign-in was begun elsewhere, or too long ago")
	}
	if iss := answer.Get("iss"); iss != p.config.Issuer && (iss != "" || d.ownsAnswers) { // RFC 9207 2.4
		return "", refuse(errors.New("iss is another"), "This is the answer of another organisation")
	}
	if answer.Has("error") {
		return "", refuse(errors.New("the provider answered with an error"), "Your organisation did not sign you in")
	}
	if answer.Get("code") == "" {
		return "", refuse(errors.New("there is no code"), "The answer of your organisation cannot be read")
	}
	return answer.Get("code"), nil
}

// fits checks of an id token what its signature does not say: that it is of this try and for nobody else.
func (p *Provider) fits(t Try, id *oidc.IDToken, accessToken string) error {
	var more struct {
		Party *string `json:"azp"`
	}
	if err := id.Claims(&more); err != nil {
		return err
	}
	switch {
	case t.Nonce == "" || !auth.Equal(id.Nonce, t.Nonce):
		return errors.New("the nonce is another")
	case len(id.Audience) != 1 || id.Audience[0] != p.config.ClientID:
		return errors.New("it is for others, too")
	case more.Party != nil && *more.Party != p.config.ClientID:
		return errors.New("it was given to another client")
	case !id.IssuedAt.After(time.Unix(0, 0)): // OpenID Connect Core 2: iat is REQUIRED
		return errors.New("it does not say when it was issued")
	case id.IssuedAt.After(p.now().Add(leeway)):
		return errors.New("it is of the future")
	case id.Subject == "":
		return errors.New("it has no subject")
	case id.AccessTokenHash != "":
		return id.VerifyAccessToken(accessToken)
	}
	return nil
}

// person reads the claims of an id token.
func (p *Provider) person(t Try, id *oidc.IDToken) (out Person, err error) {
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return out, refuse(err, "What your organisation said of you cannot be read")
	}
	if at, ok := claims["auth_time"].(float64); ok {
		out.Proved = time.Unix(int64(at), 0)
	}
	if out.Proved.After(p.now().Add(leeway)) {
		return out, refuse(errors.New("auth_time is of the future"), "What your organisation said of you cannot be read")
	}
	if t.Again && out.Proved.Before(t.Begun.Add(-leeway)) || !out.Proved.IsZero() && p.now().Sub(out.Proved) > sessionAge+leeway {
		return out, ErrStale
	}
	if out.Name, err = p.name(claims); err != nil {
		return out, err
	}
	if out.Role = p.config.roleOf(claim(claims, p.config.RolesClaim)); out.Role == "" {
		return out, ErrNoRole // of whom, out says
	}
	return out, nil
}

// marked is what the names of a provider's people end in. The names of accounts have no spaces.
const marked = " (OpenID)"

// Unmarked is the name by which a provider knows somebody; another name stays as it is.
func Unmarked(name string) string { return strings.TrimSuffix(name, marked) }

// name is what somebody is called here.
func (p *Provider) name(claims map[string]any) (string, error) {
	name, _ := claim(claims, p.config.NameClaim).(string)
	odd := strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar })
	if name == "" || len(name) > maxName || odd {
		return "", refuse(nil, "Your organisation did not say who you are (%s)", p.config.NameClaim)
	}
	if verified, _ := claims["email_verified"].(bool); p.config.NameClaim == "email" && !verified {
		return "", refuse(nil, "Your organisation has not verified your e-mail address")
	}
	return name + marked, nil
}

// claim finds a claim by its name, or else by a path of names with dots between them.
func claim(claims map[string]any, name string) any {
	if value, ok := claims[name]; ok {
		return value
	}
	first, rest, nested := strings.Cut(name, ".")
	if within, ok := claims[first].(map[string]any); ok && nested {
		return claim(within, rest)
	}
	return nil
}

// roleOf is the highest role that a claim gives, "" for none. A claim is a text, or a list of texts: of
// anything else, and of a list with anything else in it, nothing is believed.
func (c Config) roleOf(value any) (best auth.Role) {
	var values []string
	switch v := value.(type) {
	case string:
		values = []string{v}
	case []any:
		for _, each := range v {
			text, ok := each.(string)
			if !ok {
				return ""
			}
			values = append(values, text)
		}
	}
	roles, _ := c.roles() // they were checked at the start
	for _, text := range values {
		if role, ok := roles[text]; ok && slices.Index(auth.Roles(), role) > slices.Index(auth.Roles(), best) {
			best = role
		}
	}
	return best
}
