package staff

import (
	"context"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/api/content"
	"ehi-server/api/live"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/subject"

	"github.com/segmentio/encoding/json"
)

// reviews stands for jobs.Service: it finds the jobs of a bucket, and notes what it is asked for.
type reviews struct {
	Jobs
	index *bus.Jobs
	// asked are the decisions, by the job's ID; refuse is the error of each.
	asked  map[string]jobs.Decision
	refuse map[string]error
}

func (r *reviews) Record(ctx context.Context, id string) (*ehi.Job, error) {
	return r.index.Get(ctx, id)
}

func (r *reviews) Approvers(*ehi.Job) []string { return nil }

func (r *reviews) Approve(
	_ context.Context, _ ehi.Actor, j *ehi.Job, d jobs.Decision,
) (*ehi.Job, error) {
	r.asked[j.ID] = d
	return j, r.refuse[j.ID]
}

// plain describes jobs by their IDs alone.
type plain struct{ Describer }

func (plain) JobForStaff(_ *fiber.Ctx, j *ehi.Job) content.Job { return content.Job{ID: j.ID} }

func (plain) ManifestForStaff(*fiber.Ctx, *ehi.Job) (json.RawMessage, error) { return nil, nil }

// idle knows of no running export.
type idle struct{}

func (idle) Of(string) (p ehi.Progress, known bool) { return p, false }

// plainly explains errors by their classes alone.
type plainly struct{}

func (plainly) Describe(_ *fiber.Ctx, err error) (status int, code ehi.Code, text string) {
	return statusFor(err), ehi.CodeOf(err), err.Error()
}

func statusFor(err error) int {
	if its, ok := errors.AsType[*fiber.Error](err); ok {
		return its.Code
	}
	switch ehi.CodeOf(err) {
	case ehi.NotFound:
		return http.StatusNotFound
	case ehi.Unauthenticated:
		return http.StatusUnauthorized
	case ehi.Forbidden:
		return http.StatusForbidden
	case ehi.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

// routes registers handlers without rules of access, for requests of a signed-in administrator.
type routes struct{ *fiber.App }

func (r routes) On(method, path string, handler fiber.Handler, before ...fiber.Handler) {
	r.Add(method, path, append(append([]fiber.Handler{signedIn}, before...), handler)...)
}

func (r routes) OnPage(
	method, path string, _, handler fiber.Handler, before ...fiber.Handler,
) {
	r.On(method, path, handler, before...)
}

func signedIn(c *fiber.Ctx) error {
	request.SetAdministrator(c, &request.Administrator{Name: "ada", Role: auth.Admin})
	return c.Next()
}

// desk is an administrator's browser, in front of a few exports.
type desk struct {
	t       *testing.T
	app     *fiber.App
	bus     *bus.Bus
	pages   *Pages
	exports *Exports
	jobs    *reviews
	flash   string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{Audit: &bus.AuditConfig{}, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	site := page.Site{Origins: request.Origins{BaseURL: "http://server.test", Fixed: true}}
	views, err := page.NewRenderer(site, false, template.FuncMap{"plot": live.Draw})
	if err != nil {
		t.Fatal(err)
	}
	key, err := page.ReadKey(t.Context(), b.Auth)
	if err != nil {
		t.Fatal(err)
	}
	r := &reviews{index: b.Jobs, asked: map[string]jobs.Decision{}, refuse: map[string]error{}}
	d := &desk{
		t: t, bus: b, jobs: r,
		app: fiber.New(fiber.Config{
			Immutable: true,
			ErrorHandler: func(c *fiber.Ctx, err error) error {
				return c.Status(statusFor(err)).SendString(err.Error())
			},
		}),
		pages: &Pages{
			Site: site, Views: views,
			Flashes: &page.Flashes{
				Safe: page.Safe{Kept: b.Sessions.Part(subject.Kind{})},
				Log:  slog.New(slog.DiscardHandler),
			},
			Guard:   page.Guard{Site: site, Key: key, Clock: time.Now},
			Explain: plainly{},
		},
		exports: &Exports{Jobs: r, Index: b.Jobs, Describer: plain{}},
	}
	return d
}

// keep stores an export that waits for its review.
func (d *desk) keep(id string, change ...func(*ehi.Job)) {
	d.t.Helper()
	j := &ehi.Job{
		ID: id, Status: ehi.Retrieved, Level: ehi.OnePatient, CreatedAt: now(), CompletedAt: now(),
		Patient: ehi.Patient{ID: "p-" + id, Name: "Ana " + id},
	}
	for _, f := range change {
		f(j)
	}
	if err := d.bus.Jobs.Create(d.t.Context(), j); err != nil {
		d.t.Fatal(err)
	}
}

// ask sends a request; header has names and values.
func (d *desk) ask(method, path, body string, header ...string) *fasthttp.Response {
	d.t.Helper()
	var c fasthttp.RequestCtx
	c.Request.Header.SetMethod(method)
	c.Request.SetRequestURI(path)
	c.Request.Header.Set("Accept", "text/html")
	c.Request.Header.Set("Cookie", "sid=session; ehi_flash="+d.flash)
	for i := 0; i+1 < len(header); i += 2 {
		c.Request.Header.Set(header[i], header[i+1])
	}
	c.Request.SetBodyString(body)
	d.app.Handler()(&c)
	var set fasthttp.Cookie
	set.SetKey("ehi_flash")
	if c.Response.Header.Cookie(&set) {
		d.flash = string(set.Value())
	}
	return &c.Response
}

// send sends a form, and is the page that its answer leads to.
func (d *desk) send(path, body string) (to string) {
	d.t.Helper()
	a := d.ask("POST", path, body, "Content-Type", fiber.MIMEApplicationForm)
	if a.StatusCode() != http.StatusSeeOther {
		d.t.Fatalf("%s answers %d: %.300s", path, a.StatusCode(), a.Body())
	}
	at, err := url.Parse(string(a.Header.Peek("Location")))
	if err != nil {
		d.t.Fatal(err)
	}
	return at.RequestURI()
}
