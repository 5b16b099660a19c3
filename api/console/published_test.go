package console

import (
	"context"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/live"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// private are records that nobody may read.
type private struct{ t *testing.T }

func (p private) Patients(context.Context, int) ([]ehi.Patient, error) {
	p.t.Error("the records are read")
	return nil, nil
}

func (p private) Open(context.Context, string) (source.Record, error) {
	p.t.Error("the records are read")
	return nil, ehi.Errorf(ehi.NotFound, "No such patient")
}

func (private) Tables(context.Context) (*datapackage.Package, error) { return nil, nil }

// site serves the pages about the format of exports of some records.
func site(t *testing.T, records Records, sandbox bool) *fiber.App {
	t.Helper()
	views, err := page.NewRenderer(page.Site{}, sandbox, template.FuncMap{"plot": live.Draw})
	if err != nil {
		t.Fatal(err)
	}
	h := &Pages{
		Views: views, Sandbox: sandbox, Records: records, Log: slog.New(slog.DiscardHandler),
		Origins: request.Origins{BaseURL: "https://ehi.example.org", Fixed: true},
	}
	app := fiber.New()
	h.Routes(routes{app})
	return app
}

// routes registers handlers without rules of access.
type routes struct{ *fiber.App }

func (r routes) On(method, path string, handler fiber.Handler, before ...fiber.Handler) {
	r.Add(method, path, append(before, handler)...)
	if method == http.MethodGet {
		r.Head(path, handler)
	}
}

// get returns the answer to a request.
func get(t *testing.T, app *fiber.App, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	a, err := app.Test(r, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close() // in memory
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a, string(body)
}

// docsOf returns the page of the format.
func docsOf(t *testing.T, records Records, sandbox bool) string {
	t.Helper()
	a, body := get(t, site(t, records, sandbox), "/docs/ehi")
	if a.StatusCode != http.StatusOK {
		t.Fatalf("%d %.200s", a.StatusCode, body)
	}
	return body
}

// REAL-15 (existence is information): in production, the public page of the format describes
// what the server can export, and does not read the records. In the sandbox it describes them.
func TestREAL15TheDocumentationInProductionIsNotMadeFromRecords(t *testing.T) {
	text := docsOf(t, private{t}, false)
	for _, typ := range fhir.Types() {
		if !strings.Contains(text, `id="type-`+typ+`"`) {
			t.Errorf("it does not describe %s", typ)
		}
	}
	for _, part := range []string{
		"What an export contains", `<code>onset[x]</code>`, `<code>clinicalStatus</code>`,
		`An example`,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("it does not say %s", part)
		}
	}
	store, err := dataset.Open(dataset.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	const record = `{"resourceType":"Patient","id":"pw"}
{"resourceType":"Condition","id":"c",` +
		`"meta":{"profile":["https://clinic.example/profile"]},` +
		`"subject":{"reference":"Patient/pw"},` +
		`"code":{"coding":[{"system":"https://clinic.example/hiv","code":"x"}]}}
`
	file := filepath.Join(t.TempDir(), "in.ndjson")
	if err := os.WriteFile(file, []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	now := source.ImportOptions{Now: time.Now()}
	if _, err := store.Import(t.Context(), []string{file}, now); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(docsOf(t, store, true), "clinic.example") {
		t.Error("the sandbox does not tell the code systems of records")
	}
	if after := docsOf(t, store, false); after != text {
		t.Error("the page changes with the records")
	}
}
