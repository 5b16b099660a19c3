// Package address tells which network address a request comes from.
//
// Behind reverse proxies the other end of a connection is a proxy; the client's address then stands
// in X-Forwarded-For, where clients write what they like as well. Proxies tells them apart. Network
// says which addresses belong to one customer.
//
// The package knows addresses only, and nothing of HTTP servers: package listener limits
// connections by it, package abuse counts failures by it, and the audit trail names what it finds.
package address

import (
	"fmt"
	"net/netip"
	"strings"
)

// Network names the network of one customer: an IPv4 address itself, and of an IPv6 address the
// first 64 bits. Invalid addresses are "".
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

// Proxies are the reverse proxies that are believed. The zero value believes none.
type Proxies []netip.Prefix

// ParseProxies reads addresses (192.0.2.1) and ranges (10.0.0.0/8). Errors: any other text.
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

// parsePrefix reads an address or a range; one of IPv4 that is written as IPv6 is one of IPv4.
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

// Contains reports whether an address is a trusted proxy's.
func (p Proxies) Contains(at netip.Addr) bool {
	at = at.Unmap()
	for _, proxy := range p {
		if proxy.Contains(at) {
			return true
		}
	}
	return false
}

// Client is where a request comes from: peer, the other end of its connection, or, if that is a
// trusted proxy, the last address in forwarded that is none. What stands before it is the client's
// own word. If the list ends, or names no address where one is due, it is the last proxy that is
// known.
//
// forwarded are the lines of X-Forwarded-For. A proxy may add its word to the line that the client
// sent, or send it after that as a line of its own (as HAProxy does): all are one list (RFC 9110
// 5.3).
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
