package patient

import (
	"context"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/api/live"
	"ehi-server/api/page"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/release"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/subject"
)

// waiting is the only export. It waits for its patient's form.
type waiting struct {
	job    ehi.Job
	form   *ehi.ReleaseForm
	refuse error // of Submit
	// counts are what a form would release; nil while they are being counted.
	counts func(ehi.ReleaseForm) release.Counts
	wait   time.Duration // how long the latest page would have waited for them
}

func (w *waiting) FindAuthorized(context.Context, string) (*ehi.Job, error) { return &w.job, nil }

func (w *waiting) FindOwn(context.Context, ehi.Actor, string) (*ehi.Job, error) {
	return &w.job, nil
}

func (w *waiting) Submit(
	_ context.Context, _ ehi.Actor, _ *ehi.Job, form ehi.ReleaseForm,
) (*ehi.Job, error) {
	if w.refuse != nil {
		return nil, w.refuse
	}
	w.form, w.job.Status = &form, ehi.Requested
	return &w.job, nil
}

func (w *waiting) Preview(
	_ context.Context, _ *ehi.Job, form ehi.ReleaseForm, wait time.Duration,
) (n release.Counts, err error) {
	if w.wait = wait; w.counts == nil {
		return n, jobs.ErrCounting
	}
	return w.counts(form), nil
}

func (w *waiting) FormRedirect(context.Context, string, string) (string, bool) { return "", false }

// signedIn is a session of one patient.
type signedIn struct {
	Sessions
	patient string
}

func (s signedIn) LoggedIn(c *fiber.Ctx) (string, error) {
	if c.Cookies("ehi_patient") != "session" {
		return "", nil
	}
	return s.patient, nil
}

// AnswerSender implements Describer.
func (signedIn) AnswerSender(c *fiber.Ctx, j *ehi.Job) error { return c.JSON(j.ID) }

// nobody has no token.
type nobody struct{}

func (nobody) Authenticate(*fiber.Ctx) (*auth.Access, error) {
	return nil, ehi.Errorf(ehi.Unauthenticated, "no token")
}

// routes registers handlers without access rules.
type routes struct{ *fiber.App }

func (r routes) On(method, path string, handler fiber.Handler, before ...fiber.Handler) {
	r.Add(method, path, append(before, handler)...)
}

// reader is a patient's browser with the form of an export.
type reader struct {
	t       *testing.T
	app     *fiber.App
	bus     *bus.Bus
	form    *Form
	jobs    *waiting
	session string            // "" for nobody who is signed in
	kept    map[string]string // cookies that pages have set
}

func newReader(t *testing.T) *reader {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{Audit: &bus.AuditConfig{}, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	site := page.Site{}
	views, err := page.NewRenderer(site, false, template.FuncMap{"plot": live.Draw})
	if err != nil {
		t.Fatal(err)
	}
	kept, log := b.Sessions.Part(subject.Kind{}), slog.New(slog.DiscardHandler)
	w := &waiting{job: ehi.Job{
		ID: "j", Status: ehi.AwaitingInput, Level: ehi.OnePatient,
		Patient: ehi.Patient{ID: "p"},
	}}
	form := &Form{
		Pages: &Pages{
			Site: site, Views: views, Flashes: &page.Flashes{Safe: page.Safe{Kept: kept}, Log: log},
		},
		Jobs: w, Auth: w, Tokens: nobody{}, Sessions: signedIn{patient: "p"},
		Describer: signedIn{}, Kept: kept, Log: log,
	}
	r := &reader{
		t: t, app: fiber.New(fiber.Config{Immutable: true, ErrorHandler: answerError}), bus: b,
		form: form, jobs: w, session: "session", kept: map[string]string{},
	}
	form.Routes(routes{r.app})
	return r
}

// answerError is the part of the server's error handler that concerns the form.
func answerError(c *fiber.Ctx, err error) error {
	status := http.StatusInternalServerError
	switch ehi.CodeOf(err) {
	case ehi.Forbidden:
		status = http.StatusForbidden
	case ehi.Throttled:
		status = http.StatusTooManyRequests
	}
	return c.Status(status).SendString(err.Error())
}

// ask sends a request; header are pairs of name and value.
func (r *reader) ask(method, path, body string, header ...string) *fasthttp.Response {
	r.t.Helper()
	var c fasthttp.RequestCtx
	c.Request.Header.SetMethod(method)
	c.Request.SetRequestURI(path)
	c.Request.Header.Set("Accept", "text/html")
	c.Request.Header.SetContentType(fiber.MIMEApplicationForm)
	for pair := range slices.Chunk(header, 2) {
		c.Request.Header.Set(pair[0], pair[1])
	}
	if r.session != "" {
		c.Request.Header.SetCookie("ehi_patient", r.session)
	}
	for name, value := range r.kept {
		c.Request.Header.SetCookie(name, value)
	}
	c.Request.SetBodyString(body)
	r.app.Handler()(&c)
	for _, name := range []string{"ehi_flash", "ehi_lang"} {
		var set fasthttp.Cookie
		set.SetKey(name)
		if c.Response.Header.Cookie(&set) {
			r.kept[name] = string(set.Value())
		}
	}
	return &c.Response
}

var (
	tokenField = regexp.MustCompile(`name="interaction" value="([^"]+)"`)
	tickedLabs = regexp.MustCompile(`name="p\.labs"[^>]* checked`)
)

// open opens the form, and returns its page and its one-time token.
func (r *reader) open(want int) (text, token string) {
	r.t.Helper()
	a := r.ask("GET", "/jobs/j/customize", "")
	m := tokenField.FindSubmatch(a.Body())
	if a.StatusCode() != want || m == nil {
		r.t.Fatalf("the form: %d, not %d: %.400s", a.StatusCode(), want, a.Body())
	}
	return string(a.Body()), string(m[1])
}

// The choices are accepted once. Sending them again redirects to their result.
func TestAFormIsTakenOnce(t *testing.T) {
	r := newReader(t)
	_, token := r.open(http.StatusOK)
	sent := url.Values{"interaction": {token}, "p.labs": {"on"}}.Encode()
	a := r.ask("POST", "/jobs/j", sent)
	if to := string(a.Header.Peek("Location")); a.StatusCode() != http.StatusSeeOther ||
		!strings.HasSuffix(to, "/my/requests/j") {
		t.Errorf("it answers %d, and leads to %q", a.StatusCode(), to)
	}
	if r.jobs.form == nil || r.jobs.form.Parameters[ehi.Labs] != (ehi.Choice{}) ||
		len(r.jobs.form.Parameters) != 1 {
		t.Fatalf("taken is %+v", r.jobs.form)
	}
	r.jobs.form = nil
	a = r.ask("POST", "/jobs/j", sent)
	if to := string(a.Header.Peek("Location")); a.StatusCode() != http.StatusSeeOther ||
		!strings.HasSuffix(to, "/jobs/j/customize") || r.jobs.form != nil {
		t.Errorf("again: %d, to %q, and takes %+v", a.StatusCode(), to, r.jobs.form)
	}
}

// A form with an invalid token is not accepted. Its choices are filled in again.
func TestAnOldFormComesBackFilledIn(t *testing.T) {
	r := newReader(t)
	r.open(http.StatusOK)
	a := r.ask("POST", "/jobs/j", url.Values{"interaction": {"old"}, "p.labs": {"on"}}.Encode())
	if a.StatusCode() != http.StatusSeeOther || r.jobs.form != nil {
		t.Fatalf("%d, and taken is %+v", a.StatusCode(), r.jobs.form)
	}
	text, _ := r.open(http.StatusForbidden)
	if !tickedLabs.MatchString(text) {
		t.Error("what was ticked is lost")
	}
}

// A form that a quota refuses keeps its choices, and can be sent later.
func TestAFormThatAQuotaRefusesKeepsItsChoices(t *testing.T) {
	r := newReader(t)
	r.jobs.refuse = ehi.Errorf(ehi.Throttled, "The quota patient-exports is used up")
	text, token := r.open(http.StatusOK)
	if tickedLabs.MatchString(text) {
		t.Fatal("a new form has choices")
	}
	a := r.ask("POST", "/jobs/j", url.Values{"interaction": {token}, "p.labs": {"on"}}.Encode())
	if a.StatusCode() != http.StatusTooManyRequests {
		t.Errorf("it answers %d %s", a.StatusCode(), a.Body())
	}
	text, token = r.open(http.StatusOK)
	if !tickedLabs.MatchString(text) || !strings.Contains(text, "Choose what to share") {
		t.Error("the choices are lost")
	}
	r.jobs.refuse = nil
	r.ask("POST", "/jobs/j", url.Values{"interaction": {token}, "p.labs": {"on"}}.Encode())
	if r.jobs.form == nil {
		t.Error("it cannot be sent")
	}
}
