package page

import (
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Only the body of a page's form counts: a link with the same name in its query changes nothing.
func TestTheQueryOfAFormIsIgnored(t *testing.T) {
	app := fiber.New()
	for body, want := range map[string]string{"decision=deny": "deny", "other=deny": "", "": ""} {
		ctx := app.AcquireCtx(&fasthttp.RequestCtx{})
		ctx.Request().SetRequestURI("/authorize-app?decision=allow")
		ctx.Request().Header.SetContentType(fiber.MIMEApplicationForm)
		ctx.Request().SetBodyString(body)
		if got := Field(ctx, "decision"); got != want {
			t.Errorf("of %q the decision is %q", body, got)
		}
		app.ReleaseCtx(ctx)
	}
}
