package server

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"ehi-server/api/content"
	"ehi-server/api/progress"
	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// trace traces a request, below the client's own trace where it names one. Monitors and polls
// are traced there only: they ask all day, and would be most of what is kept.
func (s *Server) trace(c *fiber.Ctx) error {
	if s.Tracer == nil {
		return c.Next()
	}
	parent := c.Get(tracing.Header)
	if parent == "" && asksAllDay(c) {
		return c.Next()
	}
	ctx, span := s.Tracer.Begin(c.UserContext(), parent, c.Method(), trace.SpanKindServer)
	if !span.IsRecording() {
		return c.Next()
	}
	c.SetUserContext(ctx)
	err := c.Next() // an error is answered by observe
	method, route, status := c.Method(), c.Route().Path, c.Response().StatusCode()
	span.SetName(method + " " + route)
	span.SetAttributes(attribute.String("http.request.method", method),
		attribute.String("http.route", route), attribute.Int("http.response.status_code", status),
		attribute.String("ehi.request", request.ID(c)))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
	span.End()
	return err
}

// asksAllDay tells monitors and polls from other requests.
func asksAllDay(c *fiber.Ctx) bool {
	path := c.Path()
	return path == "/metrics" || path == "/healthz" || path == "/readyz" ||
		c.Method() == fiber.MethodGet && strings.HasPrefix(path, "/jobs/") &&
			strings.HasSuffix(path, "/status")
}

// observe counts and times every request by its route's template.
func (s *Server) observe(c *fiber.Ctx) error {
	start := time.Now()
	telemetry.HTTPInFlight.Inc()
	defer telemetry.HTTPInFlight.Dec()
	err := c.Next()
	if err != nil { // the status of an error is known once it is handled
		request.TimeToFail(c)
		if err = c.App().ErrorHandler(c, err); err != nil {
			return err
		}
	}
	m := s.meters.of(c)
	m.answered(c.Response().StatusCode()).Inc()
	took := time.Since(start) - progress.Held(c)
	tracing.Observe(c.UserContext(), m.seconds, took)
	// the template only: a path may name a patient
	if s.Log.Enabled(context.Background(), slog.LevelDebug) {
		s.Log.Debug("request", "method", m.method, "route", m.template,
			"status", c.Response().StatusCode(), "took", took, "held", progress.Held(c),
			"request", request.ID(c), "trace", tracing.ID(c.UserContext()))
	}
	return nil
}

func (s *Server) logPanic(c *fiber.Ctx, e any) {
	s.Log.Error("panic in a handler", "route", c.Route().Path, "panic", e, "stack",
		string(debug.Stack()))
}

// limitBody reads a body at once and bounds it, whether its length is announced or not (EHI-16:
// 413). A compressed one is refused: Fiber would unpack it to whatever size it has. So is JSON
// that is nested deeper than any of FHIR is, which decoders would follow to the end of the
// stack.
func (s *Server) limitBody(c *fiber.Ctx) error {
	coding := c.Get(fiber.HeaderContentEncoding)
	if coding != "" && !strings.EqualFold(coding, "identity") {
		if stream := c.Context().RequestBodyStream(); stream != nil {
			content.Discard(stream)
		}
		c.Set(fiber.HeaderAcceptEncoding, "identity") // RFC 9110 12.5.3
		return fiber.NewError(http.StatusUnsupportedMediaType,
			"Compressed bodies are not taken here")
	}
	stream := c.Context().RequestBodyStream()
	if stream == nil {
		s.busy(c)
		return c.Next()
	}
	body, err := io.ReadAll(io.LimitReader(stream, s.MaxBodyBytes+1))
	if err != nil {
		return content.BrokenBody(c, err)
	}
	if int64(len(body)) > s.MaxBodyBytes {
		content.Discard(stream)
		return tooLarge(s.MaxBodyBytes)
	}
	json := bytes.TrimLeft(body, " \t\r\n")
	if len(json) > 0 && (json[0] == '{' || json[0] == '[') && fhir.CheckDepth(json) != nil {
		return ehi.Errorf(ehi.Invalid, "The body is nested deeper than %d levels", fhir.MaxDepth)
	}
	c.Request().SetBody(body)
	s.busy(c)
	request.RestartTime(c)
	return c.Next()
}

// busy notes that a request has come as a whole: its connection is not closed to make room for
// others.
func (s *Server) busy(c *fiber.Ctx) { s.conns.Busy(c.Context().Conn()) }

func tooLarge(most int64) error {
	return ehi.Errorf(ehi.TooLarge, "The body is larger than %d bytes", most)
}

// ownerOrAdmin lets the job's client and administrators pass (EHI-14).
func (s *Server) ownerOrAdmin(c *fiber.Ctx) error {
	who, err := s.admins.Current(c)
	if err != nil {
		return err
	}
	if who != nil && who.Role.May(auth.Viewer) {
		request.NoStore(c)
		request.SetAdministrator(c, who)
		return c.Next()
	}
	return s.tokens.JobBearer(c)
}
