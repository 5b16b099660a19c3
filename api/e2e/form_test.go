package e2e

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// formOf returns a patient's browser at the form of a new export.
func (w *world) formOf(p string) (client.Job, *browser) {
	w.t.Helper()
	j := w.kickOff(w.patient(p), "", p, nil)
	b := newBrowser(w.t)
	b.visit(w.open.Base + "/jobs/" + j.ID + "/customize")
	b.submit("patient", p, "password", "any")
	b.sees(200, "Choose what to share")
	b.counted()
	return j, b
}

// counted reloads a form until it has its counts, because a busy machine shows the form first.
func (b *browser) counted() {
	b.t.Helper()
	await(b.t, "the form's counts", func() bool {
		if !strings.Contains(b.page, "data-counting") {
			return true
		}
		b.visit(b.at.String())
		return false
	})
}

var sum = regexp.MustCompile(`With these choices, ([\d,]+) of ([\d,]+) entr`)

// promised returns the numbers in the form: how many entries would be shared, and of how many.
func promised(t *testing.T, page string) (released, stored int64) {
	t.Helper()
	m := sum.FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("the form does not say what would be shared:\n%s", page)
	}
	n := func(s string) int64 {
		v, err := strconv.ParseInt(strings.ReplaceAll(s, ",", ""), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	return n(m[1]), n(m[2])
}

// What the form says would be shared is shared, for real records, to the last entry. The rest is
// counted as withheld.
func TestTheFormSharesWhatItSays(t *testing.T) {
	t.Parallel()
	w := startOnRecords(t)
	patients, err := w.node.Patients(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	for i, fill := range [][]string{
		{},
		{"p.labs", "on", "p.visits", "on", "p.visits.from", "2015-01-01", "a.mentalHealth", "on"},
		{
			"p.visits", "on", "p.labs", "on", "p.billing", "on", "p.medicalRecord", "on",
			"p.dischargeSummary", "on", "p.operative", "on", "p.pathology", "on", "p.radiology",
			"on", "p.photographs", "on", "p.other", "on",
			"a.hiv", "on", "a.alcoholAndDrug", "on", "a.mentalHealth", "on", "a.confidential", "on",
			"a.domesticViolence", "on", "a.sexualAssault", "on", "a.genetic", "on", "a.other", "on",
		},
	} {
		j, b := w.formOf(patients[i].ID)
		b.submit(append(fill, "do", "preview")...)
		b.counted()
		released, stored := promised(t, b.page)
		b.submit(fill...)
		b.sees(200, "Your request")
		job := w.wait(j.ID, ehi.Retrieved)
		var out, in int64
		for _, n := range job.Counts {
			out += n
		}
		for reason, n := range job.Withheld {
			if !strings.HasPrefix(reason, "document.") { // a part of a report, which is released
				in += n
			}
		}
		if out != released || out+in != stored {
			t.Errorf("%v: the form said %d of %d, the export has %d and withheld %d", fill,
				released, stored, out, in)
		}
	}
}

// SMART-10: pages and errors are in the language of the browser, or the one that was chosen.
func TestPatientsPagesSpeakSpanish(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	for accept, title := range map[string]string{
		"es-MX,es;q=0.9": "Iniciar sesión",
		"en-US":          "Sign in",
		"fr":             "Sign in",
		"":               "Sign in",
	} {
		a := w.do(w.open, "GET", "/patient-login", "Accept", "text/html", "Accept-Language", accept)
		w.want(a, 200, "<h1>"+title+"</h1>")
		if !strings.Contains(a.Header.Get("Vary"), "Accept-Language") {
			t.Errorf("Vary: %s", a.Header.Get("Vary"))
		}
	}
	w.want(w.do(w.open, "GET", "/jobs/none/customize", "Accept", "text/html", "Accept-Language",
		"es"), 404, "Página no encontrada")
	b := newBrowser(t)
	b.visit(w.open.Base + "/patient-login?lang=es&action=%2Fmy%2Frequests")
	b.sees(200, "Iniciar sesión")
	b.submit("patient", "nobody", "password", "x")
	b.sees(401, "Paciente desconocido")
	b.submit("patient", w.demoPatient(), "password", "x")
	b.sees(200, "Sus solicitudes", "No tiene solicitudes")
	b.visit(w.open.Base + "/my/requests?lang=xx")
	b.sees(200, "Sus solicitudes")
}

// scripts turns the scripts of pages on or off.
func scripts(on bool) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (none chromedp.Void, err error) {
		_, err = cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled,
			emulation.SetScriptExecutionDisabledParams{Value: !on})
		return none, err
	}
}

// A patient's complete way in a browser with scripts off: sign in, allow, choose with a preview,
// follow, cancel.
func TestPatientsWayWithoutScriptsInARealBrowser(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	ctx, found := openBrowser(t, w.open.Base)
	p := w.demoPatient()
	j := w.kickOff(w.patient(p), "", p, nil)
	do(t, ctx, scripts(false), chromedp.Navigate(w.open.Base+"/jobs/"+j.ID+"/customize"),
		chromedp.WaitVisible("#patient"))
	do(t, ctx, chromedp.Click("main button"), chromedp.WaitVisible("#p-labs"),
		chromedp.Click("#p-labs"), chromedp.Click("button[value=preview]"),
		chromedp.WaitVisible(`//p[contains(text(), "With these choices")]`),
		chromedp.WaitVisible("#p-labs:checked"))
	do(t, ctx, chromedp.Click(`button[lang=es]`),
		chromedp.WaitVisible("html[lang=es] #p-labs:checked"), chromedp.Click(`button[lang=en]`),
		chromedp.WaitVisible("html[lang=en] #p-labs:checked"))
	do(t, ctx, chromedp.Click("main .buttons button:not([name])"), chromedp.WaitVisible(".stages"))
	w.wait(j.ID, ehi.Retrieved)
	do(t, ctx, chromedp.Navigate(w.open.Base+"/my/requests/"+j.ID),
		chromedp.WaitVisible(".stages li:nth-child(3).now"),
		chromedp.Click(chromedp.CSS("summary")), chromedp.Click("button.danger"),
		chromedp.WaitVisible(`//h1[text()="Your request was cancelled"]`))
	for _, f := range found.take() {
		t.Error(f)
	}
}

// With scripts, the form counts while the patient chooses, a second click sends nothing twice,
// and the request's page updates itself.
func TestPatientsPagesFollowInARealBrowser(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	ctx, found := openBrowser(t, w.open.Base)
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "", p, nil)
	form := w.open.Base + "/jobs/" + j.ID + "/customize"
	do(t, ctx, chromedp.Navigate(form), chromedp.WaitVisible("#patient"),
		chromedp.Submit("#password"), chromedp.WaitVisible("#p-labs"), chromedp.Click("#p-labs"))
	do(t, ctx,
		chromedp.WaitVisible(`//p[@id="p-labs-count" and contains(text(), "would be shared")]`))
	do(t, ctx, chromedp.Navigate(form), chromedp.WaitVisible("#p-labs:checked")) // a reload
	twice := `(() => { const b = document.querySelector("main .buttons button:not([name])"); ` +
		`b.click(); b.click(); return ""; })()`
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[string](twice)); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.WaitVisible(".stages"))
	w.wait(j.ID, ehi.Retrieved)
	do(t, ctx, chromedp.WaitVisible(".stages li:nth-child(3).now")) // nobody reloaded it
	for _, f := range found.take() {
		t.Error(f)
	}
	if weight := w.weight(ctx, "/my/requests/"+j.ID); weight > 60_000 {
		t.Errorf("the page weighs %d bytes", weight)
	}
}

// weight returns the number of bytes of a page with everything that it loads, uncompressed.
func (w *world) weight(ctx context.Context, path string) int {
	w.t.Helper()
	do(w.t, ctx, chromedp.Navigate(w.open.Base+path), chromedp.WaitVisible(chromedp.CSS("h1")))
	n, err := chromedp.Run(ctx,
		chromedp.Evaluate[int](`[...performance.getEntriesByType("resource"), `+
			`...performance.getEntriesByType("navigation")].reduce((n, e) => n + `+
			`e.decodedBodySize, 0)`))
	if err != nil || n == 0 {
		w.t.Fatal(n, err)
	}
	return n
}

// Every page of a patient has at most 60 KB, with everything that it loads.
func TestPatientsPagesAreLight(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	ctx, _ := openBrowser(t, w.open.Base)
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "", p, nil)
	done := w.kickOff(pat, "/no-form/auto-approve", p, nil)
	w.manifest(pat, done)
	do(t, ctx, chromedp.Navigate(w.open.Base+"/patient-login"), chromedp.WaitVisible("#patient"),
		chromedp.Submit("#password"), chromedp.WaitVisible(".cards"))
	q := url.Values{
		"response_type": {"code"},
		"client_id":     {client.ClientID},
		"redirect_uri":  {w.open.Base + "/cb"},
		"scope":         {"patient/$ehi-export"},
		"state":         {"s"},
		"aud":           {w.open.Base + "/fhir"},
	}
	var weights []string
	for name, path := range map[string]string{
		"login":        "/patient-login",
		"consent":      "/authorize-app?" + q.Encode(),
		"form":         "/jobs/" + j.ID + "/customize",
		"request":      "/my/requests/" + done.ID,
		"requests":     "/my/requests",
		"applications": "/my/applications",
	} {
		n := w.weight(ctx, path)
		weights = append(weights, fmt.Sprintf("%s %d", name, n))
		if n > 60_000 {
			t.Errorf("%s weighs %d bytes", name, n)
		}
	}
	t.Logf("bytes: %s", strings.Join(weights, ", "))
}

// In a browser, an invalid date is reported next to its field while the counts go on. Clearing
// its line is enough to send the form, even if the date is incomplete.
func TestClearingALineRemovesItsErrorInARealBrowser(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	ctx, found := openBrowser(t, w.open.Base)
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	p := w.demoPatient()
	form := func() client.Job {
		t.Helper()
		j := w.kickOff(w.patient(p), "", p, nil)
		do(t, ctx, chromedp.Navigate(w.open.Base+"/jobs/"+j.ID+"/customize?_patient="+p),
			chromedp.WaitVisible("#p-visits"))
		return j
	}
	j := form()
	do(t, ctx, chromedp.Click("#p-labs"), chromedp.Click("#p-visits"),
		chromedp.SetValue("#p-visits-from", "2020-02-01"),
		chromedp.SetValue("#p-visits-to", "2019-02-01"))
	ask[any](t, ctx,
		`document.querySelector("#p-visits-to").dispatchEvent(new Event("input", {bubbles: true}))`)
	do(t, ctx,
		chromedp.WaitVisible(`//p[@id="p-visits-wrong" and contains(text(), "must not be after")]`),
		chromedp.WaitVisible("#p-visits-from[aria-invalid=true]"),
		chromedp.WaitVisible(`//p[@id="p-labs-count" and contains(text(), "would be shared")]`),
		chromedp.WaitVisible(`//p[contains(text(), "With these choices")]`))
	do(t, ctx, chromedp.Click("#p-visits"), chromedp.WaitNotVisible("#p-visits-wrong"),
		chromedp.WaitNotVisible("#p-visits-from"),
		chromedp.Click("main .buttons button:not([name])"),
		chromedp.WaitVisible(`//h1[text()="Thank you"]`))
	job := w.wait(j.ID, ehi.Retrieved)
	if job.Parameters["visits"].Enabled || !job.Parameters["labs"].Enabled {
		t.Errorf("the form said %+v", job.Parameters)
	}

	j = form()
	// and no day, no year
	do(t, ctx, chromedp.Click("#p-labs"), chromedp.Click("#p-visits"),
		chromedp.SendKeys("#p-visits-from", "02"))
	if !ask[bool](t, ctx, `document.querySelector("#p-visits-from").validity.badInput`) {
		t.Error("the date is not half written")
	}
	do(t, ctx, chromedp.Click("#p-visits"), chromedp.Click("main .buttons button:not([name])"),
		chromedp.WaitVisible(`//h1[text()="Thank you"]`))
	w.wait(j.ID, ehi.Retrieved)
	for _, f := range found.take() {
		t.Error(f)
	}
}
