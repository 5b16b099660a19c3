package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"ehi-server/shared/kv"
)

// setCookie is the cookie that an answer sets, "" for none.
func setCookie(a *fasthttp.Response, name string) string {
	var c fasthttp.Cookie
	c.SetKey(name)
	a.Header.Cookie(&c)
	return string(c.Value())
}

// Whoever asks for pages with forms, by GET or HEAD and without a cookie, leaves nothing behind.
func TestPagesWithFormsStoreNothing(t *testing.T) {
	s := routed(t)
	count := func() int {
		t.Helper()
		n := 0
		for _, bucket := range []*kv.Bucket{s.Bus.Sessions, s.Bus.Auth} {
			keys, err := bucket.Keys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n += len(keys)
		}
		return n
	}
	pages := 0
	look := func() {
		for _, r := range s.app.GetRoutes(true) {
			if strings.Contains(r.Path, ":") ||
				r.Method != http.MethodGet && r.Method != http.MethodHead {
				continue
			}
			a := answer(s, r.Method, r.Path, "", "Accept", "text/html")
			if setCookie(a, "ehi_csrf")+setCookie(a, "ehi_admin_csrf") != "" {
				pages++
			}
		}
	}
	look() // the server's own keys are made when they are first asked for
	before := count()
	for range 3 {
		look()
	}
	if after := count(); after != before || pages < 10 {
		t.Errorf("%d pages with tokens leave %d records", pages, after-before)
	}
}
