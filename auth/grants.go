package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
	"ehi-server/shared/telemetry"
)

// grant is the authorization behind a code or a refresh token.
type grant struct {
	ClientID    string `json:"client"`
	RedirectURI string `json:"redirect,omitempty"`
	Scopes      Scopes `json:"scopes"`
	Patient     string `json:"patient"`
	Challenge   string `json:"challenge,omitempty"`
	Family      string `json:"family"`          // everything from one authorization, see newFamily
	Begun       int64  `json:"begun,omitempty"` // when it was authorized, in Unix seconds
	// Nonce is that of the request, for the ID token (OpenID Connect Core 2).
	Nonce string `json:"nonce,omitempty"`
	// Account is the patient's account that agreed; "" if there was none.
	Account string `json:"account,omitempty"`
	// ClientMade and AccountMade identify the registration of the client and the account, see
	// Origin.
	ClientMade  time.Time `json:"client_made,omitzero"`
	AccountMade time.Time `json:"account_made,omitzero"`
}

// origin returns the Origin of the grant for the given time of creation.
func (g grant) origin(made time.Time) Origin { return Origin{time.Unix(g.Begun, 0), made} }

// random returns a URL-safe text of 256 random bits (REAL-11).
func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b)
}

func hash(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// IssueCode issues a code for a request that the patient approved (SMART-3).
func (s *Server) IssueCode(ctx context.Context, req Request, patient string) (string, error) {
	return s.store(ctx, codeRecords, codeTTL, grant{
		ClientID: req.ClientID, RedirectURI: req.RedirectURI, Scopes: req.Scopes, Patient: patient,
		Challenge: req.Challenge, Family: s.newFamily(), Begun: s.Now().Unix(), Nonce: req.Nonce,
		Account: req.Account, ClientMade: req.clientMade, AccountMade: req.AccountMade,
	})
}

func (s *Server) store(
	ctx context.Context, kind subject.Kind, ttl time.Duration, g grant,
) (string, error) {
	secret := random()
	data, err := json.Marshal(g)
	if err != nil {
		return "", err
	}
	if _, err := s.KV.CreateFor(ctx, kind.Of(hash(secret)), data, ttl); err != nil {
		return "", fmt.Errorf("store grant: %w", err)
	}
	return secret, nil
}

func (s *Server) load(ctx context.Context, key subject.Subject) (g grant, ok bool, err error) {
	e, err := s.KV.Get(ctx, key)
	if errors.Is(err, kv.ErrNotFound) {
		return g, false, nil
	}
	if err != nil {
		return g, false, fmt.Errorf("read grant: %w", err)
	}
	return g, true, json.Unmarshal(e.Value, &g)
}

// redeem marks a secret as used. The first caller succeeds; a replay revokes everything that the
// secret led to. refusal is the error for an unknown or used secret. check is called before the
// secret is marked.
func (s *Server) redeem(
	ctx context.Context, kind subject.Kind, secret string, refusal *Error, check func(grant) *Error,
) (grant, error) {
	h := hash(secret)
	used, replay, err := s.load(ctx, usedRecords.Of(h))
	if err != nil {
		return grant{}, err
	}
	if replay {
		return grant{}, errors.Join(refusal.reused(used), s.Revoke(ctx, used.Family))
	}
	g, ok, err := s.load(ctx, kind.Of(h))
	if err != nil {
		return g, err
	}
	if !ok {
		return g, refusal
	}
	if e := check(g); e != nil {
		return g, e
	}
	agreed, err := s.agreed(ctx, g)
	if err != nil {
		return g, err
	}
	lives, err := s.lives(ctx, g.ClientID, g.origin(g.ClientMade))
	if err != nil {
		return g, err
	}
	if !agreed || !lives || s.voided(g.Family) || s.ahead(g.Begun) {
		return g, refusal
	}
	data, err := json.Marshal(g)
	if err != nil {
		return g, err
	}
	_, err = s.KV.CreateFor(ctx, usedRecords.Of(h), data, s.RefreshTTL)
	if kv.IsConflict(err) {
		return g, errors.Join(refusal.reused(g), s.Revoke(ctx, g.Family))
	}
	return g, err
}

// Tokens is the response of the token endpoint (RFC 6749 5.1, SMART App Launch 2.2 "Response").
type Tokens struct {
	AccessToken       string `json:"access_token"`
	TokenType         string `json:"token_type"`
	ExpiresIn         int    `json:"expires_in"` // seconds
	Scope             string `json:"scope"`
	RefreshToken      string `json:"refresh_token,omitempty"`
	IDToken           string `json:"id_token,omitempty"`
	Patient           string `json:"patient,omitempty"`
	NeedPatientBanner bool   `json:"need_patient_banner,omitempty"`
}

// TokenRequest is a request to the token endpoint.
type TokenRequest struct {
	Form url.Values
	// BasicID and BasicSecret are those of an "Authorization: Basic" header, decoded as RFC 6749
	// 2.3.1 requires. HasBasic reports whether there was one.
	BasicID, BasicSecret string
	HasBasic             bool
	// Audiences are the URLs that an assertion may use for this endpoint: its own URL and the
	// issuer's.
	Audiences []string
}

// Token handles a token request (SMART-4). Errors: *Error for a fault of the client; any other
// error is the server's.
func (s *Server) Token(ctx context.Context, r TokenRequest) (Tokens, error) {
	t, err := s.token(ctx, r)
	if e, ok := errors.AsType[*Error](err); ok {
		telemetry.TokensRefused.WithLabelValues(GrantLabel(r.Form.Get("grant_type")), e.Code).Inc()
	}
	return t, err
}

// GrantLabel returns a known grant type, or "other". It bounds the values that clients can put
// into metrics and the audit trail.
func GrantLabel(grant string) string {
	switch grant {
	case "authorization_code", "refresh_token", "client_credentials":
		return grant
	}
	return "other"
}

func (s *Server) token(ctx context.Context, r TokenRequest) (Tokens, error) {
	form := r.Form
	for name, values := range form {
		if len(values) > 1 {
			return Tokens{}, refuse("invalid_request", "Repeated %q parameter", name)
		}
	}
	switch form.Get("grant_type") {
	case "":
		return Tokens{}, missing("grant_type")
	case "authorization_code":
		return s.fromCode(ctx, r)
	case "refresh_token":
		return s.fromRefresh(ctx, r)
	case "client_credentials":
		return s.fromClient(ctx, r)
	}
	return Tokens{}, refuse("unsupported_grant_type", "Invalid %q parameter", "grant_type")
}

func (s *Server) fromCode(ctx context.Context, r TokenRequest) (Tokens, error) {
	form := r.Form
	for _, name := range []string{"code", "redirect_uri"} {
		if form.Get(name) == "" {
			return Tokens{}, missing(name)
		}
	}
	c, err := s.requester(ctx, r)
	if err != nil {
		return Tokens{}, err
	}
	refusal := refuse("invalid_grant", "The code is invalid, expired or was used before")
	g, err := s.redeem(ctx, codeRecords, form.Get("code"), refusal, func(g grant) *Error {
		return checkCode(g, c.ID, form)
	})
	if err != nil {
		return Tokens{}, err
	}
	telemetry.TokensIssued.WithLabelValues("authorization_code").Inc()
	return s.issue(ctx, g, g.Scopes)
}

// checkCode checks that a code was issued for this client, redirect_uri and challenge (SMART-3,
// RFC 7636 4.6).
func checkCode(g grant, client string, form url.Values) *Error {
	switch {
	case client != g.ClientID:
		return refuse("invalid_grant", "The code was given to another client")
	case form.Get("redirect_uri") != g.RedirectURI:
		return refuse("invalid_grant", "Invalid %q parameter", "redirect_uri")
	case g.Challenge == "" && form.Get("code_verifier") == "":
		return nil
	case form.Get("code_verifier") == "":
		return refuse("invalid_grant", "Missing %q parameter", "code_verifier")
	}
	if subtle.ConstantTimeCompare([]byte(hash(form.Get("code_verifier"))),
		[]byte(g.Challenge)) != 1 {
		return refuse("invalid_grant", "Invalid %q parameter", "code_verifier")
	}
	return nil
}

func (s *Server) fromRefresh(ctx context.Context, r TokenRequest) (Tokens, error) {
	form := r.Form
	if form.Get("refresh_token") == "" {
		return Tokens{}, missing("refresh_token")
	}
	refusal := refuse("invalid_grant", "The refresh token is invalid, expired or was used before")
	c, err := s.refresher(ctx, r, refusal)
	if err != nil {
		return Tokens{}, err
	}
	var scopes Scopes
	g, err := s.redeem(ctx, refreshRecords, form.Get("refresh_token"), refusal,
		func(g grant) *Error {
			if c.ID != g.ClientID {
				return refuse("invalid_grant", "The refresh token was given to another client")
			}
			scopes = g.Scopes
			if asked := form.Get("scope"); asked != "" {
				narrower, ok := g.Scopes.Narrow(asked)
				if !ok {
					return refuse("invalid_scope", "A refresh can only narrow the scope")
				}
				scopes = narrower
			}
			return nil
		})
	if err != nil {
		return Tokens{}, err
	}
	telemetry.TokensIssued.WithLabelValues("refresh_token").Inc()
	return s.issue(ctx, g, scopes)
}

// refresher returns the client of a refresh request. A public client need not give its ID,
// because SMART App Launch 2.2 ("Refresh access token") has no such parameter: the token
// identifies it.
func (s *Server) refresher(
	ctx context.Context, r TokenRequest, unknown *Error,
) (*clientRecord, error) {
	if r.authenticates() > 0 || r.Form.Get("client_id") != "" {
		return s.requester(ctx, r)
	}
	id, _, known, err := s.refreshFamily(ctx, r.Form.Get("refresh_token"))
	if err != nil {
		return nil, err
	}
	c, err := s.client(ctx, id)
	if err != nil {
		return nil, err
	}
	if !known || c == nil {
		return nil, unknown
	}
	if !c.is(Public) {
		return nil, errClient("This client has to authenticate")
	}
	return c, nil
}

// issue issues the tokens of a grant. The next refresh token keeps the whole grant, even if this
// access token has narrower scopes (RFC 6749 6).
func (s *Server) issue(ctx context.Context, g grant, scopes Scopes) (Tokens, error) {
	t := Tokens{
		TokenType:         tokenType(g),
		ExpiresIn:         int(s.AccessTTL / time.Second),
		Scope:             scopes.String(),
		Patient:           g.Patient,
		NeedPatientBanner: g.Patient != "",
	}
	var err error
	if t.AccessToken, err = s.signAccess(ctx, g, scopes); err != nil {
		return t, err
	}
	if scopes.Contains(OpenID) {
		if t.IDToken, err = s.signID(ctx, g, scopes); err != nil {
			return t, err
		}
	}
	if g.Scopes.Refreshable() {
		g.RedirectURI, g.Challenge, g.Nonce = "", "", ""
		if t.RefreshToken, err = s.store(ctx, refreshRecords, s.RefreshTTL, g); err != nil {
			return t, err
		}
	}
	return t, s.noteConsent(ctx, g)
}

// tokenType returns the spelling that each specification requires: Bearer in SMART App Launch
// 2.2 ("Obtain access token"), bearer in its Backend Services ("Issue access token"). RFC 6749
// 7.1 treats them as equal.
func tokenType(g grant) string {
	if g.Patient == "" {
		return "bearer"
	}
	return "Bearer"
}
