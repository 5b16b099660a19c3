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

// changesState reports whether a route of the administrators' API changes something. Pages do not
// count, because each of their forms has a token (see page.Guard).
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

// unforged is middleware for the administrators' API. It refuses requests that a page of another
// site may have made a browser send. A request passes if the browser names no other site as its
// origin, and if its body is of a type that browsers send to another site only after a preflight
// request, which this server refuses.
func (s *Server) unforged(path string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if s.site.FromAnotherSite(c) ||
			isUpload(path) && !isJSON(c) && fromBrowser(c) && !s.site.Vouched(c) {
			return page.ErrAnotherSite
		}
		if !bodyFits(c, path) {
			return fiber.NewError(http.StatusUnsupportedMediaType,
				"Send the body as application/json")
		}
		return c.Next()
	}
}

// isUpload reports whether the handler of a route checks the types of its bodies. Browsers send
// some of these types to another site without a preflight request.
func isUpload(path string) bool { return path == staff.UploadPath || path == staff.ImportPath }

func isJSON(c *fiber.Ctx) bool {
	mime := content.MediaType(c)
	return mime == fiber.MIMEApplicationJSON ||
		strings.HasPrefix(mime, "application/") && strings.HasSuffix(mime, "+json")
}

// bodyFits reports whether a route accepts the type of a body. The log-in also accepts a form, from
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

// browsersHeaders are headers that browsers send and programs do not. Sec-Fetch-Mode is not one of
// them, as Node's fetch sends it, without Sec-Fetch-Site.
var browsersHeaders = []string{
	"Sec-Fetch-Site",
	"Sec-Fetch-Dest",
	fiber.HeaderOrigin,
	fiber.HeaderReferer,
	fiber.HeaderUpgradeInsecureRequests,
}

// fromBrowser reports whether a request looks as if a browser sent it, new or old.
func fromBrowser(c *fiber.Ctx) bool {
	return content.WantsPage(c) ||
		slices.ContainsFunc(browsersHeaders, func(name string) bool { return c.Get(name) != "" })
}
