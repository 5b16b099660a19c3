package server

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
)

// rule is who may use a route.
type rule struct {
	// says is the rule in words, for people.
	says string
	// guard lets those pass who may; nil lets everybody.
	guard func(s *Server) fiber.Handler
	// proved is whether an administrator has to have proved who he is a short while ago (see
	// staff.Gate).
	proved bool
	// staff is whether administrators pass, who leave a trail (see trailOf).
	staff bool
	// unproved is why an administrator need not, where he changes something; "" where he does not.
	unproved string
	// rescue is why the route passes in rescue mode, growing whether it does not although it is
	// read by GET (see passesRescue).
	rescue  string
	growing bool
}

// recent makes a rule ask for a recent proof of who somebody is.
func (r rule) recent() rule {
	r.proved = true
	r.says += ", proved recently"
	return r
}

// anytime says why a rule of administrators asks for no recent proof although something is changed.
func (r rule) anytime(why string) rule {
	r.unproved = why
	return r
}

// Why a change of administrators asks for no recent proof.
const (
	provesIdentity = "it is how somebody proves who he is"
	endsSession    = "it ends a session"
	bound          = "an approval is bound to the documents, and asks for a proof"
	longImport     = "programs import for hours, file by file; nothing is released by it"
	onlyLogs       = "it changes what is logged, until the process ends"
)

var (
	everyone = rule{says: "everyone"}
	// applications authenticate themselves in the body or by Basic, as the endpoint's RFC says.
	applications = rule{says: "clients, by their own credentials"}
	// visitors are patients in a browser: the page asks them to log in, and holds what they send
	// to a token of its own.
	visitors = rule{says: "the patient's session, or the way to the log-in"}
	// formHolders are patients with the one-time token of a form that they were shown; in the
	// sandbox the job's client too.
	formHolders = rule{
		says: "the form's one-time token in the patient's session, or in the sandbox a token " +
			"with " + auth.PatientExport.String() + " of the job's client",
	}
	// monitors scrape metrics, which tell how much was read and how much went out.
	monitors = rule{
		says:  "everyone in the sandbox, or the networks of --metrics-from",
		guard: func(s *Server) fiber.Handler { return s.monitor },
	}
	// registrars have the initial access token of dynamic registration.
	registrars = rule{says: "the initial access token (RFC 7591 3)"}

	jobOwners = rule{
		says:  "a token of the job's client",
		guard: func(s *Server) fiber.Handler { return s.tokens.JobBearer },
	}
	ownersOrStaff = rule{
		says:  "a token of the job's client, or role viewer",
		guard: func(s *Server) fiber.Handler { return s.ownerOrAdmin },
		staff: true,
	}
)

// scoped lets tokens pass that have one of the scopes.
func scoped(anyOf ...auth.Scopes) rule {
	words := make([]string, len(anyOf))
	for i, scope := range anyOf {
		words[i] = scope.String()
	}
	return tokens(strings.Join(words, " or "), func(have auth.Scopes) bool {
		return slices.ContainsFunc(anyOf, have.Contains)
	})
}

// exporters lets backend services pass that may export at least one type.
func exporters() rule {
	return tokens("system/*.rs or of a type", func(have auth.Scopes) bool {
		types, all := have.Types(auth.SystemContext, auth.Export)
		return all || len(types) > 0
	})
}

// services lets backend services pass that may do something with a type.
func services(typ string, do auth.Rights) rule {
	return scoped(auth.On(auth.SystemContext, typ, do))
}

// readers lets patients' applications and backend services pass that may do something with a type.
func readers(typ string, do auth.Rights) rule {
	return scoped(auth.On(auth.PatientContext, typ, do), auth.On(auth.SystemContext, typ, do))
}

// tokens lets tokens pass whose scopes allow something; needs says in words which ones those are.
func tokens(needs string, allow func(auth.Scopes) bool) rule {
	return rule{
		says:  "a token with " + needs,
		guard: func(s *Server) fiber.Handler { return s.tokens.Bearer(needs, allow) },
	}
}

// pageFor lets administrators see a page that have at least a role.
func pageFor(least auth.Role) rule {
	return rule{
		says:  "role " + string(least) + " (a page: others are led to the log-in)",
		guard: func(s *Server) fiber.Handler { return s.gate.PageFor(least) },
		staff: true,
	}
}

// atLeast lets administrators pass with at least a role.
func atLeast(least auth.Role) rule {
	return rule{
		says:  "role " + string(least),
		guard: func(s *Server) fiber.Handler { return s.gate.AtLeast(least) },
		staff: true,
	}
}

// themselves are administrators on the pages about their own proof of identity, also before a
// second factor is set up.
var themselves = rule{
	says:  "role viewer, also without a second factor (a page: others are led to the log-in)",
	guard: func(s *Server) fiber.Handler { return s.gate.Self },
	staff: true,
}

// rules is who may use which route: the one place that says so. A route that is not here cannot
// be registered (see Server.on), and a test walks over all routes. Paths of FHIR are below every
// variant of the base (EHI-1), and $ may be spelt %24.
var rules = map[string]rule{
	"GET /":                             everyone,
	"GET /metrics":                      monitors,
	"GET /healthz":                      everyone,
	"GET /readyz":                       everyone,
	"GET /assets":                       everyone,
	"GET /openapi.json":                 everyone,
	"GET /docs/api":                     everyone,
	"GET /docs/ehi":                     everyone,
	"GET /docs/ehi/datapackage.json":    everyone,
	"GET /docs/ehi/tables/:name":        everyone,
	"GET /fhir/metadata":                everyone,
	"GET /fhir/OperationDefinition/:id": everyone,
	"GET /fhir/.well-known/smart-configuration":   everyone,
	"GET /.well-known/openid-configuration":       everyone,
	"GET /.well-known/oauth-authorization-server": everyone,

	"POST /fhir/Patient/:id/$ehi-export": scoped(auth.PatientExport, auth.SystemExport),
	"POST /fhir/$ehi-export":             scoped(auth.SystemExport),
	"POST /fhir/Group/:id/$ehi-export":   scoped(auth.SystemExport),
	"GET /fhir/$export":                  exporters().adds(),
	"POST /fhir/$export":                 exporters(),
	"POST /fhir/$export-v4":              exporters(),
	"GET /fhir/Patient/$export":          exporters().adds(),
	"POST /fhir/Patient/$export":         exporters(),
	"POST /fhir/Patient/$export-v4":      exporters(),
	"GET /fhir/Group/:id/$export":        exporters().adds(),
	"POST /fhir/Group/:id/$export":       exporters(),
	"POST /fhir/Group/:id/$export-v4":    exporters(),
	"GET /fhir/Patient":                  readers("Patient", auth.Search),
	"POST /fhir/Patient/_search":         readers("Patient", auth.Search).always(onlyReads),
	"POST /fhir/Group/_search":           services("Group", auth.Search).always(onlyReads),
	"GET /fhir/Patient/:id":              readers("Patient", auth.Read),
	"GET /fhir/Binary/:id":               readers("Binary", auth.Read),
	"GET /fhir/Group":                    services("Group", auth.Search),
	"GET /fhir/Group/:id":                services("Group", auth.Read),

	"GET /jobs/:id/customize":                  visitors,
	"POST /jobs/:id":                           formHolders,
	"GET /jobs/:id/status":                     jobOwners,
	"DELETE /jobs/:id/status":                  jobOwners.always(makesRoom),
	"GET /jobs/:id/metadata":                   ownersOrStaff,
	"GET /jobs/:id/download/attachments/:file": jobOwners,
	"GET /jobs/:id/download/documents/:file":   jobOwners,
	"GET /jobs/:id/download/tables/:file":      jobOwners,
	"GET /jobs/:id/download/data/:file":        jobOwners,
	"GET /jobs/:id/download/:file":             jobOwners,

	"GET /auth/jwks":        everyone,
	"GET /auth/authorize":   everyone,
	"POST /auth/authorize":  everyone.always(letsIn),
	"POST /auth/token":      applications.always(letsIn),
	"POST /auth/revoke":     applications.always(takesAway),
	"POST /auth/introspect": applications.always(keepsNothing),
	"POST /auth/register":   registrars,

	"GET /patient-login":                   everyone,
	"POST /patient-login":                  everyone.always(letsIn),
	"POST /patient-logout":                 visitors.always(takesAway),
	"GET /authorize-app":                   visitors,
	"POST /authorize-app":                  visitors.always(letsIn),
	"GET /my/applications":                 visitors,
	"POST /my/applications":                visitors.always(takesAway),
	"GET /my/requests":                     visitors,
	"GET /my/requests/:id":                 visitors,
	"POST /my/requests/:id":                visitors.always(makesRoom),
	"GET /my/requests/:id/archive":         visitors,
	"GET /my/requests/:id/files/:file":     visitors,
	"GET /my/requests/:id/documents/:file": visitors,

	"GET /my/requests/:id/native/documents/:file": visitors,
	"GET /my/requests/:id/native/tables/:file":    visitors,
	"GET /my/requests/:id/native/data/:file":      visitors,

	"GET /admin":                          pageFor(auth.Viewer),
	"GET /admin/ui/login":                 everyone,
	"POST /admin/ui/login":                everyone.anytime(provesIdentity).always(letsIn),
	"GET /admin/ui/login/code":            everyone,
	"POST /admin/ui/login/code":           everyone.anytime(provesIdentity).always(letsIn),
	"POST /admin/ui/login/openid":         everyone.anytime(provesIdentity).always(letsIn),
	"GET /admin/ui/login/openid/callback": everyone,
	"GET /admin/ui/prove":                 themselves,
	"POST /admin/ui/prove":                themselves.anytime(provesIdentity).always(letsIn),
	"GET /admin/ui/second-factor":         themselves,
	"POST /admin/ui/second-factor":        themselves.recent(),
	"POST /admin/ui/logout":               everyone.anytime(endsSession).always(takesAway),

	"GET /admin/ui/events":                atLeast(auth.Viewer),
	"GET /admin/ui/jobs":                  pageFor(auth.Viewer),
	"POST /admin/ui/jobs":                 pageFor(auth.Reviewer).recent(),
	"GET /admin/ui/jobs/:id":              pageFor(auth.Viewer),
	"POST /admin/ui/jobs/:id":             pageFor(auth.Reviewer).recent(),
	"POST /admin/ui/jobs/:id/remove-file": pageFor(auth.Reviewer).anytime(bound).always(makesRoom),
	"POST /admin/ui/jobs/:id/held":        pageFor(auth.Reviewer).anytime(bound),
	"POST /admin/ui/jobs/:id/delete":      pageFor(auth.Admin).recent().always(makesRoom),

	"GET /admin/ui/jobs/:id/files":           pageFor(auth.Viewer),
	"GET /admin/ui/jobs/:id/files/:file":     pageFor(auth.Reviewer),
	"GET /admin/ui/jobs/:id/documents/:file": pageFor(auth.Reviewer),

	"GET /admin/ui/jobs/:id/held/documents/:file": pageFor(auth.Reviewer),
	"GET /admin/ui/jobs/:id/held/tables/:file":    pageFor(auth.Reviewer),

	"GET /admin/ui/system":    pageFor(auth.Viewer),
	"GET /admin/ui/clients":   pageFor(auth.Admin),
	"POST /admin/ui/clients":  pageFor(auth.Admin).recent(),
	"GET /admin/ui/accounts":  pageFor(auth.Admin),
	"POST /admin/ui/accounts": pageFor(auth.Admin).recent(),
	"GET /admin/ui/audit":     pageFor(auth.Admin),

	"POST /admin/login": everyone.anytime(provesIdentity).always(letsIn),
	"GET /admin/logout": everyone.anytime(endsSession),

	"GET /admin/jobs":                   atLeast(auth.Viewer),
	"GET /admin/jobs/:id":               atLeast(auth.Viewer),
	"POST /admin/jobs/:id/approve":      atLeast(auth.Reviewer).recent(),
	"POST /admin/jobs/:id/reject":       atLeast(auth.Reviewer).recent(),
	"POST /admin/jobs/:id/add-files":    pageFor(auth.Reviewer).anytime(bound),
	"POST /admin/jobs/:id/remove-files": atLeast(auth.Reviewer).anytime(bound).always(makesRoom),
	"GET /admin/jobs/:id/held":          atLeast(auth.Reviewer),
	"POST /admin/jobs/:id/held":         atLeast(auth.Reviewer).anytime(bound),
	"DELETE /admin/jobs/:id":            atLeast(auth.Admin).recent().always(makesRoom),

	"GET /admin/clients":             atLeast(auth.Admin),
	"POST /admin/clients":            atLeast(auth.Admin).recent(),
	"GET /admin/clients/:id":         atLeast(auth.Admin),
	"DELETE /admin/clients/:id":      atLeast(auth.Admin).recent().always(takesAway),
	"POST /admin/clients/:id/rotate": atLeast(auth.Admin).recent(),

	"GET /admin/accounts":                atLeast(auth.Admin),
	"POST /admin/accounts":               atLeast(auth.Admin).recent(),
	"PUT /admin/accounts/:kind/:name":    atLeast(auth.Admin).recent(),
	"DELETE /admin/accounts/:kind/:name": atLeast(auth.Admin).recent().always(takesAway),

	"DELETE /admin/accounts/:kind/:name/second-factor": atLeast(auth.Admin).recent(),

	"GET /admin/keys":         atLeast(auth.Admin),
	"POST /admin/keys/rotate": atLeast(auth.Admin).recent(),

	"GET /admin/debug":       atLeast(auth.Viewer),
	"GET /admin/log-level":   atLeast(auth.Viewer),
	"POST /admin/import":     atLeast(auth.Admin).anytime(longImport),
	"GET /admin/backup":      atLeast(auth.Admin).recent().adds(),
	"GET /admin/audit":       atLeast(auth.Admin),
	"GET /admin/sweep":       atLeast(auth.Viewer),
	"POST /admin/sweep":      atLeast(auth.Admin).recent().always(makesRoom),
	"PUT /admin/log-level":   atLeast(auth.Admin).anytime(onlyLogs).always(keepsNothing),
	"GET /admin/debug/pprof": atLeast(auth.Admin),
}

// variant is the part of a path before the FHIR base.
var variant = regexp.MustCompile(`^(/faulty/[^/]+)?(/no-form|/auto-approve)*/fhir`)

// ruleOf finds the rule of a route's template.
func ruleOf(method, path string) (rule, bool) {
	path = strings.ReplaceAll(variant.ReplaceAllString(path, "/fhir"), "%24", "$")
	r, ok := rules[method+" "+path]
	return r, ok
}

// on registers a route behind its rule.
func (s *Server) on(method, path string, handler fiber.Handler, before ...fiber.Handler) {
	s.register(method, path, before, handler)
}

// register registers a route: what comes before its rule, for administrators' changes the check
// against forged requests, the rule, what comes after; last of all but the handler the check of
// a recent proof.
func (s *Server) register(method, path string, before []fiber.Handler, after ...fiber.Handler) {
	r, ok := ruleOf(method, path)
	if !ok {
		panic(fmt.Sprintf("%s %s has no rule", method, path))
	}
	if changesAsStaff(method, path) && r.proved == (r.unproved != "") {
		panic(fmt.Sprintf("%s %s says neither that it asks for a recent proof nor why not",
			method, path))
	}
	t, _, declared := trailOf(method, path)
	if !declared {
		panic(fmt.Sprintf("%s %s does not say what it leaves in the audit trail", method, path))
	}
	handlers := before
	if changesState(method, path) {
		handlers = append(handlers, s.unforged(path))
	}
	if r.guard != nil {
		handlers = append(handlers, r.guard(s))
	}
	if t.reads {
		handlers = append(handlers, s.trail.Reads)
	}
	if !r.passesRescue(method) {
		handlers = append(handlers, s.notInRescue)
	}
	if r.staff && t.action != "" && !t.reads {
		handlers = append(handlers, s.trail.Refusals(t.action))
	}
	if r.proved { // behind the check of a page's token
		last := len(after) - 1
		after = append(append(slices.Clone(after[:last]), s.gate.Recently), after[last])
	}
	handlers = append(handlers, after...)
	if method == fiber.MethodGet { // HEAD too (REAL-13)
		s.app.Get(path, handlers...)
		return
	}
	s.app.Add(method, path, handlers...)
}

// under registers a middleware that answers everything below a path, behind that path's rule.
func (s *Server) under(path string, handlers ...fiber.Handler) {
	r, ok := ruleOf(fiber.MethodGet, path)
	if !ok {
		panic(path + " has no rule")
	}
	args := []any{path, within(path)}
	if r.guard != nil {
		args = append(args, r.guard(s))
	}
	for _, h := range handlers {
		args = append(args, h)
	}
	s.app.Use(args...)
}
