package server

import (
	"io/fs"
	"net/http"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/gofiber/fiber/v2/middleware/cors"
	"github.com/gofiber/fiber/v2/middleware/csrf"
	"github.com/gofiber/fiber/v2/middleware/etag"
	"github.com/gofiber/fiber/v2/middleware/filesystem"
	"github.com/gofiber/fiber/v2/middleware/healthcheck"
	"github.com/gofiber/fiber/v2/middleware/helmet"
	"github.com/gofiber/fiber/v2/middleware/pprof"
	"github.com/gofiber/fiber/v2/middleware/recover"

	"ehi-server/api/web"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// routes is every route of the server.
func (s *Server) routes() {
	app := s.app
	app.Use(s.trace, s.identify, s.observe, recover.New(recover.Config{EnableStackTrace: true, StackTraceHandler: s.logPanic}), s.public(), s.headers())

	app.Get("/metrics", adaptor.HTTPHandler(telemetry.Handler()))
	app.Use(healthcheck.New(healthcheck.Config{
		LivenessEndpoint: "/healthz", ReadinessEndpoint: "/readyz", ReadinessProbe: s.ready,
	}))

	// Uploads are streamed; every other body is read at once and bounded.
	admin := app.Group("/admin")
	admin.Post("/jobs/:id/add-files", s.drain, s.admin, s.handleAddFiles)
	admin.Post("/import", s.drain, s.admin, s.handleImport)
	app.Use(s.limitBody)

	for _, base := range bases {
		s.fhirRoutes(app.Group(base + "/fhir"))
	}

	export := s.jobBearer
	jobs := app.Group("/jobs/:id")
	jobs.Get("/customize", s.handleForm)
	jobs.Post("", s.handleSubmit)
	jobs.Get("/status", export, s.handleStatus)
	jobs.Delete("/status", export, s.handleDelete)
	jobs.Get("/metadata", s.ownerOrAdmin, s.handleMetadata)
	jobs.Get("/download/attachments/:file", export, s.handleAttachment)
	jobs.Get("/download/:file", export, s.handleDownload)

	app.Get("/auth/jwks", s.handleJWKS)
	app.Get("/auth/authorize", s.handleAuthorize)
	app.Post("/auth/authorize", s.handleAuthorize)
	app.Post("/auth/token", s.handleToken)
	app.Post("/auth/revoke", s.handleRevoke)
	app.Post("/auth/introspect", s.handleIntrospect)

	guard := csrf.New(csrf.Config{
		KeyLookup: "form:_csrf", CookieName: "ehi_csrf", ContextKey: "csrf", CookieHTTPOnly: true, CookieSameSite: fiber.CookieSameSiteLaxMode,
		CookieSessionOnly: true, Expiration: patientMaxAge, Storage: s.Bus.Sessions,
	})
	app.Get("/patient-login", guard, s.handleLoginPage)
	app.Post("/patient-login", guard, s.handleLogin)
	app.Get("/authorize-app", guard, s.handleConsentPage)
	app.Post("/authorize-app", guard, s.handleConsent)

	admin.Post("/login", s.handleAdminLogin)
	admin.Get("/logout", s.handleAdminLogout)
	admin.Get("/log-level", s.admin, s.handleLogLevel)
	admin.Put("/log-level", s.admin, s.handleSetLogLevel)
	admin.Get("/debug", s.admin, s.handleDebug)
	admin.Use("/debug/pprof", s.admin, pprof.New(pprof.Config{Prefix: "/admin"}))
	admin.Get("/backup", s.admin, s.handleBackup)
	admin.Get("/jobs", s.admin, s.handleAdminJobs)
	admin.Get("/jobs/:id", s.admin, s.handleAdminJob)
	admin.Delete("/jobs/:id", s.admin, s.handleAdminDelete)
	admin.Post("/jobs/:id/approve", s.admin, s.handleApprove)
	admin.Post("/jobs/:id/reject", s.admin, s.handleReject)
	admin.Post("/jobs/:id/remove-files", s.admin, s.handleRemoveFiles)

	app.Get("/openapi.json", s.handleOpenAPI)
	app.Get("/docs/ehi", s.handleDocs)
	app.Get("/", s.handleHome)
	assets, err := fs.Sub(web.Files, "assets")
	if err != nil { // the folder is part of the build
		panic(err)
	}
	app.Use("/assets", etag.New(), filesystem.New(filesystem.Config{Root: http.FS(assets), MaxAge: 3600}))
}

// fhirRoutes is what stands below each variant of the FHIR base (EHI-1).
func (s *Server) fhirRoutes(r fiber.Router) {
	patients, populations, bulk := s.bearer(auth.ScopePatientExport, auth.ScopeSystemExport), s.bearer(auth.ScopeSystemExport), s.systemBearer("")
	for _, dollar := range []string{"$", "%24"} {
		r.Post("/Patient/:id/"+dollar+"ehi-export", patients, s.kickOff(ehi.OnePatient, ehi.EHIExport))
		r.Post("/"+dollar+"ehi-export", populations, s.kickOff(ehi.System, ehi.EHIExport))
		r.Post("/Group/:id/"+dollar+"ehi-export", populations, s.kickOff(ehi.OneGroup, ehi.EHIExport))
		for path, level := range map[string]ehi.Level{"/": ehi.System, "/Patient/": ehi.AllPatients, "/Group/:id/": ehi.OneGroup} {
			r.Get(path+dollar+"export", bulk, s.kickOff(level, ehi.BulkExport))
			r.Post(path+dollar+"export", bulk, s.kickOff(level, ehi.BulkExport))
			r.Post(path+dollar+"export-v4", bulk, s.kickOff(level, ehi.BulkExportV4))
		}
	}
	r.Get("/.well-known/smart-configuration", s.handleDiscovery)
	r.Get("/metadata", s.handleCapabilities)
	r.Get("/OperationDefinition/:id", s.handleOperationDefinition)
	read := s.readBearer
	r.Get("/Patient", read, s.handlePatientSearch)
	r.Get("/Patient/:id", read, s.handlePatient)
	groups := s.systemBearer("Group")
	r.Get("/Group", groups, s.handleGroupSearch)
	r.Get("/Group/:id", groups, s.handleGroup)
}

// exposed are the headers that a browser's client may read (EHI-15, REAL-14).
const exposed = "Content-Location, Link, Retry-After, X-Progress, Expires, ETag, Content-Disposition, Content-Length, Content-Range, WWW-Authenticate, X-Request-Id"

// public opens everything but the administrator's routes to scripts of any origin, without credentials (EHI-15).
func (s *Server) public() fiber.Handler {
	return cors.New(cors.Config{
		Next:         isAdmin,
		AllowOrigins: "*", AllowMethods: "GET,HEAD,POST,DELETE,OPTIONS",
		AllowHeaders: "Authorization, Content-Type, Accept, Prefer, Range, If-Range, If-None-Match, X-Request-Id, traceparent", ExposeHeaders: exposed, MaxAge: 86400,
	})
}

// hstsSeconds is for how long a browser that came by HTTPS comes by nothing else: two years.
const hstsSeconds = 2 * 365 * 24 * 3600

// headers are the security headers of every answer. Pages load nothing but their own style sheet; form-action is left open,
// because browsers apply it to the redirect that leads back to the application.
func (s *Server) headers() fiber.Handler {
	return helmet.New(helmet.Config{
		ContentSecurityPolicy: "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'",
		HSTSMaxAge:            hstsSeconds, HSTSExcludeSubdomains: true, // over HTTPS only
		XFrameOptions: "DENY", ReferrerPolicy: "no-referrer", CrossOriginResourcePolicy: "cross-origin", CrossOriginEmbedderPolicy: "unsafe-none",
	})
}
