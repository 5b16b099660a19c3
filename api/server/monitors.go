package server

import (
	"net/netip"
	"slices"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/ehi"
)

var errMonitors = ehi.Errorf(ehi.Forbidden,
	"Metrics are for the networks of --metrics-from alone, without a proxy")

// monitor is middleware that lets clients read metrics from the networks of Config.MetricsFrom.
// On a quiet server, the metrics tell how much of an export was withheld. A client that a proxy
// forwards may be anywhere, and is refused.
func (s *Server) monitor(c *fiber.Ctx) error {
	if !s.isMonitor(c) {
		return errMonitors
	}
	return c.Next()
}

// proxiesHeaders are headers that proxies add to a request. A request with any of them was
// forwarded, whatever the value: the client may have sent an empty one first.
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
