package fhirapi

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"
	"github.com/valyala/fasthttp"

	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

const origin = "http://server.test"

// library has the handlers of the package in front of a record store with some patients and
// groups.
type library struct {
	t      *testing.T
	app    *fiber.App
	store  *dataset.Store
	access auth.Access // of the next request
	read   []string    // patients in the audit trail
}

func newLibrary(t *testing.T) *library {
	t.Helper()
	store, err := dataset.Open(dataset.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	rules, err := release.RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	l := &library{t: t, store: store, app: fiber.New(fiber.Config{
		Immutable: true,
		ErrorHandler: func(c *fiber.Ctx, err error) error {
			status := http.StatusInternalServerError
			if code := ehi.CodeOf(err); code == ehi.Invalid || code == ehi.Unsupported {
				status = http.StatusBadRequest
			}
			return c.Status(status).SendString(err.Error())
		},
	})}
	l.load(
		`{"resourceType":"Patient","id":"ann","birthDate":"1970-05-17",`+
			`"identifier":[{"system":"urn:mrn","value":"1"}],`+
			`"name":[{"family":"Müller-Lüdenscheidt","given":["Ann"]}]}`,
		`{"resourceType":"Patient","id":"bob","birthDate":"1980",`+
			`"identifier":[{"system":"urn:mrn","value":"2"},{"system":"urn:ssn","value":"1"}],`+
			`"name":[{"text":"Bob Muller"}]}`,
		`{"resourceType":"Patient","id":"cid","identifier":[{"value":"1"}],`+
			`"name":[{"family":"Nobody"}]}`,
		`{"resourceType":"Patient","id":"dot","birthDate":"1990-01-01"}`,
		`{"resourceType":"Group","id":"g1","type":"person","actual":true,`+
			`"identifier":[{"system":"urn:roster","value":"a"}],`+
			`"member":[{"entity":{"reference":"Patient/ann"}}]}`,
		`{"resourceType":"Group","id":"g2","type":"person","actual":true,`+
			`"member":[{"entity":{"reference":"Patient/bob"}}]}`,
	)
	h := &Handlers{
		Config: Config{Origins: request.Origins{BaseURL: origin, Fixed: true}},
		Source: store, Rules: rules, Trail: l, Failures: l, Log: slog.New(slog.DiscardHandler),
	}
	for _, base := range []string{"/fhir", "/no-form/fhir"} {
		h.Routes(l, base)
	}
	return l
}

// load imports resources.
func (l *library) load(lines ...string) {
	l.t.Helper()
	file := filepath.Join(l.t.TempDir(), "in.ndjson")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		l.t.Fatal(err)
	}
	now := source.ImportOptions{Now: time.Now()}
	if _, err := l.store.Import(l.t.Context(), []string{file}, now); err != nil {
		l.t.Fatal(err)
	}
}

// On implements Router, without rules of access.
func (l *library) On(method, path string, handler fiber.Handler, _ ...fiber.Handler) {
	add := func(method string) {
		l.app.Add(method, path, func(c *fiber.Ctx) error {
			access := l.access
			request.SetAccess(c, &access)
			return handler(c)
		})
	}
	if add(method); method == http.MethodGet {
		add(http.MethodHead)
	}
}

// Record and Disclose implement Trail.
func (l *library) Record(_ *fiber.Ctx, _ error, e ehi.Event) {
	if e.Action == ehi.ActionRead && e.Patient != "" {
		l.read = append(l.read, e.Patient)
	}
}

func (*library) Disclose(*fiber.Ctx, *ehi.Job) {}

// Limit and LimitClient implement Failures.
func (*library) Limit(c *fiber.Ctx) error { return c.Next() }

func (*library) LimitClient(*fiber.Ctx, string) error { return nil }

// ask sends a request; header are pairs of name and value.
func (l *library) ask(method, target, body string, header ...string) *fasthttp.Response {
	l.t.Helper()
	var c fasthttp.RequestCtx
	c.Request.Header.SetMethod(method)
	c.Request.SetRequestURI(target)
	for pair := range slices.Chunk(header, 2) {
		c.Request.Header.Set(pair[0], pair[1])
	}
	c.Request.SetBodyString(body)
	l.app.Handler()(&c)
	return &c.Response
}

// searchset is a Bundle with search results.
type searchset struct {
	Total *int
	Link  []struct{ Relation, URL string }
	Entry []struct {
		FullURL  string
		Resource struct{ ResourceType, ID string }
	}
}

func (s searchset) link(relation string) string {
	for _, l := range s.Link {
		if l.Relation == relation {
			return strings.TrimPrefix(l.URL, origin)
		}
	}
	return ""
}

func (s searchset) ids() (ids []string) {
	for _, e := range s.Entry {
		ids = append(ids, e.Resource.ID)
	}
	return ids
}

// search reads one page. FHIR has no empty lists.
func (l *library) search(target string) (s searchset) {
	l.t.Helper()
	a := l.ask("GET", target, "")
	body := string(a.Body())
	if a.StatusCode() != http.StatusOK || json.Unmarshal(a.Body(), &s) != nil || s.Total == nil ||
		!strings.Contains(body, `"searchset"`) || strings.Contains(body, "[]") {
		l.t.Fatalf("%s: %d %s", target, a.StatusCode(), body)
	}
	return s
}
