package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/staff"
)

// changesState reports whether a route of the administrators' API changes something. Their pages
// are not meant: each form of theirs has a token (see guard).
func changesState(method, path string) bool {
	api := strings.HasPrefix(path, "/admin/") && !strings.HasPrefix(path, staff.Base+"/")
	return api && (method != fiber.MethodGet || path == staff.LogOutPath)
}

// changesAsStaff reports whether a route of administrators changes something, by the API or by a
// page.
func changesAsStaff(method, path string) bool {
	return changesState(method, path) ||
		strings.HasPrefix(path, staff.Base+"/") && method != fiber.MethodGet
}

// unforged lets requests to a route of the administrators' API pass that no page of another site
// can have made a browser send: the browser names no other site as their origin, and their body
// is of a type that a browser sends to another site only after it has asked, which this server
// answers with no.
func (s *Server) unforged(path string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if s.site.FromAnotherSite(c) ||
			isUpload(path) && !isJSON(c) && fromBrowser(c) && !s.site.SentByOurPage(c) {
			return page.ErrAnotherSite
		}
		if !bodyFits(c, path) {
			return fiber.NewError(http.StatusUnsupportedMediaType,
				"Send the body as application/json")
		}
		return c.Next()
	}
}

// isUpload reports whether the bodies of a route are of types of their own, which its handler
// looks at. Of them are such as a browser sends to another site without asking.
func isUpload(path string) bool { return path == staff.UploadPath || path == staff.ImportPath }

func isJSON(c *fiber.Ctx) bool {
	mime := content.MediaType(c)
	return mime == fiber.MIMEApplicationJSON ||
		strings.HasPrefix(mime, "application/") && strings.HasSuffix(mime, "+json")
}

// bodyFits reports whether a body is of a type that a route takes. The log-in takes a form, too, of
// programs alone (EHI-10).
func bodyFits(c *fiber.Ctx, path string) bool {
	switch {
	case isUpload(path), isJSON(c):
		return true
	case path == staff.LogInPath && content.MediaType(c) == fiber.MIMEApplicationForm:
		return !fromBrowser(c) || c.Get("Sec-Fetch-Site") == "same-origin"
	}
	return content.MediaType(c) == "" && len(c.Body()) == 0
}

// browsersHeaders are headers that browsers send, and programs do not. Sec-Fetch-Mode is none:
// Node's fetch sends it without Sec-Fetch-Site, which no browser does.
var browsersHeaders = []string{
	"Sec-Fetch-Site",
	"Sec-Fetch-Dest",
	fiber.HeaderOrigin,
	fiber.HeaderReferer,
	fiber.HeaderUpgradeInsecureRequests,
}

// fromBrowser reports whether a request looks like one of a browser, of whatever age.
func fromBrowser(c *fiber.Ctx) bool {
	return content.WantsPage(c) ||
		slices.ContainsFunc(browsersHeaders, func(name string) bool { return c.Get(name) != "" })
}
