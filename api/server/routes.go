package server

import (
	"io/fs"
	"net/http"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/gofiber/fiber/v2/middleware/cors"
	"github.com/gofiber/fiber/v2/middleware/etag"
	"github.com/gofiber/fiber/v2/middleware/filesystem"
	"github.com/gofiber/fiber/v2/middleware/helmet"
	"github.com/gofiber/fiber/v2/middleware/pprof"
	"github.com/gofiber/fiber/v2/middleware/recover"

	"ehi-server/api/console"
	"ehi-server/api/content"
	"ehi-server/api/faulty"
	"ehi-server/api/patient"
	"ehi-server/api/request"
	"ehi-server/api/smart"
	"ehi-server/api/staff"
	"ehi-server/api/web"
	"ehi-server/exporter/source"
	"ehi-server/shared/telemetry"
)

// routes is every route of the server; who may use it is in rules.
func (s *Server) routes() {
	app := s.app
	app.Use(content.RequireContentType, s.trace, request.Identify, request.Timed, s.observe,
		recover.New(recover.Config{EnableStackTrace: true, StackTraceHandler: s.logPanic}),
		s.public(), s.headers(), onePath)

	s.on("GET", "/metrics", adaptor.HTTPHandler(telemetry.Handler()))
	s.on("GET", "/healthz", s.handleAlive)
	s.on("GET", "/readyz", s.handleReady)

	// Uploads are streamed; every other body is read at once and bounded.
	s.uploadRoutes(router{s})
	app.Use(s.limitBody)

	for _, base := range request.Bases() {
		s.fhirRoutes(base + "/fhir")
		if s.Sandbox {
			s.fhirRoutes(faulty.Base + base + "/fhir")
		}
	}

	s.patientRoutes(router{s})
	s.fhir.JobRoutes(router{s})

	s.smartRoutes(router{s})

	s.signInRoutes(router{s})
	s.exportRoutes(router{s})
	s.registryRoutes(router{s})
	s.systemRoutes(router{s})
	s.under(profiles, noCommandLine, pprof.New(pprof.Config{Prefix: "/admin"}))

	developers := &console.Pages{
		Views: s.views, Origins: s.Origins, Sandbox: s.Sandbox, Records: s.Source, Log: s.Log,
	}
	developers.Routes(router{s})
	assets, err := fs.Sub(web.Files, "assets")
	if err != nil { // the folder is part of the build
		panic(err)
	}
	s.under("/assets", etag.New(),
		filesystem.New(filesystem.Config{Root: http.FS(assets), MaxAge: 3600}))
}

// patientRoutes are the pages of patients, except the consent page (see smartRoutes).
func (s *Server) patientRoutes(r router) {
	form := &patient.Form{
		Pages: s.visitors, Sandbox: s.Sandbox, Jobs: s.jobs, Auth: s.Auth, Tokens: s.tokens,
		Sessions: s.patients, Describer: s.fhir, Kept: s.kept, Log: s.Log,
	}
	form.Routes(r)
	signIn := &patient.SignIn{
		Pages:    s.visitors,
		Accounts: s.Patients.UseAccounts(s.Sandbox),
		Source:   s.Source,
		Sessions: s.patients,
		Trail:    s.trail,
		Failures: s.failures,
	}
	signIn.Routes(r)
	applications := &patient.Applications{
		Pages: s.visitors, Wording: s.wording, Auth: s.Auth, Jobs: s.jobs, Sessions: s.patients,
		Trail: s.trail,
	}
	applications.Routes(r)
	requests := &patient.Requests{
		Pages: s.visitors, Jobs: s.jobs, Index: s.Bus.Jobs, Auth: s.Auth, Progress: s.progress,
		Sessions: s.patients, Trail: s.trail, Sender: s.sender,
	}
	requests.Routes(r)
}

// smartRoutes are the endpoints of authorization, and the page that asks patients for consent.
func (s *Server) smartRoutes(r router) {
	s.discovery().Routes(r)
	authorization := &smart.Authorization{
		Origins: s.Origins, Sandbox: s.Sandbox, Auth: s.Auth, Source: s.Source,
		Sessions: s.patients, Pages: s.visitors, Wording: s.wording, Trail: s.trail,
		Failures: s.failures,
	}
	authorization.Routes(r)
	tokens := &smart.TokenEndpoints{
		Origins: s.Origins, Auth: s.Auth, Trail: s.trail, Failures: s.failures, Log: s.Log,
	}
	tokens.Routes(r)
	registration := &smart.Registration{
		Token: s.Registration.Token, Limits: s.Registration.RegistrationLimits,
		Clients: s.Auth, Trail: s.trail, Failures: s.failures,
	}
	registration.Routes(r)
}

// discovery tells clients what the server supports.
func (s *Server) discovery() *smart.Discovery {
	return &smart.Discovery{
		Origins: s.Origins, Keys: s.Auth, Registers: s.Registration.Token != "",
	}
}

// uploadRoutes take bodies of any length, of administrators.
func (s *Server) uploadRoutes(r router) {
	receiver := content.Receiver{Conns: s.conns, Wait: s.ReadTimeout}
	documents := &staff.Documents{
		Pages: s.staffPages, Exports: s.exports, Jobs: s.jobs, Receiver: receiver,
	}
	documents.Routes(r)
	into, _ := s.Source.(source.Importer) // nil for a source that takes no records
	imports := &staff.Imports{
		Into:        into,
		MaxResource: s.MaxResource,
		MoveFrom:    s.MoveFrom,
		LeastFree:   s.LeastFree,
		Receiver:    receiver,
		Trail:       s.trail,
		Log:         s.Log,
	}
	imports.Routes(r)
}

// signInRoutes are where administrators prove who they are.
func (s *Server) signInRoutes(r router) {
	provider := &staff.Provider{
		Pages: s.staffPages, OpenID: s.OpenID, Accounts: s.Auth, Sessions: s.admins,
		Used: s.Bus.Sessions, Failures: s.failures, Log: s.Log,
	}
	provider.Routes(r)
	signIn := &staff.SignIn{
		Pages: s.staffPages, Sessions: s.admins, Provider: provider, Failures: s.failures,
	}
	signIn.Routes(r)
	factor := &staff.SecondFactor{
		Pages: s.staffPages, Store: s.Auth, Sessions: s.admins, Trail: s.trail,
		Required: s.Admins.RequireSecondFactor,
	}
	factor.Routes(r)
}

// exportRoutes are where administrators review exports.
func (s *Server) exportRoutes(r router) {
	live := &staff.Live{Feed: s.feed, Sender: s.sender}
	live.Routes(r)
	queue := &staff.Queue{
		Pages: s.staffPages, Exports: s.exports, Progress: s.progress,
		FourEyes: s.FourEyes, ReviewDue: s.ReviewDue,
	}
	queue.Routes(r)
	review := &staff.Review{
		Pages: s.staffPages, Exports: s.exports, Queue: queue, Contents: s.jobs, Sender: s.sender,
		Names: s.Auth, Trail: s.trail, AttachmentBytes: s.AttachmentBytes,
	}
	review.Routes(r)
	s.exports.Routes(r)
}

// registryRoutes are where administrators manage clients, accounts and keys.
func (s *Server) registryRoutes(r router) {
	clients := &staff.Clients{Store: s.Auth, Jobs: s.jobs, Trail: s.trail}
	clients.Routes(r)
	clientsPage := &staff.ClientsPage{Pages: s.staffPages, Clients: clients, Sandbox: s.Sandbox}
	clientsPage.Routes(r)
	accounts := &staff.Accounts{
		ConfigUser: s.Admins.User, Store: s.Auth, Patients: s.Source, Authority: s.authority,
		Jobs: s.jobs, Trail: s.trail,
	}
	accounts.Routes(r)
	accountsPage := &staff.AccountsPage{Pages: s.staffPages, Accounts: accounts}
	accountsPage.Routes(r)
	keys := &staff.Keys{Store: s.Auth, Trail: s.trail}
	keys.Routes(r)
}

// systemRoutes are where administrators look after the server.
func (s *Server) systemRoutes(r router) {
	system := &staff.System{
		Pages: s.staffPages, Lanes: s.Bus, Totals: s.Bus.Jobs, Fleet: s.Bus.Fleet, Disk: s.Files,
		Sweeps: s.Sweeps, Damages: s.jobs, Samples: s.samples, Readiness: s.readiness,
		Condition: s.Condition, Settings: s.Settings,
	}
	system.Routes(r)
	audit := &staff.Audit{
		Pages: s.staffPages, Origins: s.Origins, Exports: s.exports, Events: s.Bus.Audit,
		Trail: s.trail, Sender: s.sender,
	}
	audit.Routes(r)
	controls := &staff.Controls{Sweeps: s.Sweeps, Level: s.Level, Trail: s.trail, Log: s.Log}
	controls.Routes(r)
	backups := &staff.Backups{Write: s.Backup, Trail: s.trail, Sender: s.sender, Log: s.Log}
	backups.Routes(r)
}

// fhirRoutes is what stands below one variant of the FHIR base (EHI-1).
func (s *Server) fhirRoutes(base string) {
	s.discovery().BaseRoutes(router{s}, base)
	s.fhir.Routes(router{s}, base)
}

// router registers routes behind their rules for the packages of handlers.
type router struct{ *Server }

// On implements fhirapi.Router.
func (r router) On(method, path string, handler fiber.Handler, before ...fiber.Handler) {
	r.on(method, path, handler, before...)
}

// OnPage implements staff.Router.
func (r router) OnPage(
	method, path string, guard, handler fiber.Handler, before ...fiber.Handler,
) {
	r.register(method, path, before, guard, handler)
}

// exposed are the headers that a browser's client may read (EHI-15, REAL-14).
const exposed = "Content-Location, Link, Preference-Applied, Retry-After, X-Progress, Expires, " +
	"ETag, Content-Disposition, Content-Length, Content-Range, WWW-Authenticate, X-Request-Id"

// public opens everything but the administrator's routes to scripts of any origin, without
// credentials (EHI-15).
func (s *Server) public() fiber.Handler {
	return cors.New(cors.Config{
		Next:         request.IsAdmin,
		AllowOrigins: "*", AllowMethods: "GET,HEAD,POST,DELETE,OPTIONS",
		AllowHeaders: "Authorization, Content-Type, Accept, Prefer, Range, If-Range, " +
			"If-None-Match, X-Request-Id, traceparent", ExposeHeaders: exposed, MaxAge: 86400,
	})
}

// hstsSeconds is for how long a browser that came by HTTPS comes by nothing else: two years.
const hstsSeconds = 2 * 365 * 24 * 3600

// headers are the security headers of every answer. Pages load nothing but this origin's style
// sheet, scripts and images, and ask nobody else; form-action is left open, because browsers
// apply it to the redirect that leads back to the application. The referrer stays within this
// origin, where the check against forged requests wants it over HTTPS.
func (s *Server) headers() fiber.Handler {
	return helmet.New(helmet.Config{
		ContentSecurityPolicy: "default-src 'none'; script-src 'self'; connect-src 'self'; " +
			"style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'",
		HSTSMaxAge: hstsSeconds, HSTSExcludeSubdomains: true, // over HTTPS only
		XFrameOptions:             "DENY",
		ReferrerPolicy:            "same-origin",
		CrossOriginResourcePolicy: "cross-origin",
		CrossOriginEmbedderPolicy: "unsafe-none",
	})
}
