package auth

import (
	"net/url"
	"slices"
	"strings"

	"ehi-server/shared/ehi"
)

// RegistrationLimits are what who holds the initial access token of dynamic registration (RFC
// 7591) may register. The zero value allows patients' applications of any host, and no backend
// service.
type RegistrationLimits struct {
	// Scopes is what may be registered at most; none stands for DefaultRegistrationScopes.
	Scopes []string
	// GrantTypes are those that a client may use; none stands for DefaultRegistrationGrants.
	GrantTypes []string
	// Hosts are those that https redirect URIs may name: app.example.org, or .example.org for
	// all below it. None stands for any host.
	Hosts []string
}

// DefaultRegistrationScopes are those of a patient's application; never one of system/.
var DefaultRegistrationScopes = []string{
	"launch/patient", "openid", "fhirUser", "online_access", "offline_access",
	"patient/$ehi-export",
	"patient/*.rs",
}

// DefaultRegistrationGrants are those of a patient's application.
var DefaultRegistrationGrants = []string{"authorization_code", "refresh_token"}

// RegistrableGrants are all grant types that a client can register.
func RegistrableGrants() []string {
	return append(DefaultRegistrationGrants[:2:2], "client_credentials")
}

// Check holds a registration to the limits. asked are the grant types that it names, which may
// be none. Errors: ehi.Invalid, with what the token does not allow.
func (l RegistrationLimits) Check(c Client, asked []string) error {
	scopes, grants := l.Scopes, l.GrantTypes
	if len(scopes) == 0 {
		scopes = DefaultRegistrationScopes
	}
	if len(grants) == 0 {
		grants = DefaultRegistrationGrants
	}
	patient, system, err := splitScopes(c.Scope)
	if err != nil {
		return err
	}
	if allowed := parse(strings.Join(scopes, " ")); !allowed.Contains(patient.Union(system)) {
		return ehi.Errorf(ehi.Invalid, "The initial access token allows the scopes %s alone",
			allowed)
	}
	for _, grant := range slices.Concat(asked, c.GrantTypes()) {
		if !slices.Contains(grants, grant) {
			return ehi.Errorf(ehi.Invalid,
				"The initial access token does not allow the grant type %q", grant)
		}
	}
	for _, uri := range c.RedirectURIs {
		if !l.allowsHost(uri) {
			return ehi.Errorf(ehi.Invalid,
				"The initial access token does not allow the host of redirect_uri %q", uri)
		}
	}
	return nil
}

// allowsHost is about https alone: a loopback address or a private-use scheme stays on the
// patient's device, and names no host.
func (l RegistrationLimits) allowsHost(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil {
		return false
	}
	if len(l.Hosts) == 0 || u.Scheme != "https" {
		return true
	}
	host := strings.ToLower(u.Hostname())
	return slices.ContainsFunc(l.Hosts, func(allowed string) bool {
		allowed = strings.ToLower(allowed)
		return host == allowed ||
			strings.HasPrefix(allowed, ".") && strings.HasSuffix(host, allowed)
	})
}

// GrantTypes are what a client can use by its registration.
func (c Client) GrantTypes() []string {
	patient, system := ParseScopes(c.Scope), ParseSystemScopes(c.Scope)
	grants := []string{}
	if len(c.RedirectURIs) > 0 {
		grants = append(grants, "authorization_code")
		if patient.Refreshable() {
			grants = append(grants, "refresh_token")
		}
	}
	if !system.Empty() {
		grants = append(grants, "client_credentials")
	}
	return grants
}
