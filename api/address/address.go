// Package address finds the network address that a request comes from.
//
// Behind reverse proxies, the peer of a connection is a proxy. The client's address is then in
// X-Forwarded-For, where clients can write anything too. Proxies separates trusted entries from
// others. Network returns the network of one customer.
//
// The package knows only addresses, not HTTP servers. Package listener limits connections by
// address, package abuse counts failures by address, and the audit trail contains addresses.
package address

import (
	"fmt"
	"net/netip"
	"strings"
)

// Network returns the network of one customer: an IPv4 address itself, or the first 64 bits of
// an IPv6 address. It returns "" for an invalid address.
func Network(of netip.Addr) string {
	if !of.IsValid() {
		return ""
	}
	of = of.Unmap()
	if of.Is4() {
		return of.String()
	}
	p, err := of.WithZone("").Prefix(64)
	if err != nil { // an IPv6 address has 128 bits: cannot fail
		return of.String()
	}
	return p.String()
}

// Proxies are the trusted reverse proxies. The zero value trusts none.
type Proxies []netip.Prefix

// ParseProxies parses addresses (192.0.2.1) and ranges (10.0.0.0/8). It returns an error for any
// other text.
func ParseProxies(list []string) (Proxies, error) {
	var out Proxies
	for _, text := range list {
		p, err := parsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("trusted proxy: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

// parsePrefix parses an address or a range. It treats IPv4 in IPv6 notation as IPv4.
func parsePrefix(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), err
	}
	p, err := netip.ParsePrefix(text)
	if err == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, err
}

// Contains reports whether an address belongs to a trusted proxy.
func (p Proxies) Contains(at netip.Addr) bool {
	at = at.Unmap()
	for _, proxy := range p {
		if proxy.Contains(at) {
			return true
		}
	}
	return false
}

// Client returns where a request comes from: peer (the other end of the connection), or, if that
// is a trusted proxy, the last address in forwarded that is not a trusted proxy. Entries before
// it are claims of the client. If the list ends, or an entry is not an address, Client returns
// the last known proxy.
//
// forwarded has the lines of X-Forwarded-For. A proxy may append to the client's line or add a
// line of its own (as HAProxy does); all lines form one list (RFC 9110 5.3).
func (p Proxies) Client(peer netip.Addr, forwarded [][]byte) netip.Addr {
	peer = peer.Unmap()
	if !p.Contains(peer) {
		return peer
	}
	for line := len(forwarded) - 1; line >= 0; line-- {
		hops := strings.Split(string(forwarded[line]), ",")
		for i := len(hops) - 1; i >= 0; i-- {
			at, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
			if err != nil {
				return peer
			}
			if peer = at.Unmap(); !p.Contains(peer) {
				return peer
			}
		}
	}
	return peer
}
