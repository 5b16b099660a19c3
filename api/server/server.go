package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/abuse"
	"ehi-server/api/condition"
	"ehi-server/api/content"
	"ehi-server/api/faulty"
	"ehi-server/api/fhirapi"
	"ehi-server/api/listener"
	"ehi-server/api/live"
	"ehi-server/api/openid"
	"ehi-server/api/page"
	"ehi-server/api/patient"
	"ehi-server/api/progress"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/api/staff"
	"ehi-server/api/trail"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/keeper"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/shared/bus"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
	"ehi-server/shared/tracing"
)

// Flags are the settings of requests, whatever they are about.
type Flags struct {
	// MaxBodyBytes limits every body but an upload (413), MaxHeaderBytes the head of a request
	// (431).
	MaxBodyBytes   int64 `name:"max-body-bytes" help:"Maximum size of a request body in bytes, except for uploads. Larger ones get 413." default:"1048576" env:"EHI_MAX_BODY_BYTES" range:"1024..1073741824"`
	MaxHeaderBytes int   `name:"max-header-bytes" help:"Maximum size of a request's headers in bytes. Larger ones get 431." default:"16384" env:"EHI_MAX_HEADER_BYTES" range:"1024..1048576"`
	// ReadTimeout is how long a request's head and body may take, or for an upload each wait for
	// more of it (408).
	ReadTimeout time.Duration `name:"read-timeout" help:"Time limit for receiving a request, or the next part of an upload. Slower clients get 408." default:"60s" env:"EHI_READ_TIMEOUT" range:"100ms..24h"`
	// IdleTimeout is how long a connection may do nothing.
	IdleTimeout time.Duration `name:"idle-timeout" help:"Time after which the server closes an idle connection." default:"120s" env:"EHI_IDLE_TIMEOUT" range:"1s..24h"`
	// MetricsFrom are the networks that may read metrics; none: everybody may.
	MetricsFrom []netip.Prefix `help:"Networks (CIDR) that may read /metrics; never through a proxy. Default: all in sandbox mode; loopback and private networks in production mode." env:"EHI_METRICS_FROM"`
	// ReviewDue is how long an export may wait for review before the pages of administrators call
	// it late; 0: never.
	ReviewDue time.Duration `name:"review-due" help:"Waiting time after which the administrators' pages mark a review as late. 0: never." default:"72h" env:"EHI_REVIEW_DUE" range:"0s.." group:"Administrators and audit"`
}

// Resolved returns the flags of a sandbox, where every network may read metrics by default, or of a
// production server.
func (f Flags) Resolved(sandbox bool) Flags {
	if len(f.MetricsFrom) == 0 && !sandbox {
		f.MetricsFrom = insideNetworks
	}
	return f
}

// Config is what the server is told once, at start. Defaults are those of the command line (see
// node.Config).
type Config struct {
	Flags
	// Config is what is decided about exports. Its Sandbox opens the shortcuts of SMART-10, too.
	jobs.Config
	// Origins is how clients reach the server, and by which proxies.
	Origins request.Origins
	// TLS is how connections are secured; nil: not at all.
	TLS *tls.Config
	// Admins is who administrators are beside the accounts, and what they have to prove.
	Admins session.AdministratorsConfig
	// Patients is how patients sign in, and Tokens which requests need an access token.
	Patients session.PatientFlags
	Tokens   session.TokenFlags
	// Registration is the initial access token of dynamic registration, and what it allows.
	Registration auth.RegistrationFlags
	// Abuse is how often the requests of an address and of a client may fail.
	Abuse abuse.Limits
	// Connections are the limits of connections.
	Connections listener.Flags
	// FHIR are the settings of kick-offs, status requests and manifests.
	FHIR fhirapi.Flags
	// MaxResource is the size of the largest resource that an import takes, in bytes; 0:
	// source.MaxResource.
	MaxResource int64
	// MoveFrom is source.ImportOptions.MoveFrom.
	MoveFrom int64
	// LeastFree is how many bytes an import leaves free on the disk of the records.
	LeastFree int64
	// OnConnection is told 1 for each connection that is opened, and -1 for each that is closed;
	// nil: nobody is.
	OnConnection func(change int64)
}

// Deps is what the server works on.
type Deps struct {
	Bus  *bus.Bus
	Auth *auth.Server
	// OpenID is the provider by which administrators may sign in, too; nil where there is none.
	OpenID *openid.Provider
	Source source.Source
	// Rules are what exports are released by; the form's previews count by the same.
	Rules *release.Rules
	Files FileStore
	Log   *slog.Logger
	// Tracer traces requests and the exports that they begin; nil does not.
	Tracer *tracing.Tracer
	// Level is the logger's level, which administrators may change; nil where it is fixed.
	Level *slog.LevelVar
	// Settings is what the process runs with, for administrators to see.
	Settings []staff.Setting
	// Sweeps is the keeper, as far as it waits for an administrator.
	Sweeps Sweeps
	// Condition is whether the process does all of its work; nil: it does.
	Condition *condition.Watch
	// Backup writes an archive of everything that the server keeps; nil where there is none to
	// be had.
	Backup func(ctx context.Context, w io.Writer) error
}

// FileStore is the files of exports, as far as requests need them (files.Store).
type FileStore interface {
	jobs.Files
	// Remove deletes everything of a job.
	Remove(job string) error
}

// Sweeps is the part of the keeper that requests use: deletions that wait for an administrator, and
// doubts about exports.
type Sweeps interface {
	staff.Sweeps
	// Doubt makes the keeper check soon whether a job lacks the record of a task. If it does, the
	// keeper repeats the export.
	Doubt(job string)
}

// Server is the HTTP application.
type Server struct {
	Config
	Deps
	app        *fiber.App
	jobs       *jobs.Service
	tokens     session.Tokens
	patients   *session.Patients
	admins     *session.Administrators
	authority  *session.Authority
	progress   *progress.Book
	holds      *progress.Holds
	failures   *abuse.Failures
	conns      *listener.Conns
	trail      *trail.Recorder
	fhir       *fhirapi.Handlers
	feed       *live.Feed
	samples    *live.Samples
	meters     meterBook
	site       page.Site
	views      *page.Renderer
	flashes    *page.Flashes
	visitors   *patient.Pages // of patients and the public
	wording    patient.Wording
	staffPages *staff.Pages
	gate       *staff.Gate
	exports    *staff.Exports
	explain    explainer
	pageGuard  page.Guard
	sender     *content.Sender
	kept       *kv.Storage // what pages keep: drafts, notices, interactions
	readiness  *readiness
	clock      func() time.Time // by which proofs of identity and pages' tokens age
}

// remove deletes a job in any state, with what its form has kept. Errors: those of keeper.Delete.
func (s *Server) remove(ctx context.Context, job string) error {
	return errors.Join(keeper.Delete(ctx, s.Bus, s.Files, job, nil),
		s.kept.In(ctx).Delete(patient.DraftKey(job)))
}

// New builds the application; Close releases it.
func New(c Config, d Deps) (*Server, error) {
	s := &Server{Config: c, Deps: d, clock: now, site: page.Site{Origins: c.Origins}}
	for _, open := range []func() error{
		s.openNews, s.openPages, s.openSessions, s.openJobs,
	} {
		if err := open(); err != nil {
			return nil, err
		}
	}
	s.openApp()
	return s, nil
}

// openNews opens what follows the bus and the requests: progress, failures, the audit trail, held
// polls, and what open pages are told.
func (s *Server) openNews() (err error) {
	if s.progress, err = progress.Follow(s.Bus); err != nil {
		return fmt.Errorf("follow progress: %w", err)
	}
	if s.failures, err = s.followFailures(); err != nil {
		return fmt.Errorf("follow failures: %w", err)
	}
	if s.trail, err = trail.New(s.Bus.Audit, s.Origins); err != nil {
		return err
	}
	if s.holds, err = progress.NewHolds(s.Bus.Jobs, s.FHIR.MaxHeld); err != nil {
		return err
	}
	s.feed, s.samples = live.NewFeed(s.Bus.Jobs, s.progress), live.TakeSamples()
	return nil
}

// openPages makes what the pages of patients and administrators share.
func (s *Server) openPages() (err error) {
	if s.views, err = page.NewRenderer(s.site, s.Sandbox,
		template.FuncMap{"plot": live.Draw}); err != nil {
		return err
	}
	s.kept = s.Bus.Sessions.Part(subject.Kind{})
	s.flashes = &page.Flashes{
		Safe: page.Safe{Kept: s.kept}, Failures: s.failures, Origins: s.Origins, Log: s.Log,
	}
	s.pageGuard = page.Guard{Site: s.site, Clock: func() time.Time { return s.clock() }}
	if s.pageGuard.Key, err = page.ReadKey(context.Background(), s.Bus.Auth); err != nil {
		return fmt.Errorf("make the key of pages' tokens: %w", err)
	}
	s.visitors = &patient.Pages{
		Site: s.site, Views: s.views, Flashes: s.flashes, Guard: s.pageGuard,
	}
	s.explain = explainer{condition: s.Condition, largest: s.MaxBodyBytes, log: s.Log}
	s.staffPages = &staff.Pages{
		Site: s.site, Views: s.views, Flashes: s.flashes, Guard: s.pageGuard, Explain: s.explain,
	}
	return nil
}

// openSessions makes what decides who is let in.
func (s *Server) openSessions() error {
	s.tokens = session.Tokens{TokenFlags: s.Tokens, Auth: s.Auth, Sandbox: s.Sandbox}
	s.patients = session.NewPatients(s.Bus.Sessions, s.Origins, s.Auth,
		s.Patients.UseAccounts(s.Sandbox))
	s.admins = session.NewAdministrators(s.Admins, session.AdministratorsDeps{
		Sessions: s.Bus.Sessions,
		Auth:     s.Auth,
		OpenID:   s.OpenID,
		Trail:    s.trail,
		Origins:  s.Origins,
		Clock:    func() time.Time { return s.clock() },
	})
	s.gate = &staff.Gate{Pages: s.staffPages, Sessions: s.admins, ProofAge: s.Admins.ProofAge}
	return nil
}

// openJobs makes the use cases of exports, and the handlers and pages that need them.
func (s *Server) openJobs() (err error) {
	s.jobs, err = jobs.New(s.Config.Config, jobs.Deps{
		Bus:       s.Bus,
		Source:    s.Source,
		Rules:     s.Rules,
		Files:     s.Files,
		Authority: s.tokens,
		Reviewers: s.admins,
		Remove:    s.remove,
		Doubt:     func(job string) { s.Sweeps.Doubt(job) },
		Log:       s.Log,
		Tracer:    s.Tracer,
	})
	if err != nil {
		return err
	}
	s.readiness = &readiness{jobs: s.jobs, condition: s.Condition, log: s.Log}
	s.authority = session.NewAuthority(s.Auth, s.patients, s.admins, s.Bus.Jobs, s.jobs)
	if s.sender, err = content.NewSender(s.jobs, s.authority, s.Log); err != nil {
		return err
	}
	if s.fhir, err = s.newFHIR(); err != nil {
		return err
	}
	s.exports = &staff.Exports{
		Origins: s.Origins, Jobs: s.jobs, Index: s.Bus.Jobs, Describer: s.fhir,
	}
	s.wording = patient.Wording{Jobs: s.jobs, Sandbox: s.Sandbox, Documents: s.fhir.ReadsBinaries()}
	return nil
}

// openApp makes the HTTP server and its connections, with all routes.
func (s *Server) openApp() {
	s.conns = listener.New(listener.Config{
		Flags:    s.Connections,
		Exempt:   func(at netip.Addr) bool { return at.IsLoopback() || s.Origins.Trusts(at) },
		OnChange: s.OnConnection,
		Full:     tooManyConnections,
		TLS:      s.TLS,
		Log:      s.Log,
	})
	s.app = fiber.New(fiber.Config{
		AppName:               "EHI export server",
		DisableStartupMessage: true,
		Immutable:             true,
		ErrorHandler:          s.handleError,
		JSONEncoder:           json.Marshal,
		JSONDecoder:           json.Unmarshal,
		StrictRouting:         true, // see onePath
		CaseSensitive:         true,
		BodyLimit:             int(s.MaxBodyBytes),
		StreamRequestBody:     true,
		ReadBufferSize:        s.MaxHeaderBytes,
		Concurrency:           s.conns.Workers(),
		ReadTimeout:           s.ReadTimeout,
		IdleTimeout:           s.IdleTimeout,
		// handlers announce the type of their bodies, see content.RequireContentType
		DisableDefaultContentType: true,
		// otherwise an upload is read into memory and temporary files before its sender is known
		DisablePreParseMultipartForm: true,
		EnableTrustedProxyCheck:      true,
		TrustedProxies:               s.Origins.TrustedProxies,
	})
	s.routes()
	s.app.Server().Handler = s.known(s.app.Server().Handler)
	s.app.Server().ConnState = s.conns.Changed
	s.app.Server().ErrorHandler = s.unbroken(s.app.Server().ErrorHandler)
}

// newFHIR builds the handlers of FHIR requests, on what is built by then.
func (s *Server) newFHIR() (*fhirapi.Handlers, error) {
	paces, err := abuse.NewPaces(s.FHIR.PollBurst)
	if err != nil {
		return nil, err
	}
	faults, err := faulty.NewBook()
	if err != nil {
		return nil, err
	}
	return &fhirapi.Handlers{
		Config: fhirapi.Config{
			Flags:      s.FHIR,
			TokenFlags: s.Tokens,
			Origins:    s.Origins,
			Sandbox:    s.Sandbox,
		},
		Jobs:     s.jobs,
		Source:   s.Source,
		Rules:    s.Rules,
		Tokens:   s.tokens,
		Trail:    s.trail,
		Sender:   s.sender,
		Progress: s.progress,
		Holds:    s.holds,
		Paces:    paces,
		Failures: s.failures,
		Faults:   faults,
		Log:      s.Log,
	}, nil
}

func (s *Server) followFailures() (*abuse.Failures, error) {
	return abuse.Follow(abuse.Config{
		Limits:  s.Abuse,
		Bucket:  s.Bus.Auth,
		Address: s.Origins.Address,
		Log:     s.Log,
	})
}

// Serve answers requests on ln until Shutdown, which may have come already.
func (s *Server) Serve(ln net.Listener) error {
	limited, ok := s.conns.Listen(ln)
	if !ok {
		return ln.Close()
	}
	return s.app.Listener(limited)
}

// Drain makes the server say that it is not ready, refuse kick-offs, and answer all status
// requests at once, also those that are held; everything else is answered as before.
func (s *Server) Drain() {
	s.jobs.Drain()
	s.holds.Release()
}

// Shutdown stops taking requests and waits for those under way, for at most d. Handlers work on
// Fiber's user context: fasthttp's own ends with the beginning of the shutdown, and would break
// off what is to be ended.
func (s *Server) Shutdown(d time.Duration) error {
	s.holds.Release()
	s.feed.Stop() // streams that have no end of their own
	return errors.Join(s.app.ShutdownWithTimeout(d), s.conns.Close())
}

// NoteConfiguration takes in which administrator is configured, see session.Administrators. Call it
// before Serve.
func (s *Server) NoteConfiguration(ctx context.Context) error {
	return s.admins.NoteConfiguration(ctx)
}

// DeleteUnauthorized deletes unfinished exports whose authorization has ended, see jobs.Service.
func (s *Server) DeleteUnauthorized(ctx context.Context) error {
	return s.jobs.DeleteUnauthorized(ctx)
}

// Close releases what New took; the server has been shut down before.
func (s *Server) Close() error {
	s.jobs.Close()
	s.authority.Close()
	s.samples.Stop()
	s.holds.Close()
	s.feed.Stop()
	s.failures.Stop()
	return s.progress.Stop()
}

// LoopbackAliases are the other names under which a listener on loopback is reached.
func LoopbackAliases(base string) []string {
	u, err := url.Parse(base)
	if err != nil ||
		u.Hostname() != "127.0.0.1" && u.Hostname() != "localhost" && u.Hostname() != "::1" {
		return nil
	}
	var out []string
	for _, host := range []string{"127.0.0.1", "localhost", "::1"} {
		out = append(out, u.Scheme+"://"+net.JoinHostPort(host, u.Port()))
	}
	return out
}

// now is the server's clock: UTC, as all instants on the wire.
func now() time.Time { return time.Now().UTC() }
