package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/api/openid/openidtest"
	"ehi-server/shared/ehi"
)

// gallery checks what every page must satisfy: no violation of WCAG 2.2 AA that axe-core finds,
// no horizontal scrolling, no field without a name, no console message, no request to another
// origin; on a phone and on a desktop, in light and dark mode.
type gallery struct {
	*world
	ctx   context.Context
	found *findings
	axe   string
	runs  int
}

// axeVersion is the version of npm's axe-core (MPL-2.0). Tests download it; it is not shipped.
const axeVersion = "4.14.1"

func newGallery(w *world) *gallery {
	w.t.Helper()
	ctx, found := openBrowser(w.t, w.open.Base)
	dir := w.t.TempDir()
	npmInstall(w.t, dir, "axe-core@"+axeVersion)
	source, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		w.t.Fatal(err)
	}
	return &gallery{world: w, ctx: ctx, found: found, axe: string(source)}
}

// scheme sets the preferred color scheme of the browser.
func scheme(name string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (none chromedp.Void, err error) {
		_, err = cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return none, err
	}
}

// runAxe runs the check and returns one line for each finding.
const runAxe = `axe.run(document, {runOnly: {type: 'tag', values: ['wcag2a', 'wcag2aa', ` +
	`'wcag21a', 'wcag21aa', 'wcag22aa']}, resultTypes: ['violations']})
	.then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + ': ' + n.html.slice(0, 200) + ' ' + (n.any[0]?.message ?? ''))))`

// look checks the open page in every mode. name is the name of its picture.
func (g *gallery) look(name string) {
	g.t.Helper()
	do(g.t, g.ctx, chromedp.WaitVisible(chromedp.CSS("h1")))
	named(g.t, g.ctx)
	if _, err := chromedp.Run(g.ctx, chromedp.Evaluate[any](g.axe+";0")); err != nil {
		g.t.Fatal(err)
	}
	do(g.t, g.ctx, chromedp.EmulateViewport(320, 800)) // WCAG 1.4.10
	fits(g.t, g.ctx)
	for _, width := range []int64{360, 1280} {
		for _, colours := range []string{"light", "dark"} {
			do(g.t, g.ctx, chromedp.EmulateViewport(width, 800), scheme(colours))
			fits(g.t, g.ctx)
			wrong, err := chromedp.Run(g.ctx,
				chromedp.Evaluate[[]string](runAxe, chromedp.EvalAwaitPromise))
			if err != nil {
				g.t.Fatal(err)
			}
			for _, each := range wrong {
				g.t.Errorf("%s, %d px, %s: %s", name, width, colours, each)
			}
			g.runs++
			g.picture(fmt.Sprintf("%s-%d-%s.png", name, width, colours))
		}
	}
	for _, f := range g.found.take() {
		g.t.Errorf("%s: %s", name, f)
	}
}

// picture saves a picture of the page in the folder $EHI_SCREENSHOTS.
func (g *gallery) picture(name string) {
	g.t.Helper()
	dir := os.Getenv("EHI_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(g.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), picture, 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// visit opens a page by its path and checks it.
func (g *gallery) visit(name, path string) {
	g.t.Helper()
	do(g.t, g.ctx, chromedp.Navigate(g.open.Base+path))
	g.look(name)
}

// failed returns a failed export.
func (w *world) failed(pat *client.Client, patient string) client.Job {
	w.t.Helper()
	j := w.kickOff(pat, "", patient, nil)
	if _, err := w.node.Bus.Jobs.Update(w.t.Context(), j.ID, func(j *ehi.Job) error {
		return errors.Join(j.Submit(ehi.ReleaseForm{}, "patient", time.Now()),
			j.Fail("The record could not be read: the disk answers with errors", time.Now()))
	}); err != nil {
		w.t.Fatal(err)
	}
	return j
}

// Every page of patients in every state.
func TestPatientsPagesAreAccessible(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	g := newGallery(w)
	p := w.demoPatient()
	pat := w.patient(p)
	q := url.Values{
		"response_type": {"code"},
		"client_id":     {client.ClientID},
		"redirect_uri":  {w.open.Base + "/cb"},
		"scope":         {"patient/$ehi-export offline_access"},
		"state":         {"s"},
		"aud":           {w.open.Base + "/fhir"},
	}
	g.visit("login", "/patient-login?action=%2Fmy%2Frequests")
	do(t, g.ctx, chromedp.SetValue("#patient", p), chromedp.Submit("#password"))
	g.look("requests-none")
	g.visit("consent", "/authorize-app?"+q.Encode())

	open := w.kickOff(pat, "", p, nil)
	form := "/jobs/" + open.ID + "/customize"
	g.visit("form", form)
	do(t, g.ctx, chromedp.Click("#p-labs"), chromedp.Click("#p-visits"),
		chromedp.SetValue("#p-visits-from", "2020-02-01"),
		chromedp.SetValue("#p-visits-to", "2019-02-01"), chromedp.Click("main button:not([name])"),
		chromedp.WaitVisible("#summary"))
	g.found.take() // that the response was 400
	g.look("form-problems")
	g.visit("form-spanish", form+"?lang=es")
	g.visit("request-awaiting-input", "/my/requests/"+open.ID+"?lang=en")

	for name, decide := range map[string]string{
		"retrieved": "",
		"approved":  "approve",
		"rejected":  "reject",
	} {
		j := w.kickOff(pat, "", p, nil)
		w.submit(pat, j.ID, newForm("labs", "visits", "a:hiv"))
		w.wait(j.ID, ehi.Retrieved)
		if decide != "" {
			a, err := w.admin.AddFiles(t.Context(), j.ID, client.File{
				Name: "letter.txt",
				Data: []byte("a letter"),
			})
			if err != nil || a.Status != 200 {
				t.Fatalf("%+v, %v", a, err)
			}
			if _, err := w.admin.Act(t.Context(), j.ID, decide); err != nil {
				t.Fatal(err)
			}
		}
		g.visit("request-"+name, "/my/requests/"+j.ID)
	}
	g.visit("request-failed", "/my/requests/"+w.failed(pat, p).ID)
	g.visit("requests", "/my/requests")
	g.visit("requests-spanish", "/my/requests?lang=es")
	g.visit("applications", "/my/applications?lang=en")
	do(t, g.ctx, chromedp.Navigate(w.open.Base+"/my/requests/none"))
	g.found.take() // that it does not exist
	g.look("fault")
	g.visit("docs", "/docs/ehi")
	g.visit("home", "/")
	t.Logf("%d looks at pages", g.runs)
}

// The documentation of the format, with the tables and the diagrams of a whole record system.
func TestThePagesOfTheFormatAreAccessible(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Source.Spec = "synthetic:patients=2,native=tsv-tables"
	w := start(t, t.TempDir(), cfg, node.Options{})
	g := newGallery(w)
	g.visit("format", "/docs/ehi")
	g.visit("format-table", "/docs/ehi/tables/visit")
	g.visit("format-search", "/docs/ehi?q=visit+diagnosis")
	do(t, g.ctx, chromedp.Navigate(w.open.Base+"/docs/ehi#tables"))
	do(t, g.ctx, chromedp.SendKeys("#q", "spelled_AS"),
		chromedp.WaitVisible(`//mark[text() = "spelled_as"]`))
	if n := ask[int](t, g.ctx, `document.querySelectorAll("#list tbody tr").length`); n != 1 {
		t.Errorf("while typing, %d tables are found", n)
	}
	ask[any](t, g.ctx, `document.querySelector("#table-patient_name a").click()`)
	do(t, g.ctx, chromedp.WaitVisible("#column-spelled_as"))
}

// Every page of administrators, with exports in each status.
func TestAdministratorsPagesAreAccessible(t *testing.T) {
	t.Parallel()
	provider, cfg := openidtest.Open(t), config()
	cfg.StaffOIDC = provider.Config()
	w := start(t, t.TempDir(), cfg, node.Options{})
	g := newGallery(w)
	p := w.demoPatient()
	pat := w.patient(p)
	w.kickOff(pat, "", p, nil)
	kept := map[string]client.Job{}
	for _, decide := range []string{"", "approve", "reject"} {
		j := w.kickOff(pat, "", p, nil)
		w.submit(pat, j.ID, newForm("labs", "visits", "a:hiv"))
		w.wait(j.ID, ehi.Retrieved)
		a, err := w.admin.AddFiles(t.Context(), j.ID, client.File{
			Name: "letter.txt",
			Data: []byte("a letter"),
		})
		if err != nil || a.Status != 200 {
			t.Fatalf("%+v, %v", a, err)
		}
		if decide != "" {
			if _, err := w.admin.Act(t.Context(), j.ID, decide); err != nil {
				t.Fatal(err)
			}
		}
		kept[decide] = j
	}
	do(t, g.ctx, chromedp.Navigate(w.open.Base+"/admin/ui/login/openid/callback"))
	g.found.take() // that it was refused
	g.look("staff-refused")
	g.visit("staff-login", "/admin")
	do(t, g.ctx, chromedp.SendKeys("#username", "admin"),
		chromedp.SendKeys("#password", "admin-password"), chromedp.Submit("#password"),
		chromedp.WaitVisible("[data-jobs]"))
	g.look("staff-jobs")
	g.visit("staff-jobs-none", "/admin/ui/jobs?q=nobody")
	g.visit("staff-jobs-search", "/admin/ui/jobs?status=retrieved&sort=name&level=patient")
	do(t, g.ctx, chromedp.Click("[name=job]"), chromedp.Click("button[value=reject]"),
		chromedp.WaitReady("[name=contents]"))
	g.look("staff-confirm")
	do(t, g.ctx, chromedp.Navigate(w.open.Base+"/admin/ui/jobs/none"))
	g.found.take() // that it does not exist
	g.look("staff-fault")
	for name, decide := range map[string]string{
		"retrieved": "",
		"approved":  "approve",
		"rejected":  "reject",
	} {
		g.visit("staff-job-"+name, "/admin/ui/jobs/"+kept[decide].ID)
	}
	g.visit("staff-job-failed", "/admin/ui/jobs/"+w.failed(pat, p).ID)
	g.visit("staff-file", "/admin/ui/jobs/"+kept[""].ID+"/files/Observation.ndjson")
	g.visit("staff-system", "/admin/ui/system")
	g.visit("staff-debug", "/admin/debug")
	g.visit("staff-accounts", "/admin/ui/accounts")
	g.visit("staff-audit", "/admin/ui/audit?job="+kept["approve"].ID)
	g.visit("staff-clients", "/admin/ui/clients")
	do(t, g.ctx, chromedp.SendKeys("#name", "An app"),
		chromedp.SendKeys("#redirects", "https://app.example.org/cb"),
		chromedp.SetValue("#kind", "confidential-symmetric"), chromedp.Submit("#name"),
		chromedp.WaitVisible(".decision"))
	g.look("staff-clients-added")
	g.secondFactor()
	t.Logf("%d looks at pages", g.runs)
}

// secondFactor visits the pages of an administrator's second factor. It types the current code
// of the app and then the next one: a browser may take seconds, and an earlier code would be too
// old by then.
func (g *gallery) secondFactor() {
	g.t.Helper()
	g.visit("staff-second-factor", "/admin/ui/second-factor")
	shown, err := chromedp.Run(g.ctx,
		chromedp.Evaluate[string](`document.querySelector("li p code").textContent`))
	if err != nil {
		g.t.Fatal(err)
	}
	secret := strings.ReplaceAll(shown, " ", "")
	do(g.t, g.ctx, chromedp.SendKeys("#code", "none"), chromedp.Submit("#code"),
		chromedp.WaitVisible("#problem"))
	g.found.take() // that the response was 400
	g.look("staff-second-factor-wrong")
	do(g.t, g.ctx, chromedp.SendKeys("#code", appCode(g.t, secret, 0)), chromedp.Submit("#code"),
		chromedp.WaitVisible(".codes"))
	g.look("staff-second-factor-codes")
	g.visit("staff-second-factor-set", "/admin/ui/second-factor")
	g.visit("staff-prove", "/admin/ui/prove?next=/admin/ui/accounts")
	do(g.t, g.ctx, chromedp.SendKeys("#password", "wrong"), chromedp.SendKeys("#code", "none"),
		chromedp.Submit("#code"), chromedp.WaitVisible("#problem"))
	g.found.take() // that the response was 401
	g.look("staff-prove-wrong")
	g.visit("staff-accounts-configured", "/admin/ui/accounts")
	do(g.t, g.ctx, chromedp.Submit(".who button"), chromedp.WaitVisible("#username"),
		chromedp.SendKeys("#username", "admin"),
		chromedp.SendKeys("#password", "admin-password"), chromedp.Submit("#password"),
		chromedp.WaitVisible("#code"))
	g.look("staff-code")
	do(g.t, g.ctx, chromedp.SendKeys("#code", appCode(g.t, secret, 1)), chromedp.Submit("#code"),
		chromedp.WaitVisible("[data-jobs]"))
}

func (f *findings) take() (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list, f.list = f.list, nil
	return list
}
