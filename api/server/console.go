package server

import (
	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/ehi"
)

// handleHome is the server's front page: in the sandbox the developer's console.
func (s *Server) handleHome(c *fiber.Ctx) error {
	if s.Sandbox {
		return s.tool(c, "console", "home", "Run an export", "console.js", fiber.Map{"Faults": ehi.Faults()})
	}
	return s.tool(c, "home", "home", "EHI export server", "", fiber.Map{"Base": s.Origins.Base(c)})
}

// handleAPIDocs shows the OpenAPI document.
func (s *Server) handleAPIDocs(c *fiber.Ctx) error {
	return s.tool(c, "api", "api", "The API", "api.js", fiber.Map{"Base": s.Origins.Base(c)})
}

// tool renders a page for developers, with the script that makes it work, if it has one.
func (s *Server) tool(c *fiber.Ctx, name, section, title, script string, data fiber.Map) error {
	data["Title"], data["Section"], data["Sandbox"] = title, section, s.Sandbox
	data["Site"], data["Description"] = "EHI export server", "Electronic health information export: console, API and format."
	if script != "" {
		data["Script"] = "/assets/" + script
	}
	return s.views.Render(c, "tools/"+name, "tools/layout", data)
}
