package request

import (
	"net/netip"
	"strings"

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
func (o Origins) Address(c *fiber.Ctx) string {
	peer := c.Context().RemoteIP().String()
	if len(o.TrustedProxies) == 0 || !c.IsProxyTrusted() {
		return peer
	}
	hops := forwardedFor(c)
	for i := len(hops) - 1; i >= 0; i-- {
		at, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		peer = at.Unmap().String()
		if !o.Trusts(at.Unmap()) {
			break
		}
	}
	return peer
}

// forwardedFor is all of X-Forwarded-For. A proxy may add its word to what the client sent, or send it
// behind that as a header of its own (as HAProxy does): both are one list (RFC 9110 5.3).
func forwardedFor(c *fiber.Ctx) (hops []string) {
	for _, line := range c.Request().Header.PeekAll(fiber.HeaderXForwardedFor) {
		hops = append(hops, strings.Split(string(line), ",")...)
	}
	return hops
}

// Trusts reports whether an address is that of a trusted proxy.
func (o Origins) Trusts(at netip.Addr) bool {
	for _, p := range o.TrustedProxies {
		if a, err := netip.ParseAddr(p); err == nil && a.Unmap() == at {
			return true
		}
		if r, err := netip.ParsePrefix(p); err == nil && r.Contains(at) {
			return true
		}
	}
	return false
}

// Network is what of an address counts as one customer: all of an IPv4 address, the first 64 bits of
// an IPv6 address.
func Network(address string) string {
	at, err := netip.ParseAddr(address)
	if err != nil || at.Is4() {
		return address
	}
	p, err := at.WithZone("").Prefix(64)
	if err != nil {
		return address
	}
	return p.String()
}
