package server

import (
	"net/netip"
	"slices"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/ehi"
)

var errMonitors = ehi.Errorf(ehi.Forbidden, "Metrics are for the networks of --metrics-from alone, without a proxy")

// monitor lets those read metrics who come from Config.MetricsFrom themselves. On a quiet server the figures tell how much of an export
// was withheld. Whom a proxy forwards comes from anywhere.
func (s *Server) monitor(c *fiber.Ctx) error {
	if !s.isMonitor(c) {
		return errMonitors
	}
	return c.Next()
}

func (s *Server) isMonitor(c *fiber.Ctx) bool {
	if len(s.MetricsFrom) == 0 {
		return true
	}
	forwarded := c.Get(fiber.HeaderXForwardedFor) != "" || c.Get("Forwarded") != "" || c.Get("X-Real-Ip") != ""
	at, ok := netip.AddrFromSlice(c.Context().RemoteIP())
	return !forwarded && ok && slices.ContainsFunc(s.MetricsFrom, func(p netip.Prefix) bool { return p.Contains(at.Unmap()) })
}
