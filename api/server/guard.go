package server

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// The cookies of the pages' tokens, as they are called without TLS.
const staffGuard, patientGuard = "ehi_admin_csrf", "ehi_csrf"

// pageGuard holds what a page's form sends to a token of that page: the signed double submit of OWASP's
// cheat sheet on cross-site request forgery. The form has the token, a cookie has it with the time that
// it is good until and a signature over both and over the browser's session. Nothing is stored: whoever
// asks for pages without end fills up nothing.
type pageGuard struct {
	cookie  string // what the token's cookie is called
	session string // and the session's
	life    time.Duration
	key     []byte
	now     func() time.Time
}

// pageSecret is the record of the key that pages' tokens are signed by, for all processes.
var pageSecret = subject.KindOf("page-secret").Of("hmac")

// pageKey is the key that pages' tokens are signed by. It is made once.
func pageKey(ctx context.Context, bucket *kv.Bucket) ([]byte, error) {
	for {
		e, err := bucket.Get(ctx, pageSecret)
		if err == nil || !errors.Is(err, kv.ErrNotFound) {
			return e.Value, err
		}
		if _, err := bucket.Create(ctx, pageSecret, []byte(rand.Text()+rand.Text())); err != nil && !kv.IsConflict(err) {
			return nil, err
		}
	}
}

// guard lets forms pass that this server's pages have sent. Another form, or one whose token is too old
// or of another session, is not done; late leads back to its page with what was typed.
func (s *Server) guard(cookie, session string, life time.Duration, late fiber.Handler) fiber.Handler {
	now := func() time.Time { return s.clock() }
	g := &pageGuard{s.Origins.Cookie(cookie), s.Origins.Cookie(session), life, s.pageKey, now}
	return func(c *fiber.Ctx) error {
		token := g.token(c)
		switch c.Method() {
		case fiber.MethodGet, fiber.MethodHead:
			if token == "" {
				token = rand.Text()
			}
		default:
			sent := string(c.Request().PostArgs().Peek("_csrf"))
			https := s.Origins.Secure() || c.Protocol() == "https"
			if token == "" || subtle.ConstantTimeCompare([]byte(sent), []byte(token)) == 0 || https && !s.site.RefersHere(c) {
				if content.WantsPage(c) && s.ourForm(c, g.cookie) {
					return late(c)
				}
				return fiber.ErrForbidden
			}
		}
		c.Vary(fiber.HeaderCookie)
		c.Locals("csrf", token)
		err := c.Next()
		g.set(c, token)
		return err
	}
}

// token is the token of a request's cookie, "" where it has none that is good in its session.
func (g *pageGuard) token(c *fiber.Ctx) string {
	parts := strings.Split(c.Cookies(g.cookie), ".")
	if len(parts) != 3 || parts[0] == "" || !hmac.Equal([]byte(parts[2]), []byte(g.sign(c.Cookies(g.session), parts[0], parts[1]))) {
		return ""
	}
	until, err := strconv.ParseInt(parts[1], 36, 64)
	if err != nil || !g.now().Before(time.Unix(until, 0)) {
		return ""
	}
	return parts[0]
}

// set gives a browser the cookie of a token, good from now on, in the session that it has from now on.
func (g *pageGuard) set(c *fiber.Ctx, token string) {
	session := c.Cookies(g.session)
	if begun := (&fasthttp.Cookie{}); g.begins(c, begun) {
		session = string(begun.Value())
	}
	until := strconv.FormatInt(g.now().Add(g.life).Unix(), 36)
	c.Cookie(&fiber.Cookie{
		Name: g.cookie, Value: token + "." + until + "." + g.sign(session, token, until), Path: "/", SessionOnly: true,
		HTTPOnly: true, SameSite: fiber.CookieSameSiteLaxMode, Secure: strings.HasPrefix(g.cookie, request.HostOnly),
	})
}

// begins reports whether an answer begins or ends a session, and reads its cookie.
func (g *pageGuard) begins(c *fiber.Ctx, cookie *fasthttp.Cookie) bool {
	cookie.SetKey(g.session)
	return c.Response().Header.Cookie(cookie)
}

// sign is the signature of a token in a session.
func (g *pageGuard) sign(session, token, until string) string {
	mac := hmac.New(sha256.New, g.key)
	for _, part := range []string{g.cookie, page.SessionDigest(session), until, token} {
		_, _ = mac.Write([]byte(strconv.Itoa(len(part)) + ":" + part)) // never fails
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// pageToken is the token of a cookie, good or not.
func pageToken(cookie string) string {
	token, _, _ := strings.Cut(cookie, ".")
	return token
}

// ourForm reports whether a form was sent by a page of this server, as far as what was typed into it
// may be shown there again; it allows nothing else. The page's token says so where the browser still
// has it, else the browser itself.
func (s *Server) ourForm(c *fiber.Ctx, cookie string) bool {
	token := string(c.Request().PostArgs().Peek("_csrf")) // of an upload there are none
	if token == "" || s.site.SentElsewhere(c) {
		return false
	}
	return token == pageToken(c.Cookies(cookie)) || c.Get("Sec-Fetch-Site") != "" || c.Get(fiber.HeaderOrigin) != ""
}
