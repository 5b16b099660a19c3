package console

import (
	"io"
	"net/http/httptest"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/openapi"
	"ehi-server/api/request"
	"ehi-server/shared/telemetry"
)

// The OpenAPI document is made once, and is for each origin what a document made for it would be.
func TestTheAPIsDocumentIsMadeOnce(t *testing.T) {
	tags := map[string]string{}
	for _, origin := range []string{
		"https://ehi.example.org", "http://127.0.0.1:8080", `http://"},{"x":"`, "http://<ü>", "",
	} {
		app := fiber.New()
		pages := &Pages{Origins: request.Origins{BaseURL: origin, Fixed: true}}
		app.Get("/openapi.json", pages.handleOpenAPI)
		ask := func(etag string) (status int, tag, body string) {
			t.Helper()
			req := httptest.NewRequest("GET", "/openapi.json", nil)
			req.Header.Set("If-None-Match", etag)
			resp, err := app.Test(req, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close() // of memory
			text, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, resp.Header.Get("ETag"), string(text)
		}
		want, err := json.Marshal(openapi.Document(origin, telemetry.Version()))
		if err != nil {
			t.Fatal(err)
		}
		status, tag, body := ask("")
		if status != 200 || body != string(want) {
			t.Errorf("%q: %d, %d bytes in place of %d", origin, status, len(body), len(want))
		}
		if other, known := tags[tag]; known || tag == "" {
			t.Errorf("%q has the tag %s of %q", origin, tag, other)
		}
		tags[tag] = origin
		if status, again, body := ask(tag); status != 304 || again != tag || body != "" {
			t.Errorf("%q: %d %s %q to who has it", origin, status, again, body)
		}
	}
}
