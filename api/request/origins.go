package request

import (
	"net/netip"
	"strings"

	"ehi-server/api/address"

	"github.com/gofiber/fiber/v2"
)

// Origins is how clients reach the server, and by which proxies. It is told once, at start.
type Origins struct {
	// BaseURL is the origin (and prefix) that clients see, without a final slash.
	BaseURL string
	// Fixed makes BaseURL the only origin, whatever a request's headers say: it was configured.
	Fixed bool
	// Aliases are further origins that name this server in aud: localhost and 127.0.0.1 where the
	// listener is on loopback.
	Aliases []string
	// TrustedProxies are addresses or CIDR ranges whose X-Forwarded-Proto, X-Forwarded-For and, unless
	// Fixed, X-Forwarded-Host are believed.
	TrustedProxies []string
}

// The cookies of sessions, as they are called without TLS.
const (
	StaffSession   = "sid"
	PatientSession = "ehi_patient"
)

// HostOnly begins the names of cookies that browsers take by HTTPS from their very host alone.
const HostOnly = "__Host-"

// Cookie is what a cookie of sessions or of pages' tokens is called. Over HTTPS browsers take __Host-
// cookies from this very host by HTTPS only: none is planted by a neighbouring host or over plain HTTP.
func (o Origins) Cookie(name string) string {
	if o.Secure() {
		return HostOnly + name
	}
	return name
}

// Secure reports whether browsers come by HTTPS.
func (o Origins) Secure() bool { return strings.HasPrefix(o.BaseURL, "https://") }

// Base is the base of every URL in an answer, the issuer and what audiences begin with: BaseURL where
// it was configured. Elsewhere it is what a trusted proxy says that the client sees, or the listener's
// address. The Host header alone is never believed.
func (o Origins) Base(c *fiber.Ctx) string {
	if !o.Fixed && c.IsProxyTrusted() && len(o.TrustedProxies) > 0 && c.Get(fiber.HeaderXForwardedHost) != "" {
		return c.BaseURL()
	}
	return o.BaseURL
}

// All is every origin that names this server: Base, then the aliases.
func (o Origins) All(c *fiber.Ctx) []string { return append([]string{o.Base(c)}, o.Aliases...) }

// Address is where a request comes from: the connection's other end or, behind trusted proxies, the
// last address in X-Forwarded-For that is none of them. What stands before it there is the client's
// own word.
func (o Origins) Address(c *fiber.Ctx) netip.Addr {
	peer, _ := netip.AddrFromSlice(c.Context().RemoteIP())
	return o.proxies().Client(peer, c.Request().Header.PeekAll(fiber.HeaderXForwardedFor))
}

// Trusts reports whether an address is that of a trusted proxy.
func (o Origins) Trusts(at netip.Addr) bool { return o.proxies().Contains(at) }

// proxies are the trusted proxies; none of a list that cannot be read, which no command line lets pass.
func (o Origins) proxies() address.Proxies {
	list, err := address.ParseProxies(o.TrustedProxies)
	if err != nil {
		return nil
	}
	return list
}
