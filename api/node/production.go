package node

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"ehi-server/api/session"
	"ehi-server/auth"
)

// sandbox reports whether the server runs for tests.
func (c Config) sandbox() bool { return c.Mode != production }

const production = "production"

// minSecret is the shortest secret of the configuration that production mode takes, in bytes.
const minSecret = 20

// Unfit lists what of the configuration keeps a server from starting that it could serve with,
// see Wrong: in production mode whatever is not fit for patients' records; in sandbox mode an
// address that others reach, unless they are meant to. What is stored is not looked at.
func (c Config) Unfit() (out []string) {
	if c.sandbox() {
		return slices.Concat(c.onNetwork(), c.idleLimits(), c.StaffOIDC.Problems())
	}
	say := func(wrong bool, text string, args ...any) {
		if wrong {
			out = append(out, fmt.Sprintf(text, args...))
		}
	}
	base, err := url.Parse(c.BaseURL)
	say(err != nil || base.Scheme != "https" || base.Host == "",
		"--base-url must be the https origin that clients see")
	say(c.TLS.Cert == "" && len(c.Proxies.TrustedProxies) == 0,
		"nothing secures connections: give --tls-cert and --tls-key, or --trusted-proxies where "+
			"a proxy ends TLS")
	say(c.Admin.Password == defaultAdminPassword,
		"--admin-password is the default: set another, or an empty one and administrators' "+
			"accounts (account add)")
	if c.Admin.Password != "" && c.Admin.Password != defaultAdminPassword {
		err := auth.CheckPassword(c.Admin.Password, c.Admin.User)
		say(err != nil, "--admin-password: %v", err)
	}
	say(c.Tokens.Open, "--open answers everybody")
	say(c.Patients.Login == session.Picker, "--patient-login picker lets everybody be any patient")
	say(c.Registration.Token != "" && len(c.Registration.Token) < minSecret,
		"--registration-token is shorter than %d bytes", minSecret)
	say(strings.HasPrefix(c.Source.Spec, "synthetic"), "--source %s makes records up",
		c.Source.Spec)
	say(c.Bus.Listen != "" && c.Bus.Access.Password != "" && len(c.Bus.Access.Password) < minSecret,
		"--nats-password is shorter than %d bytes", minSecret)
	say(c.Bus.Listen != "" && c.Bus.Access.Password == "",
		"--nats-listen lets everybody on this machine read and change jobs and keys: give "+
			"--nats-password")
	say(c.Bus.Listen != "" && !onLoopback(c.Bus.Listen),
		"--nats-listen %s carries jobs and keys over the network in the clear: let exporters "+
			"join an external NATS with TLS (--nats)", c.Bus.Listen)
	say(c.Bus.URL != "" && !known(c),
		"--nats without credentials: give --nats-creds, --nats-password or credentials in the URL")
	return slices.Concat(out, c.idleLimits(), c.StaffOIDC.Problems())
}

// idleLimits says which limits are set and would limit nothing: what is counted in a window that
// ends as soon as it begins is never counted together.
func (c Config) idleLimits() (out []string) {
	q, f := c.Quotas.Resolved(c.sandbox()), c.Abuse.Resolved(c.sandbox())
	counted := max(q.ClientKickOffs, q.PatientKickOffs, q.ClientExports, q.PatientExports)
	failures := max(f.PerAddress, f.PerClient)
	for _, w := range []struct {
		flag   string
		is     time.Duration
		limits int
	}{
		{"--quota-window", c.Quotas.Window, counted},
		{"--failure-window", c.Abuse.Window, failures},
	} {
		if w.limits > 0 && w.is < shortestWindow {
			out = append(out,
				fmt.Sprintf("%s %v limits nothing: give %v or more, or 0 as the limits themselves",
					w.flag, w.is, shortestWindow))
		}
	}
	return out
}

// shortestWindow is the shortest in which something is counted: records in NATS expire by the
// second.
const shortestWindow = time.Second

// onNetwork says that a sandbox, where everybody may be any patient or administrator, would be
// open to other machines.
func (c Config) onNetwork() []string {
	if c.SandboxOnNetwork {
		return nil
	}
	const opens = "%s opens the sandbox to other machines, where everybody may be any patient: " +
		"give --mode production, or --sandbox-on-network if that is what you want"
	if !onLoopback(c.Addr) {
		return []string{fmt.Sprintf(opens, "--addr "+c.Addr)}
	}
	base, err := url.Parse(c.BaseURL)
	if c.BaseURL != "" && (err != nil || !onLoopback(net.JoinHostPort(base.Hostname(), "0"))) {
		return []string{fmt.Sprintf(opens, "--base-url "+c.BaseURL)}
	}
	return nil
}

// defaultAdminPassword is the one of the sandbox, which everybody knows.
const defaultAdminPassword = "admin-password"

// onLoopback reports whether only this machine reaches an address.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// known reports whether the process shows itself to an external NATS.
func known(c Config) bool {
	u, err := url.Parse(c.Bus.URL)
	return c.Bus.Access.Password != "" || c.Bus.Access.Creds != "" || err == nil && u.User != nil
}

// lacking lists what the stored state lacks for production mode, or has and should not.
func (c Config) lacking(s *auth.Server) (out []string) {
	if c.sandbox() {
		return nil
	}
	if c.Admin.Password == "" || c.Admin.Password == defaultAdminPassword {
		admin := false
		for _, a := range s.Administrators() {
			admin = admin || a.Role == auth.Admin
		}
		if !admin {
			out = append(out,
				"there is no administrator: account add --role admin NAME, or --admin-password")
		}
	}
	if s.Known(auth.SandboxClientID) {
		out = append(out,
			"the client "+auth.SandboxClientID+" of the sandbox is registered: client remove "+
				auth.SandboxClientID)
	}
	return out
}

// reserved is the name that no administrator's account may have: the configuration's
// administrator signs in under it, where he has a password.
func (c Config) reserved() string {
	if c.Admin.Password == "" {
		return ""
	}
	return c.Admin.User
}

// ambiguous says which accounts of administrators have the name of the configuration's:
// approvals and the audit trail would read the same of both.
func (c Config) ambiguous(s *auth.Server) (out []string) {
	for _, name := range s.AccountsNamedLikeConfigured() {
		out = append(out,
			fmt.Sprintf("the account %s is called as the administrator of --admin-user, or "+
				"nearly so: choose another --admin-user, "+
				"an empty --admin-password, or account remove %s", name, name))
	}
	return out
}

// refuse makes an error of all reasons at once, nil where there is none.
func (c Config) refuse(reasons []string) error {
	if len(reasons) == 0 {
		return nil
	}
	return &UnfitError{c.mode(), reasons}
}

// mode is --mode by its name.
func (c Config) mode() string {
	if c.sandbox() {
		return "sandbox"
	}
	return production
}

// UnfitError says why a server does not start in its mode: everything at once.
type UnfitError struct {
	Mode    string
	Reasons []string
}

func (u *UnfitError) Error() string {
	return "not fit for " + u.Mode + " mode:\n  - " + strings.Join(u.Reasons, "\n  - ")
}
