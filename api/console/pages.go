// Package console holds the pages for developers: the console of the sandbox, by which they run an
// export, the documentation of the API and of the format of an export, and the OpenAPI document.
//
// The pages are public: in production they say nothing of the records that the server has, but for
// the names and columns of their tables. The package never changes anything. api/server uses it.
package console

import (
	"context"
	"log/slog"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/exporter/survey"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// Router registers a handler behind the rule of access of its route, and what comes before that
// rule.
type Router interface {
	On(method, path string, handler fiber.Handler, before ...fiber.Handler)
}

// Pages are the pages for developers.
type Pages struct {
	Views   *page.Renderer
	Origins request.Origins
	// Sandbox opens the console, and describes the records that there are.
	Sandbox bool
	Records Records
	Log     *slog.Logger

	format formatBook
	docs   docsBook
	tables tablesBook
}

// Records are the records that the pages describe (source.Source). In production, only their
// tables are read.
type Records interface {
	survey.Records
	// Tables describes the tables of the records; nil if there are none.
	Tables(ctx context.Context) (*datapackage.Package, error)
}

// Routes registers the pages and the OpenAPI document.
func (h *Pages) Routes(r Router) {
	r.On("GET", "/", h.handleHome)
	r.On("GET", "/openapi.json", h.handleOpenAPI)
	r.On("GET", "/docs/api", h.handleAPIDocs)
	r.On("GET", "/docs/ehi", h.handleDocs)
	r.On("GET", "/docs/ehi/datapackage.json", h.handleDictionary)
	r.On("GET", "/docs/ehi/tables/:name", h.handleTable)
}

// handleHome is the server's front page: in the sandbox the console.
func (h *Pages) handleHome(c *fiber.Ctx) error {
	if h.Sandbox {
		return h.render(c, "console", "home", "Run an export", "console.js",
			fiber.Map{"Faults": ehi.Faults()})
	}
	return h.render(c, "home", "home", "EHI export server", "",
		fiber.Map{"Base": h.Origins.Base(c)})
}

// handleAPIDocs shows the OpenAPI document.
func (h *Pages) handleAPIDocs(c *fiber.Ctx) error {
	return h.render(c, "api", "api", "The API", "api.js", fiber.Map{"Base": h.Origins.Base(c)})
}

// render renders a page. section is the part of the navigation that it belongs to, and script the
// script that it needs; "" for none.
func (h *Pages) render(
	c *fiber.Ctx, name, section, title, script string, data fiber.Map,
) error {
	data["Title"], data["Section"], data["Sandbox"] = title, section, h.Sandbox
	data["Site"] = "EHI export server"
	data["Description"] = "Electronic health information export: console, API and format."
	if script != "" {
		data["Script"] = "/assets/" + script
	}
	return h.Views.Render(c, "tools/"+name, "tools/layout", data)
}
