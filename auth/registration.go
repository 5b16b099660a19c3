package auth

import (
	"net/url"
	"slices"
	"strings"

	"ehi-server/shared/ehi"
)

// RegistrationLimits limits what holders of the initial access token of dynamic registration
// (RFC 7591) may register. The zero value allows patients' applications on any host, and no
// backend services.
type RegistrationLimits struct {
	// Scopes are the scopes that may be registered; empty means DefaultRegistrationScopes.
	Scopes []string `name:"registration-scopes" help:"Scopes that clients may register with the registration token. Default: the scopes of a patient's application, and no system/ scopes." env:"EHI_REGISTRATION_SCOPES" form:"text"`
	// GrantTypes are the allowed grant types; empty means DefaultRegistrationGrants.
	GrantTypes []string `name:"registration-grants" help:"Grant types that clients may register with the registration token: authorization_code, refresh_token, client_credentials. Default: the first two." env:"EHI_REGISTRATION_GRANTS" form:"grant"`
	// Hosts are the hosts that https redirect URIs may have: app.example.org, or .example.org
	// for all of its subdomains. Empty allows any host.
	Hosts []string `name:"registration-hosts" help:"Hosts allowed in the https redirect URIs of clients that register with the registration token: app.example.org, or .example.org for all its subdomains. Default: any host." env:"EHI_REGISTRATION_HOSTS" form:"host"`
}

// RegistrationFlags are the settings of dynamic client registration.
type RegistrationFlags struct {
	// Token is the initial access token; "" turns registration off.
	Token string `name:"registration-token" secret:"" help:"Initial access token for dynamic client registration (RFC 7591), at least 20 bytes. Empty: registration is off." env:"EHI_REGISTRATION_TOKEN" form:"text"`
	RegistrationLimits
}

// DefaultRegistrationScopes are the scopes of a patient's application. They never include
// system/ scopes.
var DefaultRegistrationScopes = []string{
	"launch/patient", "openid", "fhirUser", "online_access", "offline_access",
	"patient/$ehi-export",
	"patient/*.rs",
}

// DefaultRegistrationGrants are the grant types of a patient's application.
var DefaultRegistrationGrants = []string{"authorization_code", "refresh_token"}

// RegistrableGrants lists all grant types that a client can register.
func RegistrableGrants() []string {
	return append(DefaultRegistrationGrants[:2:2], "client_credentials")
}

// Check checks a registration against the limits. asked holds the grant types that it names,
// possibly none. Errors: ehi.Invalid with what the token does not allow.
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

// allowsHost applies to https URIs only: a loopback address or a private-use scheme stays on the
// patient's device.
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

// GrantTypes returns the grant types that the client's registration allows.
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
