package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
)

// of returns another production server with a changed configuration.
func (p *target) of(change func(*node.Config)) *target {
	p.t.Helper()
	return &target{production: startProduction(p.t, change)}
}

// usesUp requires that a quota of two refuses the third of three kick-offs. as is who kicks off.
func (p *target) usesUp(quota, base string, as ...string) {
	p.t.Helper()
	for i := range 3 {
		web, _ := p.letIn(as[i%len(as)], "ann")
		a := p.kick(web, base, p.production.ann)
		if i == 2 {
			p.usedUp(a, quota)
			continue
		}
		p.want(a, http.StatusAccepted, "")
	}
}

// tellsNobody requires that the audit trail does not contain some words, once it has an event of
// an action.
func (p *target) tellsNobody(action string, words ...string) {
	p.t.Helper()
	all := ""
	await(p.t, "the trail", func() bool {
		all = string(
			p.do(p.admin, "GET", "/admin/audit?action="+action+"&outcome=8&limit=0").Body) +
			string(p.do(p.admin, "GET", "/admin/audit?action="+action+"&limit=0").Body)
		return strings.Contains(all, "AuditEvent")
	})
	for _, word := range words {
		if strings.Contains(all, word) {
			p.t.Errorf("the trail repeats %q", word)
		}
	}
}

// limitAttacks are attempts to use more than one's share of the server, and to reach it by
// another spelling or another origin.
var limitAttacks = []attack{
	{
		"public documents that cost much to make are asked for without end, for many hosts",
		"CWE-400",
		func(p *target) {
			for _, path := range []string{"/openapi.json", "/docs/ehi"} {
				tag := p.do(p.open, "GET", path).Header.Get("ETag")
				for _, host := range []string{"a.example", "b.example", ""} {
					a := p.do(p.open, "GET", path, "X-Forwarded-Host", host, "Forwarded",
						"host="+host, "If-None-Match", tag)
					if a.Status != 304 || tag == "" {
						p.t.Errorf("%s is another one for %q: %d %q", path, host, a.Status, tag)
					}
				}
			}
		},
	},
	{"kick-offs of one client without end", "OWASP API4", func(p *target) {
		p.of(func(c *node.Config) {
			c.Quotas.Window, c.Quotas.ClientKickOffs = time.Hour, 2
		}).usesUp("client-kick-offs", "", "app")
	}},
	{"kick-offs for one patient by many clients", "OWASP API4", func(p *target) {
		p.of(func(c *node.Config) {
			c.Quotas.Window, c.Quotas.PatientKickOffs = time.Hour, 2
		}).usesUp("patient-kick-offs", "", "app", "web")
	}},
	{"exports of one client without end", "OWASP API4", func(p *target) {
		p.of(func(c *node.Config) {
			c.Quotas.Window, c.Quotas.ClientExports = time.Hour, 2
		}).usesUp("client-exports", "/no-form", "app")
	}},
	{"exports for one patient without end", "OWASP API4", func(p *target) {
		p.of(func(c *node.Config) {
			c.Quotas.Window, c.Quotas.PatientExports = time.Hour, 2
		}).usesUp("patient-exports", "/no-form", "app")
	}},
	{"stored exports of one client without end", "OWASP API4", func(p *target) {
		other := p.of(func(c *node.Config) { c.Quotas.ClientBytes = 1 })
		app, _ := other.letIn("app", "ann")
		other.released(app, other.production.ann, 1)
		other.want(other.kick(app, "", other.production.ann), 429, "client-bytes")
	}},
	{
		"kick-offs at once, before any of them has stored a byte",
		"CWE-367, OWASP API4",
		func(p *target) {
			other := p.of(func(c *node.Config) { c.Quotas.ClientBytes = 1 })
			app, _ := other.letIn("app", "ann")
			var (
				all      sync.WaitGroup
				accepted atomic.Int64
			)
			for range 8 {
				all.Go(func() {
					a, err := app.Do(p.t.Context(), "POST",
						"/no-form/fhir/Patient/"+other.production.ann+"/$ehi-export", nil)
					switch {
					case err != nil:
						p.t.Error(err)
					case a.Status == http.StatusAccepted:
						accepted.Add(1)
					case a.Status != http.StatusTooManyRequests:
						p.t.Errorf("%d %s", a.Status, a.Body)
					}
				})
			}
			all.Wait()
			if n := accepted.Load(); n != 1 {
				p.t.Errorf("%d exports began", n)
			}
		},
	},
	{"pages with forms without end, by who has no cookie", "CWE-770, CWE-352", func(p *target) {
		kept := func() int {
			keys, err := p.node.Bus.Sessions.Keys(p.t.Context())
			if err != nil {
				p.t.Fatal(err)
			}
			return len(keys)
		}
		before := kept()
		for range 20 {
			for _, method := range []string{"GET", "HEAD"} {
				for _, page := range []string{
					"/patient-login", "/admin/ui/login", "/authorize-app", "/my/requests",
				} {
					p.do(p.open, method, page, "Accept", "text/html")
				}
			}
		}
		if after := kept(); after > before {
			p.t.Errorf("%d records are left", after-before)
		}
	}},
	{
		"a page's token that nobody signed, or for another session",
		"OWASP CSRF, signed double submit",
		func(p *target) {
			login := p.open.Base + "/patient-login"
			for _, cookie := range []string{
				"x", "x.zzzzzz.x", "x.." + strings.Repeat("A", 43), ".",
			} {
				a, err := p.open.Do(p.t.Context(), "POST", "/patient-login",
					strings.NewReader("_csrf=x&username=ann&password="+patientPassword),
					"Content-Type", formBody, "Referer", login, "Cookie", "__Host-ehi_csrf="+cookie)
				if err != nil {
					p.t.Fatal(err)
				}
				p.want(a, 403, "")
			}
		},
	},
	{"a change from the origin that the Host header names", "CWE-352, CWE-350", func(p *target) {
		for _, host := range []string{
			"inside.example", "127.0.0.1.inside.example", "localhost.inside.example",
		} {
			a := p.raw("PUT /admin/log-level HTTP/1.1\r\nHost: " + host + "\r\nOrigin: https://" +
				host +
				"\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: " +
				"close\r\n\r\n{}")
			if !strings.Contains(a, " 403 ") || !strings.Contains(a, "another site") {
				p.t.Errorf("%s: %.300q", host, a)
			}
		}
	}},
	{"stored exports for one patient by many clients", "OWASP API4", func(p *target) {
		other := p.of(func(c *node.Config) { c.Quotas.PatientBytes = 1 })
		app, _ := other.letIn("app", "ann")
		web, _ := other.letIn("web", "ann")
		other.released(app, other.production.ann, 1)
		other.want(other.kick(web, "", other.production.ann), 429, "patient-bytes")
	}},
	{"connections that say nothing, all there are", "CWE-770, slowloris", func(p *target) {
		other := p.of(func(c *node.Config) { c.Connections.Most = 60 })
		for i := range 80 {
			conn := other.dialTLS()
			defer conn.Close() // nothing more is sent
			if i%2 == 0 {
				// it may be closed already
				_, _ = conn.Write([]byte("GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nX-Slow: "))
			}
		}
		other.want(other.do(other.open, "GET", "/fhir/metadata"), 200, "CapabilityStatement")
	}},
	{"connections opened and reset without end", "CWE-770, CWE-400", func(p *target) {
		other := p.of(func(c *node.Config) { c.Connections.Most = 60 })
		for range 300 {
			conn := other.dialTLS()
			_ = conn.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0)
			_ = conn.(*tls.Conn).NetConn().Close()
		}
		other.want(other.do(other.open, "GET", "/fhir/metadata"), 200, "CapabilityStatement")
	}},
	{"answers that nobody reads", "CWE-400, slow read", func(p *target) {
		other := p.of(func(c *node.Config) { c.Connections.Stall = time.Second })
		conn := other.dialTLS()
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			p.t.Fatal(err)
		}
		for ask := []byte("GET /fhir/metadata HTTP/1.1\r\nHost: x\r\n\r\n"); ; {
			if _, err := conn.Write(ask); errors.Is(err, os.ErrDeadlineExceeded) {
				p.t.Fatal("it is there after a minute")
			} else if err != nil {
				return // the connection was closed
			}
		}
	}},
	{"names that NATS cannot read", "CWE-943, CWE-770", func(p *target) {
		for _, name := range []string{
			strings.Repeat("a", 5000), "*", ">", "a.b", "a b", "", "a\tb", "=",
			strings.Repeat("%2A", 1000),
		} {
			for _, cookie := range []string{
				"__Host-sid", "__Host-ehi_patient", "__Host-ehi_csrf", "ehi_flash",
				"__Host-ehi_openid",
			} {
				p.do(p.open, "GET", "/admin/ui/login", "Cookie", cookie+"="+name)
			}
			for _, path := range []string{
				"/jobs/%s/status", "/jobs/%s/customize", "/admin/jobs/%s", "/fhir/Patient/%s",
				"/my/requests/%s",
			} {
				a := p.do(p.ann, "GET", fmt.Sprintf(path, url.PathEscape(name)))
				if a.Status >= 500 {
					p.t.Errorf("%s with %.20q answers %d", path, name, a.Status)
				}
			}
		}
		p.want(p.do(p.open, "GET", "/readyz"), 200, "")
		p.want(p.do(p.open, "GET", "/healthz"), 200, "")
	}},
	{"other spellings of the administrators' paths", "CWE-178, CWE-289", func(p *target) {
		for _, path := range []string{
			"/Admin/jobs", "/ADMIN/JOBS", "/admin/jobs/", "/admin//jobs", "//admin/jobs",
			"/admin/./jobs", "/x/../admin/jobs", "/%61dmin%2Fjobs", "/METRICS", "/metrics/",
			"/metrics/.",
		} {
			p.want(p.do(p.admin, "GET", path), 404, "")
		}
	}},
	{"the issuer is named by a header", "OWASP host header injection", func(p *target) {
		for _, path := range []string{
			"/fhir/.well-known/smart-configuration",
			"/.well-known/openid-configuration",
			"/fhir/metadata",
		} {
			a := p.raw("GET " + path +
				" HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: " +
				"evil.example\r\nX-Forwarded-Proto: http\r\nForwarded: " +
				"host=evil.example\r\nConnection: close\r\n\r\n")
			if strings.Contains(a, "evil.example") || !strings.Contains(a, " 200 ") {
				p.t.Errorf("%s: %.300q", path, a)
			}
		}
	}},
	{"a page of http on this host changes something", "CWE-352, RFC 6454 4", func(p *target) {
		insecure := "http://" + strings.TrimPrefix(p.open.Base, "https://")
		for _, header := range [][]string{
			{"Origin", insecure},
			{"Origin", "null"},
			{"Sec-Fetch-Site", "same-site"},
			{"Origin", insecure, "Sec-Fetch-Site", "cross-site"},
		} {
			a, err := p.admin.Do(p.t.Context(), "PUT", "/admin/log-level",
				strings.NewReader(`{"level":"debug"}`),
				append(header, "Content-Type", "application/json")...)
			if err != nil {
				p.t.Fatal(err)
			}
			p.want(a, 403, "another site")
		}
	}},
	{"a change as a form of another site could send it", "CWE-352", func(p *target) {
		for _, mime := range []string{
			"text/plain",
			"application/x-www-form-urlencoded",
			"multipart/form-data; boundary=x",
		} {
			a, err := p.admin.Do(p.t.Context(), "POST", "/admin/keys/rotate",
				strings.NewReader("{}"), "Content-Type", mime)
			if err != nil {
				p.t.Fatal(err)
			}
			p.want(a, 415, "application/json")
		}
	}},
	{"a backup in the clear where an encrypted one was asked for", "CWE-311", func(p *target) {
		for _, query := range []string{
			"recipient=", "recipient=age1x", "recipient=AGE-SECRET-KEY-1X", "Recipient=age1x",
		} {
			p.want(p.do(p.admin, "GET", "/admin/backup?"+query), 400, "recipient")
		}
	}},
	{"a decision about another state than there is", "CWE-367", func(p *target) {
		j := p.kickOff(p.ann, "/no-form", p.production.ann, nil)
		p.wait(j.ID, "retrieved")
		a, err := p.admin.Do(p.t.Context(), "POST", "/admin/jobs/"+j.ID+"/approve",
			strings.NewReader(`{"contents":"of another state"}`), "Content-Type",
			"application/json")
		if err != nil {
			p.t.Fatal(err)
		}
		p.want(a, 400, "has changed since you looked at it")
	}},
	{"an approval by two of what nobody says to have seen", "CWE-367", func(p *target) {
		other := p.of(func(c *node.Config) { c.Jobs.FourEyes = true })
		app, _ := other.letIn("app", "ann")
		j := other.kickOff(app, "/no-form", other.production.ann, nil)
		other.wait(j.ID, "retrieved")
		for _, body := range []string{
			"", "{}", `{"contents":""}`, `{"contents":null}`, `{"reason":"seen"}`,
		} {
			a, err := other.staff("rita").Do(p.t.Context(), "POST", "/admin/jobs/"+j.ID+"/approve",
				strings.NewReader(body), "Content-Type", "application/json")
			if err != nil {
				p.t.Fatal(err)
			}
			other.want(a, 400, "contents")
		}
		if job := other.wait(j.ID, "retrieved"); len(job.Approvals) != 0 {
			p.t.Errorf("approved by %v", job.Approvals)
		}
	}},
	{"four eyes of one who was removed", "CWE-863", func(p *target) {
		other := p.of(func(c *node.Config) { c.Jobs.FourEyes = true })
		app, _ := other.letIn("app", "ann")
		j := other.kickOff(app, "/no-form", other.production.ann, nil)
		other.wait(j.ID, "retrieved")
		if _, err := other.staff("rita").Act(p.t.Context(), j.ID, "approve"); err != nil {
			p.t.Fatal(err)
		}
		if err := other.admin.RemoveAccount(p.t.Context(), "admin", "rita"); err != nil {
			p.t.Fatal(err)
		}
		job, err := other.staff("ada").Act(p.t.Context(), j.ID, "approve")
		if err != nil || job.Status != "retrieved" {
			p.t.Errorf("%+v, %v", job, err)
		}
	}},
	{"a password typed for a name stays in the trail", "CWE-532", func(p *target) {
		const typed = "Typed-by-Mistake-7"
		_, err := p.open.AdminLogin(p.t.Context(), typed, typed+"x")
		p.refused(err, 401)
		_, err = p.admin.AddAccount(p.t.Context(), auth.Account{Name: typed, Role: "nonsense"},
			typed)
		p.refused(err, 400)
		p.refused(p.admin.RemoveAccount(p.t.Context(), "admin", typed), 404)
		p.refused(p.admin.RemoveClient(p.t.Context(), typed), 404)
		p.tellsNobody("log-in", typed)
		p.tellsNobody("administrate", typed)
	}},
	{"an administrator looks, and nobody hears", "45 CFR 164.312(b)", func(p *target) {
		ada := p.staff("ada")
		paths := map[string]string{
			"/jobs/" + p.annJob.ID + "/metadata": "/jobs/:id/metadata",
			"/admin/jobs/" + p.annJob.ID:         "/admin/jobs/:id",
			"/admin/jobs":                        "/admin/jobs",
			"/admin/accounts":                    "/admin/accounts",
			"/admin/ui/jobs/" + p.annJob.ID:      "/admin/ui/jobs/:id",
		}
		for path := range paths {
			p.want(p.do(ada, "GET", path), 200, "")
		}
		for _, route := range paths {
			await(p.t, "the event of "+route, func() bool {
				return strings.Contains(string(p.do(p.admin, "GET",
					"/admin/audit?action=read&agent=admin%20ada&limit=0").Body), `"`+route+`"`)
			})
		}
	}},
	{"redirects to nobody's scheme", "RFC 8252 7.1", func(p *target) {
		for _, uri := range []string{
			"javascript:alert(1)", "data:text/html,x", "myapp:/cb", "http://sly.example/cb",
			"file:///etc/passwd", "https://sly.example/cb#x", "https://a@sly.example/cb",
		} {
			body, err := json.Marshal(map[string]any{
				"client_name":                "Redirected",
				"redirect_uris":              []string{uri},
				"token_endpoint_auth_method": "none",
				"scope":                      "launch/patient patient/$ehi-export",
			})
			if err != nil {
				p.t.Fatal(err)
			}
			a, err := p.open.WithToken(registrationToken).Do(p.t.Context(), "POST",
				"/auth/register", bytes.NewReader(body), "Content-Type", "application/json")
			if err != nil {
				p.t.Fatal(err)
			}
			p.want(a, 400, "invalid_redirect_uri")
		}
	}},
	{"the page's token in another session of the patient", "EHI-7", func(p *target) {
		_, j, ann := p.openForm()
		again := p.loggedIn("ann")
		again.forge(p.open.Base+"/jobs/"+j.ID, p.open.Base+"/jobs/"+j.ID+"/customize",
			url.Values{"interaction": {ann.field("interaction")}, "p.labs": {"on"}}.Encode())
		again.sees(403, "")
		p.stillOpen(j.ID)
	}},
	{"pages beyond all numbers", "CWE-190", func(p *target) {
		ann := p.loggedIn("ann")
		for _, page := range []string{
			"9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e9",
			"4611686018427387904",
		} {
			ann.visit(p.open.Base + "/my/requests?page=" + page)
			ann.sees(200, "")
			if a := p.do(p.ann, "GET", p.annJob.StatusURL+"?page="+page); a.Status >= 500 {
				p.t.Errorf("page %s: %d", page, a.Status)
			}
		}
	}},
	{
		"links to other languages that lead to another server",
		"OWASP open redirect",
		func(p *target) {
			for _, at := range []string{
				"//evil.example",
				"//evil.example/x?lang=es",
				"///evil.example",
				"/.//evil.example",
				"/x/..//evil.example",
				`/\evil.example`,
				"/%2Fevil.example",
				"http://evil.example//evil.example/",
				"/\t/evil.example",
			} {
				p.linksStay(at)
				p.linksStay("/patient-login?action=" + url.QueryEscape(at))
				p.linksStay("/admin/ui/login?next=" + url.QueryEscape(at))
			}
		},
	},
	{"which names there are, told by the time that a log-in takes", "CWE-208", func(p *target) {
		other := p.of(nil) // where nobody else has failed
		known, unknown, configured := other.timings(6)
		for _, is := range []time.Duration{known, configured} {
			// on a busy machine; a real difference would be a hundredfold
			if unknown < is/4 || is < unknown/4 {
				p.t.Errorf("a wrong password takes %v, of the configuration's administrator %v, "+
					"an unknown name %v",
					known, configured, unknown)
			}
		}
	}},
	{"readiness is asked for without end, to keep the disk busy", "CWE-400", func(p *target) {
		other := p.of(nil) // whose disk nobody else uses
		changes, last, began := 0, time.Time{}, time.Now()
		const asked = 500
		for range asked {
			p.want(p.do(other.open, "GET", "/readyz"), 200, "")
			info, err := os.Stat(filepath.Join(other.data, "exports"))
			if err != nil {
				p.t.Fatal(err)
			}
			if at := info.ModTime(); at != last {
				changes, last = changes+1, at
			}
		}
		// A check creates and removes a file, once per second.
		if most := 4 + 2*int(time.Since(began)/time.Second); changes > most {
			p.t.Errorf("%d requests in %v changed the disk %d times", asked, time.Since(began),
				changes)
		}
	}},
	{"the command line of the process", "CWE-214", func(p *target) {
		p.want(p.do(p.admin, "GET", "/admin/debug/pprof/cmdline"), 404, "")
	}},
	{"the form of a population", "EHI-7", func(p *target) {
		path := "/jobs/" + p.bulkJob.ID + "/customize"
		for _, who := range []*client.Client{p.service, p.ann, p.open} {
			p.want(p.do(who, "GET", path), 404, "")
			p.want(p.do(who, "GET", path, "Accept", "text/html"), 404, "")
		}
		ann := p.loggedIn("ann")
		ann.visit(p.open.Base + path)
		ann.sees(404, "")
		p.want(p.do(p.open, "GET", path+"?_patient="), 404, "")
	}},
	{"uploaded names that other systems misread", "CWE-1236, CWE-67", func(p *target) {
		j := p.kickOff(p.ann, "/no-form", p.production.ann, nil)
		p.wait(j.ID, "retrieved")
		for _, name := range []string{
			"CON", "nul.txt", "a:b.txt", "=cmd.csv", "+1.csv", "-rf", "@SUM.csv", "COM¹.txt",
		} {
			if a, err := p.admin.AddFiles(p.t.Context(), j.ID,
				client.File{Name: name, Data: []byte("x")}); err != nil || a.Status != 200 {
				p.t.Fatalf("%q: %+v, %v", name, a, err)
			}
			stored, err := p.node.Bus.Jobs.Get(p.t.Context(), j.ID)
			if err != nil {
				p.t.Fatal(err)
			}
			for _, a := range stored.Attachments {
				if a.Name == name {
					p.t.Errorf("it is kept as %q", name)
				}
			}
		}
	}},
	{"passwords that everybody has", "NIST SP 800-63B 3.1.1.2", func(p *target) {
		for _, password := range []string{
			"password1234", "Passw0rd!Passw0rd!", "qwertyuiop1234", "пароль-пароль",
			"contraseña123", "密码密码密码密码", "aaaaaaaaaaaaaaaaaaaa", "weakling-weakling",
		} {
			_, err := p.admin.AddAccount(p.t.Context(),
				auth.Account{Name: "weakling", Role: auth.Viewer}, password)
			if p.refused(err, 400); err == nil {
				p.t.Errorf("%q is taken", password)
			}
		}
	}},
	{"an administrator who looks like another", "CWE-1007, UTS 39", func(p *target) {
		for _, name := range []string{"аdа", "ada.", "ａ-da", "àda", "ᴀda", "ɑda"} {
			_, err := p.admin.AddAccount(p.t.Context(),
				auth.Account{Name: name, Role: auth.Reviewer}, staffPassword)
			p.refused(err, 400)
		}
	}},
	{"an account called as the configuration's administrator", "CWE-1007, UTS 39", func(p *target) {
		for _, name := range []string{
			"root", "Root", "ROOT", "r00t", "rооt", "r.o.o.t", "ʀᴏᴏᴛ", "ｒｏｏｔ", "róot",
		} {
			for _, role := range auth.Roles() {
				_, err := p.admin.AddAccount(p.t.Context(), auth.Account{Name: name, Role: role},
					staffPassword)
				if p.refused(err, 400); err == nil {
					p.t.Errorf("%q is taken", name)
				}
			}
		}
	}},
	{"a recovery code many times at once", "CWE-367, NIST SP 800-63B 3.1.2.2", func(p *target) {
		_, _, recovery := p.withSecondFactor("hasty")
		var (
			all sync.WaitGroup
			in  atomic.Int64
		)
		for range 8 {
			all.Go(func() {
				if p.logsIn("hasty", recovery[0]) == http.StatusOK {
					in.Add(1)
				}
			})
		}
		all.Wait()
		if n := in.Load(); n != 1 {
			p.t.Errorf("it signs in %d times", n)
		}
	}},
	{"no is taken for yes", "EHI-8", func(p *target) {
		_, j, ann := p.openForm()
		ann.submit("p.labs", "on", "a.genetic.text", "no, do not release", "a.other.text", "none")
		record := p.record(j.ID)
		if record.Form == nil || record.Form.Authorizes("genetic") ||
			record.Form.Authorizes("other") {
			p.t.Errorf("%+v", record.Form)
		}
	}},
}
