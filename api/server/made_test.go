package server

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

// The API's document is made once, and says for each origin what one that is made for it alone says.
func TestTheAPIsDocumentIsMadeOnce(t *testing.T) {
	tags := map[string]string{}
	for _, origin := range []string{"https://ehi.example.org", "http://127.0.0.1:8080", `http://"},{"x":"`, "http://<ü>", ""} {
		app := fiber.New()
		s := &Server{Config: Config{Origins: request.Origins{BaseURL: origin, Fixed: true}}}
		app.Get("/openapi.json", s.handleOpenAPI)
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

// The page of the format is made anew where there is something new to say, and only the last one is kept.
func TestThePageOfTheFormatIsMadeOnce(t *testing.T) {
	b, made := docsBook{}, 0
	render := func() ([]byte, error) {
		made++
		return []byte("page"), nil
	}
	at := now()
	for i, times := range []int{3, 3} {
		for range times {
			if _, err := b.of(at, render); err != nil || made != i+1 {
				t.Fatalf("made %d times, %v", made, err)
			}
		}
		at = at.Add(1)
	}
}
