package server

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/shared/weburl"
)

func TestPathsHaveOneForm(t *testing.T) {
	for path, want := range map[string]bool{
		"/":                             true,
		"/admin":                        true,
		"/admin/jobs/x":                 true,
		"/fhir/Patient/a.b-c":           true,
		"/fhir/Patient/a/%24ehi-export": true,
		"/jobs/x/download/attachments/caf%C3%A9%20%25.txt": true,
		"/jobs/x/download/attachments/..a":                 true,
		"/.well-known/openid-configuration":                true,
		"/admin/debug/pprof/":                              true,
		"/admin/accounts/admin/a%2Fb":                      true,
		"/admin/accounts/admin/HOSP%5Canna":                true, "/x/...": true,

		"":                              false,
		"*":                             false,
		"admin":                         false,
		"//":                            false,
		"//admin":                       false,
		"/admin/":                       false,
		"/admin//jobs":                  false,
		"/metrics/":                     false,
		"/fhir/":                        false,
		"/./admin":                      false,
		"/x/../admin":                   false,
		"/admin/..":                     false,
		"/%2e/admin":                    false,
		"/x/%2E%2e/admin":               false,
		"/x/.%2e/admin":                 false,
		"/x%2Fadmin":                    false,
		"/x%2f..%2fadmin":               false,
		"/admin%2fjobs":                 false,
		`/admin\jobs`:                   false,
		`/x/..\admin`:                   false,
		"/x/%":                          false,
		"/x/%2":                         false,
		"/x/%zz":                        false,
		"/admin/accounts/admin/..%2f..": false,
		"/admin/accounts/../..":         false,
		"/admin/accounts/":              false,
		"/admin/debug/pprof//":          false, "/admin/debug/pprof/../..": false,
	} {
		if got := canonical(path); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}

// spellings are other ways to write a path that some proxies and servers take for the same.
func spellings(path string) []string {
	first, rest, _ := strings.Cut(path[1:], "/")
	if rest != "" {
		rest = "/" + rest
	}
	out := []string{
		path + "/",
		path + "//",
		path + "/.",
		path + "%2F",
		path + "/x/..",
		"/" + path,
		"/." + path,
		"/x/.." + path,
		"/%2e" + path,
		"/x/%2E%2E" + path,
		"/x%2F.." + path,
		"/%2F" + first + rest,
		`/\` + first + rest,
		strings.ReplaceAll(path, "/", "//"),
		"//h" + path + "?a=://", "//h" + path, "http://h//h" + path, "http://h/." + path,
		"/" + strings.ToUpper(first) + rest, "/" + strings.ToUpper(first[:1]) + first[1:] + rest,
		fmt.Sprintf("/%%%02x", first[0]) + first[1:] + rest,
	}
	if rest != "" {
		out = append(out, "/"+first+"%2f"+rest[1:], "/"+first+"/."+rest, "/"+first+"/x/.."+rest,
			"/"+first+"/"+rest)
	}
	return out
}

// Of a target in absolute-form what comes after the authority counts.
func TestTargetsAreReadInOriginForm(t *testing.T) {
	for target, want := range map[string]string{
		"/admin?x":            "/admin?x",
		"/x?a=http://b/admin": "/x?a=http://b/admin",
		"//x/admin?a=://":     "//x/admin?a=://",
		"http://h/admin?x":    "/admin?x",
		"HTTPS://u@h:1/admin": "/admin",
		"http://h":            "/",
		"http://h?x":          "/?x",
		"http://h#x":          "/#x",
		"http://h//admin":     "//admin",
		"/a://h/admin":        "/a://h/admin",
		"a?://h/x":            "a?://h/x",
		"*":                   "*", "": "",
	} {
		if got := originForm(target); got != want {
			t.Errorf("%q: %q", target, got)
		}
	}
}

// Where the origin is configured, no header of a request and no form of its target names
// another: not as issuer, not as token endpoint, not as an audience.
func TestSMART5NoRequestNamesTheServer(t *testing.T) {
	fixed := func(fixed bool) *Server {
		return routed(t, func(c *Config) {
			c.Origins.BaseURL, c.Origins.Fixed = "https://ehi.example", fixed
			c.Origins.TrustedProxies = []string{"0.0.0.0"}
		})
	}
	forged := func(target string) *fasthttp.RequestCtx {
		var c fasthttp.RequestCtx
		c.Request.SetRequestURI(target)
		for name, value := range map[string]string{
			"Host":               "evil.example",
			"X-Forwarded-Host":   "evil.example",
			"X-Forwarded-Proto":  "http",
			"X-Forwarded-For":    "evil.example",
			"X-Forwarded-Port":   "1",
			"X-Forwarded-Prefix": "/evil.example",
			"Forwarded":          "host=evil.example",
			"X-Original-Url":     "/evil.example",
		} {
			c.Request.Header.Set(name, value)
		}
		return &c
	}
	s := fixed(true)
	for _, path := range []string{
		"/fhir/.well-known/smart-configuration",
		"/.well-known/openid-configuration",
		"/.well-known/oauth-authorization-server",
		"/fhir/metadata", "/fhir/OperationDefinition/ehi-export", "/openapi.json", "/",
	} {
		for _, target := range []string{path, "http://evil.example" + path} {
			c := forged(target)
			s.app.Handler()(c)
			body := string(c.Response.Body())
			if c.Response.StatusCode() != http.StatusOK ||
				strings.Contains(body+c.Response.Header.String(), "evil.example") {
				t.Errorf("%s: %d %.300s", target, c.Response.StatusCode(), body)
			}
		}
	}
	origins := func(s *Server) []string {
		c := s.app.AcquireCtx(forged("http://evil.example/auth/token"))
		defer s.app.ReleaseCtx(c)
		return s.Origins.All(c)
	}
	if got := origins(s); !slices.Equal(got, []string{"https://ehi.example"}) {
		t.Errorf("origins: %q", got)
	}
	if got := origins(fixed(false)); !strings.Contains(got[0], "evil.example") {
		t.Errorf("without a configured origin a trusted proxy is not believed: %q", got)
	}
}

// No route has a second spelling. A proxy that keeps /admin and /metrics from the outside keeps
// all of them.
func TestNoRouteHasASecondSpelling(t *testing.T) {
	s := routed(t)
	serve, tried := s.app.Handler(), 0
	status := func(method, path string) int {
		var c fasthttp.RequestCtx
		c.Request.Header.SetMethod(method)
		c.Request.SetRequestURI(path)
		serve(&c)
		return c.Response.StatusCode()
	}
	routes := s.app.GetRoutes(true)
	for _, name := range byMiddleware {
		method, path, _ := strings.Cut(name, " ")
		routes = append(routes, fiber.Route{Method: method, Path: path + "/style.css"})
	}
	param := regexp.MustCompile(`:[a-z]+`)
	for _, r := range routes {
		if r.Path == "/" {
			continue
		}
		proper := param.ReplaceAllString(r.Path, "x")
		for _, path := range spellings(proper) {
			if path == proper ||
				strings.HasPrefix(path, namesOfAccounts) && strings.HasSuffix(path, "%2F") {
				continue // the route itself, or the name of an account
			}
			tried++
			if got := status(r.Method, path); got != http.StatusNotFound {
				t.Errorf("%s %q answers %d", r.Method, path, got)
			}
		}
	}
	for _, path := range []string{
		"/assetsstyle.css", "/assets/STYLE.css", "/admin/debug/pprofheap", "/fhir/patient/x",
		"/fhir/Metadata",
	} {
		if got := status("GET", path); got != http.StatusNotFound {
			t.Errorf("%q answers %d", path, got)
		}
	}
	if status("GET", "/assets/style.css") != http.StatusOK ||
		status("GET", "/fhir/metadata") != http.StatusOK || tried < 1000 {
		t.Errorf("nothing was tried, or all of it is refused (%d spellings)", tried)
	}
}

// A client whose base ends in a slash is told in FHIR's words that nothing is at the base; what
// it joins to the base is found.
func TestBasesWithASlash(t *testing.T) {
	s := routed(t)
	for path, want := range map[string]int{
		"/fhir":           404,
		"/fhir/":          404,
		"/fhir//metadata": 404,
		"/fhir/metadata":  200,
	} {
		var c fasthttp.RequestCtx
		c.Request.SetRequestURI(path)
		s.app.Handler()(&c)
		body := string(c.Response.Body())
		if c.Response.StatusCode() != want ||
			!strings.Contains(body, "OperationOutcome") && want == 404 {
			t.Errorf("%s: %d %.200s", path, c.Response.StatusCode(), body)
		}
	}
	for _, aud := range []string{
		"http://server.test/fhir",
		"http://server.test/fhir/",
		"http://server.test/no-form/fhir/",
	} {
		var c fasthttp.RequestCtx
		ctx := s.app.AcquireCtx(&c)
		if !slices.Contains(s.Origins.Audiences(ctx, aud, s.Sandbox), weburl.Canonical(aud)) {
			t.Errorf("%s is no audience", aud)
		}
		s.app.ReleaseCtx(ctx)
	}
}
