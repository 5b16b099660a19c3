package page

import (
	"net/http"
	"net/netip"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/request"
	"ehi-server/shared/weburl"
)

// Site tells this server's own pages and addresses from those of other sites.
type Site struct {
	// Origins is how clients reach the server.
	Origins request.Origins
}

// Local is where a page may lead on to: a path of this server as browsers read it, never another
// site; "" for nowhere.
func (s Site) Local(c *fiber.Ctx, address string) string {
	path, ok := weburl.Local(s.Origins.Base(c), address)
	if !ok {
		return ""
	}
	return path
}

// Owns reports whether an address is of the origin that clients see: scheme, host and port. Where
// no --base-url fixes that, and for whoever administers the server on its own machine or through a
// tunnel, it is also the one that a request was sent to; of another site a browser never sends that
// a loopback address of this port is its origin. A page that came by http is never of a server that
// clients see by https, even on the same host: whoever sits on the network can have made it.
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

// isLoopback reports whether a host's name is that of the machine that looks it up.
func isLoopback(host string) bool {
	at, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && at.IsLoopback()
}

// ErrAnotherSite is the answer to what a browser says that a page of another origin has made it
// send.
var ErrAnotherSite = fiber.NewError(http.StatusForbidden, "A page of another site has sent this")

// FromAnotherSite reports whether a browser says that another origin than this server's has made it
// send a request: by Sec-Fetch-Site, which no page can write, else by Origin, which older browsers
// send with whatever another site has them POST. Programs send neither.
func (s Site) FromAnotherSite(c *fiber.Ctx) bool {
	if site := c.Get("Sec-Fetch-Site"); site != "" {
		return site != "same-origin" && site != "none"
	}
	origin := c.Get(fiber.HeaderOrigin)
	return origin != "" && !s.Owns(c, origin)
}

// Vouched reports whether a browser says that a page of this server has made it send a request of
// which it says nothing else, see FromAnotherSite.
func (s Site) Vouched(c *fiber.Ctx) bool {
	site := c.Get("Sec-Fetch-Site")
	return site == "same-origin" ||
		site == "" && (c.Get(fiber.HeaderOrigin) != "" || s.Owns(c, c.Get(fiber.HeaderReferer)))
}

// SentElsewhere reports whether the browser says that a page of another site sent a form. It also
// looks at the Referer, and takes what a person typed as an address for another site.
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

// refersHere reports whether a browser says that a page of this server has sent a form, as all do
// over HTTPS.
func (s Site) refersHere(c *fiber.Ctx) bool {
	from := c.Get(fiber.HeaderReferer)
	return from != "" && s.Owns(c, from)
}

// OurForm reports whether a form was sent by a page of this server, as far as what was typed into
// it may be shown there again; it allows nothing else. The page's token says so where the browser
// still has it in a cookie, else the browser itself.
func (s Site) OurForm(c *fiber.Ctx, cookie string) bool {
	token := string(c.Request().PostArgs().Peek("_csrf")) // of an upload there are none
	if token == "" || s.SentElsewhere(c) {
		return false
	}
	return token == tokenOf(c.Cookies(cookie)) || c.Get("Sec-Fetch-Site") != "" ||
		c.Get(fiber.HeaderOrigin) != ""
}
