package e2e

import (
	"context"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// staffIn returns an administrator's browser without scripts, signed in.
func staffIn(w *world, name, password string) *browser {
	w.t.Helper()
	b := newBrowser(w.t)
	b.visit(w.open.Base + "/admin")
	b.sees(200, "Sign in")
	b.submit("username", name, "password", password)
	b.sees(200, "Exports", name)
	return b
}

// An administrator's day without scripts: the list with its filters, one export decided with a
// reason that its patient reads, several at once after a confirmation, documents, the first
// entries of a file, the trail, a client, an account.
func TestAdministratorsWorkWithoutScripts(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p, other, pat, theirs := w.two()
	var jobs []client.Job
	for range 3 {
		j := w.kickOff(pat, "", p, nil)
		w.submit(pat, j.ID, newForm("labs", "a:hiv"))
		w.wait(j.ID, ehi.Retrieved)
		jobs = append(jobs, j)
	}
	foreign := w.kickOff(theirs, "/no-form", other, nil)
	w.wait(foreign.ID, ehi.Retrieved)
	waiting := w.kickOff(pat, "", p, nil)

	b := newBrowser(t)
	b.visit(w.open.Base + "/admin/ui/jobs/" + jobs[0].ID)
	b.sees(200, "Sign in")
	b.submit("username", "admin", "password", "wrong")
	b.sees(401, "Invalid username or password", `value="admin"`)
	b.submit("username", "admin", "password", "admin-password")
	b.sees(200, "Waits for review", jobs[0].ID, "HIV test results") // the page that was requested

	list := w.open.Base + "/admin/ui/jobs"
	b.visit(list)
	b.sees(200, "1 to 5 of 5", jobs[0].ID, foreign.ID, waiting.ID)
	for query, has := range map[string][]string{
		"?status=awaiting-input":        {waiting.ID},
		"?q=" + other:                   {foreign.ID},
		"?q=" + jobs[1].ID[:8]:          {jobs[1].ID},
		"?level=system":                 nil,
		"?client=nobody":                nil,
		"?sort=oldest&status=retrieved": {jobs[0].ID, jobs[1].ID, jobs[2].ID, foreign.ID},
	} {
		b.visit(list + query)
		at := -1
		for _, id := range has {
			next := strings.Index(b.page, `data-job="`+id)
			if next <= at {
				t.Errorf("%s: %s is not in its place", query, id)
			}
			at = next
		}
		if n := strings.Count(b.page, "data-job="); n != len(has) {
			t.Errorf("%s: %d exports, not %d", query, n, len(has))
		}
	}
	for _, bad := range []string{"?status=none", "?sort=none", "?page=0"} {
		b.visit(list + bad)
		b.sees(400, "Invalid")
	}

	// One export, with a reason.
	b.visit(list + "/" + jobs[0].ID)
	b.submit("do", "reject", "reason", "It holds another person's results")
	b.sees(200, "Rejected", "another person&#39;s results")
	person := newBrowser(t)
	person.visit(w.open.Base + "/my/requests/" + jobs[0].ID)
	person.submit("patient", p, "password", "any")
	person.sees(200, "did not share this copy", "another person&#39;s results")
	b.submitTo("/admin/ui/jobs/" + jobs[0].ID + "/delete")
	b.sees(200, "1 to 4 of 4")

	// Documents and files.
	b.visit(list + "/" + jobs[1].ID)
	b.upload("/admin/jobs/"+jobs[1].ID+"/add-files", "letter.txt", "a letter")
	b.sees(200, "letter.txt", "8 bytes")
	b.submitTo("/admin/ui/jobs/" + jobs[1].ID + "/remove-file")
	b.sees(200, "No documents.")
	b.visit(list + "/" + jobs[1].ID + "/files/Observation.ndjson")
	b.sees(200, "The first 25 of", "&#34;resourceType&#34;: &#34;Observation&#34;")
	b.visit(list + "/" + jobs[1].ID + "/files/None.ndjson")
	b.sees(404, "no such file")

	// Several at once. A failure is reported and does not affect the others.
	b.visit(list)
	b.submitTo("/admin/ui/jobs", "do", "approve")
	b.sees(400, "no export is ticked", jobs[1].ID)
	b.visit(list)
	b.post("/admin/ui/jobs", url.Values{
		"_csrf": {b.field("_csrf")},
		"do":    {"approve"},
		"job":   {jobs[1].ID, jobs[2].ID, waiting.ID},
	})
	b.sees(200, "Approve 3 exports?")
	b.submit()
	b.sees(200, "2 done", "<strong>1 failed</strong>", "Cannot approve export")
	for _, j := range jobs[1:] {
		w.wait(j.ID, ehi.Approved)
	}
	b.visit(w.open.Base + "/admin/ui/audit?job=" + jobs[1].ID)
	b.sees(200, "admin admin", "approve", "attach", "detach", "kick-off")

	// Clients and accounts.
	b.visit(w.open.Base + "/admin/ui/clients")
	b.submit("name", "An app", "kind", "confidential-symmetric", "redirects", "nonsense", "scope",
		"patient/$ehi-export")
	b.sees(400, "must be a whole URL", "An app")
	b.submit("name", "An app", "id", "an-app", "kind", "confidential-symmetric", "redirects",
		"https://app.example.org/cb", "scope", "patient/$ehi-export")
	b.sees(200, "Secret (shown only once)", "an-app")
	b.submit("id", "an-app", "do", "remove")
	b.sees(200, "No clients registered")
	b.visit(w.open.Base + "/admin/ui/accounts")
	b.submit("username", "vera", "password", "four plain words here", "role", "viewer")
	b.sees(200, "The account was added", "vera")

	// A viewer can look but not change anything.
	v := staffIn(w, "vera", "four plain words here")
	if strings.Contains(v.page, "Approve selected") ||
		strings.Contains(v.page, "/admin/ui/clients") {
		t.Error("a viewer is offered what he may not do")
	}
	v.post("/admin/ui/jobs/"+foreign.ID, url.Values{"_csrf": {v.field("_csrf")}, "do": {"approve"}})
	v.sees(403, "This requires the role reviewer")
	for _, path := range []string{
		"/clients",
		"/accounts",
		"/audit",
		"/jobs/" + foreign.ID + "/files/Patient.ndjson",
	} {
		v.visit(w.open.Base + "/admin/ui" + path)
		v.sees(403, "This requires the role")
	}
	v.forge(w.open.Base+"/admin/ui/jobs/"+foreign.ID, list, "do=approve")
	v.sees(403, "")
	v.visit(list)
	v.submitTo("/admin/ui/logout")
	v.sees(200, "Sign in")
	w.wait(foreign.ID, ehi.Retrieved)
}

// post sends a form in which several fields have the same name.
func (b *browser) post(path string, v url.Values) {
	b.t.Helper()
	to := b.at.ResolveReference(&url.URL{Path: path})
	b.forge(to.String(), b.at.String(), v.Encode())
}

// upload sends a document with a form of the page.
func (b *browser) upload(path, name, data string) {
	b.t.Helper()
	var body strings.Builder
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("attachments", name)
	if err == nil {
		_, err = part.Write([]byte(data))
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(b.t.Context(), "POST",
		b.at.ResolveReference(&url.URL{Path: path}).String(), strings.NewReader(body.String()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", form.FormDataContentType())
	r.Header.Set("Referer", b.at.String())
	b.send(r)
}

// In a browser, the list updates itself and has keyboard shortcuts, and the open page of an
// export shows its progress.
func TestAdministratorsPagesFollowInARealBrowser(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	first := w.kickOff(pat, "/no-form", p, nil)
	w.wait(first.ID, ehi.Retrieved)
	ctx, found := openBrowser(t, w.open.Base)
	key := func(keys ...string) {
		t.Helper()
		for _, k := range keys {
			do(t, ctx, chromedp.KeyEvent(k))
		}
	}
	// it has the focus
	do(t, ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(w.open.Base+"/admin"),
		chromedp.WaitVisible("#username"))
	key("admin", kb.Tab, "admin-password", kb.Enter)
	row := func(id string) string { return `tr[data-job="` + id + `"]` }
	do(t, ctx, chromedp.WaitVisible(row(first.ID)))
	second := w.kickOff(pat, "", p, nil)
	// by an event: nobody reloaded the page
	do(t, ctx, chromedp.WaitVisible(row(second.ID)+` .awaiting-input`))
	w.submit(pat, second.ID, newForm("labs"))
	do(t, ctx, chromedp.WaitVisible(row(second.ID)+`[data-status=retrieved] input[type=checkbox]`))
	tabTo(t, ctx, row(second.ID)+" a")
	key("j", "x", "k", "x")
	tabTo(t, ctx, "button[value=approve]")
	key(kb.Enter)
	do(t, ctx, chromedp.WaitReady(`[name=contents]`))
	tabTo(t, ctx, "main button[type=submit]")
	key(kb.Enter)
	do(t, ctx, chromedp.WaitVisible(chromedp.CSS("table")))
	for _, j := range []client.Job{first, second} {
		w.wait(j.ID, ehi.Approved)
	}
	third := w.kickOff(pat, "", p, nil)
	do(t, ctx, chromedp.Navigate(w.open.Base+"/admin/ui/jobs/"+third.ID),
		chromedp.WaitVisible(".mark.awaiting-input"))
	w.submit(pat, third.ID, newForm("labs"))
	do(t, ctx, chromedp.WaitVisible("#reason"), chromedp.SendKeys("#reason", "all is well"))
	drop := `(() => { const d = new DataTransfer(); d.items.add(new File(["a letter"], ` +
		`"letter.txt")); document.querySelector("[data-upload]").dispatchEvent(new ` +
		`DragEvent("drop", {dataTransfer: d, bubbles: true, cancelable: true})); return ""; })()`
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[string](drop)); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.WaitVisible(`//a[text()="letter.txt"]`)) // and the input stays
	tabTo(t, ctx, "button[value=approve]")
	key(kb.Enter)
	do(t, ctx, chromedp.WaitVisible(".mark.approved"))
	if got := w.wait(third.ID, ehi.Approved); got.Reason != "all is well" {
		t.Errorf("the reason is %q", got.Reason)
	}
	for _, f := range found.take() {
		t.Error(f)
	}

	// Without events, the list polls.
	do(t, ctx, block("http://*:*/admin/ui/events"), chromedp.Navigate(w.open.Base+"/admin/ui/jobs"),
		chromedp.WaitVisible(row(third.ID)))
	fourth := w.kickOff(pat, "", p, nil)
	do(t, ctx, chromedp.WaitVisible(row(fourth.ID)))
}

// block blocks requests of the browser to matching addresses.
func block(pattern string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (none chromedp.Void, err error) {
		_, err = cdp.Call(ctx, t, network.SetBlockedURLs, network.SetBlockedURLsParams{
			URLPatterns: []*network.BlockPattern{{URLPattern: pattern, Block: true}},
		})
		return none, err
	}
}
