package server

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/shared/weburl"
)

// Routes of the administrators' API that are told from the others when they are registered.
const (
	adminLogin  = "/admin/login"
	adminLogout = "/admin/logout"
	adminUpload = "/admin/jobs/:id/add-files"
	adminImport = "/admin/import"
)

// changesState reports whether a route of the administrators' API changes something. Their pages are not
// meant: each form of theirs has a token (see guard).
func changesState(method, path string) bool {
	api := strings.HasPrefix(path, "/admin/") && !strings.HasPrefix(path, staffBase+"/")
	return api && (method != fiber.MethodGet || path == adminLogout)
}

// changesAsStaff reports whether a route of administrators changes something, by the API or by a page.
func changesAsStaff(method, path string) bool {
	return changesState(method, path) || strings.HasPrefix(path, staffBase+"/") && method != fiber.MethodGet
}

// unforged lets requests to a route of the administrators' API pass that no page of another site can
// have made a browser send: the browser names no other site as their origin, and their body is of a
// type that a browser sends to another site only after it has asked, which this server answers with no.
func (s *Server) unforged(path string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if s.fromAnotherSite(c) || isUpload(path) && !isJSON(c) && fromBrowser(c) && !s.saysOurs(c) {
			return errAnotherSite
		}
		if !bodyFits(c, path) {
			return fiber.NewError(http.StatusUnsupportedMediaType, "Send the body as application/json")
		}
		return c.Next()
	}
}

// errAnotherSite is the answer to what a browser says that a page of another origin has made it send.
var errAnotherSite = fiber.NewError(http.StatusForbidden, "A page of another site has sent this")

// fromAnotherSite reports whether a browser says that another origin than this server's has made it send
// a request: by Sec-Fetch-Site, which no page can write, else by Origin, which older browsers send with
// whatever another site has them POST. Programs send neither.
func (s *Server) fromAnotherSite(c *fiber.Ctx) bool {
	if site := c.Get("Sec-Fetch-Site"); site != "" {
		return site != "same-origin" && site != "none"
	}
	origin := c.Get(fiber.HeaderOrigin)
	return origin != "" && !s.isOurs(c, origin)
}

// isOurs reports whether an address is of the origin that clients see: scheme, host and port. Where no
// --base-url fixes that, and for whoever administers the server on its own machine or through a tunnel,
// it is also the one that a request was sent to; of another site a browser never sends that a loopback
// address of this port is its origin. A page that came by http is never of a server that clients see by
// https, even on the same host: whoever sits on the network can have made it.
func (s *Server) isOurs(c *fiber.Ctx, address string) bool {
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

// isUpload reports whether the bodies of a route are of types of their own, which its handler looks at. Of
// them are such as a browser sends to another site without asking.
func isUpload(path string) bool { return path == adminUpload || path == adminImport }

func isJSON(c *fiber.Ctx) bool {
	mime := content.MediaType(c)
	return mime == fiber.MIMEApplicationJSON ||
		strings.HasPrefix(mime, "application/") && strings.HasSuffix(mime, "+json")
}

// saysOurs reports whether a browser says that a page of this server has made it send a request of which
// it says nothing else, see fromAnotherSite.
func (s *Server) saysOurs(c *fiber.Ctx) bool {
	site := c.Get("Sec-Fetch-Site")
	return site == "same-origin" ||
		site == "" && (c.Get(fiber.HeaderOrigin) != "" || s.isOurs(c, c.Get(fiber.HeaderReferer)))
}

// bodyFits reports whether a body is of a type that a route takes. The log-in takes a form, too, of
// programs alone (EHI-10).
func bodyFits(c *fiber.Ctx, path string) bool {
	switch {
	case isUpload(path), isJSON(c):
		return true
	case path == adminLogin && content.MediaType(c) == fiber.MIMEApplicationForm:
		return !fromBrowser(c) || c.Get("Sec-Fetch-Site") == "same-origin"
	}
	return content.MediaType(c) == "" && len(c.Body()) == 0
}

// browsersHeaders are headers that browsers send, and programs do not. Sec-Fetch-Mode is none: Node's fetch
// sends it without Sec-Fetch-Site, which no browser does.
var browsersHeaders = []string{
	"Sec-Fetch-Site", "Sec-Fetch-Dest", fiber.HeaderOrigin, fiber.HeaderReferer, fiber.HeaderUpgradeInsecureRequests,
}

// fromBrowser reports whether a request looks like one of a browser, of whatever age.
func fromBrowser(c *fiber.Ctx) bool {
	return content.WantsPage(c) || slices.ContainsFunc(browsersHeaders, func(name string) bool { return c.Get(name) != "" })
}
