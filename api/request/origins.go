package request

import (
	"net/netip"
	"strings"

	"ehi-server/api/address"

	"github.com/gofiber/fiber/v2"
)

// Flags are the settings of the proxies between clients and the server.
type Flags struct {
	// TrustedProxies are addresses or CIDR ranges. Their X-Forwarded-Proto, X-Forwarded-For and,
	// unless Origins.Fixed, X-Forwarded-Host are trusted.
	TrustedProxies []string `help:"Proxies to trust: addresses or networks (CIDR). The server uses their X-Forwarded-Proto, X-Forwarded-For and, without --base-url, X-Forwarded-Host headers." env:"EHI_TRUSTED_PROXIES" form:"network"`
}

// Origins says how clients reach the server, and through which proxies.
type Origins struct {
	Flags
	// BaseURL is the origin (and prefix) that clients see, without a trailing slash.
	BaseURL string
	// Fixed makes BaseURL the only origin, whatever the headers of a request say. It is set if
	// BaseURL was configured.
	Fixed bool
	// Aliases are further origins that may name this server in aud: localhost and 127.0.0.1 if
	// the listener is on loopback.
	Aliases []string
}

// Names of the session cookies without TLS.
const (
	StaffSession   = "sid"
	PatientSession = "ehi_patient"
)

// HostOnly is the prefix of cookies that browsers accept only over HTTPS and only from the host
// itself.
const HostOnly = "__Host-"

// Cookie returns the name of a cookie of sessions or of form tokens. Over HTTPS it has the
// prefix __Host-, so that neither a neighbouring host nor plain HTTP can plant one.
func (o Origins) Cookie(name string) string {
	if o.Secure() {
		return HostOnly + name
	}
	return name
}

// Secure reports whether browsers use HTTPS.
func (o Origins) Secure() bool { return strings.HasPrefix(o.BaseURL, "https://") }

// Base returns the base of every URL in a response, which is also the issuer and the beginning
// of audiences. It is BaseURL if that was configured; otherwise what a trusted proxy says that
// the client sees, or the address of the listener. The Host header alone is never trusted.
func (o Origins) Base(c *fiber.Ctx) string {
	if !o.Fixed && c.IsProxyTrusted() && len(o.TrustedProxies) > 0 &&
		c.Get(fiber.HeaderXForwardedHost) != "" {
		return c.BaseURL()
	}
	return o.BaseURL
}

// All returns every origin of this server: Base, then the aliases.
func (o Origins) All(c *fiber.Ctx) []string { return append([]string{o.Base(c)}, o.Aliases...) }

// Address returns where a request comes from: the peer of the connection or, behind trusted
// proxies, the last address in X-Forwarded-For that is not a trusted proxy. Entries before it
// are claims of the client.
func (o Origins) Address(c *fiber.Ctx) netip.Addr {
	peer, _ := netip.AddrFromSlice(c.Context().RemoteIP())
	return o.proxies().Client(peer, c.Request().Header.PeekAll(fiber.HeaderXForwardedFor))
}

// Trusts reports whether an address is a trusted proxy.
func (o Origins) Trusts(at netip.Addr) bool { return o.proxies().Contains(at) }

// proxies returns the trusted proxies. An invalid list has none; the command line does not
// accept one.
func (o Origins) proxies() address.Proxies {
	list, err := address.ParseProxies(o.TrustedProxies)
	if err != nil {
		return nil
	}
	return list
}
