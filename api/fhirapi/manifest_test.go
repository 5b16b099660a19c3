package fhirapi

import (
	"math"
	"strconv"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/shared/ehi"
)

// A page that a manifest does not have is refused, even if its offset among the tasks overflows
// an int.
func TestBULK3APageOfAManifestIsOneThatItHas(t *testing.T) {
	app := fiber.New()
	ask := func(page string, pageTasks int) (int, error) {
		c := app.AcquireCtx(&fasthttp.RequestCtx{})
		defer app.ReleaseCtx(c)
		c.Request().SetRequestURI("/?page=" + page)
		return pageOf(c, &ehi.Job{Tasks: 7, KickOff: ehi.KickOff{Paged: true}}, pageTasks)
	}
	for _, page := range []string{
		strconv.Itoa(math.MaxInt64), strconv.Itoa(math.MaxInt64/50 + 2), strconv.Itoa(1 << 58),
		"18446744073709551616", strconv.Itoa(math.MinInt64), "-1", "7", "x",
	} {
		for _, pageTasks := range []int{1, 2, 3, 64, 100} {
			if n, err := ask(page, pageTasks); ehi.CodeOf(err) != ehi.NotFound {
				t.Errorf("page %q of tasks by %d is %d, %v", page, pageTasks, n, err)
			}
		}
	}
	for page, pageTasks := range map[string]int{"0": 100, "1": 4, "2": 3, "6": 1} {
		if n, err := ask(page, pageTasks); strconv.Itoa(n) != page || err != nil {
			t.Errorf("page %q of tasks by %d is %d, %v", page, pageTasks, n, err)
		}
	}
}
