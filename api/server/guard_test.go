package server

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/shared/kv"
)

// field finds a hidden field's value in a page.
func field(page []byte, name string) string {
	_, rest, _ := strings.Cut(string(page), `name="`+name+`" value="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

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
			if strings.Contains(r.Path, ":") || r.Method != http.MethodGet && r.Method != http.MethodHead {
				continue
			}
			a := answer(s, r.Method, r.Path, "", "Accept", "text/html")
			if setCookie(a, patientGuard)+setCookie(a, staffGuard) != "" {
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

// The token of a page's form is good with its cookie, in its session, in time, unchanged; all else is
// refused.
func TestATokenOfAPageIsSigned(t *testing.T) {
	s := routed(t, func(c *Config) { c.AdminUser, c.AdminPassword = "admin", "a long password of a test" })
	at := time.Now()
	s.clock = func() time.Time { return at }
	page := answer(s, "GET", staffLogin, "", "Accept", "text/html")
	token, cookie := field(page.Body(), "_csrf"), setCookie(page, staffGuard)
	other := setCookie(answer(s, "GET", "/patient-login", "", "Accept", "text/html"), patientGuard)
	signIn := func(token, cookie string, more ...string) int {
		cookies := staffGuard + "=" + cookie
		for _, c := range more {
			cookies += "; " + c
		}
		a := answer(s, "POST", staffLogin, "_csrf="+token+"&username=admin&password=x", "Content-Type", "application/x-www-form-urlencoded", "Cookie", cookies)
		return a.StatusCode()
	}
	parts := strings.Split(cookie, ".")
	if len(parts) != 3 || token == "" || token != parts[0] {
		t.Fatalf("the token %q, the cookie %q", token, cookie)
	}
	good := signIn(token, cookie)
	if good == http.StatusForbidden {
		t.Fatalf("the page's own form: %d", good)
	}
	for name, status := range map[string]int{
		"no cookie":             signIn(token, ""),
		"no token":              signIn("", cookie),
		"another token":         signIn("x", cookie),
		"a token of no key":     signIn(parts[0], parts[0]+"."+parts[1]+"."+parts[0]),
		"another time":          signIn(token, parts[0]+".zzzzzz."+parts[2]),
		"a made-up token":       signIn("abc", "abc."+parts[1]+"."+parts[2]),
		"another page's cookie": signIn(pageToken(other), other),
		"another session":       signIn(token, cookie, request.StaffSession+"=planted"),
		"an empty token":        signIn("", "."+parts[1]+"."+parts[2]),
	} {
		if status != http.StatusForbidden {
			t.Errorf("%s: %d", name, status)
		}
	}
	at = at.Add(session.StaffMaxAge - time.Second)
	if status := signIn(token, cookie); status != good {
		t.Errorf("a second before its end: %d", status)
	}
	at = at.Add(time.Second)
	if status := signIn(token, cookie); status != http.StatusForbidden {
		t.Errorf("at its end: %d", status)
	}
}

// Each look at a page gives the token more time: a form that is open for long is good for as long as
// another page was looked at since.
func TestATokenOfAPageIsRenewed(t *testing.T) {
	s := routed(t)
	at := time.Now()
	s.clock = func() time.Time { return at }
	first := setCookie(answer(s, "GET", staffLogin, "", "Accept", "text/html"), staffGuard)
	at = at.Add(session.StaffMaxAge - time.Second)
	second := setCookie(answer(s, "GET", staffLogin, "", "Accept", "text/html", "Cookie", staffGuard+"="+first), staffGuard)
	if pageToken(first) != pageToken(second) || first == second {
		t.Errorf("%q, then %q", first, second)
	}
	at = at.Add(time.Second)
	if third := setCookie(answer(s, "GET", staffLogin, "", "Accept", "text/html", "Cookie", staffGuard+"="+first), staffGuard); pageToken(third) == pageToken(first) {
		t.Error("a token is renewed after its end")
	}
}

// Processes that share their state take each other's tokens.
func TestTokensOfPagesHoldInEveryProcess(t *testing.T) {
	s := routed(t)
	again, err := pageKey(t.Context(), s.Bus.Auth)
	if err != nil || string(again) != string(s.pageKey) || len(again) < 32 {
		t.Errorf("%q, then %q: %v", s.pageKey, again, err)
	}
}
