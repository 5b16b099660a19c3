package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// listed is an export as in the list of all exports.
type listed struct {
	ID      string      `json:"id"`
	Patient ehi.Patient `json:"patient"`
}

// list returns the exports in a status; "" for all.
func (w *world) list(status ehi.Status) (out []listed) {
	w.t.Helper()
	a := w.do(w.admin, "GET", "/admin/jobs?status="+string(status))
	if err := json.Unmarshal(a.Body, &out); err != nil || a.Status != 200 {
		w.t.Fatalf("%d %s, %v", a.Status, a.Body, err)
	}
	return out
}

// text returns the text of an element of the page.
func text(t *testing.T, ctx context.Context, selector string) string {
	t.Helper()
	out, err := chromedp.Run(ctx, chromedp.Text(selector))
	if err != nil {
		t.Fatalf("%s: %v", selector, err)
	}
	return out
}

// choose fills in the console's form and starts a run, for these types or for all.
func choose(t *testing.T, ctx context.Context, base, what, variant string, types ...string) {
	t.Helper()
	do(t, ctx, chromedp.Navigate(base), chromedp.WaitVisible("#what"),
		chromedp.SetValue("#what", what))
	if types != nil {
		do(t, ctx, chromedp.SetValue("#types", strings.Join(types, ",")))
	}
	// a value may be empty
	_, err := chromedp.Run(ctx,
		chromedp.Evaluate[string](`document.querySelector("#variant").value = `+
			strconv.Quote(variant)))
	if err != nil {
		t.Fatal(err)
	}
	press(t, ctx, "#setup button[type=submit]")
	if what == "patient" {
		do(t, ctx, chromedp.WaitVisible(`//button[text()="Go to sign-in"]`))
		press(t, ctx, ".steps .now button")
		do(t, ctx, chromedp.WaitVisible("#password"))
		press(t, ctx, "main button[type=submit]")
		do(t, ctx, chromedp.WaitVisible("button[value=allow]"))
		press(t, ctx, "button[value=allow]")
	}
}

// press moves to a button with Tab and presses it.
func press(t *testing.T, ctx context.Context, selector string) {
	t.Helper()
	tabTo(t, ctx, selector)
	do(t, ctx, chromedp.KeyEvent(kb.Enter))
}

// A developer's first export with only the console, by keyboard: sign in, allow, download. The
// viewer finds a text and follows a reference. The export and the token are deleted.
func TestConsoleRunsAPatientsExport(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	g := newGallery(w)
	ctx := g.ctx
	g.visit("console", "/")
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	begun := time.Now()
	choose(t, ctx, w.open.Base+"/", "patient", "/no-form/auto-approve")
	do(t, ctx, chromedp.WaitVisible("#viewer .row"))
	t.Logf(
		"four presses (Start, Go to sign-in, Sign in, Allow), and the first file is there after %v",
		time.Since(begun).Round(10*time.Millisecond))
	if at := location(t, ctx); at != w.open.Base+"/" {
		t.Errorf("the code stays in the address: %s", at)
	}
	n := text(t, ctx, "#steps")
	if !strings.Contains(n, "resources") || !strings.Contains(n, "code=") {
		t.Errorf("the page says %q", n)
	}
	g.look("console-files")
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	press(t, ctx, `button[aria-label="View Observation.ndjson"]`)
	do(t, ctx, chromedp.WaitVisible(`//h2[text()="Observation.ndjson"]`))
	tabTo(t, ctx, ".viewer-lines")
	do(t, ctx, chromedp.KeyEvent(kb.ArrowDown), chromedp.WaitVisible("#viewer .viewer-text button"))
	press(t, ctx, ".viewer-text button")
	do(t, ctx,
		chromedp.WaitVisible(`//h2[text()="Patient.ndjson" or text()="Encounter.ndjson" or `+
			`text()="Practitioner.ndjson"]`),
		chromedp.WaitVisible("#viewer .row[aria-selected=true]"))
	tabTo(t, ctx, "#viewer-search")
	do(t, ctx, chromedp.KeyEvent("no such text anywhere"),
		chromedp.WaitVisible(`//p[starts-with(text(), "0 of ")]`))
	press(t, ctx, ".steps .now > div > button")
	do(t, ctx, chromedp.WaitVisible(`//p[text()="The export is complete."]`))
	g.look("console-done")
	if list := w.list(""); len(list) != 0 {
		t.Errorf("%d exports are left", len(list))
	}
}

// Populations, with a form and a review by others, and with everything that can go wrong.
func TestConsoleRunsEveryKindOfExport(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	ctx, found := openBrowser(t, w.open.Base)
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	for _, what := range []string{"patients", "group", "system"} {
		choose(t, ctx, w.open.Base+"/", what, "/no-form/auto-approve")
		do(t, ctx, chromedp.WaitVisible("#viewer .row"))
	}
	for _, f := range found.take() {
		t.Error(f)
	}
	choose(t, ctx, w.open.Base+"/?fault=busy+throttled+unavailable+dropped+truncated", "patient",
		"")
	do(t, ctx, chromedp.WaitVisible(`//a[text()="Open the form in a new tab"]`))
	list := w.list(ehi.AwaitingInput)
	if len(list) != 1 {
		t.Fatalf("%d exports", len(list))
	}
	b := newBrowser(t)
	b.visit(w.open.Base + "/jobs/" + list[0].ID + "/customize?_patient=" + list[0].Patient.ID)
	b.submit("p.labs", "on")
	do(t, ctx, chromedp.WaitVisible(`//a[text()="Review the export in a new tab"]`))
	if _, err := w.admin.Act(t.Context(), list[0].ID, "approve"); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.WaitVisible("#viewer .row"))
	if said := text(t, ctx, "#steps"); !strings.Contains(said, ".ndjson: retrying") ||
		!strings.Contains(said, "429") || !strings.Contains(said, "503") {
		t.Errorf("of the faults the page says: %s", said)
	}
}

// The API reference shows every operation, and can try one.
func TestAPIPageTriesOperations(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	g := newGallery(w)
	do(t, g.ctx, chromedp.Navigate(w.open.Base+"/docs/api"), chromedp.WaitVisible(".operation"))
	g.look("api")
	do(t, g.ctx, chromedp.Click("#token button"),
		chromedp.WaitVisible(`//p[starts-with(text(), "Scope: system")]`),
		chromedp.SendKeys("#find", "groups of patients"),
		chromedp.Click(".operation:not([hidden]) summary"),
		chromedp.WaitVisible(".operation[open] form"),
		chromedp.Click(".operation[open] form button"),
		chromedp.WaitVisible(".operation[open] .wire .good"))
	g.look("api-tried")
}

// steps returns the states of the steps of the console's run, by title.
func steps(t *testing.T, ctx context.Context) map[string]string {
	t.Helper()
	return ask[map[string]string](t, ctx,
		`Object.fromEntries([...document.querySelectorAll("#steps > li")].map((e) =>
		[e.querySelector("h2").firstChild.textContent, e.className + ": " + e.querySelector("h2 .mark").textContent]))`)
}

// Each step shows what really happened, whatever fault is ordered. It never shows a failure as a
// success.
func TestConsoleShowsWhatReallyHappened(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	ctx, _ := openBrowser(t, w.open.Base)
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	const follow, files = "Poll the status", "Download the files"
	const good, partly, wrong = "done: done", "partly: done with problems", "wrong: failed"
	for _, f := range ehi.Faults() {
		at, is, says := files, good, "files are complete and match the manifest."
		switch f.Fault {
		case ehi.FaultFailed:
			at, is, says = follow, wrong, "The export failed (simulated by /faulty)"
		case ehi.FaultErrors:
			is, says = partly, "2 of severity error"
		case ehi.FaultExpired:
			is, says = wrong, "files could not be downloaded"
		}
		choose(t, ctx, w.open.Base+"/?fault="+string(f.Fault), "patients", "/no-form/auto-approve",
			"Patient", "Condition")
		do(t, ctx, chromedp.WaitVisible(`//p[contains(text(), "`+says+`")]`))
		if now := steps(t, ctx); now[at] != is {
			t.Errorf("%s: %q is %q, not %q: %v", f.Fault, at, now[at], is, now)
		}
		if at == follow {
			continue
		}
		press(t, ctx, ".steps .now > div > button") // to delete it
		end := "The export is complete."
		if is != good {
			end = "The run is complete, with problems. See the steps above."
		}
		do(t, ctx, chromedp.WaitVisible(`//p[text()="`+end+`"]`))
	}

	// An export that somebody deletes or rejects while its client waits.
	for _, c := range []struct {
		end  func(id string) error
		says string
	}{
		{func(id string) error {
			_, err := w.admin.Do(t.Context(), "DELETE", "/admin/jobs/"+id,
				nil)
			return err
		}, "got 404"},
		{
			func(id string) error { _, err := w.admin.Act(t.Context(), id, "reject"); return err },
			"rejected by an administrator",
		},
	} {
		ctx, _ := openBrowser(t, w.open.Base) // in which nobody is signed in
		do(t, ctx, chromedp.EmulateViewport(1280, 900))
		choose(t, ctx, w.open.Base+"/", "patient", "/no-form")
		do(t, ctx, chromedp.WaitVisible(`//a[text()="Review the export in a new tab"]`))
		list := w.list(ehi.Retrieved)
		if len(list) != 1 {
			t.Fatalf("%d exports", len(list))
		}
		if err := c.end(list[0].ID); err != nil {
			t.Fatal(err)
		}
		do(t, ctx, chromedp.WaitVisible(`//p[contains(text(), "`+c.says+`")]`))
		if now := steps(t, ctx); now[follow] != wrong {
			t.Errorf("%s: %v", c.says, now)
		}
	}
}

// The console detects a manifest with a wrong count, a missing file, and a response that is not
// JSON.
func TestConsoleChecksTheManifest(t *testing.T) {
	t.Parallel()
	var forward, change atomic.Pointer[func(w http.ResponseWriter, r *http.Request)]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lie := change.Load()
		if lie != nil && strings.HasSuffix(r.URL.Path, "/status") && r.Method == http.MethodGet {
			(*lie)(w, r)
			return
		}
		(*forward.Load())(w, r)
	}))
	t.Cleanup(front.Close)
	cfg := config()
	cfg.BaseURL = front.URL
	w := start(t, t.TempDir(), cfg, node.Options{})
	to, err := url.Parse(w.node.URL)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(to).ServeHTTP
	forward.Store(&pass)
	ctx, _ := openBrowser(t, front.URL)
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	for _, c := range []struct {
		lie  func(manifest []byte) string
		step string
		says string
	}{
		{func(m []byte) string { return strings.Replace(string(m), `"count":`, `"count":9`, 1) },
			"Download the files", "1 of "},
		{func(m []byte) string { return strings.Replace(string(m), `.ndjson"`, `.none"`, 1) },
			"Download the files", "1 of "},
		{func([]byte) string { return "Accepted" }, "Poll the status",
			"The manifest is not valid JSON."},
	} {
		lie := func(out http.ResponseWriter, r *http.Request) {
			seen := httptest.NewRecorder()
			pass(seen, r)
			for name, values := range seen.Header() {
				if name != "Content-Length" {
					out.Header()[name] = values
				}
			}
			out.WriteHeader(seen.Code)
			body := seen.Body.String()
			if seen.Code == http.StatusOK {
				body = c.lie(seen.Body.Bytes())
			}
			// the browser may have disconnected: its test reports it
			_, _ = io.WriteString(out, body)
		}
		change.Store(&lie)
		choose(t, ctx, front.URL+"/", "patients", "/no-form/auto-approve")
		do(t, ctx, chromedp.WaitVisible(`//p[@class="wrong" and contains(text(), "`+c.says+`")]`))
		if now := steps(t, ctx); now[c.step] != "wrong: failed" {
			t.Errorf("%s: %v", c.says, now)
		}
	}
}
