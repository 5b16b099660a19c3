package page

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/api/content"
	"ehi-server/api/request"
)

// signer signs tokens that tie a form to its page: the signed double submit of OWASP's cheat
// sheet on cross-site request forgery. The form contains the token. A cookie contains the token,
// the end of its validity, and a signature over both and over the browser's session. The server
// stores nothing, so requests for pages cannot fill its storage.
type signer struct {
	cookie  string // name of the token's cookie
	session string // name of the session's cookie
	life    time.Duration
	key     Key
	now     func() time.Time
}

// Guard checks that forms come from pages of this server.
type Guard struct {
	Site Site
	// Key signs tokens.
	Key Key
	// Clock is the clock for the age of tokens.
	Clock func() time.Time
}

// Forms is middleware that gives pages their tokens (see Token) and accepts forms only from this
// server's pages. It passes other forms to late, and those whose token is older than life or
// belongs to another session. late redirects to the page of the form with the input. cookie and
// session are the names of the token's and the session's cookies without TLS.
func (g Guard) Forms(cookie, session string, life time.Duration, late fiber.Handler) fiber.Handler {
	p := &signer{
		g.Site.Origins.Cookie(cookie), g.Site.Origins.Cookie(session), life, g.Key, g.Clock,
	}
	return func(c *fiber.Ctx) error {
		token := p.token(c)
		switch c.Method() {
		case fiber.MethodGet, fiber.MethodHead:
			if token == "" {
				token = rand.Text()
			}
		default:
			if !g.matches(c, token) {
				if content.WantsPage(c) && g.Site.OurForm(c, p.cookie) {
					return late(c)
				}
				return fiber.ErrForbidden
			}
		}
		c.Vary(fiber.HeaderCookie)
		c.Locals(tokenLocal, token)
		err := c.Next()
		p.set(c, token)
		return err
	}
}

// matches reports whether a form has a token and, as far as the browser says, comes from this
// server.
func (g Guard) matches(c *fiber.Ctx, token string) bool {
	https := g.Site.Origins.Secure() || c.Protocol() == "https"
	return token != "" &&
		subtle.ConstantTimeCompare([]byte(Field(c, "_csrf")), []byte(token)) == 1 &&
		(!https || g.Site.refersHere(c))
}

// Token returns the token of the page that answers a request; "" for none.
func Token(c *fiber.Ctx) string {
	token, _ := c.Locals(tokenLocal).(string)
	return token
}

// token returns the token in a request's cookie; "" if there is none that is valid in its
// session.
func (p *signer) token(c *fiber.Ctx) string {
	parts := strings.Split(c.Cookies(p.cookie), ".")
	if len(parts) != 3 || parts[0] == "" ||
		!hmac.Equal([]byte(parts[2]), []byte(p.sign(c.Cookies(p.session), parts[0], parts[1]))) {
		return ""
	}
	until, err := strconv.ParseInt(parts[1], 36, 64)
	if err != nil || !p.now().Before(time.Unix(until, 0)) {
		return ""
	}
	return parts[0]
}

// set sends a browser the cookie of a token that is valid from now on, in its new session.
func (p *signer) set(c *fiber.Ctx, token string) {
	session := c.Cookies(p.session)
	if begun := (&fasthttp.Cookie{}); p.begins(c, begun) {
		session = string(begun.Value())
	}
	until := strconv.FormatInt(p.now().Add(p.life).Unix(), 36)
	c.Cookie(&fiber.Cookie{
		Name: p.cookie, Value: token + "." + until + "." + p.sign(session, token, until),
		Path: "/", SessionOnly: true, HTTPOnly: true, SameSite: fiber.CookieSameSiteLaxMode,
		Secure: strings.HasPrefix(p.cookie, request.HostOnly),
	})
}

// begins reports whether a response begins or ends a session, and reads its cookie.
func (p *signer) begins(c *fiber.Ctx, cookie *fasthttp.Cookie) bool {
	cookie.SetKey(p.session)
	return c.Response().Header.Cookie(cookie)
}

// sign returns the signature of a token in a session.
func (p *signer) sign(session, token, until string) string {
	mac := hmac.New(sha256.New, p.key)
	for _, part := range []string{p.cookie, SessionDigest(session), until, token} {
		_, _ = mac.Write([]byte(strconv.Itoa(len(part)) + ":" + part)) // never fails
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// tokenOf returns the token of a cookie, valid or not.
func tokenOf(cookie string) string {
	token, _, _ := strings.Cut(cookie, ".")
	return token
}
