package fhirapi

import (
	"context"
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

	"ehi-server/api/abuse"
	"ehi-server/api/content"
	"ehi-server/api/faulty"
	"ehi-server/api/progress"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/keeper"
	"ehi-server/exporter/release"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files/local"
)

const secret = "the secret of the sandbox"

// exports has the handlers of the package, an authorization server in sandbox mode, and exports
// that no worker runs: the test does.
type exports struct {
	t       *testing.T
	app     *fiber.App
	bus     *bus.Bus
	auth    *auth.Server
	tokens  session.Tokens
	jobs    *jobs.Service
	files   *local.Store
	h       *Handlers
	patient string
	// held receives the ID of the job of each request that is held.
	held chan string
}

func newExports(t *testing.T, change func(*Flags)) *exports {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{StoreDir: t.TempDir(), Audit: &bus.AuditConfig{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	e := &exports{t: t, bus: b, held: make(chan string, 100), app: fiber.New(fiber.Config{
		Immutable: true, ErrorHandler: answerError, DisableDefaultContentType: true,
	})}
	e.auth, err = auth.New(t.Context(), auth.Config{
		KV:      b.Auth,
		Issuer:  origin,
		Sandbox: true,
		Flags: auth.Flags{
			SandboxSecret: secret,
			KeyFlags:      auth.KeyFlags{AccessTTL: time.Hour},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.auth.Close)
	e.tokens = session.Tokens{Auth: e.auth, Sandbox: true}
	records, err := synthetic.NewSource(synthetic.Config{Patients: 2, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	patients, err := records.Patients(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	e.patient = patients[0].ID
	e.serve(records, change)
	return e
}

// serve makes the service of exports and the handlers.
func (e *exports) serve(records *synthetic.Source, change func(*Flags)) {
	e.t.Helper()
	log := slog.New(slog.DiscardHandler)
	rules, err := release.RulesFromFile("")
	if err != nil {
		e.t.Fatal(err)
	}
	if e.files, err = local.Open(local.Config{Root: e.t.TempDir()}); err != nil {
		e.t.Fatal(err)
	}
	flags := jobs.Flags{JobTTL: time.Hour, ClientJobs: 100, ClientBulkJobs: 100}
	e.jobs, err = jobs.New(jobs.Config{Flags: flags, Sandbox: true, FileTTL: time.Hour}, jobs.Deps{
		Bus: e.bus, Source: records, Rules: rules, Files: e.files, Authority: e.tokens,
		Remove: func(ctx context.Context, job string) error {
			return keeper.Delete(ctx, e.bus, e.files, job, nil)
		},
		Doubt: func(string) {}, Log: log,
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(e.jobs.Close)
	e.h = &Handlers{
		Config: Config{
			Flags:   Flags{PageTasks: 100},
			Origins: request.Origins{BaseURL: origin, Fixed: true},
			Sandbox: true,
		},
		Jobs: e.jobs, Source: records, Rules: rules, Tokens: e.tokens, Trail: unrecorded{},
		Failures: new(library), Log: log,
	}
	change(&e.h.Flags)
	holds, err := progress.NewHolds(e.bus.Jobs, e.h.MaxHeld)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(holds.Close)
	e.h.Holds = watched{holds, e.held}
	if e.h.Paces, err = abuse.NewPaces(e.h.PollBurst); err != nil {
		e.t.Fatal(err)
	}
	if e.h.Faults, err = faulty.NewBook(); err != nil {
		e.t.Fatal(err)
	}
	if e.h.Progress, err = progress.NewBook(); err != nil {
		e.t.Fatal(err)
	}
	if e.h.Sender, err = content.NewSender(e.jobs, lasting{}, log); err != nil {
		e.t.Fatal(err)
	}
	for _, base := range request.Bases() {
		e.h.Routes(e, base+"/fhir")
	}
	e.h.JobRoutes(e)
}

// answerError is the part of the server's error handler that concerns exports.
func answerError(c *fiber.Ctx, err error) error {
	status := http.StatusInternalServerError
	switch ehi.CodeOf(err) {
	case ehi.Invalid, ehi.Unsupported:
		status = http.StatusBadRequest
	case ehi.Unauthenticated:
		status = http.StatusUnauthorized
	case ehi.Forbidden:
		status = http.StatusForbidden
	case ehi.NotFound:
		status = http.StatusNotFound
	case ehi.Throttled:
		status = http.StatusTooManyRequests
	}
	content.RemoveBodyHeaders(c)
	return content.Outcome(c, status, "error", string(ehi.CodeOf(err)), err.Error())
}

// watched tells when a request is held.
type watched struct {
	Holds
	held chan<- string
}

func (w watched) Hold(
	c *fiber.Ctx, job string, most time.Duration, over func() (bool, error),
) (waited bool, err error) {
	told := false
	return w.Holds.Hold(c, job, most, func() (bool, error) {
		if !told {
			told = true
			w.held <- job
		}
		return over()
	})
}

// lasting lets every response go on to its end.
type lasting struct{}

func (lasting) Lasting(*fiber.Ctx) func() bool { return func() bool { return true } }

// unrecorded is a Trail that nobody reads.
type unrecorded struct{}

func (unrecorded) Record(*fiber.Ctx, error, ehi.Event) {}

func (unrecorded) Disclose(*fiber.Ctx, *ehi.Job) {}

// On implements Router. Routes of jobs have their rule of access.
func (e *exports) On(method, path string, handler fiber.Handler, _ ...fiber.Handler) {
	guard := func(c *fiber.Ctx) error {
		if _, err := e.tokens.Authenticate(c); err != nil {
			return err
		}
		return c.Next()
	}
	if strings.HasPrefix(path, "/jobs/") {
		guard = e.tokens.JobBearer
	}
	if e.app.Add(method, path, guard, handler); method == http.MethodGet {
		e.app.Add(http.MethodHead, path, guard, handler)
	}
}

// service returns an access token of a backend service, and false if no scope is granted.
func (e *exports) service(scope string) (token string, ok bool) {
	e.t.Helper()
	tokens, err := e.auth.Token(e.t.Context(), auth.TokenRequest{Form: url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {auth.SandboxClientID},
		"client_secret": {secret},
		"scope":         {scope},
	}})
	return tokens.AccessToken, err == nil
}

// serviceFor is service where scopes are granted.
func (e *exports) serviceFor(scope string) (token string) {
	e.t.Helper()
	token, ok := e.service(scope)
	if !ok {
		e.t.Fatalf("no token for %s", scope)
	}
	return token
}

// ask sends a request with a token; header are pairs of name and value.
func (e *exports) ask(token, method, target string, header ...string) *fasthttp.Response {
	var c fasthttp.RequestCtx
	c.Request.Header.SetMethod(method)
	c.Request.SetRequestURI(strings.TrimPrefix(target, origin))
	c.Request.Header.Set("Authorization", "Bearer "+token)
	for pair := range slices.Chunk(header, 2) {
		c.Request.Header.Set(pair[0], pair[1])
	}
	e.app.Handler()(&c)
	return &c.Response
}

// want checks the status and the text of an answer.
func (e *exports) want(a *fasthttp.Response, status int, text string) {
	e.t.Helper()
	if a.StatusCode() != status || !strings.Contains(string(a.Body()), text) {
		e.t.Errorf("%d %.300s, want %d %q", a.StatusCode(), a.Body(), status, text)
	}
}

// wantOutcome is want for an OperationOutcome.
func (e *exports) wantOutcome(a *fasthttp.Response, status int, text string) {
	e.t.Helper()
	e.want(a, status, text)
	e.want(a, status, `"resourceType":"OperationOutcome"`)
}

// kickOff kicks off an export, and returns the path of its job.
func (e *exports) kickOff(token, target string) (path string) {
	e.t.Helper()
	a := e.ask(token, "POST", target)
	at := string(a.Header.Peek("Content-Location"))
	path, ok := strings.CutSuffix(strings.TrimPrefix(at, origin), "/status")
	if a.StatusCode() != http.StatusAccepted || !ok {
		e.t.Fatalf("%s: %d, its status is at %q: %s", target, a.StatusCode(), at, a.Body())
	}
	return path
}

// kickOffPatient kicks off an export of the patient.
func (e *exports) kickOffPatient(token, base string) (path string) {
	e.t.Helper()
	return e.kickOff(token, base+"/fhir/Patient/"+e.patient+"/$ehi-export")
}

// jobAt returns the job of a path.
func (e *exports) jobAt(path string) *ehi.Job {
	e.t.Helper()
	j, err := e.bus.Jobs.Get(e.t.Context(), strings.TrimPrefix(path, "/jobs/"))
	if err != nil {
		e.t.Fatal(err)
	}
	return j
}

// submit sends the patient's form of a job.
func (e *exports) submit(path string) {
	e.t.Helper()
	by := ehi.Actor{Kind: ehi.ActorPatient, Name: e.patient}
	if _, err := e.jobs.Submit(e.t.Context(), by, e.jobAt(path), ehi.ReleaseForm{}); err != nil {
		e.t.Fatal(err)
	}
}

// change changes the record of a job.
func (e *exports) change(path string, change func(*ehi.Job) error) {
	e.t.Helper()
	if _, err := e.bus.Jobs.Update(e.t.Context(), e.jobAt(path).ID, change); err != nil {
		e.t.Fatal(err)
	}
}

// export exports a job: one file with one resource for each type; "" is a file of mixed types.
func (e *exports) export(path string, types ...string) {
	e.t.Helper()
	ctx, j := e.t.Context(), e.jobAt(path)
	task, err := e.bus.Tasks.Take(ctx, j.ID, 0, 0, "worker", time.Now())
	if err != nil {
		e.t.Fatal(err)
	}
	batch, err := e.files.NewBatch(j.ID, 0, task.Attempt)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, typ := range types {
		line := `{"resourceType":"` + typ + `","id":"1"}` + "\n"
		if _, err := batch.Create().Write([]byte(line)); err != nil {
			e.t.Fatal(err)
		}
		task.Files = append(task.Files, ehi.File{Type: typ, Count: 1, Bytes: int64(len(line))})
	}
	extents, err := batch.Commit()
	if err != nil {
		e.t.Fatal(err)
	}
	for i, at := range extents {
		f := &task.Files[i]
		f.Object, f.Offset, f.Length, f.Sum = at.Object, at.Offset, at.Length, string(at.Sum)
	}
	if err := e.bus.Tasks.Commit(ctx, task, time.Now()); err != nil {
		e.t.Fatal(err)
	}
	e.change(path, func(j *ehi.Job) error {
		if j.Tasks == 0 {
			if err := j.Plan(1, int64(len(types)), time.Now(), j.Records); err != nil {
				return err
			}
		}
		return j.Complete(task.Task, time.Now(), time.Hour)
	})
}

// manifest returns the manifest of a job.
func (e *exports) manifest(token, path string) (m ehi.Manifest) {
	e.t.Helper()
	a := e.ask(token, "GET", path+"/status")
	if a.StatusCode() != http.StatusOK || json.Unmarshal(a.Body(), &m) != nil {
		e.t.Fatalf("%s has no manifest: %d %s", path, a.StatusCode(), a.Body())
	}
	return m
}
