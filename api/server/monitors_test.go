package server

import (
	"net"
	"net/netip"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// The figures of a quiet server tell how much of an export was withheld: they are for its own
// networks.
func TestEHI14MetricsAreForTheNetworksThatAreNamed(t *testing.T) {
	inside := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, c := range []struct {
		from    []netip.Prefix
		peer    string
		headers []string
		ok      bool
	}{
		{nil, "203.0.113.7", nil, true},
		{inside, "10.1.2.3", nil, true},
		{inside, "::ffff:10.1.2.3", nil, true},
		{inside, "::1", nil, true},
		{inside, "203.0.113.7", nil, false},
		{inside, "127.0.0.1", nil, false},
		{inside, "2001:db8::1", nil, false},
		{inside, "10.1.2.3", []string{"X-Forwarded-For", "10.1.2.3"}, false},
		{inside, "10.1.2.3", []string{"Forwarded", "for=10.1.2.3"}, false},
		{inside, "10.1.2.3", []string{"X-Real-IP", "10.1.2.3"}, false},
		{
			inside,
			"10.1.2.3",
			[]string{"X-Forwarded-For", "", "X-Forwarded-For", "203.0.113.7"},
			false,
		},
		{inside, "10.1.2.3", []string{"X-Forwarded-For", ""}, false},
		{inside, "10.1.2.3", []string{"Via", "1.1 proxy"}, false},
	} {
		app := fiber.New()
		req := &fasthttp.RequestCtx{}
		req.Init(&fasthttp.Request{}, &net.TCPAddr{IP: net.ParseIP(c.peer)}, nil)
		ctx := app.AcquireCtx(req)
		for i := 0; i < len(c.headers); i += 2 {
			ctx.Request().Header.Add(c.headers[i], c.headers[i+1])
		}
		s := &Server{Config: Config{Flags: Flags{MetricsFrom: c.from}}}
		if s.isMonitor(ctx) != c.ok {
			t.Errorf("%+v: %v", c, !c.ok)
		}
		app.ReleaseCtx(ctx)
	}
}
