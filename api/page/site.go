package page

import (
	"net/http"
	"net/netip"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/request"
	"ehi-server/shared/weburl"
)

// Site distinguishes this server's own pages and addresses from those of other sites.
type Site struct {
	// Origins is how clients reach the server.
	Origins request.Origins
}

// Local returns where a page may redirect to: a path of this server as browsers read it, never
// another site; "" for nowhere.
func (s Site) Local(c *fiber.Ctx, address string) string {
	path, ok := weburl.Local(s.Origins.Base(c), address)
	if !ok {
		return ""
	}
	return path
}

// Owns reports whether an address has the origin that clients see: scheme, host and port.
// Without a fixed --base-url, and for administrators on the server's machine or through a
// tunnel, the origin to which a request was sent counts too; a browser never claims a loopback
// address with this port for another site. A page that came over http never belongs to a server
// that clients reach over https, even on the same host, because anybody on the network could
// have made it.
func (s Site) Owns(c *fiber.Ctx, address string) bool {
	u, err := weburl.Parse(address)
	if err != nil || !u.IsWeb() {
		return false
	}
	if u.IsOf(s.Origins.BaseURL) {
		return true
	}
	scheme := c.Protocol()
	if s.Origins.Secure() {
		scheme = "https"
	}
	return (!s.Origins.Fixed || isLoopback(u.Hostname())) && u.IsOf(scheme+"://"+c.Hostname())
}

// isLoopback reports whether a host name is that of the local machine.
func isLoopback(host string) bool {
	at, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && at.IsLoopback()
}

// ErrAnotherSite is the response to a request that, according to the browser, a page of another
// origin caused.
var ErrAnotherSite = fiber.NewError(http.StatusForbidden, "A page of another site has sent this")

// FromAnotherSite reports whether the browser says that another origin caused a request: in
// Sec-Fetch-Site, which pages cannot set, or otherwise in Origin, which older browsers send with
// a cross-site POST. Programs send neither.
func (s Site) FromAnotherSite(c *fiber.Ctx) bool {
	if site := c.Get("Sec-Fetch-Site"); site != "" {
		return site != "same-origin" && site != "none"
	}
	origin := c.Get(fiber.HeaderOrigin)
	return origin != "" && !s.Owns(c, origin)
}

// SentByOurPage reports whether the browser says that a page of this server caused a request, see
// FromAnotherSite.
func (s Site) SentByOurPage(c *fiber.Ctx) bool {
	site := c.Get("Sec-Fetch-Site")
	return site == "same-origin" ||
		site == "" && (c.Get(fiber.HeaderOrigin) != "" || s.Owns(c, c.Get(fiber.HeaderReferer)))
}

// SentElsewhere reports whether the browser says that a page of another site sent a form. It
// also checks the Referer, and treats a typed address as another site.
func (s Site) SentElsewhere(c *fiber.Ctx) bool {
	site := c.Get("Sec-Fetch-Site")
	for _, header := range []string{fiber.HeaderOrigin, fiber.HeaderReferer} {
		if from := c.Get(header); from != "" && !s.Owns(c, from) {
			return true
		}
	}
	return site != "" && site != "same-origin"
}

// SentHere reports whether the browser says that a page of this server sent a form.
func (s Site) SentHere(c *fiber.Ctx) bool {
	said := c.Get("Sec-Fetch-Site") + c.Get(fiber.HeaderOrigin) + c.Get(fiber.HeaderReferer)
	return said != "" && !s.SentElsewhere(c)
}

// refersHere reports whether the Referer says that a page of this server sent a form, as it does
// over HTTPS.
func (s Site) refersHere(c *fiber.Ctx) bool {
	from := c.Get(fiber.HeaderReferer)
	return from != "" && s.Owns(c, from)
}

// OurForm reports whether a page of this server sent a form, for the purpose of showing the
// input again; it allows nothing else. It checks the page's token if the browser still has its
// cookie; otherwise it trusts what the browser says.
func (s Site) OurForm(c *fiber.Ctx, cookie string) bool {
	token := string(c.Request().PostArgs().Peek("_csrf")) // an upload has none
	if token == "" || s.SentElsewhere(c) {
		return false
	}
	return token == tokenOf(c.Cookies(cookie)) || c.Get("Sec-Fetch-Site") != "" ||
		c.Get(fiber.HeaderOrigin) != ""
}
