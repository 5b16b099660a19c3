package e2e

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/ehi"
)

// long is text without a place to break.
var long = strings.Repeat("Wolfeschlegelsteinhausenbergerdorff", 3)[:100]

// longRecord returns a record whose names, codes and ids have the maximum length.
func longRecord(t *testing.T) (data, patient string) {
	t.Helper()
	data, patient = t.TempDir(), strings.Repeat("p", 64)
	subject := `"subject":{"reference":"Patient/` + patient + `"}`
	lines := []string{
		`{"resourceType":"Patient","id":"` + patient + `","name":[{"use":"official","family":"` +
			long + `","given":["` + long + `"]}]}`,
		`{"resourceType":"Condition","id":"c",` + subject + `,"code":{"text":"` + long + `"}}`,
		`{"resourceType":"ImmunizationRecommendation","id":"r","patient":{"reference":"Patient/` +
			patient + `"},"date":"2020-01-01"}`,
		`{"resourceType":"MedicationAdministration","id":"m",` + subject +
			`,"status":"completed","effectiveDateTime":"2020-01-01"}`,
		`{"resourceType":"Group","id":"` + strings.Repeat("g", 64) +
			`","type":"person","actual":true,"name":"` + long +
			`","member":[{"entity":{"reference":"Patient/` + patient + `"}}]}`,
	}
	file := filepath.Join(t.TempDir(), "long.ndjson")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := kinds.Store(kinds.Config{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Import(t.Context(), []string{file}, source.ImportOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return data, patient
}

// narrow checks pages at 320 pixels (WCAG 1.4.10), and saves a picture of each.
type narrow struct {
	*gallery
	lang string
}

func (n *narrow) look(name string) {
	n.t.Helper()
	do(n.t, n.ctx, chromedp.WaitVisible(chromedp.CSS("h1")))
	wide := ask[[]string](n.t, n.ctx, `(() => {
		const wide = document.documentElement.scrollWidth - innerWidth;
		if (wide <= 0) return [];
		return [wide + " px", ...[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".wide, .scroll, pre")).slice(0, 5).map((e) => e.outerHTML.slice(0, 160))];
	})()`)
	if len(wide) > 0 {
		n.t.Errorf("%s %s: %s", name, n.lang, strings.Join(wide, "\n\t"))
	}
	// longer pages have no picture
	if ask[bool](n.t, n.ctx, `document.documentElement.scrollHeight < 16000`) {
		n.picture("narrow-" + name + "-" + n.lang + ".png")
	}
}

func (n *narrow) visit(name, path string) {
	n.t.Helper()
	do(n.t, n.ctx, chromedp.Navigate(n.open.Base+path))
	n.look(name)
}

// No page scrolls horizontally at 320 pixels, in any state and language, however long names,
// ids, file names and input are.
func TestNoPageScrollsSideways(t *testing.T) {
	t.Parallel()
	data, p := longRecord(t)
	w := start(t, data, config(), node.Options{})
	app := auth.Client{
		ID:           long[:64],
		Name:         long + long,
		RedirectURIs: []string{"https://" + long[:50] + ".example.org/cb"},
		Scope:        "patient/$ehi-export",
	}
	if _, _, err := w.admin.AddClient(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	ctx, _ := openBrowser(t, w.open.Base)
	do(t, ctx, chromedp.EmulateViewport(320, 800))
	pat := w.patient(p)
	kept := map[string]client.Job{"awaiting": w.kickOff(pat, "", p, nil)}
	f := newForm("labs", "visits", "a:hiv").dates("visits", "2020-01-01", "2021-01-01")
	f["parameters"]["labs"]["notes"], f["authorizations"]["genetic"]["text"] = long+long, long+long
	for _, decide := range []string{"retrieved", "approve", "reject"} {
		j := w.kickOff(pat, "", p, nil)
		w.submit(pat, j.ID, f)
		w.wait(j.ID, ehi.Retrieved)
		a, err := w.admin.AddFiles(t.Context(), j.ID, client.File{
			Name: long[:80] + ".txt",
			Data: []byte("a letter"),
		})
		if err != nil || a.Status != 200 {
			t.Fatalf("%+v, %v", a, err)
		}
		if decide != "retrieved" {
			w.want(w.do(w.admin, "POST", "/admin/jobs/"+j.ID+"/"+decide, "Content-Type",
				"application/json"), 200, "")
		}
		kept[decide] = j
	}
	all := w.kickOff(pat, "/no-form/auto-approve", p, nil)
	w.manifest(pat, all)
	kept["all"], kept["failed"] = all, w.failed(pat, p)
	for _, j := range kept {
		w.change(j.ID, func(j *ehi.Job) { j.ClientID, j.Reason = app.ID, long })
	}

	for _, lang := range []string{"en", "es"} {
		g := &narrow{&gallery{world: w, ctx: ctx}, lang}
		g.patients(p, kept)
	}
	g := &narrow{&gallery{world: w, ctx: ctx}, "en"}
	g.administrators(kept)
	for _, path := range []string{"/", "/docs/api", "/docs/ehi"} {
		g.visit("tools"+strings.ReplaceAll(path, "/", "-"), path)
	}
	do(t, ctx, chromedp.Navigate(w.open.Base+"/docs/api"), chromedp.WaitVisible(".operation"))
	ask[any](t, ctx,
		`[...document.querySelectorAll(".operation")].forEach((e) => { e.open = true; })`)
	g.look("tools-api-open")
	do(t, ctx, clearCookies())
	choose(t, ctx, w.open.Base+"/", "patient", "/no-form/auto-approve")
	do(t, ctx, chromedp.WaitVisible(`//p[starts-with(text(), "All ")]`))
	ask[any](t, ctx,
		`[...document.querySelectorAll("#steps details")].forEach((e) => { e.open = true; })`)
	g.look("console")
}

// change changes the record of an export.
func (w *world) change(id string, f func(*ehi.Job)) {
	w.t.Helper()
	_, err := w.node.Bus.Jobs.Update(w.t.Context(), id, func(j *ehi.Job) error { f(j); return nil })
	if err != nil {
		w.t.Fatal(err)
	}
}

// patients visits every page of patients in every state.
func (n *narrow) patients(p string, kept map[string]client.Job) {
	n.t.Helper()
	do(n.t, n.ctx, clearCookies())
	n.visit("login", "/patient-login?action=%2Fmy%2Frequests&lang="+n.lang)
	do(n.t, n.ctx, chromedp.SetValue("#patient", p), chromedp.Submit("#password"),
		chromedp.WaitVisible(".cards"))
	n.look("requests")
	q := url.Values{
		"response_type": {"code"},
		"client_id":     {client.ClientID},
		"redirect_uri":  {n.open.Base + "/cb/" + long},
		"scope":         {"patient/$ehi-export offline_access"},
		"state":         {"s"},
		"aud":           {n.open.Base + "/fhir"},
	}
	n.visit("consent", "/authorize-app?"+q.Encode())
	n.visit("form", "/jobs/"+kept["awaiting"].ID+"/customize")
	ask[any](n.t, n.ctx,
		`[...document.querySelectorAll(".tick input")].forEach((e) => { if (!e.checked) `+
			`e.click(); })`)
	do(n.t, n.ctx, chromedp.SetValue("#p-visits-from", "2020-02-01"),
		chromedp.SetValue("#p-visits-to", "2019-02-01"),
		chromedp.SetValue("#p-labs-notes", long+long),
		chromedp.Click("main .buttons button:not([name])"), chromedp.WaitVisible("#summary"))
	n.look("form-problems")
	for name, j := range kept {
		n.visit("request-"+name, "/my/requests/"+j.ID)
	}
	n.visit("applications", "/my/applications")
	n.visit("fault", "/my/requests/"+long)
}

// administrators visits every page of administrators.
func (n *narrow) administrators(kept map[string]client.Job) {
	n.t.Helper()
	n.visit("staff-login", "/admin")
	n.staffAt(n.ctx, "/admin/ui/jobs")
	n.look("staff-jobs")
	n.visit("staff-jobs-search", "/admin/ui/jobs?q="+long)
	n.visit("staff-confirm", "/admin/ui/jobs?do=reject&job="+kept["retrieved"].ID)
	for name, j := range kept {
		n.visit("staff-job-"+name, "/admin/ui/jobs/"+j.ID)
	}
	do(n.t, n.ctx, chromedp.Navigate(n.open.Base+"/admin/ui/jobs/"+kept["retrieved"].ID),
		chromedp.WaitVisible("[data-upload]"))
	ask[any](n.t, n.ctx,
		`document.querySelector("[data-upload-state]").textContent = "Not uploaded: The file `+long+
			` is too large"`)
	n.look("staff-upload")
	for _, path := range []string{
		"/jobs/" + kept["all"].ID + "/files",
		"/jobs/" + kept["all"].ID + "/files/Condition.ndjson",
		"/system",
		"/accounts",
		"/audit",
		"/audit?job=" + kept["approve"].ID,
		"/clients",
		"/jobs/" + long,
	} {
		n.visit("staff"+strings.NewReplacer("/", "-", "?", "-").Replace(path)[:min(len(path), 20)],
			"/admin/ui"+path)
	}
	n.visit("staff-debug", "/admin/debug")
	do(n.t, n.ctx, chromedp.Navigate(n.open.Base+"/admin/ui/clients"),
		chromedp.WaitVisible("#name"), chromedp.SendKeys("#name", long),
		chromedp.SendKeys("#redirects", "https://"+long[:50]+".example.org/cb"),
		chromedp.SetValue("#kind", "confidential-symmetric"), chromedp.Submit("#name"),
		chromedp.WaitVisible(".decision"))
	n.look("staff-clients-added")
	do(n.t, n.ctx, chromedp.Navigate(n.open.Base+"/admin/ui/accounts"),
		chromedp.WaitVisible("#username"),
		chromedp.SendKeys("#username", strings.ToLower(long[:60])),
		chromedp.SendKeys("#password", "four plain words here"),
		chromedp.Submit("#username"), chromedp.WaitVisible(".decision"))
	n.look("staff-accounts-added")
	ask[any](n.t, n.ctx,
		`[...document.querySelectorAll("details")].forEach((e) => { e.open = true; })`)
	n.look("staff-accounts-open")
}

// clearCookies signs everybody out.
func clearCookies() chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (none chromedp.Void, err error) {
		_, err = cdp.Call(ctx, t, network.ClearBrowserCookies, cdp.Empty{})
		return none, err
	}
}
