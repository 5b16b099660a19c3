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

// known makes Fiber answer a request with an unknown method like one whose method the route does
// not support. Otherwise Fiber would answer it before any handler runs, with a text without a
// Content-Type. known replaces the method by TRACE, which no route supports.
func (s *Server) known(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(r *fasthttp.RequestCtx) {
		if !slices.Contains(fiber.DefaultMethods, string(r.Method())) {
			r.Request.Header.SetMethod(fiber.MethodTrace)
			r.SetConnectionClose() // the request's body stays unread
		}
		next(r)
	}
}

// tooManyConnections is the answer on a connection for which there is no room.
var tooManyConnections = []byte("HTTP/1.1 503 Service Unavailable\r\nConnection: " +
	"close\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n")

// unbroken answers errors of reading a request, except those of connections that broke. It counts
// these and does not log them: anybody can cause as many as they like, and nobody reads the answer.
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

// handleAlive answers whether the process is alive: 503 after it has lost NATS for good and
// could not open a new connection. Whoever runs the process may then restart it.
func (s *Server) handleAlive(c *fiber.Ctx) error {
	if s.Bus.Failed() != nil {
		return content.Empty(c, http.StatusServiceUnavailable)
	}
	return content.Empty(c, http.StatusOK)
}

// handleReady answers whether the process can do its work: 200, or 503 with the public part of the
// reason.
func (s *Server) handleReady(c *fiber.Ctx) error {
	if err := s.readiness.Ready(); err != nil {
		return content.Text(c, http.StatusServiceUnavailable, s.unready(err)+"\n")
	}
	return content.Empty(c, http.StatusOK)
}

// unready is the public part of why the process is not ready. The log names folders and streams,
// too.
func (s *Server) unready(err error) string {
	if why := s.Condition.Rescue(); why != nil {
		return "rescue mode: " + condition.Reason(why)
	}
	if own, ok := errors.AsType[*ehi.Error](err); ok {
		return own.Message
	}
	return "a part of the server does not work; its log says which"
}
