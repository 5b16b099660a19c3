package server

import (
	"errors"
	"net"
	"net/http"
	"slices"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/api/condition"
	"ehi-server/api/content"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// known has requests whose method is none of HTTP's answered like those whose method the route
// does not have: Fiber answers them before a handler runs, in text that it does not announce.
// TRACE stands for all of them, which no route has.
func (s *Server) known(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(r *fasthttp.RequestCtx) {
		if !slices.Contains(fiber.DefaultMethods, string(r.Method())) {
			r.Request.Header.SetMethod(fiber.MethodTrace)
			r.SetConnectionClose() // the request's body stays unread
		}
		next(r)
	}
}

// tooManyConnections is what a client reads where there is no place for its connection.
var tooManyConnections = []byte("HTTP/1.1 503 Service Unavailable\r\nConnection: " +
	"close\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n")

// unbroken has errors of reading answered, but for those of connections that broke: anybody can
// make as many of them as he likes, nobody reads the answer, and they are nothing to be logged.
func (s *Server) unbroken(
	next func(*fasthttp.RequestCtx, error),
) func(*fasthttp.RequestCtx, error) {
	return func(r *fasthttp.RequestCtx, err error) {
		if broke, ok := errors.AsType[net.Error](err); ok && !broke.Timeout() {
			telemetry.HTTPBroken.Inc()
			r.SetStatusCode(http.StatusBadRequest)
			return
		}
		next(r, err)
	}
}

// handleAlive answers whether the process is worth keeping: 503 once it has lost NATS for good,
// and could not open a new connection. It may then be restarted.
func (s *Server) handleAlive(c *fiber.Ctx) error {
	if s.Bus.Failed() != nil {
		return content.Empty(c, http.StatusServiceUnavailable)
	}
	return content.Empty(c, http.StatusOK)
}

// handleReady answers whether the process can do its work: 200, or 503 with the reason, as far
// as it is for anybody.
func (s *Server) handleReady(c *fiber.Ctx) error {
	if err := s.readiness.Ready(); err != nil {
		return content.Text(c, http.StatusServiceUnavailable, s.unready(err)+"\n")
	}
	return content.Empty(c, http.StatusOK)
}

// unready says why the process is not ready. What the log has of it names folders and streams.
func (s *Server) unready(err error) string {
	if why := s.Condition.Rescue(); why != nil {
		return "rescue mode: " + condition.Reason(why)
	}
	if own, ok := errors.AsType[*ehi.Error](err); ok {
		return own.Message
	}
	return "a part of the server does not work; its log says which"
}
