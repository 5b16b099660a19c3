package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"ehi-server/api/request"
	"ehi-server/api/staff"

	"github.com/valyala/fasthttp"
)

// answer is what a server answers to a request with a body and headers.
func answer(s *Server, method, path, body string, header ...string) *fasthttp.Response {
	var c fasthttp.RequestCtx
	c.Request.Header.SetMethod(method)
	c.Request.SetRequestURI(path)
	c.Request.SetHost("ehi.example")
	for i := 0; i+1 < len(header); i += 2 {
		c.Request.Header.Set(header[i], header[i+1])
	}
	c.Request.SetBodyString(body)
	s.app.Handler()(&c)
	_ = c.Response.Body() // to the end of a stream, whose writer waits for that
	return &c.Response
}

const asJSON = "application/json"

// forgeries are what browsers say of a request that another site has made them send.
var forgeries = [][]string{
	{"Sec-Fetch-Site", "cross-site"},
	{"Sec-Fetch-Site", "same-site"},
	{"Sec-Fetch-Site", "cross-site", "Origin", "https://ehi.example"},
	{"Sec-Fetch-Site", "Same-Origin"},
	{"Origin", "https://evil.example"},
	{"Origin", "null"},
	{"Origin", "https://ehi.example.evil.example"},
	{"Origin", "https://ehi.example:8443"},
	{"Origin", "https://evil.example", "Referer", "https://ehi.example/"},
	{"Origin", "https://ehi.example@evil.example"}, {"Origin", "ehi.example"},
	{"Origin", "http://ehi.example"},
	{"Origin", "http://ehi.example:443"},
	{"Origin", "https://ehi.example:80"},
}

// EHI-10: no page of another site makes a browser change anything by the administrators' API. Every
// route that changes something is held to that, whoever asks.
func TestEHI10AdministratorsChangesCannotBeForged(t *testing.T) {
	s := routed(t, func(c *Config) { c.Origins.BaseURL = "https://ehi.example" })
	tried := 0
	for _, r := range s.app.GetRoutes(true) {
		path := strings.NewReplacer(":id", "x", ":kind", "admin", ":name", "x").Replace(r.Path)
		if !changesState(r.Method, r.Path) && r.Path != staff.LogOutPath || r.Method == "HEAD" {
			continue
		}
		tried++
		for _, header := range forgeries {
			a := answer(s, r.Method, path, `{}`, append(header, "Content-Type", asJSON)...)
			if a.StatusCode() != http.StatusForbidden {
				t.Errorf("%s %s with %q answers %d %s", r.Method, path, header, a.StatusCode(),
					a.Body())
			}
		}
		for _, header := range [][]string{
			{},
			{"Sec-Fetch-Site", "same-origin"},
			{"Sec-Fetch-Site", "none"},
			{"Origin", "https://ehi.example"},
			{"Sec-Fetch-Site", "same-origin", "Origin", "https://behind.a.proxy.example"},
		} {
			a := answer(s, r.Method, path, `{}`, append(header, "Content-Type", asJSON)...)
			if a.StatusCode() == http.StatusForbidden ||
				a.StatusCode() == http.StatusUnsupportedMediaType {
				t.Errorf("%s %s with %q answers %d %s", r.Method, path, header, a.StatusCode(),
					a.Body())
			}
		}
		if slices.Contains([]string{staff.UploadPath, staff.ImportPath, staff.LogOutPath}, r.Path) {
			continue
		}
		for _, mime := range []string{
			"text/plain",
			"multipart/form-data; boundary=x",
			"application/x-www-form-urlencoded",
			"text/json",
			"application/jsonx",
			"",
		} {
			if mime == "application/x-www-form-urlencoded" && r.Path == staff.LogInPath {
				continue
			}
			a := answer(s, r.Method, path, `{"username":"x"}`, "Content-Type", mime)
			if a.StatusCode() != http.StatusUnsupportedMediaType {
				t.Errorf("%s %s as %q answers %d %s", r.Method, path, mime, a.StatusCode(),
					a.Body())
			}
		}
	}
	if tried < 15 {
		t.Errorf("%d routes only", tried)
	}
	t.Logf("%d routes, %d forgeries each", tried, len(forgeries))
}

// EHI-10: files are of types that a browser sends to any site without asking. A browser that
// does not say that a page of this server has sent them is refused; a program, which says
// nothing, is not.
func TestEHI10NoPageOfAnotherSiteUploads(t *testing.T) {
	s := routed(t, func(c *Config) { c.Origins.BaseURL = "https://ehi.example" })
	for _, path := range []string{"/admin/jobs/x/add-files", "/admin/import"} {
		for _, mime := range []string{
			"multipart/form-data; boundary=x", "text/plain", "application/x-www-form-urlencoded",
		} {
			for _, c := range []struct {
				header  []string
				refused bool
			}{
				{nil, false},
				{[]string{"Accept", "*/*"}, false},
				{[]string{"Sec-Fetch-Site", "same-origin"}, false},
				{[]string{"Origin", "https://ehi.example"}, false},
				{[]string{"Sec-Fetch-Site", "none"}, true},
				{[]string{"Referer", "https://evil.example/"}, true},
				{[]string{"Accept", "text/html,*/*;q=0.8"}, true},
				{[]string{"Referer", "https://ehi.example/admin"}, false},
				{[]string{"Referer", "https://ehi.example.evil.example/"}, true},
				{[]string{"Upgrade-Insecure-Requests", "1"}, true},
				{[]string{"Sec-Fetch-Dest", "document"}, true},
				{[]string{"Sec-Fetch-Mode", "cors", "Accept", "*/*"}, false}, // of Node
				{[]string{"Sec-Fetch-Site", "cross-site"}, true},
				{[]string{"Origin", "null"}, true},
			} {
				a := answer(s, "POST", path, "--x--", append(c.header, "Content-Type", mime)...)
				if refused := a.StatusCode() == http.StatusForbidden; refused != c.refused {
					t.Errorf("%s as %q with %q: %d %s", path, mime, c.header, a.StatusCode(),
						a.Body())
				}
			}
		}
	}
}

// EHI-10: programs may log in by a form. A browser's form comes from this server or is refused:
// else another site could log its visitors in as somebody else.
func TestEHI10FormsLogProgramsIn(t *testing.T) {
	s := routed(t, func(c *Config) {
		c.Origins.BaseURL, c.Admins.User, c.Admins.Password =
			"https://ehi.example", "admin", "a long password of a test"
	})
	form := "username=admin&password=a+long+password+of+a+test"
	for _, c := range []struct {
		header []string
		want   int
	}{
		{nil, 200},
		{[]string{"Accept", "*/*"}, 200},
		{[]string{"Sec-Fetch-Site", "same-origin"}, 200},
		{[]string{"Sec-Fetch-Site", "none"}, 415}, {[]string{"Sec-Fetch-Site", "cross-site"}, 403},
		{[]string{"Origin", "https://evil.example"}, 403}, {[]string{"Origin", "null"}, 403},
		{[]string{"Referer", "https://evil.example/"}, 415},
		{[]string{"Accept", "text/html,*/*;q=0.8"}, 415},
		{[]string{"Upgrade-Insecure-Requests", "1"}, 415},
		{[]string{"Sec-Fetch-Mode", "cors", "Accept", "*/*"}, 200}, // of Node
	} {
		a := answer(s, "POST", "/admin/login", form,
			append(c.header, "Content-Type", "application/x-www-form-urlencoded")...)
		if a.StatusCode() != c.want {
			t.Errorf("%q: %d %s", c.header, a.StatusCode(), a.Body())
		}
	}
}

// Over HTTPS every cookie of a session or of a page's token is this host's alone; without TLS,
// where browsers take no such cookie, they are called as ever.
func TestCookiesAreOfThisHostAlone(t *testing.T) {
	for base, prefix := range map[string]string{
		"https://ehi.example": "__Host-",
		"http://ehi.example":  "",
	} {
		s := routed(t, func(c *Config) {
			c.Origins.BaseURL, c.Admins.User, c.Admins.Password =
				base, "admin", "a long password of a test"
		})
		a := answer(s, "POST", "/admin/login",
			`{"username":"admin","password":"a long password of a test"}`, "Content-Type", asJSON)
		pages := answer(s, "GET", "/patient-login", "")
		staff := answer(s, "GET", "/admin/ui/login", "")
		for name, set := range map[string]string{
			"sid":            string(a.Header.PeekCookie(prefix + "sid")),
			"ehi_csrf":       string(pages.Header.PeekCookie(prefix + "ehi_csrf")),
			"ehi_admin_csrf": string(staff.Header.PeekCookie(prefix + "ehi_admin_csrf")),
		} {
			low := strings.ToLower(set)
			if !strings.Contains(low, "path=/;") && !strings.HasSuffix(low, "path=/") ||
				strings.Contains(low, "domain=") ||
				strings.Contains(low, "; secure") != (prefix != "") {
				t.Errorf("%s: the cookie %s is %q", base, name, set)
			}
		}
		if s.Origins.Cookie(request.PatientSession) != prefix+"ehi_patient" {
			t.Errorf("%s", s.Origins.Cookie(request.PatientSession))
		}
	}
}
