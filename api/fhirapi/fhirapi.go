// Package fhirapi has the FHIR API for applications. It kicks exports off, reports their state
// and their files, sends the files, and deletes exports. It also serves resources: the
// CapabilityStatement, patients, groups and Binaries by id, and searches. (Package fhir of
// shared knows FHIR itself. This package has another name, so that the name fhir has one
// meaning.)
//
// It never decides who may use a route: the router does, with its rules of access. It limits
// what a token gets to its patient, its client and its scopes. It never changes a job:
// exporter/jobs does. api/server uses it.
package fhirapi

import (
	"bufio"
	"context"
	"log/slog"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// Jobs are the exports (jobs.Service).
type Jobs interface {
	KickOff(ctx context.Context, by ehi.Actor, ask jobs.Ask) (*ehi.Job, error)
	Delete(ctx context.Context, by ehi.Actor, j *ehi.Job) error
	// Find finds any job, FindOwn one of the actor's, and Released one of those if its files are
	// available. Errors: ehi.NotFound.
	Find(ctx context.Context, id string) (*ehi.Job, error)
	FindOwn(ctx context.Context, by ehi.Actor, id string) (*ehi.Job, error)
	Released(ctx context.Context, by ehi.Actor, id string) (*ehi.Job, error)
	// Task reads a committed task of a job; FindFile finds a file by its name in the manifest.
	Task(ctx context.Context, j *ehi.Job, n int) (ehi.Task, error)
	FindFile(ctx context.Context, j *ehi.Job, name string) (ehi.File, error)
	// ReleasedLines describes what administrators released of what waited for their decision.
	ReleasedLines(ctx context.Context, j *ehi.Job) ([]byte, error)
	// Damaged lists the files of a job that are known to be damaged.
	Damaged(job string) ([]files.Known, error)
}

// Source has the records (source.Source).
type Source interface {
	FindPatients(ctx context.Context, s source.Search) (source.Found, error)
	Open(ctx context.Context, patient string) (source.Record, error)
	Resource(ctx context.Context, patient, typ, id string) ([]byte, error)
	// Moved opens data of an attachment that is stored beside its resource.
	Moved(ctx context.Context, patient, name string) (*source.MovedContent, error)
	Groups(ctx context.Context) ([]string, error)
	Group(ctx context.Context, id string) ([]byte, error)
}

// Rules decides what of a record is released (release.Rules).
type Rules interface {
	// Alone returns a Patient without what it refers to.
	Alone(patient []byte) ([]byte, error)
}

// Tokens knows who sends a request (session.Tokens).
type Tokens interface {
	// Authenticate reads the token of a request again. Errors: ehi.Unauthenticated.
	Authenticate(c *fiber.Ctx) (*auth.Access, error)
}

// Trail records what requests do (trail.Recorder).
type Trail interface {
	Record(c *fiber.Ctx, err error, e ehi.Event)
	// Disclose records that files of a job are sent.
	Disclose(c *fiber.Ctx, j *ehi.Job)
}

// Sender sends long responses and files (content.Sender).
type Sender interface {
	Send(c *fiber.Ctx, b content.Body) error
	SendChunked(c *fiber.Ctx, write func(*bufio.Writer) error)
	SendOutput(c *fiber.Ctx, j *ehi.Job, f ehi.File, cut bool) error
	SendDocument(c *fiber.Ctx, j *ehi.Job, segment string) error
	SendNative(c *fiber.Ctx, j *ehi.Job, folder, segment string, cut bool) error
}

// Progress knows how far running exports are (progress.Book).
type Progress interface {
	Of(job string) (_ ehi.Progress, known bool)
}

// Holds lets status requests wait for a change of their job (progress.Holds).
type Holds interface {
	Hold(
		c *fiber.Ctx, job string, most time.Duration, over func() (bool, error),
	) (waited bool, err error)
}

// Paces limits how often clients poll each job (abuse.Paces).
type Paces interface {
	Admit(job string, now time.Time) (delay, refused time.Duration)
	Refuse(job string, now time.Time) (refused time.Duration)
}

// Failures refuses addresses and clients with too many failed requests (abuse.Failures).
type Failures interface {
	// Limit is middleware for the request's address; LimitClient is for a client.
	Limit(c *fiber.Ctx) error
	LimitClient(c *fiber.Ctx, client string) error
}

// Faults are the failures that clients order in the sandbox (faulty.Book).
type Faults interface {
	KickOff(c *fiber.Ctx, faults []ehi.Fault) error
	Status(c *fiber.Ctx, j *ehi.Job) (done bool, err error)
	File(c *fiber.Ctx, j *ehi.Job, name string) (cut, done bool, err error)
}

// Flags are the settings of kick-offs, status requests and manifests.
type Flags struct {
	// BareLink sends the Link header without angle brackets to every client (EHI-2).
	BareLink bool `name:"bare-link" help:"Send the Link header without angle brackets to all clients." env:"EHI_BARE_LINK"`
	// PollBurst is how many status requests about one job are free at any moment (abuse.Paces); 0
	// sets no limit (BULK-4).
	PollBurst int `name:"poll-burst" help:"Status requests that a client can make for one job without a pause. Beyond it, two per second are allowed and others get 429. Held requests do not count. 0: no limit." default:"100" env:"EHI_POLL_BURST" range:"0.."`
	// Hold is how long a status request is held while its job is being exported. MaxHold is the
	// longest wait that a client may request with Prefer: wait. 0: no request is held.
	Hold    time.Duration `name:"hold" help:"How long to hold a status request while its export runs, so that the response can report the end. 0: never." default:"250ms" env:"EHI_HOLD" range:"0s..1m"`
	MaxHold time.Duration `name:"max-hold" help:"Longest time for which a client can have a status request held with Prefer: wait=SECONDS. Less than 1s disables it." default:"30s" env:"EHI_MAX_HOLD" range:"0s..1h"`
	// MaxHeld is how many requests are held at the same time (progress.Holds). Further ones are
	// answered immediately.
	MaxHeld int `name:"max-held" help:"Maximum number of status requests held at the same time. Further ones are answered immediately." default:"6000" env:"EHI_MAX_HELD" range:"0..1000000"`
	// PageTasks is the number of tasks whose files a page of the manifest lists (BULK-3).
	PageTasks int `name:"manifest-tasks" help:"Number of tasks whose files one page of the manifest lists, for clients that accept partial manifests." default:"100" env:"EHI_MANIFEST_TASKS" range:"1..10000"`
}

// Config is the configuration of the handlers.
type Config struct {
	Flags
	// TokenFlags say whether requests need a token, also those for files.
	session.TokenFlags
	// Origins says how clients reach the server, and through which proxies.
	Origins request.Origins
	// Sandbox lets patients' applications read Binaries, and Patients as stored, and lets
	// clients order faults.
	Sandbox bool
}

// Handlers answer the requests. They are safe for concurrent use.
type Handlers struct {
	Config
	Jobs     Jobs
	Source   Source
	Rules    Rules
	Tokens   Tokens
	Trail    Trail
	Sender   Sender
	Progress Progress
	Holds    Holds
	Paces    Paces
	Failures Failures
	Faults   Faults
	// Log receives the reason if a manifest does not mark damaged files.
	Log *slog.Logger
}

// Router registers a handler behind the access rule of its route and the middleware before it.
type Router interface {
	On(method, path string, handler fiber.Handler, before ...fiber.Handler)
}

// Routes registers the routes below one variant of the FHIR base (EHI-1), such as /no-form/fhir.
func (h *Handlers) Routes(r Router, base string) {
	h.kickOffRoutes(r, base) // first, because $export is not the id of a resource
	r.On("GET", base+"/metadata", h.handleCapabilities)
	r.On("GET", base+"/OperationDefinition/:id", h.handleOperationDefinition)
	for _, search := range []struct{ method, path string }{{"GET", ""}, {"POST", "/_search"}} {
		r.On(search.method, base+"/Patient"+search.path, h.handleSearch("Patient", h.findPatients))
		r.On(search.method, base+"/Group"+search.path, h.handleSearch("Group", h.findGroups))
	}
	r.On("GET", base+"/Patient/:id", h.handlePatient)
	r.On("GET", base+"/Binary/:id", h.handleBinary)
	r.On("GET", base+"/Group/:id", h.handleGroup)
}

func (h *Handlers) kickOffRoutes(r Router, base string) {
	on := func(method, path string, level ehi.Level, op ehi.Operation) {
		r.On(method, base+path, h.handleKickOff(level, op), h.Failures.Limit)
	}
	for _, dollar := range []string{"/$", "/%24"} {
		on("POST", "/Patient/:id"+dollar+"ehi-export", ehi.OnePatient, ehi.EHIExport)
		on("POST", dollar+"ehi-export", ehi.System, ehi.EHIExport)
		on("POST", "/Group/:id"+dollar+"ehi-export", ehi.OneGroup, ehi.EHIExport)
		for path, level := range map[string]ehi.Level{
			"":           ehi.System,
			"/Patient":   ehi.AllPatients,
			"/Group/:id": ehi.OneGroup,
		} {
			on("GET", path+dollar+"export", level, ehi.BulkExport)
			on("POST", path+dollar+"export", level, ehi.BulkExport)
			on("POST", path+dollar+"export-v4", level, ehi.BulkExportV4)
		}
	}
}

// JobRoutes registers the routes below the URL of a job.
func (h *Handlers) JobRoutes(r Router) {
	r.On("GET", "/jobs/:id/status", h.handleStatus)
	r.On("DELETE", "/jobs/:id/status", h.handleDelete)
	r.On("GET", "/jobs/:id/metadata", h.handleMetadata)
	r.On("GET", "/jobs/:id/download/attachments/:file", h.handleAttachment)
	r.On("GET", "/jobs/:id/download/documents/:file", h.handleNative("documents"))
	r.On("GET", "/jobs/:id/download/tables/:file", h.handleNative("tables"))
	r.On("GET", "/jobs/:id/download/data/:file", h.handleData)
	r.On("GET", "/jobs/:id/download/:file", h.handleDownload)
}

// ownJob finds the request's job. A job of another client is reported as not found.
func (h *Handlers) ownJob(c *fiber.Ctx) (*ehi.Job, error) {
	j, err := h.Jobs.FindOwn(c.UserContext(), h.Origins.Actor(c), c.Params("id"))
	return request.Noted(c, j, err)
}

// jobURL returns a URL below that of a job. path begins with a slash.
func jobURL(origin, id, path string) string { return origin + "/jobs/" + id + path }
