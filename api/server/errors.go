package server

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/api/condition"
	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/api/smart"
	"ehi-server/api/staff"
	"ehi-server/auth"
	"ehi-server/shared/bus"
	"ehi-server/shared/disk"
	"ehi-server/shared/ehi"
)

// statusOf is the one place where error classes become HTTP statuses.
func statusOf(code ehi.Code) int {
	switch code {
	case ehi.Invalid, ehi.Unsupported, ehi.Conflict, ehi.TooCostly:
		return http.StatusBadRequest
	case ehi.Unauthenticated:
		return http.StatusUnauthorized
	case ehi.Forbidden:
		return http.StatusForbidden
	case ehi.NotFound:
		return http.StatusNotFound
	case ehi.TooLarge:
		return http.StatusRequestEntityTooLarge
	case ehi.TimedOut:
		return http.StatusRequestTimeout
	case ehi.Throttled:
		return http.StatusTooManyRequests
	case ehi.Transient:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// handleError answers every error of every handler (EHI-16): an OAuth error on OAuth routes,
// JSON for administrators, a page for a browser that asks for one, and an OperationOutcome for
// everybody else.
//
// While NATS is away, a refusal of OAuth is answered as a failure: it may rest on a record that
// could not be read.
func (s *Server) handleError(c *fiber.Ctx, err error) error {
	if e, ok := errors.AsType[*auth.Error](err); ok && !bus.IsAway(err) {
		return smart.SendError(c, e)
	}
	status, code, text := s.explain.Describe(c, err)
	c.Status(status)
	if e, ok := errors.AsType[*ehi.Error](err); ok && e.RetryAfter > 0 {
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(int(e.RetryAfter/time.Second)))
	}
	content.RemoveBodyHeaders(c)
	if (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) &&
		c.GetRespHeader(fiber.HeaderRetryAfter) == "" {
		c.Set(fiber.HeaderRetryAfter, "5")
	}
	again := s.site.SendAgain(c, status)
	switch {
	case staff.IsPage(c) && content.WantsPage(c):
		return s.staffPages.Fault(c, status, text, again)
	case request.IsAdmin(c):
		return c.JSON(fiber.Map{"error": text})
	case strings.HasPrefix(c.Path(), "/auth/"):
		return smart.SendFailure(c, status, text)
	case content.WantsPage(c):
		return s.visitors.Fault(c, code, text, again)
	}
	return content.Outcome(c, status, "error", string(code), text)
}

// explainer says what clients may know about an error.
type explainer struct {
	condition *condition.Watch
	// largest is how many bytes a body may have.
	largest int64
	log     *slog.Logger
}

// Describe implements staff.Explainer. Details of failures go to the log alone.
func (e explainer) Describe(c *fiber.Ctx, err error) (status int, code ehi.Code, text string) {
	own, ok := errors.AsType[*ehi.Error](err)
	if ok && (own.Code == ehi.Transient || !bus.IsAway(err)) {
		// there is a cause; a limit that was met has none
		if own.Code == ehi.Transient && err != error(own) {
			e.log.Warn("transient failure", "route", c.Route().Path, "err", err)
		}
		if own.Code == ehi.Internal && err != error(own) {
			e.log.Error("request failed",
				"route", c.Route().Path, "request", request.ID(c), "err", err)
		}
		return statusOf(own.Code), own.Code, own.Message
	}
	if its, ok := errors.AsType[*fiber.Error](err); ok && its.Code < 500 {
		return its.Code, codeOf(its.Code), its.Message
	}
	if errors.Is(err, fasthttp.ErrBodyTooLarge) {
		return http.StatusRequestEntityTooLarge, ehi.TooLarge, tooLarge(e.largest).Error()
	}
	if bus.IsAway(err) || disk.IsFull(err) || disk.IsShort(err) {
		e.log.Warn("transient failure", "route", c.Route().Path, "err", err)
		e.condition.Doubt()
		if why := e.condition.Rescue(); why != nil {
			err := rescued(why)
			return http.StatusServiceUnavailable, ehi.Transient, err.Error()
		}
		return http.StatusServiceUnavailable, ehi.Transient,
			"The server's state cannot be reached at the moment"
	}
	if bus.IsRefused(err) { // somebody has to change NATS; readiness and the log say what
		e.log.Error("NATS refuses what a request needs",
			"route", c.Route().Path, "request", request.ID(c), "err", err)
		return http.StatusServiceUnavailable, ehi.Transient,
			"The server's state takes no records at the moment"
	}
	if errors.Is(err, bus.ErrNewer) {
		e.log.Error("a record is of a newer version", "err", err)
		return http.StatusInternalServerError, ehi.Internal,
			"This export was made by a newer version of the server, which has to read it"
	}
	e.log.Error("request failed", "route", c.Route().Path, "method", c.Method(),
		"request", request.ID(c), "err", err)
	return http.StatusInternalServerError, ehi.Internal, "The server failed to answer this request"
}

// codeOf is the class of an error that Fiber made.
func codeOf(status int) ehi.Code {
	switch status {
	case http.StatusNotFound:
		return ehi.NotFound
	case http.StatusNotAcceptable:
		return ehi.Unsupported
	case http.StatusRequestTimeout:
		return ehi.TimedOut
	case http.StatusRequestHeaderFieldsTooLarge, http.StatusRequestEntityTooLarge:
		return ehi.TooLarge
	}
	return ehi.Invalid
}
