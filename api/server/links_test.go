package server

import (
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// No link of a page leads to another site, whatever the page's address is.
func TestTheLinksOfAPageStayHere(t *testing.T) {
	s := routed(t)
	for _, path := range []string{
		"/%2Fevil.example", "//evil.example/", "/.//evil.example", "/%5Cevil.example",
		`/\evil.example`,
	} {
		var c fasthttp.RequestCtx
		c.Request.Header.SetRequestURI(path)
		c.Request.Header.SetHost("server.test")
		c.Request.Header.Set("Accept", "text/html")
		s.app.Server().Handler(&c)
		page := string(c.Response.Body())
		if !strings.Contains(page, "lang=es") || strings.Contains(page, `href="//`) ||
			strings.Contains(page, `href="/\`) {
			t.Errorf("%s: %d %s", path, c.Response.StatusCode(), page)
		}
	}
}
