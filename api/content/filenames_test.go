package content

import (
	"mime"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// RFC 6266 and 8187: an ASCII name for old browsers, and the full name.
func TestNamesInHeadersAreTrueAndASCII(t *testing.T) {
	app := fiber.New()
	for _, c := range []struct{ name, want string }{
		{"scan.pdf", `attachment; filename="scan.pdf"`},
		{
			"näme (1).pdf",
			`attachment; filename="name (1).pdf"; filename*=UTF-8''n%C3%A4me%20%281%29.pdf`,
		},
		{"診.pdf", `attachment; filename="_.pdf"; filename*=UTF-8''%E8%A8%BA.pdf`},
		{`50%41'*.txt`, `attachment; filename="50_41'*.txt"; filename*=UTF-8''50%2541%27%2A.txt`},
	} {
		ctx := app.AcquireCtx(&fasthttp.RequestCtx{})
		SaveAs(ctx, c.name)
		got := string(ctx.Response().Header.Peek("Content-Disposition"))
		_, params, err := mime.ParseMediaType(got)
		if got != c.want || err != nil || params["filename"] != c.name {
			t.Errorf("%q is offered as %s, that is %q, %v", c.name, got, params["filename"], err)
		}
		app.ReleaseCtx(ctx)
	}
}
