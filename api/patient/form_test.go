package patient

import (
	"net/url"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/shared/ehi"
)

// EHI-8: only the value of the page's checkbox counts as yes: not a value that a program sends
// for no, not a yes together with a no, and nothing in the query.
func TestEHI8APageTicksByItsTickBoxAlone(t *testing.T) {
	for _, c := range []struct {
		query string
		sent  []string
		want  bool
	}{
		{"", []string{"on"}, true},
		{"", []string{"on", "on"}, true},
		{"", []string{"on", "no"}, false},
		{"", []string{"no", "on"}, false},
		{"", []string{"off"}, false},
		{"", []string{"no"}, false},
		{"", []string{"false"}, false},
		{"", []string{"0"}, false},
		{"", []string{"none"}, false},
		{"", []string{" "}, false},
		{"", []string{"yes"}, false},
		{"", []string{""}, false},
		{"", nil, false},
		{"?a.hiv=on&p.labs=on", nil, false},
	} {
		app := fiber.New()
		ctx := app.AcquireCtx(&fasthttp.RequestCtx{})
		ctx.Request().SetRequestURI("/jobs/j" + c.query)
		ctx.Request().Header.SetContentType(fiber.MIMEApplicationForm)
		ctx.Request().SetBodyString(url.Values{"a.hiv": c.sent, "p.labs": c.sent}.Encode())
		form, err := values(ctx).form()
		_, labs := form.Parameters[ehi.Labs]
		if err != nil || form.Authorizes(ehi.HIV) != c.want || labs != c.want {
			t.Errorf("%s %q: authorised %v, labs %v, %v",
				c.query, c.sent, form.Authorizes(ehi.HIV), labs, err)
		}
		app.ReleaseCtx(ctx)
	}
}
