package auth

import (
	"context"
	"errors"
	"time"

	"ehi-server/shared/subject"
)

// RevokeToken revokes the token's whole grant in every process, whether it is an access token or
// a refresh token, used or not (RFC 7009). An unknown or expired token is no error, as the RFC
// requires. Errors: *Error if the client is unknown or the token belongs to another client; any
// other error is the server's.
func (s *Server) RevokeToken(ctx context.Context, r TokenRequest) error {
	token := r.Form.Get("token")
	if token == "" {
		return missing("token")
	}
	client, err := s.requester(ctx, r)
	if err != nil {
		return err
	}
	owner, family, known, err := s.familyOf(ctx, token)
	if err != nil || !known {
		return err
	}
	if owner != client.ID {
		return refuse("invalid_grant", "The token was given to another client")
	}
	return s.Revoke(ctx, family)
}

// familyOf returns the client and the family of an access or refresh token.
func (s *Server) familyOf(
	ctx context.Context, token string,
) (client, family string, known bool, err error) {
	a, err := s.Verify(ctx, token)
	if err == nil {
		return a.ClientID, a.family, true, nil
	}
	if !errors.Is(err, ErrToken) {
		return "", "", false, err
	}
	return s.refreshFamily(ctx, token)
}

// refreshFamily is familyOf for a refresh token, used or not.
func (s *Server) refreshFamily(
	ctx context.Context, token string,
) (client, family string, known bool, err error) {
	for _, kind := range []subject.Kind{refreshRecords, usedRecords} {
		g, known, err := s.load(ctx, kind.Of(hash(token)))
		if err != nil || known {
			return g.ClientID, g.Family, known, err
		}
	}
	return "", "", false, nil
}

// Introspection is the result of an introspection (RFC 7662 2.2). For an inactive token all
// other fields are empty.
type Introspection struct {
	Active    bool   `json:"active"`
	Scope     string `json:"scope,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	TokenType string `json:"token_type,omitempty"`
	Expires   int64  `json:"exp,omitempty"` // Unix seconds
	Subject   string `json:"sub,omitempty"`
	Audience  string `json:"aud,omitempty"`
	Issuer    string `json:"iss,omitempty"`
	Patient   string `json:"patient,omitempty"` // SMART App Launch 2.2, "Token Introspection"
}

// Introspect returns to a resource server what an access token allows. The caller must
// authenticate, because the answer says whose record the token opens. A client that is not a
// resource server (Client.Introspect) can introspect only its own tokens. Errors: *Error if the
// client is not authenticated; any other error is the server's.
func (s *Server) Introspect(ctx context.Context, r TokenRequest) (Introspection, error) {
	c, err := s.authenticate(ctx, r)
	if err != nil {
		return Introspection{}, err
	}
	if r.Form.Get("token") == "" {
		return Introspection{}, missing("token")
	}
	a, err := s.Verify(ctx, r.Form.Get("token"))
	if err != nil && !errors.Is(err, ErrToken) {
		return Introspection{}, err
	}
	// This includes refresh tokens, which are useless at a resource server.
	if err != nil || a.ClientID != c.ID && !c.Introspect {
		return Introspection{}, nil
	}
	who := a.Patient
	if who == "" {
		who = a.ClientID
	}
	return Introspection{
		Active:    true,
		Scope:     a.Scopes.String(),
		ClientID:  a.ClientID,
		TokenType: "Bearer",
		Expires:   a.expires.Truncate(time.Second).Unix(),
		Subject:   who, Audience: s.Issuer + "/fhir", Issuer: s.Issuer, Patient: a.Patient,
	}, nil
}
