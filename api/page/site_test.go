package page

import (
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/api/request"
)

// An origin is scheme, host and port. Anybody on the network can make an http page on the host
// of an https server.
func TestAPageOfAnotherSchemeIsOfAnotherSite(t *testing.T) {
	app := fiber.New()
	for _, c := range []struct {
		base, host, from string
		ours             bool
		fixed            bool // with --base-url
	}{
		{"https://ehi.example", "ehi.example", "https://ehi.example", true, false},
		{"https://ehi.example", "ehi.example", "https://ehi.example/page?x", true, false},
		{"https://ehi.example", "ehi.example", "http://ehi.example", false, false},
		{"https://ehi.example", "inside.example:8443", "https://inside.example:8443", true, false},
		{"https://ehi.example", "inside.example:8443", "http://inside.example:8443", false, false},
		{"https://ehi.example", "inside.example:8443", "https://inside.example", false, false},
		{"http://127.0.0.1:8888", "localhost:8888", "http://localhost:8888", true, false},
		{"http://127.0.0.1:8888", "localhost:8888", "https://localhost:8888", false, false},
		{"http://127.0.0.1:8888", "localhost:8888", "http://localhost:9999", false, false},
		{"https://ehi.example", "ehi.example", "https://ehi.example", true, true},
		{"https://ehi.example", "inside.example:8443", "https://ehi.example", true, true},
		{"https://ehi.example", "inside.example:8443", "https://inside.example:8443", false, true},
		// through a tunnel
		{"https://ehi.example", "127.0.0.1:8443", "https://127.0.0.1:8443", true, true},
		{"https://ehi.example", "[::1]:8443", "https://[::1]:8443", true, true},
		{"https://ehi.example", "localhost:8443", "https://localhost:8443", true, true},
		{"https://ehi.example", "localhost:8443", "https://localhost:3000", false, true},
		{"https://ehi.example", "localhost:8443", "http://localhost:8443", false, true},
		{
			"https://ehi.example", "localhost.evil.example", "https://localhost.evil.example",
			false, true,
		},
		{
			"https://ehi.example", "127.0.0.1.evil.example", "https://127.0.0.1.evil.example",
			false, true,
		},
	} {
		s := Site{request.Origins{BaseURL: c.base, Fixed: c.fixed}}
		var sent fasthttp.RequestCtx
		sent.Request.SetRequestURI("/")
		sent.Request.SetHost(c.host)
		sent.Request.Header.Set("Origin", c.from)
		ctx := app.AcquireCtx(&sent)
		if s.Owns(ctx, c.from) != c.ours || s.FromAnotherSite(ctx) == c.ours ||
			s.SentHere(ctx) != c.ours {
			t.Errorf("a page of %s, sent to %s of %s: not %v", c.from, c.host, c.base, c.ours)
		}
		app.ReleaseCtx(ctx)
	}
}
