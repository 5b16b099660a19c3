package server

import (
	"errors"
	"os"
	"runtime"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/openapi"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// Setting is one line of the configuration, as administrators see it: secrets are only said to be set.
type Setting struct{ Flag, Value string }

// began is about when the process did.
var began = time.Now()

// handleDebug shows administrators what the process is doing.
func (s *Server) handleDebug(c *fiber.Ctx) error {
	type lane struct {
		Name            ehi.Lane
		Pending         uint64
		InHand, Waiting int
		Oldest          string
	}
	type status struct {
		Name   ehi.Status
		Jobs   int
		Oldest string
	}
	ctx, at := c.UserContext(), now()
	var problems []error
	var lanes []lane
	for _, name := range ehi.Lanes() {
		n, since, err := s.Bus.Backlog(ctx, name)
		inHand, waiting, e := s.Bus.Hands(ctx, name)
		problems = append(problems, err, e)
		lanes = append(lanes, lane{name, n, inHand, waiting, sinceText(at, since)})
	}
	var statuses []status
	standing := s.Bus.Jobs.ByStatus()
	for _, name := range ehi.Statuses() {
		statuses = append(statuses, status{name, standing[name].Jobs, sinceText(at, standing[name].Oldest)})
	}
	streams, err := s.Bus.Usage(ctx)
	free, e := s.Files.Free()
	problems = append(problems, err, e)
	text := ""
	if err := errors.Join(problems...); err != nil {
		text = err.Error()
	}
	host, err := os.Hostname()
	if err != nil {
		host = "a host without a name"
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return c.Render("debug", fiber.Map{
		"Title": "What this process is doing", "Version": telemetry.Version(), "Go": runtime.Version(), "PID": os.Getpid(), "Host": host, "Up": time.Since(began).Round(time.Second),
		"Lanes": lanes, "Statuses": statuses, "Streams": streams, "Stored": s.Bus.Jobs.Stored(), "Free": free, "Problems": text,
		"Goroutines": runtime.NumGoroutine(), "Heap": m.HeapInuse, "Collections": m.NumGC, "Paused": time.Duration(m.PauseTotalNs).Round(time.Microsecond), "Settings": s.Settings,
	}, "layout")
}

// sinceText is how long ago something was, "" where it never was.
func sinceText(at, since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return at.Sub(since).Round(time.Second).String()
}

// handleOpenAPI describes the API.
func (s *Server) handleOpenAPI(c *fiber.Ctx) error {
	c.Set(fiber.HeaderCacheControl, "public, max-age=300")
	return c.JSON(openapi.Document(s.origin(c), telemetry.Version(), bases))
}
