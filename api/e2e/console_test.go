package e2e

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// listed is an export as the list of all says it.
type listed struct {
	ID      string      `json:"id"`
	Patient ehi.Patient `json:"patient"`
}

// list is the exports in a status, "" for any.
func (w *world) list(status ehi.Status) (out []listed) {
	w.t.Helper()
	a := w.do(w.admin, "GET", "/admin/jobs?status="+string(status))
	if err := json.Unmarshal(a.Body, &out); err != nil || a.Status != 200 {
		w.t.Fatalf("%d %s, %v", a.Status, a.Body, err)
	}
	return out
}

// text is what an element of the page says.
func text(t *testing.T, ctx context.Context, selector string) string {
	t.Helper()
	out, err := chromedp.Run(ctx, chromedp.Text(selector))
	if err != nil {
		t.Fatalf("%s: %v", selector, err)
	}
	return out
}

// choose sets the console's form and begins a run.
func choose(t *testing.T, ctx context.Context, base, what, variant string) {
	t.Helper()
	do(t, ctx, chromedp.Navigate(base), chromedp.WaitVisible("#what"), chromedp.SetValue("#what", what))
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector("#variant").value = `+strconv.Quote(variant))); err != nil { // a value may be empty
		t.Fatal(err)
	}
	press(t, ctx, "#setup button[type=submit]")
	if what == "patient" {
		do(t, ctx, chromedp.WaitVisible(`//button[text()="Go to the sign-in"]`))
		press(t, ctx, ".steps .now button")
		do(t, ctx, chromedp.WaitVisible("#password"))
		press(t, ctx, "main button[type=submit]")
		do(t, ctx, chromedp.WaitVisible("button[value=allow]"))
		press(t, ctx, "button[value=allow]")
	}
}

// press goes to a button by the tabulator and presses it.
func press(t *testing.T, ctx context.Context, selector string) {
	t.Helper()
	tabTo(t, ctx, selector)
	do(t, ctx, chromedp.KeyEvent(kb.Enter))
}

// A developer's first export by the console alone, by keyboard: sign in, allow, files; the viewer finds a text and follows a reference; the export and the token go.
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
	t.Logf("four presses (Begin, Go to the sign-in, Sign in, Allow), and the first file is there after %v", time.Since(begun).Round(10*time.Millisecond))
	if at := location(t, ctx); at != w.open.Base+"/" {
		t.Errorf("the code stays in the address: %s", at)
	}
	if n := text(t, ctx, "#steps"); !strings.Contains(n, "resources") || !strings.Contains(n, "code=") {
		t.Errorf("the page says %q", n)
	}
	g.look("console-files")
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	press(t, ctx, `button[aria-label="Look into Observation.ndjson"]`)
	do(t, ctx, chromedp.WaitVisible(`//h2[text()="Observation.ndjson"]`))
	tabTo(t, ctx, ".viewer-lines")
	do(t, ctx, chromedp.KeyEvent(kb.ArrowDown), chromedp.WaitVisible("#viewer .viewer-text button"))
	press(t, ctx, ".viewer-text button")
	do(t, ctx, chromedp.WaitVisible(`//h2[text()="Patient.ndjson" or text()="Encounter.ndjson" or text()="Practitioner.ndjson"]`), chromedp.WaitVisible("#viewer .row[aria-selected=true]"))
	tabTo(t, ctx, "#viewer-search")
	do(t, ctx, chromedp.KeyEvent("no such text anywhere"), chromedp.WaitVisible(`//p[starts-with(text(), "0 of ")]`))
	press(t, ctx, ".steps .now > div > button")
	do(t, ctx, chromedp.WaitVisible(`//p[text()="That was a whole export."]`))
	g.look("console-done")
	if list := w.list(""); len(list) != 0 {
		t.Errorf("%d exports are left", len(list))
	}
}

// Populations, with a form and a review that others do, and with all that can go wrong on the way.
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
	choose(t, ctx, w.open.Base+"/?fault=busy+throttled+unavailable+dropped+truncated", "patient", "")
	do(t, ctx, chromedp.WaitVisible(`//a[text()="Open the form in a new tab"]`))
	list := w.list(ehi.AwaitingInput)
	if len(list) != 1 {
		t.Fatalf("%d exports", len(list))
	}
	b := newBrowser(t)
	b.visit(w.open.Base + "/jobs/" + list[0].ID + "/customize?_patient=" + list[0].Patient.ID)
	b.submit("p.labs", "on")
	do(t, ctx, chromedp.WaitVisible(`//a[text()="Review it in a new tab"]`))
	if _, err := w.admin.Act(t.Context(), list[0].ID, "approve"); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.WaitVisible("#viewer .row"))
	if said := text(t, ctx, "#steps"); !strings.Contains(said, "asking for it again") || !strings.Contains(said, "429") || !strings.Contains(said, "503") {
		t.Errorf("of the faults the page says: %s", said)
	}
}

// The API's page lays out every operation, and tries one.
func TestAPIPageTriesOperations(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	g := newGallery(w)
	do(t, g.ctx, chromedp.Navigate(w.open.Base+"/docs/api"), chromedp.WaitVisible(".operation"))
	g.look("api")
	do(t, g.ctx, chromedp.Click("#token button"), chromedp.WaitVisible(`//p[starts-with(text(), "For system")]`), chromedp.SendKeys("#find", "groups of patients"), chromedp.Click(".operation:not([hidden]) summary"), chromedp.WaitVisible(".operation[open] form"), chromedp.Click(".operation[open] form button"), chromedp.WaitVisible(".operation[open] .wire .good"))
	g.look("api-tried")
}
