package smart

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Registry adds clients (auth.Server).
type Registry interface {
	// AddClient returns the client as it is stored, and its secret, "" for none. Errors:
	// ehi.Invalid, ehi.Conflict.
	AddClient(ctx context.Context, c auth.Client) (auth.Client, string, error)
	// MayFetchKeys reports whether the server could fetch a client's keys from a URL.
	MayFetchKeys(uri string) bool
}

// Registration lets clients register themselves (RFC 7591).
type Registration struct {
	// Token is the initial access token; "" turns registration off.
	Token string
	// Limits are what the token allows.
	Limits   auth.RegistrationLimits
	Clients  Registry
	Trail    Trail
	Failures Failures
}

// Routes registers the registration endpoint.
func (h *Registration) Routes(r Router) {
	r.On("POST", "/auth/register", h.handleRegister, h.Failures.Limit)
}

// metadata is a client's registration as RFC 7591 2, OpenID Connect Registration 2, RFC 8705, RFC
// 9101, RFC 9126 and RFC 9449 define it.
type metadata struct {
	Name          string          `json:"client_name"`
	RedirectURIs  []string        `json:"redirect_uris,omitempty"`
	Scope         string          `json:"scope"`
	AuthMethod    string          `json:"token_endpoint_auth_method"`
	GrantTypes    []string        `json:"grant_types"`
	ResponseTypes []string        `json:"response_types"`
	JWKS          json.RawMessage `json:"jwks,omitempty"`
	JWKSURI       string          `json:"jwks_uri,omitempty"`

	// The server supports a few values of these at most. A client that asks for another value would
	// rely on something that it does not get.
	AuthAlgorithm string `json:"token_endpoint_auth_signing_alg"`
	IDAlgorithm   string `json:"id_token_signed_response_alg"`
	SubjectType   string `json:"subject_type"`
	ResponseMode  string `json:"response_mode"`
	DPoP          bool   `json:"dpop_bound_access_tokens"`
	Certificate   bool   `json:"tls_client_certificate_bound_access_tokens"`
	SignedRequest bool   `json:"require_signed_request_object"`
	PushedRequest bool   `json:"require_pushed_authorization_requests"`
}

// unsupported returns the first member with a value that the server does not support, "" for none.
// The limits of the initial access token may allow less than the server supports.
func (m metadata) unsupported() string {
	among := func(member string, supported ...string) bool {
		return member == "" || slices.Contains(supported, member)
	}
	for _, r := range m.ResponseTypes {
		if r != "code" {
			return "response_types"
		}
	}
	for _, g := range m.GrantTypes {
		if !slices.Contains(auth.RegistrableGrants(), g) {
			return "grant_types"
		}
	}
	_, known := authMethods[m.AuthMethod]
	switch {
	case len(m.ResponseTypes) > 0 && len(m.GrantTypes) > 0 &&
		!slices.Contains(m.GrantTypes, "authorization_code"):
		return "response_types" // code needs that grant (RFC 7591 2.1)
	case !known:
		return "token_endpoint_auth_method"
	case !among(m.AuthAlgorithm, auth.AssertionAlgorithms()...):
		return "token_endpoint_auth_signing_alg"
	case !among(m.IDAlgorithm, auth.IDAlgorithm):
		return "id_token_signed_response_alg"
	case !among(m.SubjectType, "public"):
		return "subject_type"
	case !among(m.ResponseMode, "query"):
		return "response_mode"
	case m.DPoP:
		return "dpop_bound_access_tokens"
	case m.Certificate:
		return "tls_client_certificate_bound_access_tokens"
	case m.SignedRequest:
		return "require_signed_request_object"
	case m.PushedRequest:
		return "require_pushed_authorization_requests"
	}
	return ""
}

// authMethods are the ways to authenticate at the token endpoint, with the kind of their clients.
var authMethods = map[string]auth.Kind{
	"none":                auth.Public,
	"client_secret_basic": auth.Symmetric,
	"client_secret_post":  auth.Symmetric,
	"private_key_jwt":     auth.Asymmetric,
}

// handleRegister registers the client of a request that has the initial access token. It ignores
// unknown members, as RFC 7591 2 requires, and refuses known members with unsupported values.
func (h *Registration) handleRegister(c *fiber.Ctx) error {
	request.NoStore(c)
	if h.Token == "" {
		return ehi.Errorf(ehi.NotFound, "Dynamic registration is off here")
	}
	client, method, secret, err := h.register(c)
	h.Trail.Record(c, err, ehi.Event{ // also a wrong token
		Action: ehi.ActionRegister, Client: client.ID,
	})
	if ehi.CodeOf(err) == ehi.Invalid {
		return metadataError(err)
	}
	if err != nil {
		return err
	}
	answer := fiber.Map{
		"client_id":                  client.ID,
		"client_id_issued_at":        client.Created.Unix(),
		"client_name":                client.Name,
		"scope":                      client.Scope,
		"token_endpoint_auth_method": method,
		"grant_types":                client.GrantTypes(),
		"response_types":             responseTypes(client),
		"redirect_uris":              client.RedirectURIs,
	}
	if secret != "" {
		answer["client_secret"], answer["client_secret_expires_at"] = secret, 0
	}
	if client.JWKSURI != "" {
		answer["jwks_uri"] = client.JWKSURI
	}
	return c.Status(http.StatusCreated).JSON(answer)
}

// metadataError gives the refusal of a registration the code of RFC 7591 3.2.2.
func metadataError(err error) *auth.Error {
	if strings.Contains(err.Error(), "redirect") {
		return &auth.Error{Code: "invalid_redirect_uri", Description: err.Error()}
	}
	return invalidMetadata(err.Error())
}

func invalidMetadata(description string) *auth.Error {
	return &auth.Error{Code: "invalid_client_metadata", Description: description}
}

// responseTypes are the response types that a client can use. The answer to a registration tells
// what was registered (RFC 7591 3.2.1).
func responseTypes(c auth.Client) []string {
	if len(c.RedirectURIs) == 0 {
		return []string{}
	}
	return []string{"code"}
}

// register adds the client of a request. method is how it authenticates, in the words of RFC 7591.
// Errors: *auth.Error, and those of Registry.AddClient.
func (h *Registration) register(
	c *fiber.Ctx,
) (client auth.Client, method, secret string, err error) {
	scheme, token, _ := strings.Cut(c.Get(fiber.HeaderAuthorization), " ")
	if !strings.EqualFold(scheme, "Bearer") || !auth.Equal(token, h.Token) {
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="ehi", error="invalid_token"`)
		return client, "", "", &auth.Error{
			Code:        "invalid_token",
			Description: "The initial access token is missing or wrong",
		}
	}
	in, err := h.readMetadata(c.Body())
	if err != nil {
		return client, "", "", err
	}
	client = auth.Client{
		Name:         in.Name,
		Kind:         authMethods[in.AuthMethod],
		RedirectURIs: in.RedirectURIs,
		Scope:        in.Scope,
		JWKS:         in.JWKS,
		JWKSURI:      in.JWKSURI,
		CreatedBy:    auth.SelfRegistered,
	}
	err = h.Limits.Check(client, in.GrantTypes)
	if err == nil {
		client, secret, err = h.Clients.AddClient(c.UserContext(), client)
	}
	return client, in.AuthMethod, secret, err
}

// readMetadata decodes a registration and checks that the server supports it. Errors: *auth.Error.
func (h *Registration) readMetadata(body []byte) (metadata, error) {
	in := metadata{AuthMethod: "client_secret_basic"} // RFC 7591 2
	if err := fhir.CheckNames(body); err != nil {
		return in, invalidMetadata("The body is ambiguous: " + err.Error())
	}
	if json.Unmarshal(body, &in) != nil {
		return in, invalidMetadata("The body must be JSON")
	}
	if member := in.unsupported(); member != "" {
		return in, invalidMetadata(member + " has a value that this server does not support")
	}
	if in.JWKSURI != "" && !h.Clients.MayFetchKeys(in.JWKSURI) {
		return in, invalidMetadata("jwks_uri must be https on a public host")
	}
	return in, nil
}
