package smart

import (
	"context"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"
	"github.com/valyala/fasthttp"

	"ehi-server/api/live"
	"ehi-server/api/page"
	"ehi-server/api/patient"
	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/subject"
)

const (
	origin       = "http://server.test"
	callback     = "https://app.example.org/cb"
	secret       = "the secret of the sandbox"
	initialToken = "the initial access token"
)

// fixture has all handlers of the package, on an authorization server in sandbox mode.
type fixture struct {
	t        *testing.T
	app      *fiber.App
	auth     *auth.Server
	patient  string        // who is signed in; "" for nobody
	events   []ehi.Event   // what was recorded
	clients  []string      // whose failures were asked for
	limited  []string      // the paths that are behind Limit
	reg      *Registration // may be changed between requests
	discover *Discovery
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	s, err := auth.New(t.Context(), auth.Config{
		KV:      b.Auth,
		Issuer:  origin,
		Sandbox: true,
		Flags:   auth.Flags{SandboxSecret: secret},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	f := &fixture{t: t, auth: s}
	f.app = fiber.New(fiber.Config{Immutable: true, ErrorHandler: answerError})
	f.register(b)
	return f
}

// answerError is the part of the server's error handler that concerns this package.
func answerError(c *fiber.Ctx, err error) error {
	if e, ok := errors.AsType[*auth.Error](err); ok {
		return SendError(c, e)
	}
	status := http.StatusInternalServerError
	switch ehi.CodeOf(err) {
	case ehi.Invalid:
		status = http.StatusBadRequest
	case ehi.NotFound:
		status = http.StatusNotFound
	case ehi.Throttled:
		status = http.StatusTooManyRequests
	}
	return SendFailure(c, status, err.Error())
}

// register registers all routes.
func (f *fixture) register(b *bus.Bus) {
	f.t.Helper()
	origins := request.Origins{BaseURL: origin, Fixed: true}
	site := page.Site{Origins: origins}
	views, err := page.NewRenderer(site, true, template.FuncMap{"plot": live.Draw})
	if err != nil {
		f.t.Fatal(err)
	}
	key, err := page.ReadKey(f.t.Context(), b.Auth)
	if err != nil {
		f.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	pages := &patient.Pages{
		Site: site, Views: views, Guard: page.Guard{Site: site, Key: key, Clock: time.Now},
		Flashes: &page.Flashes{Safe: page.Safe{Kept: b.Sessions.Part(subject.Kind{})}, Log: log},
	}
	f.discover = &Discovery{Origins: origins, Keys: f.auth, Registers: true}
	f.discover.Routes(f)
	f.discover.BaseRoutes(f, "/fhir")
	authorization := &Authorization{
		Origins: origins, Sandbox: true, Auth: f.auth, Source: f, Sessions: f, Pages: pages,
		Wording: patient.Wording{Jobs: f}, Trail: f, Failures: f,
	}
	authorization.Routes(f)
	tokens := &TokenEndpoints{Origins: origins, Auth: f.auth, Trail: f, Failures: f, Log: log}
	tokens.Routes(f)
	f.reg = &Registration{Token: initialToken, Clients: f.auth, Trail: f, Failures: f}
	f.reg.Routes(f)
}

// On implements Router, without rules of access.
func (f *fixture) On(method, path string, handler fiber.Handler, before ...fiber.Handler) {
	f.app.Add(method, path, append(before, handler)...)
}

// Record implements Trail.
func (f *fixture) Record(_ *fiber.Ctx, err error, e ehi.Event) {
	if err != nil {
		e.Outcome = ehi.Denied
	}
	f.events = append(f.events, e)
}

// Limit and LimitClient implement Failures.
func (f *fixture) Limit(c *fiber.Ctx) error {
	f.limited = append(f.limited, c.Method()+" "+c.Path())
	return c.Next()
}

func (f *fixture) LimitClient(_ *fiber.Ctx, client string) error {
	f.clients = append(f.clients, client)
	if client == "locked" {
		return ehi.Errorf(ehi.Throttled, "Too many requests of this client have failed")
	}
	return nil
}

// Patient implements Patients: p1 is the only one.
func (f *fixture) Patient(_ context.Context, id string) (ehi.Patient, error) {
	if id != "p1" {
		return ehi.Patient{}, ehi.Errorf(ehi.NotFound, "No such patient")
	}
	return ehi.Patient{ID: id, Name: "Ada Lovelace"}, nil
}

// LoggedIn and Account implement Sessions.
func (f *fixture) LoggedIn(*fiber.Ctx) (string, error) { return f.patient, nil }

func (f *fixture) Account(*fiber.Ctx, string) (auth.Account, error) { return auth.Account{}, nil }

// MaySkip implements patient.Skips.
func (f *fixture) MaySkip(string) (form, review bool) { return false, false }

// answer is what a request got.
type answer struct {
	status int
	header func(name string) string
	body   string
}

// ask sends a request. header are pairs of name and value; a body is a form unless they say
// otherwise.
func (f *fixture) ask(method, path, body string, header ...string) answer {
	f.t.Helper()
	var c fasthttp.RequestCtx
	c.Request.Header.SetMethod(method)
	c.Request.SetRequestURI(path)
	c.Request.Header.SetContentType(fiber.MIMEApplicationForm)
	c.Request.SetBodyString(body)
	for pair := range slices.Chunk(header, 2) {
		c.Request.Header.Set(pair[0], pair[1])
	}
	f.app.Handler()(&c)
	return answer{
		status: c.Response.StatusCode(),
		header: func(name string) string { return string(c.Response.Header.Peek(name)) },
		body:   string(c.Response.Body()),
	}
}

// post sends a form.
func (f *fixture) post(path string, form url.Values, header ...string) answer {
	f.t.Helper()
	return f.ask(http.MethodPost, path, form.Encode(), header...)
}

// read decodes the JSON of an answer.
func (f *fixture) read(a answer) map[string]any {
	f.t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(a.body), &out); err != nil {
		f.t.Fatalf("%d %q is no JSON: %v", a.status, a.body, err)
	}
	return out
}

// refused checks that an answer is an OAuth error (RFC 6749 5.2).
func (f *fixture) refused(what string, a answer, status int, code string) {
	f.t.Helper()
	told := f.read(a)
	if a.status != status || told["error"] != code || told["error_description"] == "" ||
		len(told) != 2 || !strings.HasPrefix(a.header("Content-Type"), "application/json") {
		f.t.Errorf("%s: %d %s, want %d %s", what, a.status, a.body, status, code)
	}
}

// last returns the event that was recorded last.
func (f *fixture) last() ehi.Event {
	f.t.Helper()
	if len(f.events) == 0 {
		f.t.Fatal("nothing is recorded")
	}
	return f.events[len(f.events)-1]
}

// way returns where an answer leads, and the parameters that it adds.
func (f *fixture) way(a answer, status int) (to string, q url.Values) {
	f.t.Helper()
	u, err := url.Parse(a.header("Location"))
	if err != nil || a.status != status {
		f.t.Fatalf("%d to %q: %s", a.status, a.header("Location"), a.body)
	}
	q = u.Query()
	u.RawQuery = ""
	return u.String(), q
}

// asked is an authorization request of the sandbox's client, changed by pairs of name and value.
func asked(change ...string) url.Values {
	q := url.Values{
		"response_type": {"code"}, "client_id": {auth.SandboxClientID}, "redirect_uri": {callback},
		"state": {"st"}, "scope": {"patient/$ehi-export"}, "aud": {origin + "/fhir"},
	}
	for pair := range slices.Chunk(change, 2) {
		q.Set(pair[0], pair[1])
	}
	return q
}

// code returns a code to which p1 has agreed.
func (f *fixture) code() string {
	f.t.Helper()
	q := asked("_patient", "p1", "_auth_success", "1")
	_, back := f.way(f.ask(http.MethodGet, "/auth/authorize?"+q.Encode(), ""), http.StatusFound)
	if back.Get("code") == "" || back.Get("state") != "st" || back.Get("iss") != origin {
		f.t.Fatalf("the client gets %v", back)
	}
	return back.Get("code")
}

// redemption is the request of a token for a code.
func redemption(code string) url.Values {
	return url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback},
		"client_id": {auth.SandboxClientID},
	}
}
