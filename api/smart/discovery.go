package smart

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/request"
	"ehi-server/auth"
)

// Keys are the public keys that verify this server's tokens (auth.Server).
type Keys interface {
	// JWKS returns them as a JWK set.
	JWKS(ctx context.Context) ([]byte, error)
}

// Discovery tells clients what the server supports, and with which keys it signs tokens.
type Discovery struct {
	Origins request.Origins
	Keys    Keys
	// Registers is whether clients can register themselves (RFC 7591).
	Registers bool
}

// Routes registers what stands at the root of the server.
func (h *Discovery) Routes(r Router) {
	r.On("GET", "/.well-known/openid-configuration", h.handleDiscovery)
	r.On("GET", "/.well-known/oauth-authorization-server", h.handleDiscovery)
	r.On("GET", "/auth/jwks", h.handleJWKS)
}

// BaseRoutes registers what stands below one variant of the FHIR base (EHI-1).
func (h *Discovery) BaseRoutes(r Router, base string) {
	r.On("GET", base+"/.well-known/smart-configuration", h.handleDiscovery)
}

// secretMethods are how clients with a credential authenticate.
var secretMethods = []string{"client_secret_basic", "client_secret_post", "private_key_jwt"}

// allMethods adds public clients, which only send their ID.
var allMethods = append([]string{"none"}, secretMethods...)

// capabilities are those of SMART App Launch 2.2, "Capability Sets".
var capabilities = []string{
	"launch-standalone",
	"authorize-post",
	"client-public",
	"client-confidential-symmetric",
	"client-confidential-asymmetric",
	"context-standalone-patient",
	"context-banner",
	"permission-patient",
	"permission-offline",
	"permission-online",
	"permission-v1",
	"permission-v2",
	"sso-openid-connect",
}

// handleDiscovery serves the discovery document of SMART App Launch, OpenID Connect and RFC 8414
// (SMART-1, REAL-9). It lists only what works.
func (h *Discovery) handleDiscovery(c *fiber.Ctx) error {
	origin := h.Origins.Base(c)
	document := fiber.Map{
		"issuer":                 origin,
		"jwks_uri":               origin + "/auth/jwks",
		"authorization_endpoint": origin + "/auth/authorize",
		"token_endpoint":         origin + "/auth/token",
		"revocation_endpoint":    origin + "/auth/revoke",
		"introspection_endpoint": origin + "/auth/introspect",
		"service_documentation":  origin + "/openapi.json",

		"token_endpoint_auth_methods_supported":         allMethods,
		"revocation_endpoint_auth_methods_supported":    allMethods,
		"introspection_endpoint_auth_methods_supported": secretMethods,

		"token_endpoint_auth_signing_alg_values_supported": auth.AssertionAlgorithms(),
		"id_token_signing_alg_values_supported":            []string{auth.IDAlgorithm},

		"grant_types_supported":            auth.RegistrableGrants(),
		"response_types_supported":         []string{"code"},
		"code_challenge_methods_supported": []string{"S256"},
		"scopes_supported":                 auth.ScopesSupported(),
		"subject_types_supported":          []string{"public"},
		"claims_supported": []string{
			"iss", "aud", "sub", "iat", "exp", "nonce", "fhirUser",
		},
		"capabilities": capabilities,

		"authorization_response_iss_parameter_supported": true,
		"request_parameter_supported":                    false,
		"request_uri_parameter_supported":                false,
	}
	if h.Registers {
		document["registration_endpoint"] = origin + "/auth/register"
	}
	c.Set(fiber.HeaderCacheControl, "public, max-age=3600")
	return c.JSON(document)
}

func (h *Discovery) handleJWKS(c *fiber.Ctx) error {
	set, err := h.Keys.JWKS(c.UserContext())
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, "public, max-age=300") // a key may be rotated
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(set)
}
