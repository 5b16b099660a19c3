package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/api/openapi"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// everyJobRoute requests a job with every route and method for jobs, as somebody who may not
// have it.
func (p *target) everyJobRoute(as *client.Client, job string, status ...int) {
	p.t.Helper()
	asked := 0
	for _, o := range openapi.Operations() {
		if !strings.HasPrefix(o.Path, "/jobs/") || !slices.Contains(o.Security, "bearer") {
			continue
		}
		path := strings.NewReplacer("{id}", job, "{file}", "Patient.ndjson").Replace(o.Path)
		methods := []string{o.Method}
		if o.Method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
		for _, method := range methods {
			asked++
			if a := p.do(as, method, path); !slices.Contains(status, a.Status) {
				p.t.Errorf("%s %s answers %d", method, path, a.Status)
			}
		}
	}
	if asked < 8 {
		p.t.Errorf("only %d routes were asked", asked)
	}
}

var accessAttacks = []attack{
	{
		"another patient's job on every route",
		"OWASP API1",
		func(p *target) { p.everyJobRoute(p.bob, p.annJob.ID, 404) },
	},
	{"the patient's own job by another client", "OWASP API1", func(p *target) {
		web, _ := p.letIn("web", "ann")
		p.everyJobRoute(web, p.annJob.ID, 404)
	}},
	{
		"a patient's job by a backend service",
		"OWASP API1",
		func(p *target) { p.everyJobRoute(p.service, p.annJob.ID, 404, 403) },
	},
	{
		"a population's job by a patient",
		"OWASP API1",
		func(p *target) { p.everyJobRoute(p.ann, p.bulkJob.ID, 404) },
	},
	{
		"any job by nobody",
		"OWASP API2",
		func(p *target) { p.everyJobRoute(p.open, p.annJob.ID, 401) },
	},
	{"another patient's record", "OWASP API1", func(p *target) {
		p.want(p.do(p.bob, "GET", "/fhir/Patient/"+p.production.ann), 404, "Patient not found")
		p.want(p.do(p.bob, "GET", "/fhir/Patient?_id="+p.production.ann), 200, `"total":0`)
	}},
	{"another patient's export", "OWASP API1", func(p *target) {
		for _, base := range []string{
			"", "/no-form", "/auto-approve", "/no-form/auto-approve", "/auto-approve/no-form",
		} {
			for _, dollar := range []string{"$", "%24"} {
				p.want(p.do(p.bob, "POST",
					base+"/fhir/Patient/"+p.production.ann+"/"+dollar+"ehi-export"), 404,
					"Patient not found")
			}
		}
	}},
	{"a population's export by a patient", "OWASP API5", func(p *target) {
		for _, path := range []string{
			"/fhir/$ehi-export", "/fhir/$export", "/fhir/Patient/$export",
			"/fhir/Group/all/$export", "/fhir/Group/all/$ehi-export",
		} {
			p.want(p.do(p.ann, "POST", path), 403, "")
		}
	}},
	{"an export without its scope", "SMART App Launch 2.2, scopes", func(p *target) {
		got := p.tokens(p.post("/auth/token",
			p.redemption("app", p.code("ann", p.request("app", "scope", "launch/patient")))))
		p.want(p.do(p.open.WithToken(got.AccessToken), "POST",
			"/fhir/Patient/"+p.production.ann+"/$ehi-export"), 403, "")
	}},
	{"more types than the scopes name", "SMART Backend Services 2.2", func(p *target) {
		f := p.asserted(nil)
		f.Set("scope", "system/Patient.rs")
		narrow := p.open.WithToken(p.tokens(p.post("/auth/token", f)).AccessToken)
		p.want(p.do(narrow, "GET", "/fhir/$export?_type=Observation"), 403, "")
		p.want(p.do(narrow, "GET", "/fhir/Group"), 403, "")
	}},
	{"files before the approval", "45 CFR 170.315(b)(10)", func(p *target) {
		j := p.kickOff(p.ann, "/no-form", p.production.ann, nil)
		p.wait(j.ID, ehi.Retrieved)
		p.want(p.do(p.ann, "GET", "/jobs/"+j.ID+"/download/Patient.ndjson"), 404, "")
	}},
	{"methods by a header", "OWASP API8", func(p *target) {
		p.want(p.do(p.ann, "GET", p.annJob.StatusURL, "X-HTTP-Method-Override", "DELETE",
			"X-Original-URL", "/admin/jobs", "X-Rewrite-URL", "/admin/jobs"), 200, "output")
	}},
	{"unknown methods", "OWASP API8", func(p *target) {
		for _, method := range []string{"PUT", "PATCH", "TRACE", "CONNECT", "PROPFIND"} {
			a := p.raw(method + " /jobs/" + p.annJob.ID +
				"/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if !strings.Contains(a, " 405 ") && !strings.Contains(a, " 404 ") &&
				!strings.Contains(a, " 400 ") && !strings.Contains(a, " 501 ") {
				p.t.Errorf("%s: %.60q", method, a)
			}
		}
	}},
	{"scripts of other sites at the administrators' routes", "OWASP API8 (CORS)", func(p *target) {
		a := p.do(p.open, "OPTIONS", "/admin/jobs", "Origin", "https://evil.example",
			"Access-Control-Request-Method", "GET")
		if a.Header.Get("Access-Control-Allow-Origin") != "" ||
			a.Header.Get("Access-Control-Allow-Credentials") != "" {
			p.t.Errorf("%v", a.Header)
		}
	}},
	{"scripts of other sites with credentials", "OWASP API8 (CORS)", func(p *target) {
		a := p.do(p.open, "GET", "/fhir/metadata", "Origin", "https://evil.example")
		if a.Header.Get("Access-Control-Allow-Credentials") != "" {
			p.t.Errorf("%v", a.Header)
		}
	}},
	{"profiles and settings by a patient", "OWASP API5", func(p *target) {
		for _, path := range []string{
			"/admin/debug", "/admin/debug/pprof/heap", "/admin/debug/pprof/", "/admin/backup",
			"/admin/audit",
		} {
			p.want(p.do(p.ann, "GET", path), 401, "")
		}
	}},
}

// Spellings of a parent folder, as part of a path.
var climbs = []string{
	"../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
	"%2e%2e/%2e%2e/etc/passwd", "..%252f..%252fetc%252fpasswd", `..\..\etc\passwd`,
	"..%5c..%5cetc%5cpasswd", "..%c0%af..%c0%afetc/passwd", "Patient.ndjson%00.txt", "%00",
	"....//....//etc/passwd", "/etc/passwd", "%2fetc%2fpasswd", "..;/..;/etc/passwd", ".", "..",
	"%2e", "%2e%2e",
}

var pathAttacks = []attack{
	{"out of the downloads", "CWE-22", func(p *target) {
		for _, climb := range climbs {
			a := p.raw("GET /jobs/" + p.annJob.ID + "/download/" + climb +
				" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " +
				p.ann.Token + "\r\n\r\n")
			if strings.Contains(a, " 200 ") || strings.Contains(a, "root:") {
				p.t.Errorf("%s: %.300q", climb, a)
			}
		}
	}},
	{"out of the attachments", "CWE-22", func(p *target) {
		for _, climb := range climbs {
			a := p.raw("GET /jobs/" + p.annJob.ID + "/download/attachments/" + climb +
				" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " +
				p.ann.Token + "\r\n\r\n")
			if strings.Contains(a, " 200 ") || strings.Contains(a, "root:") {
				p.t.Errorf("%s: %.300q", climb, a)
			}
		}
	}},
	{"out of the assets", "CWE-22", func(p *target) {
		for _, climb := range climbs {
			a := p.raw("GET /assets/" + climb + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if strings.Contains(a, " 200 ") || strings.Contains(a, "root:") {
				p.t.Errorf("%s: %.300q", climb, a)
			}
		}
	}},
	{"out of one's record by a patient's id", "CWE-22", func(p *target) {
		for _, climb := range climbs {
			a := p.raw("GET /fhir/Patient/" + climb +
				" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " +
				p.bob.Token + "\r\n\r\n")
			if strings.Contains(a, p.production.ann) || strings.Contains(a, " 500 ") {
				p.t.Errorf("%s: %.300q", climb, a)
			}
		}
	}},
	{"a job's id that is a wildcard of the store", "CWE-943", func(p *target) {
		for _, id := range []string{"*", "%3e", "%2a", "a.b", "$KV", "%20"} {
			if a := p.do(p.ann, "GET", "/jobs/"+id+"/status"); a.Status != 404 && a.Status != 400 {
				p.t.Errorf("%s answers %d: %s", id, a.Status, a.Body)
			}
		}
	}},
	{"an uploaded name that climbs", "CWE-22", func(p *target) {
		j := p.kickOff(p.ann, "/no-form", p.production.ann, nil)
		p.wait(j.ID, ehi.Retrieved)
		for _, name := range []string{
			"../../evil", `..\..\evil`, "/etc/cron.d/evil", "evil\x00.txt", "a\"b\r\nX: y",
		} {
			a, err := p.admin.AddFiles(p.t.Context(), j.ID,
				client.File{Name: name, Data: []byte("x")})
			if err != nil ||
				a.Status != 200 && !(a.Status == 400 && strings.Contains(name, "\x00")) {
				p.t.Errorf("%q: %+v, %v", name, a, err)
			}
		}
		job, err := p.admin.Job(p.t.Context(), j.ID)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, a := range job.Attachments {
			if strings.ContainsAny(a.Title, "/\\\"\r\n\x00") || strings.HasPrefix(a.Title, ".") {
				p.t.Errorf("it is called %q", a.Title)
			}
		}
	}},
}

// upload posts a body as an administrator.
func (p *target) upload(path, mime string, body io.Reader, header ...string) *client.Answer {
	p.t.Helper()
	a, err := p.admin.Do(p.t.Context(), "POST", path, body,
		append([]string{"Content-Type", mime}, header...)...)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// inflated returns n bytes b, compressed.
func inflated(b byte, n int) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	block := bytes.Repeat([]byte{b}, 1<<16)
	for range n >> 16 {
		_, _ = w.Write(block) // to memory: cannot fail
	}
	_ = w.Close()
	return out.Bytes()
}

var requestAttacks = []attack{
	{"host header", "OWASP host header injection", func(p *target) {
		for _, path := range []string{
			"/fhir/metadata",
			"/fhir/.well-known/smart-configuration",
			"/openapi.json",
			"/",
		} {
			a := p.raw("GET " + path +
				" HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nX-Forwarded-Host: " +
				"evil.example\r\nForwarded: host=evil.example\r\n\r\n")
			if !strings.Contains(a, " 200 ") || strings.Contains(a, "evil.example") {
				p.t.Errorf("%s: %.500q", path, a)
			}
		}
	}},
	{"host header at the kick-off", "OWASP host header injection", func(p *target) {
		a := p.raw("POST /no-form/fhir/Patient/" + p.production.ann +
			"/$ehi-export HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Proto: " +
			"http\r\nX-Forwarded-Host: evil.example\r\nContent-Length: 0\r\nAuthorization: Bearer " +
			p.ann.Token + "\r\n\r\n")
		if !strings.Contains(a, " 202 ") || strings.Contains(a, "evil.example") {
			p.t.Errorf("%.500q", a)
		}
	}},
	{"line breaks in a header", "CWE-113", func(p *target) {
		a := p.do(p.open, "GET", "/fhir/metadata", "X-Request-Id", "x%0d%0aSet-Cookie: sid=1")
		if a.Header.Get("Set-Cookie") != "" || strings.Contains(a.Header.Get("X-Request-Id"), "%") {
			p.t.Errorf("%v", a.Header)
		}
	}},
	{"line breaks in a path", "CWE-113", func(p *target) {
		a := p.raw("GET /patient-login?action=%0d%0aSet-Cookie:%20sid=1 HTTP/1.1\r\nHost: " +
			"x\r\nConnection: close\r\n\r\n")
		if strings.Contains(strings.ToLower(a), "\nset-cookie: sid=1") {
			p.t.Errorf("%.500q", a)
		}
	}},
	{"two lengths", "CWE-444 request smuggling", func(p *target) {
		a := p.raw("POST /auth/token HTTP/1.1\r\nHost: x\r\nContent-Type: " +
			"application/x-www-form-urlencoded\r\nContent-Length: 5\r\nTransfer-Encoding: " +
			"chunked\r\n\r\n0\r\n\r\nGET /admin/jobs HTTP/1.1\r\nHost: x\r\n\r\n")
		if strings.Contains(a, " 200 ") {
			p.t.Errorf("%.300q", a)
		}
	}},
	{"zip bomb", "CWE-409", func(p *target) {
		bomb := inflated(' ', 32<<20)
		for _, path := range []string{
			"/auth/token",
			"/jobs/" + p.annForm.ID,
			"/fhir/Patient/" + p.production.ann + "/$ehi-export",
			"/admin/login",
			"/auth/register",
		} {
			a := p.upload(path, "application/json", bytes.NewReader(bomb), "Content-Encoding",
				"gzip")
			p.want(a, 415, "")
		}
	}},
	{"JSON a million deep", "CWE-674", func(p *target) {
		for _, open := range []string{"[", `{"a":`} {
			deep := strings.Repeat(open, 1000_000/len(open))
			for _, path := range []string{
				"/jobs/" + p.annForm.ID,
				"/fhir/Patient/" + p.production.ann + "/$ehi-export",
			} {
				a, err := p.ann.Do(p.t.Context(), "POST", path, strings.NewReader(deep),
					"Content-Type", "application/json")
				if err != nil || a.Status != 400 {
					p.t.Errorf("%s: %+v, %v", path, a, err)
				}
			}
			p.want(p.upload("/admin/login", "application/json", strings.NewReader(deep)), 400, "")
			p.want(p.upload("/admin/clients", "application/json", strings.NewReader(deep)), 400, "")
		}
	}},
	{"a bundle sixteen million deep", "CWE-674", func(p *target) {
		a := p.upload("/admin/import?strict=true", "application/fhir+json",
			strings.NewReader(`{"resourceType":"Bundle","type":"collection","entry":[{"resource":`+
				strings.Repeat("[", 16<<20)))
		if a.Status != 400 && a.Status != 413 {
			p.t.Errorf("%d %.200s", a.Status, a.Body)
		}
	}},
	{"a line sixteen million deep", "CWE-674", func(p *target) {
		a := p.upload("/admin/import?strict=true", "application/fhir+ndjson",
			strings.NewReader(`{"resourceType":"Patient","id":"x","x":`+strings.Repeat("[", 9<<20)+
				"\n"))
		p.want(a, 400, "")
	}},
	{"multipart of thousands of parts", "CWE-770", func(p *target) {
		j := p.kickOff(p.ann, "/no-form", p.production.ann, nil)
		p.wait(j.ID, ehi.Retrieved)
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		for n := range 5000 {
			part, err := w.CreateFormFile("attachments", fmt.Sprintf("f%d", n))
			if err != nil {
				p.t.Fatal(err)
			}
			_, _ = part.Write([]byte("x")) // to memory: cannot fail
		}
		_ = w.Close()
		p.want(p.upload("/admin/jobs/"+j.ID+"/add-files", w.FormDataContentType(), &body), 400,
			"You can add at most")
	}},
	{"a body without an end", "CWE-770", func(p *target) {
		p.want(p.upload("/auth/token", "application/x-www-form-urlencoded",
			strings.NewReader(strings.Repeat("a", 8<<20))), 413, "")
	}},
	{"a thousand parameters of one name", "OWASP API4", func(p *target) {
		a, err := p.open.Do(p.t.Context(), "POST", "/auth/token",
			strings.NewReader(strings.Repeat("scope=x&", 10000)+"grant_type=client_credentials"),
			"Content-Type", "application/x-www-form-urlencoded")
		if err != nil {
			p.t.Fatal(err)
		}
		p.want(a, 400, "invalid_request")
	}},
}

var pageAttacks = []attack{
	{"consent without the page's token", "RFC 6749 10.12", func(p *target) {
		b := p.loggedIn("ann")
		b.forge(p.open.Base+"/authorize-app", p.open.Base+"/authorize-app",
			"decision=allow&"+p.request("app").Encode())
		b.sees(403, "Forbidden")
	}},
	{"consent with another browser's token", "RFC 6749 10.12", func(p *target) {
		theirs, mine := p.loggedIn("bob"), p.loggedIn("ann")
		theirs.visit(p.open.Base + "/authorize-app?" + p.request("app").Encode())
		stolen := theirs.field("_csrf")
		mine.forge(p.open.Base+"/authorize-app", p.open.Base+"/authorize-app",
			"decision=allow&_csrf="+stolen+"&"+p.request("app").Encode())
		mine.sees(403, "Forbidden")
	}},
	{"consent from another site", "RFC 6749 10.12", func(p *target) {
		b := p.loggedIn("ann")
		b.visit(p.open.Base + "/authorize-app?" + p.request("app").Encode())
		b.forge(p.open.Base+"/authorize-app", "https://evil.example/",
			"decision=allow&_csrf="+b.field("_csrf")+"&"+p.request("app").Encode())
		b.sees(403, "Forbidden")
	}},
	{"consent that asks for more than was shown", "RFC 9700 4.16", func(p *target) {
		b := p.loggedIn("ann")
		b.visit(p.open.Base + "/authorize-app?" +
			p.request("app", "scope", "launch/patient").Encode())
		b.forge(p.open.Base+"/authorize-app", p.open.Base+"/authorize-app",
			"decision=allow&_csrf="+b.field("_csrf")+"&"+
				p.request("app", "redirect_uri", "https://evil.example/cb").Encode())
		if b.code != 400 || b.at.Host == "evil.example" {
			p.t.Errorf("%d at %s", b.code, b.at)
		}
	}},
	{"withdrawal without the page's token", "CWE-352", func(p *target) {
		b := p.loggedIn("ann")
		b.forge(p.open.Base+"/my/applications", p.open.Base+"/", "id=x")
		b.sees(403, "Forbidden")
	}},
	{"withdrawal of another patient's application", "OWASP API1", func(p *target) {
		bob := p.loggedIn("bob")
		bob.visit(p.open.Base + "/my/applications")
		id := bob.field("id")
		ann := p.loggedIn("ann")
		ann.visit(p.open.Base + "/my/applications")
		ann.forge(p.open.Base+"/my/applications", p.open.Base+"/my/applications",
			"_csrf="+ann.field("_csrf")+"&id="+id)
		ann.sees(404, "This page may have been deleted, or it may belong to somebody else.")
		p.want(p.do(p.bob, "GET", "/fhir/Patient/"+p.production.bob), 200, "")
	}},
	{"log-out from another site", "CWE-352", func(p *target) {
		b := p.loggedIn("ann")
		b.forge(p.open.Base+"/patient-logout", "https://evil.example/", "")
		b.sees(403, "Forbidden")
		b.visit(p.open.Base + "/my/applications")
		b.sees(200, "Apps with access")
	}},
	{"log-in as somebody else from another site", "OWASP login CSRF", func(p *target) {
		b := p.person()
		b.forge(p.open.Base+"/patient-login", "https://evil.example/",
			"username=bob&password="+url.QueryEscape(patientPassword))
		b.sees(403, "Forbidden")
	}},
	{"release form without its token", "EHI-7", func(p *target) {
		b := p.person()
		b.forge(p.open.Base+"/jobs/"+p.annForm.ID, p.open.Base+"/", "p.labs=on")
		b.sees(200, "Sign in")
		p.stillOpen(p.annForm.ID)
	}},
	{"release form with another job's token", "EHI-7", func(p *target) {
		other := p.kickOff(p.bob, "", p.production.bob, nil)
		b := p.loggedIn("bob")
		b.visit(p.open.Base + "/jobs/" + other.ID + "/customize")
		b.forge(p.open.Base+"/jobs/"+p.annForm.ID, p.open.Base+"/",
			"p.labs=on&interaction="+b.field("interaction"))
		b.sees(403, "expired")
	}},
	{"release form of another patient", "OWASP API1", func(p *target) {
		b := p.loggedIn("bob")
		b.visit(p.open.Base + "/jobs/" + p.annForm.ID + "/customize")
		b.sees(200, "Sign in")
	}},
	{"the sandbox's stand-in for a log-in", "SMART-10", func(p *target) {
		b := p.person()
		b.visit(p.open.Base + "/jobs/" + p.annForm.ID + "/customize?_patient=" + p.production.ann)
		b.sees(200, "Sign in")
	}},
	{"the form as a way to other sites", "OWASP open redirect", func(p *target) {
		b := p.loggedIn("ann")
		j := p.kickOff(p.ann, "", p.production.ann, nil)
		b.visit(p.open.Base + "/jobs/" + j.ID + "/customize?redirect=https%3A%2F%2Fevil.example%2F")
		b.submit("p.labs", "on", "redirect", "https://evil.example/")
		if b.at.Host == "evil.example" {
			p.t.Errorf("it leads to %s", b.at)
		}
	}},
	{"the log-in as a way to other sites", "OWASP open redirect", func(p *target) {
		for _, next := range []string{
			"https://evil.example/", "//evil.example/", `/\evil.example`, `\\evil.example`,
			"/%09/evil.example", "javascript:alert(1)", "https:evil.example",
		} {
			b := p.person()
			b.visit(p.open.Base + "/patient-login?action=" + url.QueryEscape(next))
			b.submit("username", "ann", "password", patientPassword)
			if b.at.Host != strings.TrimPrefix(p.open.Base, "https://") {
				p.t.Errorf("%s leads to %s", next, b.at)
			}
		}
	}},
	{"clickjacking", "RFC 9700 4.16", func(p *target) {
		for _, path := range []string{
			"/patient-login",
			"/authorize-app?" + p.request("app").Encode(),
			"/my/applications",
			"/jobs/" + p.annForm.ID + "/customize",
			"/",
		} {
			h := p.do(p.open, "GET", path, "Accept", "text/html").Header
			if !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") ||
				h.Get("X-Frame-Options") != "DENY" ||
				h.Get("X-Content-Type-Options") != "nosniff" ||
				h.Get("Referrer-Policy") != "same-origin" ||
				!strings.HasPrefix(h.Get("Strict-Transport-Security"), "max-age=") {
				p.t.Errorf("%s: %v", path, h)
			}
			csp := h.Get("Content-Security-Policy")
			if strings.Contains(csp, "unsafe") || !strings.Contains(csp, "default-src 'none'") {
				p.t.Errorf("%s: %s", path, csp)
			}
		}
	}},
	{"script in what is shown", "CWE-79", func(p *target) {
		b := p.person()
		b.visit(p.open.Base + "/patient-login?action=" +
			url.QueryEscape(`/"><script>alert(1)</script>`) + "&redirect=" +
			url.QueryEscape(`"><script>alert(1)</script>`))
		if strings.Contains(b.page, "<script>") {
			p.t.Errorf("%s", b.page)
		}
	}},
	{"script in an application's name", "CWE-79", func(p *target) {
		_, _, err := p.admin.AddClient(p.t.Context(), auth.Client{
			ID:           "script",
			Name:         "<script>alert(1)</script>",
			RedirectURIs: []string{appRedirect},
			Scope:        appScope,
		})
		if err != nil {
			p.t.Fatal(err)
		}
		b := p.loggedIn("ann")
		b.visit(p.open.Base + "/authorize-app?" + p.request("app", "client_id", "script").Encode())
		b.sees(200, "&lt;script&gt;")
		if strings.Contains(b.page, "<script>") {
			p.t.Errorf("%s", b.page)
		}
	}},
	{"a document that is a page", "CWE-79", func(p *target) {
		a := p.do(p.ann, "GET", "/jobs/"+p.annJob.ID+"/download/attachments/page.html")
		p.want(a, 200, "<script>")
		if !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") ||
			a.Header.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.HasPrefix(a.Header.Get("Content-Disposition"), "attachment") ||
			!strings.HasPrefix(a.Header.Get("Content-Security-Policy"),
				"sandbox; default-src 'none'") {
			p.t.Errorf("%v", a.Header)
		}
	}},
	{"session fixation", "CWE-384", func(p *target) {
		a := p.do(p.open, "GET", "/admin/jobs", "Cookie", "__Host-sid=chosen-by-the-attacker")
		p.want(a, 401, "")
		in, err := p.open.Do(p.t.Context(), "POST", "/admin/login",
			strings.NewReader(`{"username":"ada","password":"`+staffPassword+`"}`), "Content-Type",
			"application/json", "Cookie", "__Host-sid=chosen-by-the-attacker")
		if err != nil || in.Status != 200 ||
			strings.Contains(in.Header.Get("Set-Cookie"), "chosen") {
			p.t.Errorf("%+v, %v", in, err)
		}
		p.want(p.do(p.open, "GET", "/admin/jobs", "Cookie", "__Host-sid=chosen-by-the-attacker"),
			401, "")
	}},
	{"cookies that others can read", "CWE-614, CWE-1004", func(p *target) {
		in, err := p.open.Do(p.t.Context(), "POST", "/admin/login",
			strings.NewReader(`{"username":"ada","password":"`+staffPassword+`"}`), "Content-Type",
			"application/json")
		if err != nil {
			p.t.Fatal(err)
		}
		page := p.do(p.open, "GET", "/patient-login")
		for _, cookie := range append(in.Header.Values("Set-Cookie"),
			page.Header.Values("Set-Cookie")...) {
			c := strings.ToLower(cookie)
			if !strings.Contains(c, "secure") || !strings.Contains(c, "httponly") ||
				!strings.Contains(c, "samesite=") {
				p.t.Errorf("%s", cookie)
			}
		}
	}},
	{"pages that stay in a cache", "RFC 6749 5.1", func(p *target) {
		b := p.loggedIn("ann")
		for _, path := range []string{
			"/my/applications",
			"/authorize-app?" + p.request("app").Encode(),
			"/jobs/" + p.annForm.ID + "/customize",
			"/patient-login",
		} {
			b.visit(p.open.Base + path)
			if b.header.Get("Cache-Control") != "no-store" {
				p.t.Errorf("%s: Cache-Control %q", path, b.header.Get("Cache-Control"))
			}
		}
	}},
}

// loggedIn returns a browser in which a patient is signed in.
func (p *target) loggedIn(account string) *browser {
	p.t.Helper()
	b := p.person()
	b.visit(p.open.Base + "/patient-login")
	b.submit("username", account, "password", patientPassword)
	b.sees(200, "Apps with access")
	return b
}

var adminAttacks = []attack{
	{"a viewer decides", "OWASP API5", func(p *target) {
		vera := p.staff("vera")
		p.want(p.do(vera, "GET", "/admin/jobs"), 200, "")
		for _, r := range []string{
			"POST /admin/jobs/x/approve", "POST /admin/jobs/x/reject",
			"POST /admin/jobs/x/add-files", "POST /admin/jobs/x/remove-files",
			"GET /admin/jobs/x/held", "POST /admin/jobs/x/held",
			"DELETE /admin/jobs/x",
		} {
			method, path, _ := strings.Cut(r, " ")
			p.want(p.do(vera, method, strings.Replace(path, "/x", "/"+p.annJob.ID, 1)), 403, "role")
		}
	}},
	{"a reviewer administrates", "OWASP API5", func(p *target) {
		rita := p.staff("rita")
		for _, o := range openapi.Operations() {
			if !strings.HasPrefix(o.Path, "/admin/clients") &&
				!strings.HasPrefix(o.Path, "/admin/accounts") &&
				!strings.HasPrefix(o.Path, "/admin/keys") &&
				!slices.Contains([]string{
					"/admin/audit", "/admin/backup", "/admin/import",
					"/admin/debug/pprof/{profile}",
				}, o.Path) {
				continue
			}
			path := strings.NewReplacer("{id}", "app", "{kind}", "admin", "{name}", "rita",
				"{profile}", "heap").Replace(o.Path)
			p.want(p.do(rita, o.Method, path), 403, "role admin")
		}
		p.want(p.do(rita, "POST", "/admin/sweep"), 403, "role admin") // she may see what waits
	}},
	{"a reviewer makes himself an administrator", "OWASP API3", func(p *target) {
		a, err := p.staff("rita").Do(p.t.Context(), "PUT", "/admin/accounts/admin/rita",
			strings.NewReader(`{"role":"admin"}`), "Content-Type", "application/json")
		if err != nil {
			p.t.Fatal(err)
		}
		p.want(a, 403, "role admin")
	}},
	{"past the rules while the disk is full", "CWE-636", func(p *target) {
		data, cfg := p.t.TempDir(), productionConfig(p.t)
		was := answersTo(p, data, cfg)
		cfg.Room.RescueBelow = 1 << 62
		for asked, status := range answersTo(p, data, cfg) {
			if status != was[asked] && status != 503 || status < 300 && was[asked] >= 300 {
				p.t.Errorf("%s is answered %d in rescue mode, and %d else", asked, status,
					was[asked])
			}
		}
	}},
	{"a patient's session as an administrator's", "CWE-287", func(p *target) {
		b := p.loggedIn("ann")
		u, err := url.Parse(p.open.Base)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, c := range b.http.Jar.Cookies(u) {
			p.want(p.do(p.open, "GET", "/admin/jobs", "Cookie", "__Host-sid="+c.Value), 401,
				"Authorization required")
		}
	}},
	{"an account with role and patient", "OWASP API3", func(p *target) {
		_, err := p.admin.AddAccount(p.t.Context(),
			auth.Account{Name: "both", Patient: p.production.ann, Role: auth.Admin}, staffPassword)
		p.refused(err, 400)
	}},
	{"an account of a made-up role", "OWASP API3", func(p *target) {
		_, err := p.admin.AddAccount(p.t.Context(), auth.Account{Name: "root2", Role: "root"},
			staffPassword)
		p.refused(err, 400)
	}},
	{"a session after the log-out", "CWE-613", func(p *target) {
		ada := p.staff("ada")
		p.want(p.do(ada, "GET", "/admin/logout"), 200, "")
		p.want(p.do(ada, "GET", "/admin/jobs"), 401, "")
	}},
	{"a session after the account's removal", "CWE-613", func(p *target) {
		_, err := p.admin.AddAccount(p.t.Context(), auth.Account{Name: "leaver", Role: auth.Admin},
			staffPassword)
		if err != nil {
			p.t.Fatal(err)
		}
		leaver := p.staff("leaver")
		if err := p.admin.RemoveAccount(p.t.Context(), "admin", "leaver"); err != nil {
			p.t.Fatal(err)
		}
		await(p.t, "the removal", func() bool {
			return p.do(leaver, "GET", "/admin/jobs").Status == 401
		})
	}},
	{"a session after the password's change", "CWE-613", func(p *target) {
		_, err := p.admin.AddAccount(p.t.Context(), auth.Account{Name: "changer", Role: auth.Admin},
			staffPassword)
		if err != nil {
			p.t.Fatal(err)
		}
		changer := p.staff("changer")
		err = p.admin.SetPassword(p.t.Context(), "admin", "changer",
			"another plain password of hers")
		if err != nil {
			p.t.Fatal(err)
		}
		await(p.t, "the change", func() bool {
			return p.do(changer, "GET", "/admin/jobs").Status == 401
		})
	}},
	{"a patient's session after the account's removal", "CWE-613", func(p *target) {
		_, err := p.admin.AddAccount(p.t.Context(),
			auth.Account{Name: "moved", Patient: p.production.ann}, patientPassword)
		if err != nil {
			p.t.Fatal(err)
		}
		b := p.loggedIn("moved")
		if err := p.admin.RemoveAccount(p.t.Context(), "patient", "moved"); err != nil {
			p.t.Fatal(err)
		}
		b.visit(p.open.Base + "/my/applications")
		b.sees(200, "Sign in")
	}},
	{"a patient's session after the password's change", "CWE-613", func(p *target) {
		_, err := p.admin.AddAccount(p.t.Context(),
			auth.Account{Name: "stolen", Patient: p.production.ann}, patientPassword)
		if err != nil {
			p.t.Fatal(err)
		}
		b := p.loggedIn("stolen")
		err = p.admin.SetPassword(p.t.Context(), "patient", "stolen",
			"another plain password of hers")
		if err != nil {
			p.t.Fatal(err)
		}
		b.visit(p.open.Base + "/authorize-app?" + p.request("app").Encode())
		b.sees(200, "Sign in")
	}},
	{"the trail is changed", "45 CFR 164.312(b)", func(p *target) {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
			if a := p.do(p.admin, method, "/admin/audit"); a.Status != 405 && a.Status != 404 {
				p.t.Errorf("%s answers %d", method, a.Status)
			}
		}
	}},
	{"a short password", "NIST SP 800-63B", func(p *target) {
		_, err := p.admin.AddAccount(p.t.Context(), auth.Account{Name: "short", Role: auth.Viewer},
			"secret")
		p.refused(err, 400)
	}},
}

// askAttacks make the server fetch a client's keys.
var askAttacks = []attack{
	{"loopback", "OWASP API7 (SSRF)", func(p *target) { p.notAsked("127.0.0.1") }},
	{"loopback by name", "OWASP API7 (SSRF)", func(p *target) { p.notAsked("localhost") }},
	{"loopback as IPv6", "OWASP API7 (SSRF)", func(p *target) { p.notAsked("[::1]") }},
	{
		"loopback mapped to IPv6",
		"OWASP API7 (SSRF)",
		func(p *target) { p.notAsked("[::ffff:127.0.0.1]") },
	},
	{"this host", "OWASP API7 (SSRF)", func(p *target) { p.notAsked("0.0.0.0") }},
	{
		"metadata of a cloud",
		"OWASP API7 (SSRF)",
		func(p *target) { p.notFetched("https://169.254.169.254/latest/meta-data/") },
	},
	{
		"a private network",
		"OWASP API7 (SSRF)",
		func(p *target) { p.notFetched("https://10.0.0.1/keys") },
	},
	{"plain HTTP", "RFC 9700 2.6", func(p *target) { p.notFetched("http://example.org/keys") }},
	{"a file", "OWASP API7 (SSRF)", func(p *target) {
		_, _, err := p.admin.AddClient(p.t.Context(), auth.Client{
			Name:    "x",
			Kind:    auth.Asymmetric,
			Scope:   "system/*.rs",
			JWKSURI: "file:///etc/passwd",
		})
		p.refused(err, 400)
	}},
	{"credentials in the URL", "OWASP API7 (SSRF)", func(p *target) {
		_, _, err := p.admin.AddClient(p.t.Context(), auth.Client{
			Name:    "x",
			Kind:    auth.Asymmetric,
			Scope:   "system/*.rs",
			JWKSURI: "https://a:b@example.org/",
		})
		p.refused(err, 400)
	}},
}

// notFetched registers a client whose keys are at uri, and requires that its assertion is
// refused without details.
func (p *target) notFetched(uri string) {
	p.t.Helper()
	c, _, err := p.admin.AddClient(p.t.Context(), auth.Client{
		Name:    "asks",
		Kind:    auth.Asymmetric,
		Scope:   "system/*.rs",
		JWKSURI: uri,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	await(p.t, "the client", func() bool {
		a := p.post("/auth/token",
			withAssertion(p.assertion(map[string]any{"iss": c.ID, "sub": c.ID})))
		p.want(a, 401, "invalid_client")
		return strings.Contains(string(a.Body), "cannot be fetched from its jwks_uri\"")
	})
}

// notAsked is notFetched with a listener at the host.
func (p *target) notAsked(host string) {
	p.t.Helper()
	var asked atomic.Int64
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
	}))
	defer s.Close()
	s.Config.ConnState = func(net.Conn, http.ConnState) { asked.Add(1) }
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "https://"), ":")
	p.notFetched("https://" + host + ":" + port + "/keys")
	if asked.Load() > 0 {
		p.t.Error("the server connected")
	}
}

// guess is what a stranger tries, and the name that they use.
type guess struct{ path, mime, body string }

// Guessing is slowed down. After five wrong passwords, a name is locked, whether the account
// exists or not, and also for the right password. After the configured number of failures, an
// address or a client is refused in every process, with Retry-After. Others are not affected.
func TestGuessingIsHeldUp(t *testing.T) {
	t.Parallel()
	p := startProduction(t, func(c *node.Config) {
		c.Abuse.PerAddress, c.Abuse.PerClient, c.Abuse.Window = 30, 1000, time.Minute
	})
	const plain = "application/json"
	try := func(g guess) *client.Answer {
		t.Helper()
		a, err := p.open.Do(t.Context(), "POST", g.path, strings.NewReader(g.body), "Content-Type",
			g.mime)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	goOn := p.clock.stop()
	for _, name := range []string{"vera", "nobody-of-this-name"} {
		var answers []string
		for range 7 {
			a := try(guess{
				"/admin/login",
				plain,
				`{"username":"` + name + `","password":"guessed"}`,
			})
			answers = append(answers, fmt.Sprint(a.Status))
			if a.Status == 429 && a.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
		if got := strings.Join(answers, " "); got != "401 401 401 401 401 429 429" {
			t.Errorf("%s: %s", name, got)
		}
	}
	a := try(guess{"/admin/login", plain, `{"username":"vera","password":"` + staffPassword + `"}`})
	if a.Status != 429 {
		t.Errorf("the right password opens a locked account: %d", a.Status)
	}
	goOn()
	if _, err := p.open.AdminLogin(t.Context(), "ada", staffPassword); err != nil {
		t.Errorf("another account is locked too: %v", err)
	}
	held := 0
	for range 40 {
		a := p.post("/auth/token", url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {"guessed"},
			"client_id":     {"app"},
		})
		if a.Status == 429 {
			held++
			if a.Header.Get("Retry-After") == "" ||
				!strings.Contains(string(a.Body), "temporarily_unavailable") {
				t.Errorf("%v %s", a.Header, a.Body)
			}
		}
	}
	if held < 10 {
		t.Errorf("%d of 40 guesses were held up", held)
	}
	for _, r := range []string{
		"GET /auth/authorize?client_id=x",
		"POST /patient-login",
		"POST /admin/login",
		"POST /fhir/Patient/x/$ehi-export",
	} {
		method, path, _ := strings.Cut(r, " ")
		// without a token, the answer says so and costs nothing
		if a := p.do(p.open, method, path); a.Status != 429 &&
			!(strings.Contains(path, "fhir") && a.Status == 401) {
			t.Errorf("%s answers this address %d", r, a.Status)
		}
	}
	p.want(p.do(p.admin, "GET", "/admin/jobs"), 200, "")
	p.want(p.do(p.admin, "GET", "/metrics"), 200, `ehi_abuse_refused_total{what="address"}`)
}

// Simultaneous guesses count as much as consecutive ones.
func TestGuessesAtOnceCountEach(t *testing.T) {
	t.Parallel()
	p := startProduction(t, nil)
	var wrong atomic.Int64
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			a, err := p.open.Do(t.Context(), "POST", "/admin/login",
				strings.NewReader(`{"username":"ada","password":"guessed"}`), "Content-Type",
				"application/json")
			if err != nil {
				t.Error(err)
			} else if a.Status == 401 {
				wrong.Add(1)
			}
		})
	}
	wg.Wait()
	if n := wrong.Load(); n > 6 {
		t.Errorf("%d of 40 guesses at once were looked at", n)
	}
}

// An unknown name takes as long as a wrong password. Of each, the test compares the minimum of
// several measurements. On a busy machine it measures again with another server, because a real
// difference would appear every time.
func TestAnUnknownNameTakesAsLongAsAWrongPassword(t *testing.T) {
	alike := func(a, b time.Duration) bool { return a >= b/2 && b >= a/2 }
	for range 5 {
		p := startProduction(t, nil)
		known, unknown, configured := p.timings(12)
		t.Logf("a wrong password %v, an unknown name %v, the configuration's administrator %v",
			known, unknown, configured)
		if alike(known, unknown) && alike(configured, unknown) {
			return
		}
	}
	t.Error("in none of five rounds they take alike")
}

// timings returns the minimum times of sign-ins: with a wrong password, with an unknown name,
// and with a wrong password of the configured administrator.
func (p *production) timings(tries int) (known, unknown, configured time.Duration) {
	p.t.Helper()
	least := func(tries int, name func(int) string) time.Duration {
		best := time.Hour
		for n := range tries {
			body := strings.NewReader(`{"username":"` + name(n) + `","password":"guessed"}`)
			begun := time.Now()
			a, err := p.open.Do(p.t.Context(), "POST", "/admin/login", body, "Content-Type",
				"application/json")
			if err != nil || a.Status != 401 {
				p.t.Fatalf("%+v, %v", a, err)
			}
			best = min(best, time.Since(begun))
		}
		return best
	}
	known = least(tries, func(n int) string {
		name := fmt.Sprintf("known%d", n)
		viewer := auth.Account{Name: name, Role: auth.Viewer}
		if _, err := p.admin.AddAccount(p.t.Context(), viewer, staffPassword); err != nil {
			p.t.Fatal(err)
		}
		return name
	})
	unknown = least(tries, func(n int) string { return fmt.Sprintf("unknown%d", n) })
	// After more attempts, each would have to wait.
	configured = least(min(tries, 4), func(int) string { return p.node.Config().Admin.User })
	return known, unknown, configured
}

// The server fetches a client's keys from its jwks_uri within limits: only from an allowed
// network, once for many assertions, again for a new key, and at most once every 30 seconds.
func TestClientsKeysAreFetchedWithinLimits(t *testing.T) {
	t.Parallel()
	p := &target{
		production: startProduction(t, func(c *node.Config) {
			c.Auth.PrivateKeySets = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}),
	}
	var fetches atomic.Int64
	var mu sync.Mutex
	answer := func(w http.ResponseWriter) {}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetches.Add(1)
		mu.Lock()
		defer mu.Unlock()
		answer(w)
	}))
	defer keys.Close()
	serve := func(f func(w http.ResponseWriter)) {
		mu.Lock()
		defer mu.Unlock()
		answer = f
	}
	good := publicKeys(t, p.svcKeys)
	n := 0
	asks := func() (string, func() *client.Answer) {
		n++
		id := fmt.Sprintf("asks%d", n)
		_, _, err := p.admin.AddClient(t.Context(), auth.Client{
			ID:      id,
			Name:    "asks",
			Kind:    auth.Asymmetric,
			Scope:   "system/*.rs",
			JWKSURI: fmt.Sprintf("%s/%d", keys.URL, n),
		})
		if err != nil {
			t.Fatal(err)
		}
		return id, func() *client.Answer {
			return p.post("/auth/token",
				withAssertion(p.assertion(map[string]any{"iss": id, "sub": id})))
		}
	}
	serve(func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(good)
	})
	id, ask := asks()
	await(t, "the client", func() bool { return ask().Status == 200 })
	before := fetches.Load()
	for range 20 {
		p.want(ask(), 200, "access_token")
	}
	p.want(p.post("/auth/token",
		withAssertion(p.sign(p.svcKeys, jwa.ES384(), map[string]any{"kid": "new"},
			map[string]any{"iss": id, "sub": id}))), 401, "invalid_client")
	if fetches.Load() != before {
		t.Errorf("%d fetches within half a minute", fetches.Load())
	}
	for name, bad := range map[string]func(w http.ResponseWriter){
		"a redirect": func(w http.ResponseWriter) {
			w.Header().Set("Location", keys.URL+"/good")
			w.WriteHeader(302)
		},
		"a page": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write(good)
		},
		"a huge answer": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(bytes.Repeat([]byte(" "), 1<<20))
			_, _ = w.Write(good)
		},
		"a private key": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(p.svcKeys)
		},
		"no JSON": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte("x"))
		},
		"an error": func(w http.ResponseWriter) { w.WriteHeader(500) },
		"a symmetric key": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"x"}]}`))
		},
	} {
		serve(bad)
		_, ask := asks()
		await(t, name, func() bool {
			a := ask()
			p.want(a, 401, "invalid_client")
			return strings.Contains(string(a.Body), "cannot be fetched") ||
				strings.Contains(string(a.Body), "cannot be verified")
		})
	}
	p.want(ask(), 200, "access_token") // the fetched keys remain in use
}

// dialTLS opens a connection for raw requests.
func (p *production) dialTLS() net.Conn {
	p.t.Helper()
	conn, err := (&tls.Dialer{Config: roots(p.t, p.cert())}).DialContext(p.t.Context(), "tcp",
		strings.TrimPrefix(p.open.Base, "https://"))
	if err != nil {
		p.t.Fatal(err)
	}
	return conn
}

// answersTo returns the statuses with which a server answers an anonymous visitor and a viewer,
// for every operation.
func answersTo(p *target, data string, cfg node.Config) map[string]int {
	p.t.Helper()
	out := map[string]int{}
	// the server stops with the subtest
	p.t.Run("rescued below "+strconv.FormatInt(cfg.Room.RescueBelow, 10), func(t *testing.T) {
		w := start(t, data, cfg, node.Options{})
		if (w.do(w.open, "GET", "/readyz").Status == 200) == (cfg.Room.RescueBelow > 1<<60) {
			t.Fatal("it is not in the mode that it was to be in")
		}
		_, err := w.admin.AddAccount(t.Context(), auth.Account{Name: "vera", Role: auth.Viewer},
			staffPassword)
		if err != nil && cfg.Room.RescueBelow < 1<<60 {
			t.Fatal(err)
		}
		vera, err := w.open.AdminLogin(t.Context(), "vera", staffPassword)
		if err != nil {
			t.Fatal(err)
		}
		fill := strings.NewReplacer("{id}", "x", "{kind}", "admin", "{name}", "vera", "{profile}",
			"heap", "{type}", "Patient")
		for _, o := range openapi.Operations() {
			if o.Path == "/admin/logout" || strings.Contains(o.Path, "poll") {
				continue
			}
			for who, c := range map[string]*client.Client{"nobody": w.open, "a viewer": vera} {
				// a stream of changes does not end
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				a, err := c.Do(ctx, o.Method, fill.Replace(o.Path), nil)
				cancel()
				if err == nil {
					out[who+": "+o.Method+" "+o.Path] = a.Status
				}
			}
		}
	})
	return out
}
