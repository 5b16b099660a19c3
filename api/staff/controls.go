package staff

import (
	"fmt"
	"log/slog"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/shared/ehi"
)

// Sweeps is the keeper, as far as it waits for an administrator.
type Sweeps interface {
	// SweepsWaiting counts the jobs of which the keeper would remove the files ("files") or the
	// records of tasks ("records"), and the exports that it would repeat ("exports").
	SweepsWaiting() map[string]int
	// AllowSweep lets the keeper do what is waiting now.
	AllowSweep()
}

// Controls lets administrators change how the process works while it runs, by the JSON API.
type Controls struct {
	Sweeps Sweeps
	// Level is the logger's level; nil where it is fixed.
	Level *slog.LevelVar
	Trail Trail
	Log   *slog.Logger
}

// Routes registers the JSON API.
func (h *Controls) Routes(r Router) {
	r.On("GET", "/admin/log-level", h.handleLogLevel)
	r.On("PUT", "/admin/log-level", h.handleSetLogLevel)
	r.On("GET", "/admin/sweep", h.handleSweep)
	r.On("POST", "/admin/sweep", h.handleAllowSweep)
}

// handleSweep reports what the keeper does not do before an administrator allows it.
func (h *Controls) handleSweep(c *fiber.Ctx) error {
	waiting := h.Sweeps.SweepsWaiting()
	return c.JSON(fiber.Map{
		"files":   waiting["files"],
		"records": waiting["records"],
		"exports": waiting["exports"],
	})
}

// handleAllowSweep allows what is waiting now.
func (h *Controls) handleAllowSweep(c *fiber.Ctx) error {
	waiting := h.Sweeps.SweepsWaiting()
	h.Sweeps.AllowSweep()
	said := fmt.Sprintf("let the keeper remove the files of %d jobs, and the records of tasks of "+
		"%d, whose own records are gone, and make %d exports anew that lack records of tasks",
		waiting["files"], waiting["records"], waiting["exports"])
	h.Log.Warn(said, "by", request.AdministratorName(c))
	h.Trail.Record(c, nil, ehi.Event{Action: ehi.ActionAdministrate, Detail: said})
	return h.handleSweep(c)
}

var errFixedLevel = ehi.Errorf(ehi.Unsupported, "The log's level is fixed here")

// handleLogLevel reports how much is logged.
func (h *Controls) handleLogLevel(c *fiber.Ctx) error {
	if h.Level == nil {
		return errFixedLevel
	}
	return c.JSON(fiber.Map{"level": h.Level.Level().String()})
}

// handleSetLogLevel changes how much is logged, until the process ends. At debug each request has a
// line.
func (h *Controls) handleSetLogLevel(c *fiber.Ctx) error {
	var in struct {
		Level string `json:"level" form:"level"`
	}
	var level slog.Level
	if err := content.Unambiguous(c); err != nil {
		return err
	}
	if err := c.BodyParser(&in); err != nil || level.UnmarshalText([]byte(in.Level)) != nil {
		return ehi.Errorf(ehi.Invalid,
			`The body must hold a level: debug, info, warn or error`)
	}
	if h.Level == nil {
		return errFixedLevel
	}
	h.Level.Set(level)
	h.Log.Info("the log's level was changed", "level", level, "by", request.AdministratorName(c))
	h.Trail.Record(c, nil, ehi.Event{
		Action: ehi.ActionAdministrate, Detail: "log level " + level.String(),
	})
	return h.handleLogLevel(c)
}
