package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/link/linktest"
)

// answered is a response of any route.
type answered struct {
	status int
	header http.Header
	body   string
}

// stalledRoute is a kind of route. prepare does what must precede the request.
type stalledRoute struct {
	name    string
	form    string // in which it reports failures
	prepare func() (ask func(t *testing.T) answered)
}

func byClient(
	c *client.Client, method, target, body string, header ...string,
) func(t *testing.T) answered {
	return func(t *testing.T) answered {
		t.Helper()
		a, err := c.Do(t.Context(), method, target, strings.NewReader(body), header...)
		if err != nil {
			t.Fatal(err)
		}
		return answered{a.Status, a.Header, string(a.Body)}
	}
}

// byPage sends the form of the browser's current page; if visit is not "", it opens that page
// first.
func byPage(b *browser, visit, form string, fill ...string) func(t *testing.T) answered {
	return func(t *testing.T) answered {
		t.Helper()
		b.t = t
		if visit != "" {
			b.visit(visit)
		} else {
			b.submitTo(form, fill...)
		}
		return answered{b.code, b.header, b.page}
	}
}

const jsonBody, urlEncoded = "application/json", "application/x-www-form-urlencoded"

// stalledRoutes returns one route of each kind.
func (p *production) stalledRoutes() []stalledRoute {
	app, _ := p.letIn("app", "ann")
	admin := p.staff("ada")
	desk := func() *browser { return p.staffBrowser("rita") }
	kick := "/fhir/Patient/" + p.ann + "/$ehi-export"
	plain := func(c *client.Client, method, target, body string,
		header ...string) func() func(*testing.T) answered {
		return func() func(*testing.T) answered {
			return byClient(c, method, target, body, header...)
		}
	}
	page := func(path string) func() func(*testing.T) answered {
		return func() func(*testing.T) answered { return byPage(desk(), p.open.Base+path, "") }
	}
	return []stalledRoute{ // the code first, because it is valid for a minute
		{"token", "oauth", func() func(*testing.T) answered {
			f := p.redemption("app", p.code("ann", p.request("app")))
			return byClient(p.open, "POST", "/auth/token", f.Encode(), "Content-Type", urlEncoded)
		}},
		{"kick-off", "fhir", plain(app, "POST", kick, "", "Accept", "application/fhir+json")},
		{"kick-off without a form", "fhir",
			plain(app, "POST", "/no-form/auto-approve"+kick, "", "Accept",
				"application/fhir+json")},
		{"status", "fhir", func() func(*testing.T) answered {
			return byClient(app, "GET", p.kickOff(app, "", p.ann, nil).StatusURL, "")
		}},
		{"deletion", "fhir", func() func(*testing.T) answered {
			return byClient(app, "DELETE", p.kickOff(app, "", p.ann, nil).StatusURL, "")
		}},
		{"revocation", "oauth", func() func(*testing.T) answered {
			_, got := p.letIn("web", "ann")
			return byClient(p.open, "POST", "/auth/revoke",
				"client_id=web&client_secret="+p.secrets["web"]+
					"&token="+got.RefreshToken, "Content-Type", urlEncoded)
		}},
		{"log-in of a patient", "page", func() func(*testing.T) answered {
			b := p.person()
			b.visit(p.open.Base + "/patient-login")
			return byPage(b, "", "/patient-login", "username", "ann", "password", patientPassword)
		}},
		{"form", "page", func() func(*testing.T) answered {
			j := p.kickOff(app, "", p.ann, nil)
			b := p.person()
			b.visit(p.open.Base + "/jobs/" + j.ID + "/customize")
			b.submit("username", "ann", "password", patientPassword)
			b.sees(200, "Choose what to share")
			b.counted()
			return byPage(b, "", "/jobs/"+j.ID)
		}},
		{"requests of a patient", "page", func() func(*testing.T) answered {
			return byPage(p.browserOf("ann"), p.open.Base+"/my/requests", "")
		}},
		{"log-in of an administrator", "json", plain(p.open, "POST", "/admin/login",
			`{"username":"vera","password":"`+staffPassword+`"}`, "Content-Type", jsonBody)},
		{"log-in on the page", "page", func() func(*testing.T) answered {
			b := p.person()
			b.visit(p.open.Base + "/admin/ui/login")
			return byPage(b, "", "/admin/ui/login", "username", "vera", "password", staffPassword)
		}},
		{"exports", "page", page("/admin/ui/jobs")},
		{"system", "page", page("/admin/ui/system")},
		{"clients", "json", plain(admin, "GET", "/admin/clients", "")},
		{"a new client", "json", plain(admin, "POST", "/admin/clients",
			`{"client_name":"x","redirect_uris":["https://x.example/cb"],"scope":"launch/patient"}`,
			"Content-Type", jsonBody)},
		{"keys", "json", plain(admin, "GET", "/admin/keys", "")},
		{"refresh", "oauth", func() func(*testing.T) answered {
			_, got := p.letIn("app", "bob")
			return byClient(p.open, "POST", "/auth/token",
				"grant_type=refresh_token&client_id=app&refresh_token="+
					got.RefreshToken, "Content-Type", urlEncoded)
		}},
		{
			"introspection",
			"oauth",
			plain(p.open, "POST", "/auth/introspect", "client_id=gate&client_secret="+
				p.secrets["gate"]+"&token="+app.Token, "Content-Type", urlEncoded),
		},
		{
			"registration",
			"oauth",
			plain(p.open.WithToken(registrationToken), "POST", "/auth/register",
				`{"client_name":"A tool","redirect_uris":["https://tool.example/cb"],`+
					`"scope":"launch/patient"}`,
				"Content-Type", jsonBody),
		},
		{"withdrawal", "page", func() func(*testing.T) answered {
			p.letIn("web", "bob")
			b, page := p.browserOf("bob"), p.open.Base+"/my/applications"
			b.visit(page)
			return func(t *testing.T) answered {
				t.Helper()
				b.t = t
				b.forge(page, page,
					url.Values{"_csrf": {b.field("_csrf")}, "id": {b.field("id")}}.Encode())
				return answered{b.code, b.header, b.page}
			}
		}},
		{"cancellation", "page", func() func(*testing.T) answered {
			j := p.kickOff(app, "", p.ann, nil)
			b := p.browserOf("ann")
			b.visit(p.open.Base + "/my/requests/" + j.ID + "?cancel=yes")
			return byPage(b, "", "/my/requests/"+j.ID)
		}},
		{"a removed client", "json", func() func(*testing.T) answered {
			c := auth.Client{
				Name:         "y",
				RedirectURIs: []string{"https://y.example/cb"},
				Scope:        "launch/patient",
			}
			added, _, err := admin.AddClient(p.t.Context(), c)
			if err != nil {
				p.t.Fatal(err)
			}
			return byClient(admin, "DELETE", "/admin/clients/"+added.ID, "")
		}},
		{"an account", "json", func() func(*testing.T) answered {
			return byClient(admin, "POST", "/admin/accounts",
				`{"username":"`+rand.Text()+`","patient":"`+p.bob+
					`","password":"`+patientPassword+`"}`, "Content-Type", jsonBody)
		}},
		{"decision", "json", func() func(*testing.T) answered {
			j := p.kickOff(app, "/no-form", p.ann, nil)
			job := p.wait(j.ID, ehi.Retrieved)
			return byClient(admin, "POST", "/admin/jobs/"+j.ID+"/approve",
				`{"contents":"`+job.Contents+`"}`, "Content-Type", jsonBody)
		}},
	}
}

// staffBrowser returns an administrator's browser, signed in.
func (p *production) staffBrowser(name string) *browser {
	p.t.Helper()
	b := p.person()
	b.visit(p.open.Base + "/admin/ui/login")
	b.submit("username", name, "password", staffPassword)
	b.sees(200, "Exports")
	return b
}

// saysAway requires that a response is a refusal with Retry-After, in the form of its route.
func saysAway(t *testing.T, form string, a answered) {
	t.Helper()
	if a.header.Get("Retry-After") == "" {
		t.Errorf("503 without Retry-After: %v", a.header)
	}
	says := map[string]string{
		"fhir":  `"resourceType":"OperationOutcome"`,
		"oauth": `"error":"temporarily_unavailable"`,
		"json":  `"error":`,
		"page":  "<html",
	}[form]
	if !strings.Contains(a.body, says) {
		t.Errorf("503 not in the form of its route: %s", a.body)
	}
}

// F10 of issue 20: however slow NATS is, or even dead, each request is answered in time.
// Failures are 503 in the form of their route, and nothing happens later. Held polls and
// downloads continue, and everything works again afterwards.
func TestEachRequestEndsInTimeWhileNATSStalls(t *testing.T) {
	t.Parallel()
	const inTime = 15 * time.Second // 10 for its questions, 3 for what follows a failure
	for name, delay := range map[string]time.Duration{
		"slow": 2 * time.Second,
		"dead": linktest.Forever,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nats, err := bus.Open(t.Context(), bus.Config{
				StoreDir: t.TempDir(),
				Flags: bus.Flags{
					Listen: "127.0.0.1:0",
					Dial:   bus.Dial{Access: bus.Access{Password: "of-the-test"}},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(nats.Close)
			w := linktest.NewWire(t, nats.ClientURL())
			p := startProduction(t, func(c *node.Config) {
				c.Bus.URL, c.Bus.Access.Password = w.URL(), "of-the-test"
				c.Registration.Token = registrationToken
				c.FHIR.MaxHold, c.FHIR.MaxHeld, c.FHIR.Hold = time.Minute, 100, time.Minute
				c.Jobs.AttachmentBytes, c.Connections.Stall =
					64<<20, 10*time.Minute // only the test stalls
				c.Quotas.Window, c.Quotas.ClientKickOffs, c.Quotas.PatientKickOffs =
					time.Hour, 10_000, 10_000
				c.Quotas.ClientExports, c.Quotas.PatientExports = 10_000, 10_000
				c.Quotas.ClientBytes, c.Quotas.PatientBytes = 1<<40, 1<<40
			})
			routes := p.stalledRoutes()
			app, _ := p.letIn("app", "ann")
			rest := p.halfRead(app)
			held := p.poll(t.Context(), app, p.kickOff(app, "", p.ann, nil), "Prefer", "wait=40")
			asks := make([]func(*testing.T) answered, len(routes))
			for i, r := range slices.Backward(routes) {
				asks[i] = r.prepare()
			}
			before := len(p.jobs())
			w.Slow(delay)
			var made atomic.Int64
			t.Run("stalled", func(t *testing.T) {
				for i, r := range routes {
					t.Run(r.name, func(t *testing.T) {
						// parallel tests wait for one another, and a code is valid for a minute
						if i > 0 {
							t.Parallel()
						}
						began := time.Now()
						a := asks[i](t)
						if took := time.Since(began); took > inTime {
							t.Errorf("answered %d after %v", a.status, took)
						}
						switch {
						case a.status == http.StatusServiceUnavailable:
							saysAway(t, r.form, a)
						case a.status >= 400:
							t.Errorf("%d %s", a.status, a.body)
						case a.status == http.StatusAccepted &&
							a.header.Get("Content-Location") != "":
							made.Add(1)
						case r.name == "deletion":
							made.Add(-1)
						}
					})
				}
			})
			if a := answerOf(t, held); a.Status != http.StatusAccepted {
				t.Errorf("the held poll: %d %s", a.Status, a.Body)
			}
			if err := rest(); err != nil {
				t.Errorf("the download: %v", err)
			}
			w.Slow(0)
			await(t, "readiness", func() bool {
				return p.do(p.open, "GET", "/readyz").Status == http.StatusOK
			})
			want := before + int(made.Load())
			await(t, "the end of exports that were refused", func() bool {
				return len(p.jobs()) <= want
			})
			for i, r := range routes {
				asks[i] = r.prepare()
				if a := asks[i](t); a.status >= 400 {
					t.Errorf("afterwards, %s: %d %s", r.name, a.status, a.body)
				}
			}
		})
	}
}

// F9 of issue 20: a kick-off that gets 503 has no effect, even if NATS has stored it and only
// the confirmation was lost.
func TestAKickOffThatIsRefusedIsNotMade(t *testing.T) {
	t.Parallel()
	nats, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Close)
	wire := linktest.NewWire(t, nats.ClientURL())
	cfg := config()
	cfg.Bus.URL = wire.URL()
	w := start(t, t.TempDir(), cfg, node.Options{})
	patient := w.demoPatient()
	pat := w.patient(patient)
	stored := func() int {
		keys, err := nats.Jobs.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(keys)
	}
	wire.SlowBack(linktest.Forever)
	var asked sync.WaitGroup
	answers := make(chan *client.Answer, 4)
	for _, base := range []string{"", "/no-form", "/auto-approve", "/no-form/auto-approve"} {
		asked.Go(func() {
			a, err := pat.Do(t.Context(), "POST", base+"/fhir/Patient/"+patient+"/$ehi-export", nil,
				"Accept", "application/fhir+json")
			if err != nil {
				t.Error(err)
				return
			}
			answers <- a
		})
	}
	await(t, "the records of the kick-offs", func() bool { return stored() == 4 })
	asked.Wait()
	close(answers)
	for a := range answers {
		w.wantOutcome(a, http.StatusServiceUnavailable, "")
	}
	if n := stored(); n == 0 {
		t.Fatal("nothing is stored of what was refused: this tries nothing")
	}
	wire.Slow(0)
	await(t, "the end of exports that were refused", func() bool { return stored() == 0 })
	w.manifest(pat, w.kickOff(pat, "/no-form/auto-approve", patient, nil))
}

// The same if the process is killed after its response and before NATS confirms: the next
// process knows.
func TestAKickOffThatIsRefusedIsNotMadeAfterAKill(t *testing.T) {
	t.Parallel()
	nats, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Close)
	data := t.TempDir()
	patient := demoRecords(t, data)[0]
	wire := linktest.NewWire(t, nats.ClientURL())
	server := spawn(t, childSpec{Data: data, Addr: "127.0.0.1:0", NATS: wire.URL()})
	open := client.New(server.url)
	t.Cleanup(open.Close)
	pat, _, err := open.Authorize(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	wire.SlowBack(linktest.Forever)
	a, err := pat.Do(t.Context(), "POST", "/fhir/Patient/"+patient+"/$ehi-export", nil,
		"Accept", "application/fhir+json")
	if err != nil || a.Status != http.StatusServiceUnavailable {
		t.Fatalf("%+v, %v", a, err)
	}
	server.kill()
	stored := func() int {
		keys, err := nats.Jobs.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(keys)
	}
	if n := stored(); n != 1 {
		t.Fatalf("%d exports are stored: this tries nothing", n)
	}
	spawn(t, childSpec{Data: data, Addr: "127.0.0.1:0", NATS: nats.ClientURL()})
	await(t, "the end of the export that was refused", func() bool { return stored() == 0 })
	notes := filepath.Join(data, files.Folder, ".recalls")
	await(t, "the end of its note", func() bool {
		left, err := os.ReadDir(notes)
		return err == nil && len(left) == 0
	})
}

// jobs returns all jobs of the server.
func (p *production) jobs() (all []json.RawMessage) {
	p.t.Helper()
	a := p.do(p.staff("vera"), "GET", "/admin/jobs")
	p.world.want(a, http.StatusOK, "")
	if err := json.Unmarshal(a.Body, &all); err != nil {
		p.t.Fatal(err)
	}
	return all
}

// halfRead begins the download of a large document. rest reads it to its end.
func (p *production) halfRead(app *client.Client) (rest func() error) {
	p.t.Helper()
	document := bytes.Repeat([]byte("0123456789abcdef"), 2<<20)
	rita := p.staff("rita")
	j := p.kickOff(app, "/no-form", p.ann, nil)
	p.wait(j.ID, ehi.Retrieved)
	a, err := rita.AddFiles(p.t.Context(), j.ID, client.File{Name: "large.bin", Data: document})
	if err != nil || a.Status != http.StatusOK {
		p.t.Fatalf("%v %+v", err, a)
	}
	if _, err := rita.Act(p.t.Context(), j.ID, "approve"); err != nil {
		p.t.Fatal(err)
	}
	begun, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- app.Stream(p.t.Context(), "/jobs/"+j.ID+"/download/attachments/large.bin",
			func(r io.Reader) error {
				if _, err := io.CopyN(io.Discard, r, 1000); err != nil {
					return err
				}
				close(begun)
				<-goOn
				n, err := io.Copy(io.Discard, r)
				if err == nil && n != int64(len(document))-1000 {
					err = io.ErrUnexpectedEOF
				}
				return err
			})
	}()
	select {
	case <-begun:
	case err := <-ended:
		p.t.Fatalf("the download did not begin: %v", err)
	}
	return sync.OnceValue(func() error { close(goOn); return <-ended })
}
