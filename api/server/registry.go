package server

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/api/trail"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// registered is a client as it is told once: with its secret, which nobody can read again.
type registered struct {
	auth.Client
	Secret string `json:"client_secret,omitempty"`
}

func (s *Server) handleClients(c *fiber.Ctx) error {
	list, err := s.Auth.Clients(c.UserContext())
	if err != nil {
		return err
	}
	return c.JSON(list)
}

func (s *Server) handleClient(c *fiber.Ctx) error {
	client, err := s.Auth.Client(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	return c.JSON(client)
}

func (s *Server) handleAddClient(c *fiber.Ctx) error {
	var in auth.Client
	if err := content.DecodeStrictly(c, &in); err != nil {
		return err
	}
	in.CreatedBy = trail.Agent(c)
	client, secret, err := s.Auth.AddClient(c.UserContext(), in)
	if err := s.trail.Change(c, err, additionOf(client, err)); err != nil {
		return err
	}
	return c.Status(http.StatusCreated).JSON(registered{client, secret})
}

// additionOf tells the audit trail which client was added, and what it may that others may not. What was
// refused is not named: it may be anything.
func additionOf(client auth.Client, err error) string {
	if err != nil {
		return "add a client"
	}
	what := "add client " + client.ID + " (" + client.Name + ")"
	if may := client.Privileges(); may != "" {
		what += ", which " + may
	}
	return what
}

func (s *Server) handleRotateSecret(c *fiber.Ctx) error {
	id := c.Params("id")
	secret, err := s.rotateSecret(c, id)
	if err != nil {
		return err
	}
	client, err := s.Auth.Client(c.UserContext(), id)
	if err != nil {
		return err
	}
	return c.JSON(registered{client, secret})
}

func (s *Server) handleRemoveClient(c *fiber.Ctx) error {
	if err := s.removeClient(c, c.Params("id")); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Client removed"})
}

func (s *Server) handleAccounts(c *fiber.Ctx) error {
	list, err := s.Auth.Accounts(c.UserContext())
	if err != nil {
		return err
	}
	return c.JSON(list)
}

func (s *Server) handleAddAccount(c *fiber.Ctx) error {
	var in struct {
		auth.Account
		Password string `json:"password"`
	}
	if err := content.DecodeStrictly(c, &in); err != nil {
		return err
	}
	a, err := s.addAccount(c, in.Account, in.Password)
	if err != nil {
		return err
	}
	return c.Status(http.StatusCreated).JSON(a)
}

// accountParams are the kind and the name of the path.
func accountParams(c *fiber.Ctx) (kind, name string, err error) {
	kind = c.Params("kind")
	name, err = url.PathUnescape(c.Params("name"))
	if err != nil || kind != "admin" && kind != "patient" {
		return "", "", auth.ErrNoAccount
	}
	return kind, name, nil
}

func (s *Server) handleSetPassword(c *fiber.Ctx) error {
	kind, name, err := accountParams(c)
	if err != nil {
		return err
	}
	var in struct {
		Password string `json:"password"`
	}
	if err := content.DecodeStrictly(c, &in); err != nil {
		return err
	}
	if err := s.setPassword(c, kind, name, in.Password); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Password set"})
}

func (s *Server) handleRemoveAccount(c *fiber.Ctx) error {
	kind, name, err := accountParams(c)
	if err != nil {
		return err
	}
	if err := s.removeAccount(c, kind, name); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Account removed"})
}

func (s *Server) handleKeys(c *fiber.Ctx) error {
	keys, err := s.Auth.Keys(c.UserContext())
	if err != nil {
		return err
	}
	return c.JSON(keys)
}

func (s *Server) handleRotateKeys(c *fiber.Ctx) error {
	compromised := c.QueryBool("compromised")
	keys, err := s.Auth.RotateKeys(c.UserContext(), compromised)
	what := "rotate signing keys"
	if compromised {
		what += ", compromised"
	}
	if err := s.trail.Change(c, err, what); err != nil {
		return err
	}
	return c.JSON(keys)
}

// metadata is a client's registration in the words of RFC 7591 2, OpenID Connect Registration 2, RFC 8705, RFC 9101, RFC
// 9126 and RFC 9449.
type metadata struct {
	Name          string          `json:"client_name"`
	RedirectURIs  []string        `json:"redirect_uris,omitempty"`
	Scope         string          `json:"scope"`
	AuthMethod    string          `json:"token_endpoint_auth_method"`
	GrantTypes    []string        `json:"grant_types"`
	ResponseTypes []string        `json:"response_types"`
	JWKS          json.RawMessage `json:"jwks,omitempty"`
	JWKSURI       string          `json:"jwks_uri,omitempty"`

	// What is one of a few here, or nothing: a client that asks for another would be given less than it relies on.
	AuthAlgorithm string `json:"token_endpoint_auth_signing_alg"`
	IDAlgorithm   string `json:"id_token_signed_response_alg"`
	SubjectType   string `json:"subject_type"`
	ResponseMode  string `json:"response_mode"`
	DPoP          bool   `json:"dpop_bound_access_tokens"`
	Certificate   bool   `json:"tls_client_certificate_bound_access_tokens"`
	SignedRequest bool   `json:"require_signed_request_object"`
	PushedRequest bool   `json:"require_pushed_authorization_requests"`
}

// unoffered is the first member that asks for what the server does not offer, "" for none. What a registration may
// have of what is offered, the limits of the initial access token say.
func (m metadata) unoffered() string {
	among := func(member string, offered ...string) bool { return member == "" || slices.Contains(offered, member) }
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
	case len(m.ResponseTypes) > 0 && len(m.GrantTypes) > 0 && !slices.Contains(m.GrantTypes, "authorization_code"):
		return "response_types" // code is of that grant (RFC 7591 2.1)
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

// authMethods are the ways to authenticate at the token endpoint, by the kind of client.
var authMethods = map[string]auth.Kind{"none": auth.Public, "client_secret_basic": auth.Symmetric, "client_secret_post": auth.Symmetric, "private_key_jwt": auth.Asymmetric}

// handleRegister is dynamic registration (RFC 7591), for who has the initial access token. What is not understood is passed over, as the RFC
// has it; what is understood and not offered is refused.
func (s *Server) handleRegister(c *fiber.Ctx) error {
	request.NoStore(c)
	if s.RegistrationToken == "" {
		return ehi.Errorf(ehi.NotFound, "Dynamic registration is off here")
	}
	client, method, secret, err := s.addRegistered(c)
	s.trail.Record(c, err, ehi.Event{Action: ehi.ActionRegister, Client: client.ID}) // a wrong token, too
	if err != nil && ehi.CodeOf(err) == ehi.Invalid {
		code := "invalid_client_metadata"
		if strings.Contains(err.Error(), "redirect") {
			code = "invalid_redirect_uri"
		}
		return &auth.Error{Code: code, Description: err.Error()}
	}
	if err != nil {
		return err
	}
	answer := fiber.Map{"client_id": client.ID, "client_id_issued_at": client.Created.Unix(), "client_name": client.Name, "scope": client.Scope, "token_endpoint_auth_method": method,
		"grant_types": client.GrantTypes(), "response_types": responseTypes(client), "redirect_uris": client.RedirectURIs}
	if secret != "" {
		answer["client_secret"], answer["client_secret_expires_at"] = secret, 0
	}
	if client.JWKSURI != "" {
		answer["jwks_uri"] = client.JWKSURI
	}
	return c.Status(http.StatusCreated).JSON(answer)
}

// responseTypes are those that a client can use: what was registered is said in its answer (RFC 7591 3.2.1).
func responseTypes(c auth.Client) []string {
	if len(c.RedirectURIs) == 0 {
		return []string{}
	}
	return []string{"code"}
}

// addRegistered adds the client of a request for its registration. method is how it authenticates, in the words
// of RFC 7591.
func (s *Server) addRegistered(c *fiber.Ctx) (client auth.Client, method, secret string, err error) {
	scheme, token, _ := strings.Cut(c.Get(fiber.HeaderAuthorization), " ")
	if !strings.EqualFold(scheme, "Bearer") || !auth.Equal(token, s.RegistrationToken) {
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="ehi", error="invalid_token"`)
		return client, "", "", &auth.Error{Code: "invalid_token", Description: "The initial access token is missing or wrong"}
	}
	in := metadata{AuthMethod: "client_secret_basic"} // RFC 7591 2
	if err := fhir.CheckNames(c.Body()); err != nil {
		return client, "", "", &auth.Error{
			Code:        "invalid_client_metadata",
			Description: "The body is ambiguous: " + err.Error(),
		}
	}
	if err := json.Unmarshal(c.Body(), &in); err != nil {
		return client, "", "", &auth.Error{Code: "invalid_client_metadata", Description: "The body must be JSON"}
	}
	if member := in.unoffered(); member != "" {
		return client, "", "", &auth.Error{Code: "invalid_client_metadata", Description: member + " asks for what is not supported here"}
	}
	if in.JWKSURI != "" && !s.Auth.MayFetchKeys(in.JWKSURI) {
		return client, "", "", &auth.Error{Code: "invalid_client_metadata", Description: "jwks_uri must be https on a public host"}
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
	err = s.Registration.Check(client, in.GrantTypes)
	if err == nil {
		client, secret, err = s.Auth.AddClient(c.UserContext(), client)
	}
	return client, in.AuthMethod, secret, err
}
