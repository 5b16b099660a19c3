package server

import (
	"net/netip"
	"slices"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/ehi"
)

var errMonitors = ehi.Errorf(ehi.Forbidden,
	"Metrics are for the networks of --metrics-from alone, without a proxy")

// insideNetworks are those of this machine and its site (RFC 1918, 4193, 6890).
var insideNetworks = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

// monitor lets those read metrics who come from Flags.MetricsFrom themselves. On a quiet server
// the figures tell how much of an export was withheld. Whom a proxy forwards comes from
// anywhere.
func (s *Server) monitor(c *fiber.Ctx) error {
	if !s.isMonitor(c) {
		return errMonitors
	}
	return c.Next()
}

// proxiesHeaders are what proxies send beside a request. That there is one counts, whatever it
// says: the client may have sent an empty one before it.
var proxiesHeaders = []string{
	fiber.HeaderXForwardedFor, fiber.HeaderForwarded, "X-Real-Ip", fiber.HeaderXForwardedHost,
	fiber.HeaderVia,
}

func (s *Server) isMonitor(c *fiber.Ctx) bool {
	if len(s.MetricsFrom) == 0 {
		return true
	}
	forwarded := slices.ContainsFunc(proxiesHeaders, func(name string) bool {
		return len(c.Request().Header.PeekAll(name)) > 0
	})
	at, ok := netip.AddrFromSlice(c.Context().RemoteIP())
	return !forwarded && ok &&
		slices.ContainsFunc(s.MetricsFrom, func(p netip.Prefix) bool {
			return p.Contains(at.Unmap())
		})
}
