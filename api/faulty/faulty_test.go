package faulty

import (
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/shared/ehi"
)

// The first and the third status request of a job fail, the others succeed. Each job has its own
// count.
func TestAFaultGoesAway(t *testing.T) {
	b, err := NewBook()
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New()
	for _, id := range []string{"a", "b"} {
		j := &ehi.Job{ID: id, Faults: []ehi.Fault{ehi.FaultThrottled}}
		for n, fails := range []bool{true, false, true, false, false} {
			c := app.AcquireCtx(&fasthttp.RequestCtx{})
			done, err := b.Status(c, j)
			if done != fails || (ehi.CodeOf(err) == ehi.Throttled) != fails {
				t.Errorf("request %d of %s: %v, %v", n+1, id, done, err)
			}
			if (c.GetRespHeader("Retry-After") != "") != fails {
				t.Errorf("request %d of %s: Retry-After %q", n+1, id,
					c.GetRespHeader("Retry-After"))
			}
			app.ReleaseCtx(c)
		}
	}
	c := app.AcquireCtx(&fasthttp.RequestCtx{})
	defer app.ReleaseCtx(c)
	if done, err := b.Status(c, &ehi.Job{ID: "c"}); done || err != nil {
		t.Errorf("a job without faults: %v, %v", done, err)
	}
}
