package smart

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/request"
	"ehi-server/api/trail"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Tokens issues, revokes and describes tokens (auth.Server). Errors of its methods: *auth.Error for
// a fault of the client; any other error is the server's.
type Tokens interface {
	Token(ctx context.Context, r auth.TokenRequest) (auth.Tokens, error)
	RevokeToken(ctx context.Context, r auth.TokenRequest) error
	Introspect(ctx context.Context, r auth.TokenRequest) (auth.Introspection, error)
	// Known reports whether a client is registered.
	Known(client string) bool
}

// TokenEndpoints are the endpoints that take a client's credentials: token, revocation and
// introspection.
type TokenEndpoints struct {
	Origins  request.Origins
	Auth     Tokens
	Trail    Trail
	Failures Failures
	// Log is told why a client's keys could not be fetched.
	Log *slog.Logger
}

// Routes registers the endpoints.
func (h *TokenEndpoints) Routes(r Router) {
	r.On("POST", "/auth/token", h.handleToken, h.Failures.Limit)
	r.On("POST", "/auth/revoke", h.handleRevoke, h.Failures.Limit)
	r.On("POST", "/auth/introspect", h.handleIntrospect, h.Failures.Limit)
}

// handleToken is the token endpoint (SMART-4).
func (h *TokenEndpoints) handleToken(c *fiber.Ctx) error {
	return h.forClient(c, func(r auth.TokenRequest) error {
		tokens, err := h.Auth.Token(c.UserContext(), r)
		h.recordToken(c, r, tokens, err)
		if err != nil {
			return err
		}
		return c.JSON(tokens)
	})
}

// recordToken records the result of a token request. If a code or a refresh token was used a second
// time, the event names its client and patient: the token may have been stolen.
func (h *TokenEndpoints) recordToken(
	c *fiber.Ctx, r auth.TokenRequest, tokens auth.Tokens, err error,
) {
	client := h.claimedClient(r)
	e := ehi.Event{
		Action: ehi.ActionToken, Agent: "client " + client,
		Patient: tokens.Patient, Client: client,
		Detail: auth.GrantLabel(r.Form.Get("grant_type")),
	}
	if refused, ok := errors.AsType[*auth.Error](err); ok {
		e.Detail += ": " + refused.Code
		if grant := refused.Reused; grant != nil {
			e.Action, e.Client, e.Patient = ehi.ActionTokenReuse, grant.ClientID, grant.Patient
		}
		if refused.Cause != nil {
			h.Log.Warn("a client's request", "client", e.Client, "err", refused.Cause)
		}
	}
	h.Trail.Record(c, err, e)
}

// handleRevoke is the revocation endpoint (RFC 7009).
func (h *TokenEndpoints) handleRevoke(c *fiber.Ctx) error {
	return h.forClient(c, func(r auth.TokenRequest) error {
		err := h.Auth.RevokeToken(c.UserContext(), r)
		client := h.claimedClient(r)
		h.Trail.Record(c, err, ehi.Event{
			Action: ehi.ActionRevoke, Agent: "client " + client, Client: client,
		})
		return err
	})
}

// handleIntrospect is the introspection endpoint (RFC 7662). Only refusals are recorded, because
// resource servers introspect all day.
func (h *TokenEndpoints) handleIntrospect(c *fiber.Ctx) error {
	return h.forClient(c, func(r auth.TokenRequest) error {
		answer, err := h.Auth.Introspect(c.UserContext(), r)
		if err != nil {
			client := h.claimedClient(r)
			h.Trail.Record(c, err, ehi.Event{
				Action: ehi.ActionToken, Agent: "client " + client, Client: client,
				Detail: "introspect: " + trail.Reason(err),
			})
			return err
		}
		return c.JSON(answer)
	})
}

// forClient reads the form and the credentials of a request, and gives them to answer. No cache may
// store the answer.
func (h *TokenEndpoints) forClient(c *fiber.Ctx, answer func(auth.TokenRequest) error) error {
	request.NoStore(c)
	c.Set(fiber.HeaderPragma, "no-cache")
	form, err := formParameters(c)
	if err != nil {
		return err
	}
	req := auth.TokenRequest{Form: form, Audiences: tokenAudiences(h.Origins.All(c))}
	header := c.Get(fiber.HeaderAuthorization)
	if req.BasicID, req.BasicSecret, req.HasBasic, err = parseBasic(header); err != nil {
		c.Set(fiber.HeaderWWWAuthenticate, basicChallenge)
		return err
	}
	if err := h.Failures.LimitClient(c, h.claimedClient(req)); err != nil {
		return err
	}
	if err := answer(req); err != nil {
		if req.HasBasic {
			c.Set(fiber.HeaderWWWAuthenticate, basicChallenge)
		}
		return err
	}
	return nil
}

// claimedClient returns the client ID that a request claims, "" if no such client is registered.
// The claim need not have been verified.
func (h *TokenEndpoints) claimedClient(r auth.TokenRequest) string {
	id := r.Form.Get("client_id")
	if r.HasBasic {
		id = r.BasicID
	}
	if id == "" && r.Form.Get("client_assertion") != "" {
		id = auth.AssertionClient(r.Form.Get("client_assertion"))
	}
	if !h.Auth.Known(id) {
		return ""
	}
	return id
}

// tokenAudiences returns what an assertion may name as its audience: the URL of the token endpoint
// or the issuer (SMART-5).
func tokenAudiences(origins []string) (out []string) {
	for _, origin := range origins {
		out = append(out, origin+"/auth/token", origin)
	}
	return out
}

// basicChallenge answers a client that failed to authenticate by the Authorization header (RFC 6749
// 5.2).
const basicChallenge = `Basic realm="ehi"`

// parseBasic parses a client's credentials in an Authorization header, whose scheme is in any case
// (RFC 9110 11.1). Both parts are form-encoded (RFC 6749 2.3.1). has reports whether the scheme is
// Basic. Errors: *auth.Error.
func parseBasic(header string) (id, secret string, has bool, err error) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false, nil
	}
	refusal := &auth.Error{
		Code:        "invalid_client",
		Description: "The Authorization header cannot be read",
	}
	plain, err := base64.StdEncoding.DecodeString(strings.TrimLeft(encoded, " "))
	if err != nil {
		return "", "", true, refusal
	}
	id, secret, _ = strings.Cut(string(plain), ":")
	id, errID := url.QueryUnescape(id)
	secret, errSecret := url.QueryUnescape(secret)
	if errID != nil || errSecret != nil {
		return "", "", true, refusal
	}
	return id, secret, true, nil
}
