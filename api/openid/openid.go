// Package openid lets administrators sign in with the OpenID provider of their hospital. It is
// the relying party in the authorization code flow of OpenID Connect, with PKCE, state and
// nonce. It returns who has signed in and which role a claim gives them, or why they are
// refused. Sessions and pages are the server's task.
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
	// tryAge is the time limit for signing in at the provider.
	tryAge = 10 * time.Minute
	// leeway tolerates clock differences.
	leeway = time.Minute
	// sessionAge is the maximum age of a sign-in at the provider when a session begins here.
	sessionAge = 8 * time.Hour
	// askTime is the time limit of each request to the provider, and maxAnswer the size limit of
	// each response in bytes.
	askTime   = 10 * time.Second
	maxAnswer = 1 << 20
	// restAfter is the pause after the provider could not be reached.
	restAfter = 5 * time.Second
	// maxName is the maximum length of a name in bytes.
	maxName = 128
)

// algorithms are the accepted signature algorithms of ID tokens. Neither those with a shared
// secret nor none are among them.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384,
	oidc.ES512, oidc.EdDSA,
}

// Refused explains to a person why they cannot sign in.
type Refused struct {
	Why string
	// Cause is the reason for the log; nil if Why is complete.
	Cause error
}

func (r *Refused) Error() string { return r.Why }

// Unwrap returns the cause.
func (r *Refused) Unwrap() error { return r.Cause }

func refuse(cause error, why string, args ...any) error {
	return &Refused{fmt.Sprintf(why, args...), cause}
}

var (
	// ErrNoRole refuses a person whom the provider knows, but whose claim gives them no role
	// here.
	ErrNoRole error = &Refused{
		Why: "Your organisation has not given you a role on this server",
	}
	// ErrStale refuses a proof of identity that the provider does not confirm as new.
	ErrStale error = &Refused{Why: "Your organisation did not confirm that you have just signed in"}
	// ErrAway means that the provider cannot be reached.
	ErrAway = errors.New("the OpenID provider cannot be reached")
)

// Person is a person who has signed in at the provider.
type Person struct {
	// Name is the value of the name claim, with the suffix of the provider's names, so that it
	// differs from the names of all accounts here.
	Name string
	Role auth.Role
	// Proved is when the person last proved their identity to the provider; zero if the provider
	// does not say.
	Proved time.Time
}

// Try is one attempt to sign in. The browser keeps it secret.
type Try struct {
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	Begun    time.Time `json:"begun"`
	// Again is whether the person must sign in again, even with a session at the provider.
	Again bool `json:"again,omitempty"`
}

// Provider is the OpenID provider for administrators. It is safe for concurrent use.
type Provider struct {
	config   Config
	redirect string
	http     *http.Client
	now      func() time.Time

	mu    sync.Mutex
	found *discovered
	tried time.Time
}

// discovered is the metadata of the provider.
type discovered struct {
	*oidc.Provider
	// ownsAnswers is whether the provider names itself in each response (RFC 9207).
	ownsAnswers bool
}

// New returns the provider of a configuration without problems. redirect is the URL to which it
// sends browsers back. New sends no request; the metadata is fetched at the first sign-in.
func New(c Config, redirect string) (*Provider, error) {
	secret, err := c.secret()
	if err != nil {
		return nil, err
	}
	c.Secret = secret
	client := &http.Client{
		Timeout: askTime, Transport: bounded{http.DefaultTransport},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	return &Provider{config: c, redirect: redirect, http: client, now: time.Now}, nil
}

// Mark identifies the configuration. A change ends the sessions that began under another one.
func (p *Provider) Mark() string {
	c := p.config
	sum := sha256.Sum256(
		fmt.Appendf(nil, "%q %q %q %q %q", c.Issuer, c.ClientID, c.NameClaim, c.RolesClaim, c.Role))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// bounded limits the size of responses.
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

// context returns ctx with the HTTP client that the libraries use.
func (p *Provider) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.http)
}

// discover fetches the metadata of the provider once. Errors: ErrAway.
func (p *Provider) discover(ctx context.Context) (*discovered, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	if p.now().Sub(p.tried) < restAfter {
		return nil, ErrAway
	}
	// The library fetches the keys later with this context.
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
		ClientID:     p.config.ClientID,
		ClientSecret: p.config.Secret,
		Endpoint:     endpoint,
		RedirectURL:  p.redirect,
		Scopes:       append([]string{oidc.ScopeOpenID}, p.config.Scopes...),
	}
}

// Begin returns the URL at which a browser signs in, and the try for Finish. again requires a
// new sign-in. Errors: ErrAway.
func (p *Provider) Begin(ctx context.Context, again bool) (address string, t Try, err error) {
	d, err := p.discover(ctx)
	if err != nil {
		return "", t, err
	}
	t = Try{
		State:    rand.Text(),
		Nonce:    rand.Text(),
		Verifier: oauth2.GenerateVerifier(),
		Begun:    p.now(),
		Again:    again,
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(t.Nonce), oauth2.S256ChallengeOption(t.Verifier)}
	age := sessionAge // with max_age, the provider has to say when the person signed in
	if again {
		age = 0
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"))
	}
	options = append(options, oauth2.SetAuthURLParam("max_age", fmt.Sprint(int(age/time.Second))))
	return p.client(d).AuthCodeURL(t.State, options...), t, nil
}

// Finish returns the person who came back from the provider, also with ErrNoRole. answer is the
// query of the redirect. Errors: *Refused, including ErrNoRole and ErrStale; ErrAway.
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
		return Person{}, refuse(err, "The server cannot trust the answer of your organisation")
	}
	if err := p.fits(t, id, tokens.AccessToken); err != nil {
		return Person{}, refuse(err, "The answer of your organisation is not for this sign-in")
	}
	return p.person(t, id)
}

// codeOf checks the query that a browser brings back and returns the code.
func (p *Provider) codeOf(d *discovered, t Try, answer url.Values) (string, error) {
	for name, values := range answer {
		if len(values) > 1 {
			return "",
				refuse(fmt.Errorf("%q is repeated", name),
					"The server cannot read the answer of your organisation")
		}
	}
	if t.State == "" || !auth.Equal(answer.Get("state"), t.State) || p.now().Sub(t.Begun) > tryAge {
		return "", refuse(nil, "This sign-in began in another browser, or too long ago")
	}
	// RFC 9207 2.4
	if iss := answer.Get("iss"); iss != p.config.Issuer && (iss != "" || d.ownsAnswers) {
		return "",
			refuse(errors.New("unexpected iss"), "The answer came from another organisation")
	}
	if answer.Has("error") {
		return "",
			refuse(errors.New("the provider answered with an error"),
				"Your organisation did not sign you in")
	}
	if answer.Get("code") == "" {
		return "",
			refuse(errors.New("code is missing"),
				"The server cannot read the answer of your organisation")
	}
	return answer.Get("code"), nil
}

// fits checks what the signature of an ID token does not cover: that it belongs to this try and
// is meant only for this client.
func (p *Provider) fits(t Try, id *oidc.IDToken, accessToken string) error {
	var more struct {
		Party *string `json:"azp"`
	}
	if err := id.Claims(&more); err != nil {
		return err
	}
	switch {
	case t.Nonce == "" || !auth.Equal(id.Nonce, t.Nonce):
		return errors.New("unexpected nonce")
	case len(id.Audience) != 1 || id.Audience[0] != p.config.ClientID:
		return errors.New("aud has more than one value")
	case more.Party != nil && *more.Party != p.config.ClientID:
		return errors.New("unexpected azp")
	case !id.IssuedAt.After(time.Unix(0, 0)): // OpenID Connect Core 2: iat is REQUIRED
		return errors.New("iat is missing")
	case id.IssuedAt.After(p.now().Add(leeway)):
		return errors.New("iat is in the future")
	case id.Subject == "":
		return errors.New("sub is missing")
	case id.AccessTokenHash != "":
		return id.VerifyAccessToken(accessToken)
	}
	return nil
}

// person reads the claims of an ID token.
func (p *Provider) person(t Try, id *oidc.IDToken) (out Person, err error) {
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return out, refuse(err, "The server cannot read the answer of your organisation")
	}
	if at, ok := claims["auth_time"].(float64); ok {
		out.Proved = time.Unix(int64(at), 0)
	}
	if out.Proved.After(p.now().Add(leeway)) {
		return out,
			refuse(errors.New("auth_time is in the future"),
				"The server cannot read the answer of your organisation")
	}
	if t.Again && out.Proved.Before(t.Begun.Add(-leeway)) ||
		!out.Proved.IsZero() && p.now().Sub(out.Proved) > sessionAge+leeway {
		return out, ErrStale
	}
	if out.Name, err = p.name(claims); err != nil {
		return out, err
	}
	if out.Role = p.config.roleOf(claim(claims, p.config.RolesClaim)); out.Role == "" {
		return out, ErrNoRole // out says who was refused
	}
	return out, nil
}

// marked is the suffix of the names of a provider's people. Names of accounts have no spaces.
const marked = " (OpenID)"

// Unmarked returns a name without the suffix of a provider's names.
func Unmarked(name string) string { return strings.TrimSuffix(name, marked) }

// name returns the name of a person on this server.
func (p *Provider) name(claims map[string]any) (string, error) {
	name, _ := claim(claims, p.config.NameClaim).(string)
	odd := strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsPrint(r) || r == unicode.ReplacementChar
	})
	if name == "" || len(name) > maxName || odd {
		return "", refuse(nil, "Your organisation did not say who you are (%s)", p.config.NameClaim)
	}
	if verified, _ := claims["email_verified"].(bool); p.config.NameClaim == "email" && !verified {
		return "", refuse(nil, "Your organisation has not verified your e-mail address")
	}
	return name + marked, nil
}

// claim finds a claim by its name, or otherwise by a path of names separated by dots.
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

// roleOf returns the highest role that a claim gives; "" for none. A claim must be a text or a
// list of texts; any other value gives no role.
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
	roles, _ := c.roles() // checked at the start
	for _, text := range values {
		role, ok := roles[text]
		if ok && slices.Index(auth.Roles(), role) > slices.Index(auth.Roles(), best) {
			best = role
		}
	}
	return best
}
