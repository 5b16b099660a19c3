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
	Issuer     string   `help:"Issuer of the OpenID provider by which administrators may sign in, such as https://login.example.org. Default: none." env:"EHI_STAFF_OIDC_ISSUER" form:"url"`
	ClientID   string   `name:"client-id" help:"Id of this server at that provider." env:"EHI_STAFF_OIDC_CLIENT_ID" form:"text"`
	Secret     string   `name:"client-secret" secret:"" help:"Secret of this server at that provider; none: it is a public client there." env:"EHI_STAFF_OIDC_CLIENT_SECRET" form:"text"`
	SecretFile string   `name:"client-secret-file" help:"File with that secret instead." env:"EHI_STAFF_OIDC_CLIENT_SECRET_FILE" form:"text"`
	Scopes     []string `help:"Scopes to ask for beside openid, where the claims need them." env:"EHI_STAFF_OIDC_SCOPES" form:"text"`
	NameClaim  string   `help:"Claim of the id token that an administrator is named after: of a value that never changes and is one person's alone." default:"sub" env:"EHI_STAFF_OIDC_NAME_CLAIM" form:"name"`
	RolesClaim string   `help:"Claim of the id token that gives roles, a text or a list of texts; a claim within another is named with a dot, such as realm_access.roles." default:"roles" env:"EHI_STAFF_OIDC_ROLES_CLAIM" form:"name"`
	Role       []string `help:"What of that claim gives which role (viewer, reviewer, admin), such as ehi-reviewers=reviewer; repeat for more, or write semicolons between them. Who has none is refused." placeholder:"VALUE=ROLE" sep:";" env:"EHI_STAFF_OIDC_ROLE" form:"text"`
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
