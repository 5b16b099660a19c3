package session

import (
	"context"
	"errors"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
)

// TokenFlags say which requests need an access token.
type TokenFlags struct {
	// Open treats requests without a token as requests of a backend service with all rights.
	Open bool `help:"Accept requests without a token, with the rights of a backend service that may do everything. For tests on an isolated machine; not allowed in production mode." env:"EHI_OPEN"`
}

// Tokens decides whether an access token is valid and whether its authorization still holds.
type Tokens struct {
	TokenFlags
	// Auth issues and verifies tokens.
	Auth *auth.Server
	// Sandbox reports whether the sandbox's client exists.
	Sandbox bool
}

var _ jobs.Authority = Tokens{}

// everybody is the access of requests without a token if the server is open to all (--open).
var everybody = &auth.Access{
	ClientID: "open",
	Scopes:   auth.ParseSystemScopes("system/$ehi-export system/*.rs"),
}

// Bearer is middleware that allows requests whose access token has sufficient scopes (SMART-9).
// needs names the required scopes in the error.
func (t Tokens) Bearer(needs string, allow func(auth.Scopes) bool) fiber.Handler {
	return func(c *fiber.Ctx) error {
		a, err := t.Authenticate(c)
		if err != nil {
			return err
		}
		if !allow(a.Scopes) {
			return Insufficient(c, "This requires the scope "+needs)
		}
		return c.Next()
	}
}

// JobBearer is middleware for requests about a job. It allows tokens that could have kicked off
// a job; the handlers decide what of the job the token opens.
func (t Tokens) JobBearer(c *fiber.Ctx) error {
	return t.Bearer(
		"patient/$ehi-export, system/$ehi-export or system/*.rs",
		func(have auth.Scopes) bool {
			types, all := have.Types(auth.SystemContext, auth.Export)
			return all || len(types) > 0 || have.Contains(auth.PatientExport) ||
				have.Contains(auth.SystemExport)
		},
	)(
		c,
	)
}

// Insufficient refuses a token with insufficient scopes (RFC 6750 3.1).
func Insufficient(c *fiber.Ctx, why string) error {
	c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="ehi", error="insufficient_scope"`)
	return ehi.Errorf(ehi.Forbidden, "%s", why)
}

// Authenticate reads the Authorization header (RFC 6750 2.1) and stores the token's access in
// the request.
func (t Tokens) Authenticate(c *fiber.Ctx) (*auth.Access, error) {
	request.NoStore(c)
	header := c.Get(fiber.HeaderAuthorization)
	if header == "" && t.Open {
		request.SetAccess(c, everybody)
		return everybody, nil
	}
	if header == "" {
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="ehi"`)
		return nil, ehi.Errorf(
			ehi.Unauthenticated,
			"Unauthorized! No authorization header provided in request",
		)
	}
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = ""
	}
	a, err := t.Auth.Verify(c.UserContext(), strings.TrimSpace(token))
	if err != nil && !errors.Is(err, auth.ErrToken) {
		return nil, err
	}
	if err != nil {
		c.Set(fiber.HeaderWWWAuthenticate,
			`Bearer realm="ehi", error="invalid_token", error_description="Invalid token"`)
		return nil, ehi.Errorf(ehi.Unauthenticated, "Invalid token")
	}
	request.SetAccess(c, a)
	return a, nil
}

// StillValid implements jobs.Authority.
func (t Tokens) StillValid(ctx context.Context, a jobs.Authorization) (bool, error) {
	if a.Client == everybody.ClientID {
		return t.Open, nil
	}
	return t.Auth.StillValid(ctx, a.Client, a.Grant, auth.Origin{Begun: a.Begun, Made: a.ClientMade})
}

// StillValidFromMemory implements jobs.Authority.
func (t Tokens) StillValidFromMemory(a jobs.Authorization) (valid, known bool) {
	if a.Client == everybody.ClientID {
		return t.Open, true
	}
	return t.Auth.StillValidFromMemory(a.Client, a.Grant,
		auth.Origin{Begun: a.Begun, Made: a.ClientMade})
}

// Withdrawals implements jobs.Authority.
func (t Tokens) Withdrawals() func(client, patient string) bool {
	withdrawn := t.Auth.Withdrawals()
	return func(client, patient string) bool {
		return withdrawn[auth.Withdrawal{Client: client, Patient: patient}]
	}
}

// Dormant implements jobs.Authority.
func (t Tokens) Dormant(client string) bool {
	return client == everybody.ClientID || client == auth.SandboxClientID && !t.Sandbox
}

// MaySkip implements jobs.Authority.
func (t Tokens) MaySkip(client string) (form, review bool) { return t.Auth.MaySkip(client) }

// Packaging implements jobs.Authority.
func (t Tokens) Packaging(client string) ehi.Packaging { return t.Auth.Packaging(client) }
