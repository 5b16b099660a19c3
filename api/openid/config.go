package openid

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"ehi-server/auth"
)

// Config is the configuration of the provider. Without an issuer there is none.
type Config struct {
	Issuer     string   `help:"Issuer URL of an OpenID provider where administrators can sign in, such as https://login.example.org. Default: none." env:"EHI_STAFF_OIDC_ISSUER" form:"url"`
	ClientID   string   `name:"client-id" help:"Client ID of this server at the OpenID provider." env:"EHI_STAFF_OIDC_CLIENT_ID" form:"text"`
	Secret     string   `name:"client-secret" secret:"" help:"Client secret of this server at the OpenID provider. Empty: a public client." env:"EHI_STAFF_OIDC_CLIENT_SECRET" form:"text"`
	SecretFile string   `name:"client-secret-file" help:"File with the client secret, instead of --staff-oidc-client-secret." env:"EHI_STAFF_OIDC_CLIENT_SECRET_FILE" form:"text"`
	Scopes     []string `help:"Scopes to request in addition to openid, if the claims need them." env:"EHI_STAFF_OIDC_SCOPES" form:"text"`
	NameClaim  string   `help:"Claim of the ID token that identifies an administrator. Its value must be unique to one person and never change." default:"sub" env:"EHI_STAFF_OIDC_NAME_CLAIM" form:"name"`
	RolesClaim string   `help:"Claim of the ID token that holds roles, as a string or a list of strings. Use a dot for a nested claim, such as realm_access.roles." default:"roles" env:"EHI_STAFF_OIDC_ROLES_CLAIM" form:"name"`
	Role       []string `help:"Value of the roles claim and the role that it grants (viewer, reviewer, admin), such as ehi-reviewers=reviewer. Repeat the flag, or separate pairs by semicolons. Users without a role are refused." placeholder:"VALUE=ROLE" sep:";" env:"EHI_STAFF_OIDC_ROLE" form:"text"`
}

// On reports whether a provider is configured.
func (c Config) On() bool { return c.Issuer != "" }

// Problems lists the errors in the configuration.
func (c Config) Problems() (out []string) {
	if !c.On() {
		if c.ClientID != "" || len(c.Role) > 0 {
			out = append(out, "--staff-oidc-issuer is missing: other --staff-oidc flags require it")
		}
		return out
	}
	issuer, err := url.Parse(c.Issuer)
	if err != nil || issuer.Host == "" || issuer.RawQuery != "" || issuer.Fragment != "" ||
		!secured(issuer) {
		out = append(out, "--staff-oidc-issuer must be an https URL")
	}
	if c.ClientID == "" {
		out = append(out, "--staff-oidc-client-id is missing")
	}
	if c.NameClaim == "" || c.RolesClaim == "" {
		out = append(out, "--staff-oidc-name-claim and --staff-oidc-roles-claim must not be empty")
	}
	if _, err := c.secret(); err != nil {
		out = append(out, err.Error())
	}
	if roles, err := c.roles(); err != nil {
		out = append(out, err.Error())
	} else if len(roles) == 0 {
		out = append(out, "--staff-oidc-role is missing: nobody would have a role")
	}
	return out
}

// secured reports whether the connection to u cannot be read or changed on the way.
func secured(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && loopback
}

// secret returns the client's secret; "" for none.
func (c Config) secret() (string, error) {
	if c.SecretFile == "" {
		return c.Secret, nil
	}
	if c.Secret != "" {
		return "",
			fmt.Errorf(
				"--staff-oidc-client-secret and --staff-oidc-client-secret-file cannot be used " +
					"together")
	}
	data, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return "", fmt.Errorf("--staff-oidc-client-secret-file: %w", err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

// roles returns the role of each value of the claim. A value may contain equals signs.
func (c Config) roles() (map[string]auth.Role, error) {
	out := map[string]auth.Role{}
	for _, each := range c.Role {
		at := strings.LastIndex(each, "=")
		if at <= 0 || !slices.Contains(auth.Roles(), auth.Role(each[at+1:])) {
			return nil,
				fmt.Errorf("--staff-oidc-role %q must be VALUE=ROLE, with the role %s, %s or %s",
					each, auth.Viewer, auth.Reviewer, auth.Admin)
		}
		if was, ok := out[each[:at]]; ok && was != auth.Role(each[at+1:]) {
			return nil, fmt.Errorf("--staff-oidc-role maps %q to two roles", each[:at])
		}
		out[each[:at]] = auth.Role(each[at+1:])
	}
	return out, nil
}
