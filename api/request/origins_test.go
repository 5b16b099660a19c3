package request

import (
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// The address behind proxies is the last one that a trusted proxy names and that is none itself: what
// a client writes before it does not count.
func TestTheAddressBehindProxies(t *testing.T) {
	for _, c := range []struct {
		trusted         []string
		forwarded, want string
	}{
		{nil, "192.0.2.1", "0.0.0.0"},
		{[]string{"192.0.2.99"}, "192.0.2.1", "0.0.0.0"},
		{[]string{"0.0.0.0"}, "", "0.0.0.0"},
		{[]string{"0.0.0.0"}, "192.0.2.1", "192.0.2.1"},
		{[]string{"0.0.0.0"}, "10.9.9.9, 192.0.2.1", "192.0.2.1"},
		{[]string{"0.0.0.0", "10.0.0.0/8"}, "6.6.6.6, 192.0.2.1, 10.0.0.7", "192.0.2.1"},
		{[]string{"0.0.0.0", "10.0.0.0/8"}, "nonsense, 10.0.0.7", "10.0.0.7"},
		{[]string{"0.0.0.0"}, "::ffff:192.0.2.1", "192.0.2.1"},
		{[]string{"0.0.0.0"}, "2001:db8::1", "2001:db8::1"},
	} {
		app := fiber.New(fiber.Config{EnableTrustedProxyCheck: true, TrustedProxies: c.trusted})
		ctx := app.AcquireCtx(&fasthttp.RequestCtx{})
		ctx.Request().Header.Set(fiber.HeaderXForwardedFor, c.forwarded)
		origins := Origins{TrustedProxies: c.trusted}
		if got := origins.Address(ctx); got != c.want {
			t.Errorf("%v trusted, %q: %s, want %s", c.trusted, c.forwarded, got, c.want)
		}
		app.ReleaseCtx(ctx)
	}
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "x": "x",
	} {
		if got := Network(address); got != want {
			t.Errorf("%s is of %s, want %s", address, got, want)
		}
	}
}

// A proxy that sends its word as a second header, behind what the client sent, is believed as one that adds it.
func TestTheAddressBehindProxiesThatSendTheirOwnHeader(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{[]string{"6.6.6.6", "192.0.2.1"}, "192.0.2.1"},
		{[]string{"", "192.0.2.1"}, "192.0.2.1"},
		{[]string{"6.6.6.6, 7.7.7.7", "192.0.2.1", "10.0.0.7"}, "192.0.2.1"},
		{[]string{"192.0.2.1", "nonsense"}, "0.0.0.0"},
	} {
		trusted := []string{"0.0.0.0", "10.0.0.0/8"}
		app := fiber.New(fiber.Config{EnableTrustedProxyCheck: true, TrustedProxies: trusted})
		ctx := app.AcquireCtx(&fasthttp.RequestCtx{})
		for _, line := range c.lines {
			ctx.Request().Header.Add(fiber.HeaderXForwardedFor, line)
		}
		origins := Origins{TrustedProxies: trusted}
		if got := origins.Address(ctx); got != c.want {
			t.Errorf("%q: %s, want %s", c.lines, got, c.want)
		}
		app.ReleaseCtx(ctx)
	}
}
