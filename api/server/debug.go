package server

import (
	"bytes"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/content"
	"ehi-server/api/openapi"
	"ehi-server/shared/telemetry"
)

// Setting is one line of the configuration, as administrators see it: secrets are only said to be set.
type Setting struct{ Flag, Value string }

// began is about when the process did.
var began = time.Now()

// handleDebug shows administrators what the process is doing.
func (s *Server) handleDebug(c *fiber.Ctx) error {
	state := s.state(c)
	host, err := os.Hostname()
	if err != nil {
		host = "a host without a name"
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return s.adminPages.render(c, "debug", "system", "What this process is doing", fiber.Map{
		"Version": telemetry.Version(), "Go": runtime.Version(), "PID": os.Getpid(), "Host": host, "Up": time.Since(began).Round(time.Second),
		"State":      state,
		"Goroutines": runtime.NumGoroutine(), "Heap": m.HeapInuse, "Collections": m.NumGC, "Paused": time.Duration(m.PauseTotalNs).Round(time.Microsecond), "Settings": s.Settings,
	})
}

// sinceText is how long ago something was, "" where it never was.
func sinceText(at, since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return at.Sub(since).Round(time.Second).String()
}

// gap stands for the origin while the API's document is made. It is nobody's name (RFC 2606 2).
const gap = "https://origin.invalid"

// apiDocument is the API's document, which is one for as long as the process lives but for the origin.
var apiDocument = sync.OnceValues(func() (*content.Prepared, error) {
	text, err := json.Marshal(openapi.Document(gap, telemetry.Version()))
	if err != nil {
		return nil, err
	}
	return content.Prepare(fiber.MIMEApplicationJSON, bytes.Split(text, []byte(gap))...), nil
})

// handleOpenAPI describes the API.
func (s *Server) handleOpenAPI(c *fiber.Ctx) error {
	document, err := apiDocument()
	if err != nil {
		return err
	}
	origin, err := json.Marshal(s.Origins.Base(c))
	if err != nil {
		return err
	}
	return document.Send(c, origin[1:len(origin)-1]) // without its quotes
}
