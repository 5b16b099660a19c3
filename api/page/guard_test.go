package page

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/shared/bus"
)

// guarded is a server with one page, whose text is its token, and the clock for the token's age.
type guarded struct {
	app *fiber.App
	at  time.Time
}

const life = time.Hour

func newGuarded() *guarded {
	g := &guarded{app: fiber.New(), at: time.Now()}
	guard := Guard{Key: Key("a key of a test"), Clock: func() time.Time { return g.at }}
	late := func(c *fiber.Ctx) error { return c.SendStatus(http.StatusTeapot) }
	g.app.All("/form", guard.Forms("mine", "sid", life, late), func(c *fiber.Ctx) error {
		return c.SendString(Token(c))
	})
	g.app.All("/other", guard.Forms("theirs", "sid", life, late), func(c *fiber.Ctx) error {
		return c.SendString(Token(c))
	})
	return g
}

func (g *guarded) ask(method, path, body, cookies string) *fasthttp.Response {
	var c fasthttp.RequestCtx
	c.Request.Header.SetMethod(method)
	c.Request.SetRequestURI(path)
	c.Request.Header.SetContentType(fiber.MIMEApplicationForm)
	c.Request.Header.Set("Cookie", cookies)
	c.Request.SetBodyString(body)
	g.app.Handler()(&c)
	return &c.Response
}

// look opens a page, and returns its token and the value of the token's cookie.
func (g *guarded) look(path, cookie, cookies string) (token, value string) {
	a := g.ask("GET", path, "", cookies)
	var set fasthttp.Cookie
	set.SetKey(cookie)
	a.Header.Cookie(&set)
	return string(a.Body()), string(set.Value())
}

// The token of a page's form is valid with its cookie, in its session, in time and unchanged;
// anything else is refused.
func TestATokenOfAPageIsSigned(t *testing.T) {
	g := newGuarded()
	token, cookie := g.look("/form", "mine", "")
	_, other := g.look("/other", "theirs", "")
	send := func(token, cookie string, more ...string) int {
		cookies := strings.Join(append([]string{"mine=" + cookie}, more...), "; ")
		return g.ask("POST", "/form", "_csrf="+token, cookies).StatusCode()
	}
	parts := strings.Split(cookie, ".")
	if len(parts) != 3 || token == "" || token != parts[0] {
		t.Fatalf("the token %q, the cookie %q", token, cookie)
	}
	if good := send(token, cookie); good != http.StatusOK {
		t.Fatalf("the page's own form: %d", good)
	}
	for name, status := range map[string]int{
		"no cookie":             send(token, ""),
		"no token":              send("", cookie),
		"another token":         send("x", cookie),
		"a token of no key":     send(parts[0], parts[0]+"."+parts[1]+"."+parts[0]),
		"another time":          send(token, parts[0]+".zzzzzz."+parts[2]),
		"a made-up token":       send("abc", "abc."+parts[1]+"."+parts[2]),
		"another page's cookie": send(tokenOf(other), other),
		"another session":       send(token, cookie, "sid=planted"),
		"an empty token":        send("", "."+parts[1]+"."+parts[2]),
	} {
		if status != http.StatusForbidden {
			t.Errorf("%s: %d", name, status)
		}
	}
	g.at = g.at.Add(life - time.Second)
	if status := send(token, cookie); status != http.StatusOK {
		t.Errorf("a second before its end: %d", status)
	}
	g.at = g.at.Add(time.Second)
	if status := send(token, cookie); status != http.StatusForbidden {
		t.Errorf("at its end: %d", status)
	}
}

// Opening a page extends the token: a form that is open for long stays valid while other pages
// are opened.
func TestATokenOfAPageIsRenewed(t *testing.T) {
	g := newGuarded()
	token, first := g.look("/form", "mine", "")
	g.at = g.at.Add(life - time.Second)
	again, second := g.look("/form", "mine", "mine="+first)
	if token != again || tokenOf(first) != tokenOf(second) || first == second {
		t.Errorf("%q, then %q", first, second)
	}
	g.at = g.at.Add(time.Second)
	if _, third := g.look("/form", "mine", "mine="+first); tokenOf(third) == tokenOf(first) {
		t.Error("a token is renewed after its end")
	}
}

// Processes that share their state accept each other's tokens.
func TestTokensOfPagesHoldInEveryProcess(t *testing.T) {
	b, err := bus.Open(t.Context(), bus.Config{Audit: &bus.AuditConfig{}, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	first, err := ReadKey(t.Context(), b.Auth)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ReadKey(t.Context(), b.Auth)
	if err != nil || string(again) != string(first) || len(again) < 32 {
		t.Errorf("%q, then %q: %v", first, again, err)
	}
}
