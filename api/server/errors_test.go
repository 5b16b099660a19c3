package server

import (
	"testing"

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
