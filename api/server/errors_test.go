package server

import (
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/ehi"
)

// Each class of error has its HTTP status.
func TestEachClassOfErrorHasItsStatus(t *testing.T) {
	for code, want := range map[ehi.Code]int{
		ehi.Invalid:         400,
		ehi.Unsupported:     400,
		ehi.Conflict:        400,
		ehi.TooCostly:       400,
		ehi.Unauthenticated: 401,
		ehi.Forbidden:       403,
		ehi.NotFound:        404,
		ehi.TimedOut:        408,
		ehi.TooLarge:        413,
		ehi.Throttled:       429,
		ehi.Internal:        500,
		ehi.Transient:       503,
	} {
		if got := statusOf(code); got != want {
			t.Errorf("%s is answered with %d, not %d", code, got, want)
		}
	}
}

// An answer that asks for a retry says when: after what the error says, or after 5 s.
func TestAnAnswerThatAsksForARetrySaysWhen(t *testing.T) {
	s := routed(t)
	for path, c := range map[string]struct {
		err    error
		status int
		wait   string
	}{
		"/throttled": {ehi.Errorf(ehi.Throttled, "Too much"), 429, "5"},
		"/window":    {ehi.Throttle(90*time.Second, "The quota is used up"), 429, "90"},
		"/full":      {ehi.Errorf(ehi.Transient, "The disk is full"), 503, "5"},
		"/wrong":     {ehi.Errorf(ehi.Invalid, "Not this"), 400, ""},
	} {
		s.app.Get(path, func(*fiber.Ctx) error { return c.err })
		a := ask(t, s, "GET", path)
		if wait := a.Header.Get("Retry-After"); a.StatusCode != c.status || wait != c.wait {
			t.Errorf("%s is answered with %d, retry after %q", path, a.StatusCode, wait)
		}
	}
}
