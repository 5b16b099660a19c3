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
	app.Use(content.Announced, s.trace, request.Identify, request.Timed, s.observe,
		recover.New(recover.Config{EnableStackTrace: true, StackTraceHandler: s.logPanic}),
		s.public(), s.headers(), onePath)

	s.on("GET", "/metrics", adaptor.HTTPHandler(telemetry.Handler()))
	s.on("GET", "/healthz", s.handleAlive)
	s.on("GET", "/readyz", s.handleReady)

	// Uploads are streamed; every other body is read at once and bounded.
	s.on("POST", adminUpload, s.handleAddFiles, content.Drain)
	s.imports().Routes(router{s})
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

	s.staffRoutes()
	s.on("POST", adminLogin, s.handleAdminLogin, s.failures.Limit)
	s.on("GET", adminLogout, s.handleAdminLogout)
	s.on("GET", "/admin/debug", s.handleDebug)
	s.under(profiles, noCommandLine, pprof.New(pprof.Config{Prefix: "/admin"}))
	s.adminRoutes(router{s})

	s.on("GET", "/openapi.json", s.handleOpenAPI)
	s.on("GET", "/docs/ehi", s.handleDocs)
	s.on("GET", "/docs/api", s.handleAPIDocs)
	s.on("GET", "/", s.handleHome)
	assets, err := fs.Sub(web.Files, "assets")
	if err != nil { // the folder is part of the build
		panic(err)
	}
	s.under("/assets", etag.New(), filesystem.New(filesystem.Config{Root: http.FS(assets), MaxAge: 3600}))
}

// patientRoutes are the pages of patients, except the consent page (see smartRoutes).
func (s *Server) patientRoutes(r router) {
	form := &patient.Form{
		Pages: s.visitors, Sandbox: s.Sandbox, Jobs: s.jobs, Auth: s.Auth, Tokens: s.tokens,
		Sessions: s.patients, Describer: s.fhir, Kept: s.kept, Log: s.Log,
	}
	form.Routes(r)
	signIn := &patient.SignIn{
		Pages: s.visitors, Accounts: s.Accounts, Source: s.Source, Sessions: s.patients,
		Trail: s.trail, Failures: s.failures,
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
		Token: s.RegistrationToken, Limits: s.Registration, Clients: s.Auth, Trail: s.trail,
		Failures: s.failures,
	}
	registration.Routes(r)
}

// discovery tells clients what the server supports.
func (s *Server) discovery() *smart.Discovery {
	return &smart.Discovery{
		Origins: s.Origins, Keys: s.Auth, Registers: s.RegistrationToken != "",
	}
}

// imports takes records in.
func (s *Server) imports() *staff.Imports {
	into, _ := s.Source.(source.Importer) // nil for a source that takes none
	return &staff.Imports{
		Into: into, MaxResource: s.MaxResource, LeastFree: s.LeastFree, Receiver: s.receiver,
		Trail: s.trail, Log: s.Log,
	}
}

// adminRoutes are the JSON API of administrators.
func (s *Server) adminRoutes(r router) {
	controls := &staff.Controls{Sweeps: s.Sweeps, Level: s.Level, Trail: s.trail, Log: s.Log}
	controls.Routes(r)
	backups := &staff.Backups{Write: s.Backup, Trail: s.trail, Sender: s.sender, Log: s.Log}
	backups.Routes(r)
	audit := &staff.Audit{
		Origins: s.Origins, Events: s.Bus.Audit, Trail: s.trail, Sender: s.sender,
	}
	audit.Routes(r)
	s.exports.Routes(r)
	s.clients.Routes(r)
	s.accounts.Routes(r)
	keys := &staff.Keys{Store: s.Auth, Trail: s.trail}
	keys.Routes(r)
}

// staffRoutes are the pages of administrators.
func (s *Server) staffRoutes() {
	guard := s.adminPages.guarded()
	s.on("GET", "/admin", s.handleStaffHome)
	s.on("GET", staffLogin, s.handleStaffLoginPage, guard)
	s.on("POST", staffLogin, s.handleStaffLogin, s.failures.Limit, guard)
	s.on("GET", staffCode, s.handleStaffCodePage, guard)
	s.on("POST", staffCode, s.handleStaffCode, s.failures.Limit, guard)
	s.on("POST", staffOpenID, s.handleOpenID, s.failures.Limit, guard)
	s.on("GET", staffCallback, s.handleOpenIDCallback, s.failures.Limit)
	s.on("POST", staffBase+"/logout", s.handleStaffLogout, guard)
	s.on("GET", staffBase+"/events", s.handleEvents)
	page := func(method, path string, handler fiber.Handler) { s.register(method, path, nil, guard, handler) } // a stranger's token is of no interest
	page("GET", staffJobs, s.handleStaffJobs)
	page("POST", staffJobs, s.handleStaffBulk)
	page("GET", staffJobs+"/:id", s.handleStaffJob)
	page("POST", staffJobs+"/:id", s.handleStaffDecide)
	page("POST", staffJobs+"/:id/remove-file", s.handleStaffRemoveFile)
	page("POST", staffJobs+"/:id/delete", s.handleStaffDelete)
	page("GET", staffJobs+"/:id/files", s.handleStaffFiles)
	page("GET", staffJobs+"/:id/files/:file", s.handleStaffFile)
	page("GET", staffJobs+"/:id/documents/:file", s.handleStaffDocument)
	page("GET", staffBase+"/system", s.handleStaffSystem)
	page("GET", staffBase+"/clients", s.handleStaffClients)
	page("POST", staffBase+"/clients", s.handleStaffChangeClient)
	page("GET", staffBase+"/accounts", s.handleStaffAccounts)
	page("POST", staffBase+"/accounts", s.handleStaffChangeAccount)
	page("GET", staffBase+"/audit", s.handleStaffAudit)
	page("GET", staffProve, s.handleProvePage)
	s.register("POST", staffProve, []fiber.Handler{s.failures.Limit}, guard, s.handleProve)
	page("GET", staffFactor, s.handleSecondFactorPage)
	page("POST", staffFactor, s.handleSecondFactor)
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

// exposed are the headers that a browser's client may read (EHI-15, REAL-14).
const exposed = "Content-Location, Link, Preference-Applied, Retry-After, X-Progress, Expires, ETag, Content-Disposition, Content-Length, Content-Range, WWW-Authenticate, X-Request-Id"

// public opens everything but the administrator's routes to scripts of any origin, without credentials (EHI-15).
func (s *Server) public() fiber.Handler {
	return cors.New(cors.Config{
		Next:         request.IsAdmin,
		AllowOrigins: "*", AllowMethods: "GET,HEAD,POST,DELETE,OPTIONS",
		AllowHeaders: "Authorization, Content-Type, Accept, Prefer, Range, If-Range, If-None-Match, X-Request-Id, traceparent", ExposeHeaders: exposed, MaxAge: 86400,
	})
}

// hstsSeconds is for how long a browser that came by HTTPS comes by nothing else: two years.
const hstsSeconds = 2 * 365 * 24 * 3600

// headers are the security headers of every answer. Pages load nothing but this origin's style sheet, scripts and images, and ask nobody else; form-action is left open,
// because browsers apply it to the redirect that leads back to the application. The referrer stays within this origin, where the check against
// forged requests wants it over HTTPS.
func (s *Server) headers() fiber.Handler {
	return helmet.New(helmet.Config{
		ContentSecurityPolicy: "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'",
		HSTSMaxAge:            hstsSeconds, HSTSExcludeSubdomains: true, // over HTTPS only
		XFrameOptions: "DENY", ReferrerPolicy: "same-origin", CrossOriginResourcePolicy: "cross-origin", CrossOriginEmbedderPolicy: "unsafe-none",
	})
}
