package server

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/trail"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// handleDiscovery is /.well-known/smart-configuration (SMART-1, REAL-9): it lists only what works.
func (s *Server) handleDiscovery(c *fiber.Ctx) error {
	origin := s.Origins.Base(c)
	c.Set(fiber.HeaderCacheControl, "public, max-age=3600")
	told := fiber.Map{
		"issuer":                 origin,
		"jwks_uri":               origin + "/auth/jwks",
		"authorization_endpoint": origin + "/auth/authorize",
		"token_endpoint":         origin + "/auth/token",
		"revocation_endpoint":    origin + "/auth/revoke",
		"introspection_endpoint": origin + "/auth/introspect",
		"revocation_endpoint_auth_methods_supported":       []string{"none", "client_secret_basic", "client_secret_post", "private_key_jwt"},
		"introspection_endpoint_auth_methods_supported":    []string{"client_secret_basic", "client_secret_post", "private_key_jwt"},
		"grant_types_supported":                            []string{"authorization_code", "refresh_token", "client_credentials"},
		"response_types_supported":                         []string{"code"},
		"scopes_supported":                                 auth.ScopesSupported(),
		"code_challenge_methods_supported":                 []string{"S256"},
		"token_endpoint_auth_methods_supported":            []string{"none", "client_secret_basic", "client_secret_post", "private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": auth.AssertionAlgorithms(),
		"id_token_signing_alg_values_supported":            []string{auth.IDAlgorithm},
		"claims_supported":                                 []string{"iss", "aud", "sub", "iat", "exp", "nonce", "fhirUser"},
		"authorization_response_iss_parameter_supported":   true,
		"request_parameter_supported":                      false,
		"request_uri_parameter_supported":                  false,
		"service_documentation":                            origin + "/openapi.json",
		"subject_types_supported":                          []string{"public"},
		"capabilities": []string{
			"launch-standalone", "authorize-post", "client-public", "client-confidential-symmetric", "client-confidential-asymmetric", "context-standalone-patient", "context-banner", "permission-patient",
			"permission-offline", "permission-online", "permission-v1", "permission-v2", "sso-openid-connect",
		},
	}
	if s.RegistrationToken != "" {
		told["registration_endpoint"] = origin + "/auth/register"
	}
	return c.JSON(told)
}

func (s *Server) handleJWKS(c *fiber.Ctx) error {
	set, err := s.Auth.JWKS(c.UserContext())
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, "public, max-age=300") // a key may be rotated
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(set)
}

// authorizeParameters are the request's parameters, of the query or of the form (SMART-2).
func authorizeParameters(c *fiber.Ctx) (url.Values, error) {
	if c.Method() == fiber.MethodPost {
		return formParameters(c)
	}
	q, err := url.ParseQuery(string(c.Request().URI().QueryString()))
	if err != nil {
		return nil, &auth.Error{Code: "invalid_request", Description: "The query cannot be read"}
	}
	return q, nil
}

// formParameters reads an application/x-www-form-urlencoded body and nothing else (SMART-4).
func formParameters(c *fiber.Ctx) (url.Values, error) {
	if mime, _, _ := strings.Cut(c.Get(fiber.HeaderContentType), ";"); !strings.EqualFold(strings.TrimSpace(mime), fiber.MIMEApplicationForm) {
		return nil, &auth.Error{Code: "invalid_request", Description: "The body must be application/x-www-form-urlencoded"}
	}
	v, err := url.ParseQuery(string(c.Body()))
	if err != nil {
		return nil, &auth.Error{Code: "invalid_request", Description: "The body cannot be read"}
	}
	return v, nil
}

// handleAuthorize checks the request and shows the patient what is asked for (SMART-2), or takes the sandbox's shortcut (SMART-10).
func (s *Server) handleAuthorize(c *fiber.Ctx) error {
	q, err := authorizeParameters(c)
	if err != nil {
		return err
	}
	if err := s.failures.LimitClient(c, q.Get("client_id")); err != nil {
		return err
	}
	req, err := s.Auth.Check(c.UserContext(), q, s.Origins.Audiences(c, q.Get("aud"), s.Sandbox))
	if err != nil {
		return refuseAuthorize(c, req, err)
	}
	if s.Sandbox && q.Get("_patient") != "" && q.Get("_auth_success") != "" {
		return s.shortcut(c, req, q)
	}
	return c.Redirect("/authorize-app?"+q.Encode(), http.StatusFound)
}

// refuseAuthorize sends an error back to the client where its redirect_uri is known good, else to the browser.
func refuseAuthorize(c *fiber.Ctx, req auth.Request, err error) error {
	if e, ok := errors.AsType[*auth.Error](err); ok && e.Redirectable {
		return page.Ahead(c, req.ErrorRedirect(e), nil)
	}
	if e, ok := errors.AsType[*auth.Error](err); ok && content.WantsPage(c) {
		return ehi.Errorf(ehi.Invalid, "The application's request cannot be trusted: %s", e.Description)
	}
	return err
}

// shortcut answers as if the given patient had agreed, or refused.
func (s *Server) shortcut(c *fiber.Ctx, req auth.Request, q url.Values) error {
	if q.Get("_auth_success") == "0" {
		return s.deny(c, req, q.Get("_patient"))
	}
	if _, err := s.Source.Patient(c.UserContext(), q.Get("_patient")); err != nil {
		if ehi.CodeOf(err) == ehi.NotFound {
			return page.Ahead(c, req.ErrorRedirect(&auth.Error{Code: "invalid_request", Description: `Invalid "_patient" parameter`}), nil)
		}
		return err
	}
	return s.agree(c, req, q.Get("_patient"))
}

func (s *Server) agree(c *fiber.Ctx, req auth.Request, patient string) error {
	a, err := s.patients.Account(c, patient)
	if err != nil {
		return err
	}
	if a.Name != "" {
		req.Account, req.AccountMade = a.Name, a.Created
	}
	code, err := s.Auth.IssueCode(c.UserContext(), req, patient)
	s.trail.Record(c, err, ehi.Event{
		Action: ehi.ActionAuthorize, Agent: "patient " + patient,
		Patient: patient, Client: req.ClientID, Detail: req.Scopes.String(),
	})
	if err != nil {
		return err
	}
	return page.Ahead(c, req.Redirect(url.Values{"code": {code}}), nil)
}

func (s *Server) deny(c *fiber.Ctx, req auth.Request, patient string) error {
	s.trail.Record(c, errDenied, ehi.Event{
		Action: ehi.ActionAuthorize, Agent: "patient " + patient,
		Patient: patient, Client: req.ClientID, Detail: req.Scopes.String(),
	})
	return page.Ahead(c, req.ErrorRedirect(errDenied), nil)
}

var errDenied = &auth.Error{Code: "access_denied", Description: "The patient refused the application's request"}

// handleToken is the token endpoint (SMART-4).
func (s *Server) handleToken(c *fiber.Ctx) error {
	return s.forClient(c, func(r auth.TokenRequest) error {
		tokens, err := s.Auth.Token(c.UserContext(), r)
		s.auditToken(c, r, tokens, err)
		if err != nil {
			return err
		}
		return c.JSON(tokens)
	})
}

// auditToken records what came of a token request. Whose code or refresh token came a second time is said: it may be stolen.
func (s *Server) auditToken(c *fiber.Ctx, r auth.TokenRequest, tokens auth.Tokens, err error) {
	e := ehi.Event{Action: ehi.ActionToken, Client: s.clientNamed(r), Patient: tokens.Patient, Agent: "client " + s.clientNamed(r), Detail: auth.GrantLabel(r.Form.Get("grant_type"))}
	if refused, ok := errors.AsType[*auth.Error](err); ok {
		e.Detail += ": " + refused.Code
		if refused.Reused != nil {
			e.Action, e.Client, e.Patient = ehi.ActionTokenReuse, refused.Reused.ClientID, refused.Reused.Patient
		}
		if refused.Cause != nil {
			s.Log.Warn("a client's request", "client", e.Client, "err", refused.Cause)
		}
	}
	s.trail.Record(c, err, e)
}

// clientNamed is the client that a request says it is of, where there is one; nothing may be verified yet.
func (s *Server) clientNamed(r auth.TokenRequest) string {
	id := r.Form.Get("client_id")
	if r.HasBasic {
		id = r.BasicID
	}
	if id == "" && r.Form.Get("client_assertion") != "" {
		id = auth.AssertionClient(r.Form.Get("client_assertion"))
	}
	if !s.Auth.Known(id) {
		return ""
	}
	return id
}

// handleRevoke is the revocation endpoint (RFC 7009).
func (s *Server) handleRevoke(c *fiber.Ctx) error {
	return s.forClient(c, func(r auth.TokenRequest) error {
		err := s.Auth.RevokeToken(c.UserContext(), r)
		client := s.clientNamed(r)
		s.trail.Record(c, err, ehi.Event{Action: ehi.ActionRevoke, Client: client, Agent: "client " + client})
		return err
	})
}

// handleIntrospect is the introspection endpoint (RFC 7662).
func (s *Server) handleIntrospect(c *fiber.Ctx) error {
	return s.forClient(c, func(r auth.TokenRequest) error {
		told, err := s.Auth.Introspect(c.UserContext(), r)
		if err != nil { // what is told is not recorded: resource servers ask all day
			client := s.clientNamed(r)
			s.trail.Record(c, err, ehi.Event{
				Action: ehi.ActionToken, Client: client, Agent: "client " + client,
				Detail: "introspect: " + trail.Reason(err),
			})
			return err
		}
		return c.JSON(told)
	})
}

// forClient reads a client's request to one of the endpoints that take its credentials; no answer of theirs may be stored.
func (s *Server) forClient(c *fiber.Ctx, answer func(auth.TokenRequest) error) error {
	request.NoStore(c)
	c.Set(fiber.HeaderPragma, "no-cache")
	form, err := formParameters(c)
	if err != nil {
		return err
	}
	req := auth.TokenRequest{Form: form, Audiences: s.tokenAudiences(c)}
	if req.BasicID, req.BasicSecret, req.HasBasic, err = basic(c.Get(fiber.HeaderAuthorization)); err != nil {
		c.Set(fiber.HeaderWWWAuthenticate, basicChallenge)
		return err
	}
	if err := s.failures.LimitClient(c, s.clientNamed(req)); err != nil {
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

// tokenAudiences is how an assertion may name the token endpoint: by its URL, or by the issuer (SMART-5).
func (s *Server) tokenAudiences(c *fiber.Ctx) []string {
	var out []string
	for _, origin := range s.Origins.All(c) {
		out = append(out, origin+"/auth/token", origin)
	}
	return out
}

// basicChallenge tells a client that has tried the Authorization header how to (RFC 6749 5.2).
const basicChallenge = `Basic realm="ehi"`

// basic reads a client's credentials from an Authorization header: both parts are form-encoded (RFC 6749 2.3.1).
func basic(header string) (id, secret string, has bool, err error) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") { // RFC 9110 11.1: in any case
		return "", "", false, nil
	}
	refusal := &auth.Error{Code: "invalid_client", Description: "The Authorization header cannot be read"}
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
