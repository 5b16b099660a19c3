package e2e

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	cdpruntime "github.com/chromedp/cdproto/runtime"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// findings is what a browser complained of or asked other origins for.
type findings struct {
	mu   sync.Mutex
	list []string
}

func (f *findings) add(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, s)
}

// browsing bounds how many tests have browsers at once: each browser is several processes, and
// more of them starve one another on two processors. Its holders are those tests; one may open
// several.
var browsing = struct {
	slots   chan struct{}
	holders sync.Map
}{slots: make(chan struct{}, 2)}

// takeTurn waits until a test may open browsers; it may until it ends.
func takeTurn(t *testing.T) {
	if _, has := browsing.holders.LoadOrStore(t, true); has {
		return
	}
	browsing.slots <- struct{}{}
	t.Cleanup(func() {
		browsing.holders.Delete(t)
		<-browsing.slots
	})
}

// openBrowser starts a headless Chromium, or skips where there is none; CI has one.
func openBrowser(t *testing.T, origins ...string) (context.Context, *findings) {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("no Chromium: %v", err)
	}
	if err != nil {
		t.Skipf("no Chromium on this machine: %v", err)
	}
	takeTurn(t)
	alloc, stopAlloc := chromedp.NewExecAllocator(t.Context(),
		append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
			chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true),
			chromedp.Flag("disable-component-update", true),
			// of servers that have signed theirs themselves
			chromedp.Flag("ignore-certificate-errors", true),
			chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(360, 800))...)
	f := &findings{}
	ctx, stop := chromedp.NewContext(alloc, chromedp.WithListener(func(ev any) {
		switch e := ev.(type) {
		case *cdpruntime.EventExceptionThrown:
			f.add("exception: " + e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			// advice to the page's author: a picker has no user name to fill in
			if e.Entry.Level == "verbose" {
				return
			}
			f.add("log: " + e.Entry.Text + " " + e.Entry.URL)
		case *network.EventRequestWillBeSent:
			u, err := url.Parse(e.Request.URL)
			if err == nil && u.Scheme != "data" && u.Scheme != "about" &&
				!strings.Contains(strings.Join(origins, " "), u.Host) {
				f.add("request to another origin: " + e.Request.URL)
			}
		}
	}))
	ctx, stopTime := context.WithTimeout(ctx, 6*time.Minute)
	t.Cleanup(func() {
		stopTime()
		stop()
		stopAlloc()
	})
	// the browser lives as long as the context of the first step
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	return ctx, f
}

// The three pages in a real browser, by keyboard only: nothing on its console, no request to
// another origin, and a name for every field.
func TestPagesInARealBrowserByKeyboard(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		// the browser may have disconnected: its test reports it
		_, _ = w.Write([]byte(
			`<!doctype html><link rel="icon" href="data:,"><title>app</title><p id="app">back`))
	}))
	t.Cleanup(app.Close)
	w := start(t, t.TempDir(), config(), node.Options{})
	ctx, found := openBrowser(t, w.open.Base, app.URL)
	p := w.demoPatient()
	pat := w.patient(p)
	q := url.Values{
		"response_type": {"code"},
		"client_id":     {client.ClientID},
		"redirect_uri":  {app.URL + "/cb"},
		"scope":         {"patient/$ehi-export"},
		"state":         {"s"},
		"aud":           {w.open.Base + "/fhir"},
	}
	j := w.kickOff(pat, "", p, nil)
	key := func(keys ...string) {
		t.Helper()
		for _, k := range keys {
			do(t, ctx, chromedp.KeyEvent(k))
		}
	}
	// it has the focus
	do(t, ctx, chromedp.Navigate(w.open.Base+"/auth/authorize?"+q.Encode()),
		chromedp.WaitVisible("#patient"))
	named(t, ctx)
	key(kb.Tab, "any", kb.Enter)
	do(t, ctx, chromedp.WaitVisible("button[value=allow]"))
	named(t, ctx)
	tabTo(t, ctx, "button[value=allow]")
	key(kb.Enter)
	do(t, ctx, chromedp.WaitVisible("#app"))
	if at := location(t, ctx); !strings.HasPrefix(at, app.URL+"/cb?code=") {
		t.Fatalf("after the consent at %s", at)
	}

	do(t, ctx,
		chromedp.Navigate(w.open.Base+"/jobs/"+j.ID+"/customize?redirect="+
			url.QueryEscape(app.URL+"/done")), chromedp.WaitVisible("#p-visits"))
	named(t, ctx)
	tabTo(t, ctx, "#p-visits")
	key(" ", kb.Tab, "02012015") // from
	tabTo(t, ctx, "#p-labs")
	key(" ")
	tabTo(t, ctx, "#p-labs-notes")
	key("all of them", kb.Enter)
	do(t, ctx, chromedp.WaitVisible("#app"))
	if at := location(t, ctx); at != app.URL+"/done" {
		t.Fatalf("after the form at %s", at)
	}
	job := w.wait(j.ID, ehi.Retrieved)
	if !job.Parameters["visits"].Enabled || !job.Parameters["labs"].Enabled ||
		job.Parameters["billing"].Enabled || job.Counts["Encounter"] == 0 {
		t.Errorf("the form said %+v", job)
	}
	for _, f := range found.list {
		t.Error(f)
	}
}

// A patient's way through production mode in a real browser, over HTTPS and by keyboard: sign-in
// with an account, consent, form, the request's page, the applications, sign-out. Cookies,
// referrers and the content security policy are those of the browser.
func TestProductionPagesInARealBrowser(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		// the browser may have disconnected: its test reports it
		_, _ = w.Write([]byte(
			`<!doctype html><link rel="icon" href="data:,"><title>app</title><p id="app">back`))
	}))
	t.Cleanup(app.Close)
	p := startProduction(t, nil)
	ctx, found := openBrowser(t, p.open.Base, app.URL)
	key := func(keys ...string) {
		t.Helper()
		for _, k := range keys {
			do(t, ctx, chromedp.KeyEvent(k))
		}
	}
	// it has the focus
	do(t, ctx, chromedp.Navigate(p.open.Base+"/auth/authorize?"+p.request("app", "redirect_uri",
		app.URL+"/cb").Encode()), chromedp.WaitVisible("#username"))
	named(t, ctx)
	key("ann", kb.Tab, patientPassword, kb.Enter)
	do(t, ctx, chromedp.WaitVisible("button[value=allow]"))
	named(t, ctx)
	tabTo(t, ctx, "button[value=allow]")
	key(kb.Enter)
	do(t, ctx, chromedp.WaitVisible("#app"))
	at, err := url.Parse(location(t, ctx))
	if err != nil || at.Query().Get("code") == "" {
		t.Fatalf("after the consent at %s", at)
	}
	got := p.tokens(p.post("/auth/token",
		p.redemption("app", at.Query().Get("code"), "redirect_uri", app.URL+"/cb")))
	pat := p.open.WithToken(got.AccessToken)
	j := p.kickOff(pat, "", p.ann, nil)
	do(t, ctx, chromedp.Navigate(p.open.Base+"/jobs/"+j.ID+"/customize"),
		chromedp.WaitVisible("#p-labs"))
	tabTo(t, ctx, "#p-labs")
	key(" ")
	tabTo(t, ctx, "#p-labs-notes")
	key(kb.Enter)
	do(t, ctx, chromedp.WaitVisible(".stages"))
	p.wait(j.ID, ehi.Retrieved)
	if _, err := p.admin.Act(t.Context(), j.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"/my/requests/" + j.ID, "/my/applications"} {
		do(t, ctx, chromedp.Navigate(p.open.Base+page), chromedp.WaitVisible(chromedp.CSS("h1")))
		named(t, ctx)
		fits(t, ctx)
	}
	tabTo(t, ctx, `form[action="/patient-logout"] button`)
	key(kb.Enter)
	do(t, ctx, chromedp.WaitVisible("#username"))
	for _, f := range found.list {
		t.Error(f)
	}
}

// fits requires that a page fits the width of the window, without scrolling sideways.
func fits(t *testing.T, ctx context.Context) {
	t.Helper()
	wide, err := chromedp.Run(ctx,
		chromedp.Evaluate[float64](
			`document.documentElement.scrollWidth - document.documentElement.clientWidth`))
	if err != nil {
		t.Fatal(err)
	}
	if wide > 0 {
		t.Errorf("%s is %v pixels too wide", location(t, ctx), wide)
	}
}

// tabTo presses Tab until an element has the focus, as a person without a mouse does.
func tabTo(t *testing.T, ctx context.Context, selector string) {
	t.Helper()
	for range 200 {
		do(t, ctx, chromedp.KeyEvent(kb.Tab))
		there, err := chromedp.Run(ctx,
			chromedp.Evaluate[bool](`document.activeElement?.matches(`+strconv.Quote(selector)+
				`) ?? false`))
		if err != nil {
			t.Fatal(err)
		}
		if there {
			return
		}
	}
	t.Fatalf("%s: the keyboard does not lead to %s", location(t, ctx), selector)
}

// stepTime is the time limit for a step of a browser.
const stepTime = time.Minute

// do runs steps in the browser. A failed step fails the test and reports what the page shows.
func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	for i, step := range steps {
		short, stop := context.WithTimeout(ctx, stepTime)
		err := chromedp.Do(short, step)
		stop()
		if err != nil {
			shown, e := chromedp.Run(ctx,
				chromedp.Evaluate[string](`location.href + "\nwith the focus on " + `+
					`document.activeElement?.outerHTML.slice(0, 200) + "\n" + `+
					`document.body.innerText.slice(0, 5000)`))
			t.Fatalf("step %d: %v; the page (%v): %s", i+1, err, e, shown)
		}
	}
}

func location(t *testing.T, ctx context.Context) string {
	t.Helper()
	at, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// named requires that every field of a page has an accessible name, from a label or aria-label.
func named(t *testing.T, ctx context.Context) {
	t.Helper()
	unnamed, err := chromedp.Run(ctx,
		chromedp.Evaluate[string](
			`[...document.querySelectorAll('input:not([type=hidden]),select,button')]
		.filter(e => !(e.labels && e.labels.length) && !e.ariaLabel && !e.textContent.trim()).map(e => e.id || e.name).join(' ')`))
	if err != nil || unnamed != "" {
		t.Fatalf("fields without a name: %q, %v", unnamed, err)
	}
}
