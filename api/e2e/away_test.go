package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/api/openapi"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/link/linktest"
)

// away makes NATS unavailable to a server: it stops responding, or it is stopped.
var away = map[string]func(*linktest.Wire, *bus.Bus){
	"stalled": func(w *linktest.Wire, _ *bus.Bus) { w.Slow(linktest.Forever) },
	"dead":    func(_ *linktest.Wire, nats *bus.Bus) { nats.Close() },
}

// overWire returns a production server whose NATS can be made unavailable.
func overWire(
	t *testing.T, change func(*node.Config),
) (p *production, w *linktest.Wire, nats *bus.Bus) {
	t.Helper()
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
	w = linktest.NewWire(t, nats.ClientURL())
	p = startProduction(t, func(c *node.Config) {
		c.Bus.URL, c.Bus.Access.Password, c.Registration.Token =
			w.URL(), "of-the-test", registrationToken
		if change != nil {
			change(c)
		}
	})
	return p, w, nats
}

// asking is a request of somebody, with its response.
type asking struct {
	who, path string
	by        *client.Client
	header    []string
	status    int
	leads     string // the redirect target
}

func (a *asking) String() string { return a.path + " by " + a.who }

// asked returns each GET of the document, about things that exist, for each kind of user.
func (p *production) asked(job string) (all []*asking) {
	app, _ := p.letIn("app", "ann")
	ann, ada := p.browserOf("ann"), p.staffBrowser("ada")
	callers := []*asking{
		{who: "nobody", by: p.open},
		{who: "an application", by: app},
		{who: "an administrator", by: p.staff("ada")},
		{
			who:    "a patient",
			by:     p.open,
			header: []string{"Accept", "text/html", "Cookie", ann.cookies()},
		},
		{
			who: "an administrator's browser", by: p.open,
			header: []string{"Accept", "text/html", "Cookie", ada.cookies()},
		},
	}
	fill := strings.NewReplacer("/Patient/{id}", "/Patient/"+p.ann, "/jobs/{id}", "/jobs/"+job,
		"/requests/{id}",
		"/requests/"+job, "/clients/{id}", "/clients/app", "{id}", "any", "{file}",
		"Patient.ndjson",
		"{kind}", "patient", "{name}", "ann")
	for _, o := range openapi.Operations() {
		starts := strings.HasSuffix(o.Path, "export") || strings.HasSuffix(o.Path, "export-v4")
		endless := strings.HasSuffix(o.Path, "/events") || strings.HasSuffix(o.Path, "/logout")
		if o.Method != http.MethodGet || starts || endless ||
			strings.Contains(o.Path, "{profile}") ||
			o.Path == "/admin/backup" {
			continue
		}
		for _, c := range callers {
			all = append(all, &asking{
				who:    c.who,
				path:   fill.Replace(o.Path),
				by:     c.by,
				header: c.header,
			})
		}
	}
	authorize := "/auth/authorize?" + p.request("app").Encode()
	consent := "/authorize-app?" + p.request("app").Encode()
	for _, path := range []string{authorize, consent} {
		all = append(all, &asking{
			who:    "a patient",
			path:   path,
			by:     p.open,
			header: callers[3].header,
		})
	}
	return all
}

// ask sends the request and records the response.
func (a *asking) ask(t *testing.T) (*client.Answer, error) {
	got, err := a.by.Do(t.Context(), "GET", a.path, nil, a.header...)
	if err == nil {
		a.status, a.leads = got.Status, got.Header.Get("Location")
	}
	return got, err
}

// Missing evidence never leads to a refusal. A request that succeeds with NATS succeeds without
// it, or gets 503 with Retry-After. No session, grant, client, account or job is treated as
// nonexistent.
func TestNoRequestIsRefusedBecauseNATSIsAway(t *testing.T) {
	t.Parallel()
	for name, take := range away {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, w, nats := overWire(t, nil)
			app, _ := p.letIn("app", "ann")
			j := p.kickOff(app, "/no-form/auto-approve", p.ann, nil)
			p.wait(j.ID, ehi.Approved)
			all := p.asked(j.ID)
			good := 0
			for _, a := range all {
				if _, err := a.ask(t); err != nil {
					t.Fatalf("%v: %v", a, err)
				}
				if a.status < 400 {
					good++
				}
			}
			take(w, nats)
			var asks sync.WaitGroup
			var mu sync.Mutex
			counts := map[string]int{}
			slots := make(chan struct{}, 40)
			for _, a := range all {
				asks.Go(func() {
					slots <- struct{}{}
					defer func() { <-slots }()
					before, led := a.status, a.leads
					got, err := a.ask(t)
					if err != nil {
						t.Errorf("%v: %v", a, err)
						return
					}
					said := "503"
					switch {
					case got.Status == http.StatusServiceUnavailable && a.path == "/readyz":
					case got.Status == http.StatusServiceUnavailable &&
						got.Header.Get("Retry-After") == "":
						t.Errorf("%v: 503 without Retry-After", a)
					case got.Status == http.StatusServiceUnavailable:
					case got.Status == before && a.leads == led:
						said = "as before"
					default:
						t.Errorf("%v: %d %s became %d %s: %.200s", a, before, led, got.Status,
							a.leads, got.Body)
					}
					mu.Lock()
					defer mu.Unlock()
					counts[said]++
				})
			}
			asks.Wait()
			w.Slow(0)
			t.Logf("%d requests, %d of them good: %v", len(all), good, fmt.Sprint(counts))
		})
	}
}

// Without NATS, requests that change something get 503 in the form of their route, and are never
// refused.
func TestNoChangeIsRefusedBecauseNATSIsGone(t *testing.T) {
	t.Parallel()
	p, _, nats := overWire(t, nil)
	routes := p.stalledRoutes()
	asks := make([]func(*testing.T) answered, len(routes))
	for i, r := range slices.Backward(routes) {
		asks[i] = r.prepare()
	}
	nats.Close()
	for i, r := range routes {
		t.Run(r.name, func(t *testing.T) {
			switch a := asks[i](t); {
			case a.status == http.StatusServiceUnavailable:
				saysAway(t, r.form, a)
			case a.status >= 400:
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}

// Downloads continue without NATS. A download that has begun, with a token or in a session, does
// not wait. An application can start a new download of an export that was approved before.
func TestDownloadsGoOnWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	for name, take := range away {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, w, nats := overWire(t, func(c *node.Config) { c.Jobs.AttachmentBytes = bigDocument })
			app, _ := p.letIn("app", "ann")
			j := p.released(app, p.ann, bigDocument)
			m := p.manifest(app, j)
			ann, ada := p.browserOf("ann"), p.staffBrowser("ada")
			requests := map[string]*client.Client{
				"/jobs/" + j.ID + "/download/attachments/scan.pdf": app,
				"/my/requests/" + j.ID +
					"/documents/scan.pdf": p.open.WithCookies(ann.cookies()),
				"/admin/ui/jobs/" + j.ID + "/documents/scan.pdf": p.open.WithCookies(ada.cookies()),
			}
			begun, goOn := make(chan string, len(requests)), make(chan struct{})
			ends := make(chan error, len(requests))
			for path, by := range requests {
				go func() {
					ends <- by.Stream(t.Context(), path, func(r io.Reader) error {
						_, err := io.CopyN(io.Discard, r, 1000)
						begun <- path
						<-goOn
						n, failed := io.Copy(io.Discard, r)
						if failed == nil && n != bigDocument-1000 {
							failed = io.ErrUnexpectedEOF
						}
						return errors.Join(err, failed)
					})
				}()
			}
			for range requests {
				select {
				case <-begun:
				case err := <-ends:
					t.Fatalf("a download did not begin: %v", err)
				}
			}
			take(w, nats)
			began := time.Now()
			close(goOn)
			for range requests {
				if err := <-ends; err != nil {
					t.Error(err)
				}
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("downloads that had begun ended after %v", took)
			}
			await(t, "the age by which what is known of the export is asked for anew", func() bool {
				return time.Since(began) > 6*time.Second
			})
			began = time.Now()
			data, err := app.Download(t.Context(), m.Output[0].URL)
			if err != nil || len(data) == 0 {
				t.Errorf("a new download: %d bytes, %v", len(data), err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("a new download took %v", took)
			}
			w.Slow(0)
		})
	}
}
