package server

import (
	"strconv"
	"sync"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"ehi-server/shared/telemetry"
)

// meterBook keeps the metrics of each route at hand: looking them up by their labels is most of
// what they cost.
type meterBook struct {
	routes sync.Map // routeKey -> *routeMeters
}

// routeKey names a route: Fiber has one for each template and method.
type routeKey struct {
	route  *fiber.Route
	method string
}

type routeMeters struct {
	template, method string
	seconds          prometheus.Observer
	statuses         sync.Map // int -> prometheus.Counter
}

// of finds the metrics of the request's route.
func (b *meterBook) of(c *fiber.Ctx) *routeMeters {
	key := routeKey{c.Route(), c.Method()}
	if m, ok := b.routes.Load(key); ok {
		return m.(*routeMeters)
	}
	template := key.route.Path
	routed := len(key.route.Handlers) > 0
	if !routed { // it was made for this request, and its path may have ids in it
		template = "other"
	}
	m := &routeMeters{
		template: template,
		method:   key.method,
		seconds:  telemetry.HTTPSeconds.WithLabelValues(template, key.method),
	}
	if routed {
		b.routes.Store(key, m)
	}
	return m
}

// answered is the counter of answers with a status.
func (m *routeMeters) answered(status int) prometheus.Counter {
	if c, ok := m.statuses.Load(status); ok {
		return c.(prometheus.Counter)
	}
	c := telemetry.HTTPRequests.WithLabelValues(m.template, m.method, strconv.Itoa(status))
	m.statuses.Store(status, c)
	return c
}
