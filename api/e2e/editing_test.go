package e2e

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// ask returns the value of an expression in the page.
func ask[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// staffAt signs an administrator in and opens a page of theirs.
func (w *world) staffAt(ctx context.Context, path string) {
	w.t.Helper()
	do(w.t, ctx, chromedp.Navigate(w.open.Base+"/admin/ui/login"),
		chromedp.WaitVisible("#username"),
		chromedp.SendKeys("#username", "admin"), chromedp.SendKeys("#password", "admin-password"),
		chromedp.Submit("#password"), chromedp.WaitVisible("[data-jobs]"),
		chromedp.Navigate(w.open.Base+path))
}

// letter returns a file to choose, with the given size.
func letter(t *testing.T, name string, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Repeat("a", size)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Opening the page of an export does not change the export, and makes no page reload.
func TestViewingAnExportDoesNotChangeIt(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	pat := w.patient(w.demoPatient())
	looked := w.kickOff(pat, "", w.demoPatient(), nil)
	b := staffIn(w, "admin", "admin-password")
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	r, err := http.NewRequestWithContext(ctx, "GET", w.open.Base+"/admin/ui/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := b.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() // broken off below
	events := bufio.NewScanner(resp.Body)
	events.Scan() // it has begun
	for range 3 {
		b.visit(w.open.Base + "/admin/ui/jobs/" + looked.ID)
		b.sees(200, "Waits for the patient")
	}
	other := w.kickOff(pat, "", w.demoPatient(), nil)
	for events.Scan() && !strings.Contains(events.Text(), other.ID) {
		if strings.Contains(events.Text(), looked.ID) {
			t.Errorf("an export that was looked at: %s", events.Text())
		}
	}
	if err := events.Err(); err != nil {
		t.Fatal(err)
	}
}

// A page in use is not replaced: input, choices, open details and messages stay, and a notice
// offers the changes.
func TestAPageDoesNotReloadWhileInUse(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "", p, nil)
	w.submit(pat, j.ID, newForm("labs"))
	w.wait(j.ID, ehi.Retrieved)
	ctx, found := openBrowser(t, w.open.Base)
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	page := "/admin/ui/jobs/" + j.ID
	attach := func(name string) {
		t.Helper()
		a, err := w.admin.AddFiles(t.Context(), j.ID, client.File{Name: name, Data: []byte("x")})
		if err != nil || a.Status != 200 {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	w.staffAt(ctx, page)
	notice := chromedp.WaitVisible("[data-changed]")
	mark := func() {
		t.Helper()
		ask[bool](t, ctx, `document.querySelector("main").stays = true`)
	}
	stays := func(what, is string) {
		t.Helper()
		if !ask[bool](t, ctx, `document.querySelector("main").stays === true && `+is) {
			t.Errorf("%s: the page was replaced, or not %s", what, is)
		}
	}
	for what, use := range map[string]struct{ begin, is string }{
		"typed text": {
			`document.querySelector("#reason").value = "a reason"`,
			`document.querySelector("#reason").value === "a reason"`,
		},
		"focus": {
			`document.querySelector("#reason").focus()`,
			`document.activeElement.id === "reason"`,
		},
		"dialog": {
			`document.querySelector("details").open = true`,
			`document.querySelector("details").open`,
		},
		"message": {
			`document.querySelector("[data-upload-state]").textContent = "Not uploaded"`,
			`document.querySelector("[data-upload-state]").textContent === "Not uploaded"`,
		},
	} {
		do(t, ctx, chromedp.Navigate(w.open.Base+page), chromedp.WaitVisible("#reason"))
		ask[any](t, ctx, use.begin)
		mark()
		attach(strings.ReplaceAll(what, " ", "-") + ".txt")
		do(t, ctx, notice)
		stays(what, use.is)
	}

	// Files that are chosen stay chosen. One that is too large is refused with a message that
	// stays; another is uploaded while the reason is half written.
	do(t, ctx, chromedp.Navigate(w.open.Base+page), chromedp.WaitVisible("#reason"),
		chromedp.SendKeys("#reason", "half a"),
		chromedp.SetUploadFiles("#attachments", []string{letter(t, "large.txt", 1<<20+1)}))
	mark()
	attach("meanwhile.txt")
	do(t, ctx, notice)
	stays("files", `document.querySelector("#attachments").files[0].name === "large.txt"`)
	do(t, ctx, chromedp.Click("[data-upload] button"),
		chromedp.WaitVisible(`//span[contains(text(), "larger than")]`))
	found.take() // that it was refused
	attach("meanwhile-2.txt")
	stays("a refusal",
		`document.querySelector("[data-upload-state]").textContent.includes("larger than")`)
	do(t, ctx, chromedp.SetUploadFiles("#attachments", []string{letter(t, "letter.txt", 8)}),
		chromedp.Click("[data-upload] button"),
		chromedp.WaitVisible(`//a[text()="letter.txt"]`))
	reason := ask[string](t, ctx, `document.querySelector("#reason").value`)
	if reason != "half a" {
		t.Errorf("after the upload the reason is %q", reason)
	}

	// The notice's button loads the changes and removes nothing.
	attach("last.txt")
	do(t, ctx, notice, chromedp.Click("[data-changed] button"),
		chromedp.WaitVisible(`//a[text()="last.txt"]`))
	if reason := ask[string](t, ctx,
		`document.querySelector("#reason").value`); reason != "half a" {
		t.Errorf("after the reload the reason is %q", reason)
	}

	// In the list, a checked box stays checked.
	do(t, ctx, chromedp.Navigate(w.open.Base+"/admin/ui/jobs"), chromedp.WaitVisible("[name=job]"),
		chromedp.Click("[name=job]"))
	mark()
	w.kickOff(pat, "", p, nil)
	do(t, ctx, notice)
	stays("the list", `document.querySelector("[name=job]").checked`)
	do(t, ctx, chromedp.Click("[data-changed] button"), chromedp.WaitVisible(".awaiting-input"))
	if !ask[bool](t, ctx, `document.querySelector("[name=job]:checked") !== null`) {
		t.Error("the tick is gone")
	}
	for _, f := range found.take() {
		t.Error(f)
	}
}

// The page of a patient's request follows it, but not while the patient is about to cancel.
// Without scripts, the confirmation is on a page that does not reload itself.
func TestThePageOfARequestDoesNotReloadWhileInUse(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	j := w.kickOff(w.patient(p), "", p, nil)
	running := func(done bool) {
		t.Helper()
		_, err := w.node.Bus.Jobs.Update(t.Context(), j.ID, func(j *ehi.Job) error {
			j.Status, j.RequestedAt = ehi.Requested, time.Now()
			if done {
				j.Status = ehi.Failed
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	running(false) // and no worker was notified
	ctx, _ := openBrowser(t, w.open.Base)
	do(t, ctx, chromedp.Navigate(w.open.Base+"/patient-login?action="+"/my/requests/"+j.ID),
		chromedp.WaitVisible("#patient"),
		chromedp.SetValue("#patient", p), chromedp.Submit("#password"),
		chromedp.WaitVisible("main[data-live]"),
		chromedp.Click(chromedp.CSS("summary")), chromedp.WaitVisible("button.danger"))
	ask[bool](t, ctx, `document.querySelector("main").stays = true`)
	running(true)
	do(t, ctx, chromedp.WaitVisible("[data-changed]"))
	if !ask[bool](t, ctx,
		`document.querySelector("main").stays && document.querySelector("details").open`) {
		t.Error("the page was replaced under its reader")
	}
	do(t, ctx, chromedp.Click("[data-changed] button"), chromedp.WaitVisible("section.problem"))

	running(false)
	b := newBrowser(t)
	b.visit(w.open.Base + "/my/requests/" + j.ID)
	b.submit("patient", p, "password", "any")
	b.sees(200, `http-equiv="refresh"`, `<a href="?cancel=yes">`)
	b.visit(w.open.Base + "/my/requests/" + j.ID + "?cancel=yes")
	b.sees(200, " open>", "Yes, cancel this request")
	if strings.Contains(b.page, `http-equiv="refresh"`) {
		t.Error("the question comes again by itself, and closes")
	}
}

// A step of the console that polls keeps what somebody is looking at.
func TestTheConsoleKeepsWhatIsLookedInto(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	ctx, _ := openBrowser(t, w.open.Base)
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	choose(t, ctx, w.open.Base+"/", "patient", "")
	do(t, ctx, chromedp.WaitVisible(`//a[text()="Open the form in a new tab"]`))
	asked := func() int {
		return ask[int](t, ctx, `document.querySelectorAll(".steps .now .wire").length`)
	}
	before := asked()
	ask[any](t, ctx, `[...document.querySelectorAll(".steps .now .wire summary")].at(-1).click()`)
	do(t, ctx, chromedp.Click(`//button[text()="Now"]`)) // to poll again
	do(t, ctx, chromedp.WaitReady(".steps .now .wire:nth-of-type("+strconv.Itoa(before+1)+")"))
	if !ask[bool](t, ctx, `document.querySelector(".steps .now .wire details[open]") !== null`) {
		t.Error("what was unfolded is gone")
	}
}
