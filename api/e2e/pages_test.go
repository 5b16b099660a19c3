package e2e

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// browser is a person's browser without scripts: it keeps cookies, reads pages and submits their
// forms.
type browser struct {
	t    *testing.T
	http *http.Client
	at   *url.URL
	page string
	code int
	// header is that of the latest response.
	header http.Header
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{
		t: t,
		http: &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			if strings.HasSuffix(r.URL.Host, ".example") { // the application's own page
				return http.ErrUseLastResponse
			}
			return nil
		}},
	}
	t.Cleanup(b.http.CloseIdleConnections)
	return b
}

func (b *browser) send(r *http.Request) {
	b.t.Helper()
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	resp, err := b.http.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close() // read to its end below
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	b.at, b.page, b.code, b.header = resp.Request.URL, string(body), resp.StatusCode, resp.Header
	if l, err := resp.Location(); err == nil {
		b.at = l
	}
}

func (b *browser) visit(u string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), "GET", u, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.send(r)
}

var (
	hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"[^>]*>`)
	forms  = regexp.MustCompile(`(?s)<form method="post" action="([^"]*)"[^>]*>(.*?)</form>`)
)

// submit sends the page's form (the first one that does not sign out) with its hidden fields and
// the given input.
func (b *browser) submit(fill ...string) {
	b.t.Helper()
	b.submitTo("", fill...)
}

// submitTo sends the page's form for an address.
func (b *browser) submitTo(address string, fill ...string) {
	b.t.Helper()
	var m []string
	for _, form := range forms.FindAllStringSubmatch(b.page, -1) {
		if form[1] == address || address == "" && !strings.HasSuffix(form[1], "logout") {
			m = form
			break
		}
	}
	if m == nil {
		b.t.Fatalf("no form %s on %s:\n%s", address, b.at, b.page)
	}
	v := url.Values{}
	for _, h := range hidden.FindAllStringSubmatch(m[2], -1) {
		v.Add(html.UnescapeString(h[1]), html.UnescapeString(h[2]))
	}
	for i := 0; i < len(fill); i += 2 {
		v.Set(fill[i], fill[i+1])
	}
	to := b.at.ResolveReference(&url.URL{Path: m[1]})
	r, err := http.NewRequestWithContext(b.t.Context(), "POST", to.String(),
		strings.NewReader(v.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Referer", b.at.String()) // as with Referrer-Policy: same-origin
	b.send(r)
}

// forge posts a form that no page has shown, as if a page with another URL had sent it.
func (b *browser) forge(to, from, form string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), "POST", to, strings.NewReader(form))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Referer", from)
	b.send(r)
}

// cookies returns the cookies for the page's origin, as a Cookie header.
func (b *browser) cookies() string {
	var all []string
	for _, c := range b.http.Jar.Cookies(b.at) {
		all = append(all, c.Name+"="+c.Value)
	}
	return strings.Join(all, "; ")
}

// field returns the value of a hidden field of the page.
func (b *browser) field(name string) string {
	b.t.Helper()
	for _, h := range hidden.FindAllStringSubmatch(b.page, -1) {
		if h[1] == name {
			return html.UnescapeString(h[2])
		}
	}
	b.t.Fatalf("%s has no field %s:\n%s", b.at, name, b.page)
	return ""
}

func (b *browser) sees(status int, texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		if b.code != status || !strings.Contains(b.page, text) {
			b.t.Fatalf("%s: %d, %q is not on the page:\n%s", b.at, b.code, text, b.page)
		}
	}
}

// SMART-10, EHI-7: a person signs in, allows the application, and fills in the release form,
// without scripts or shortcuts.
func TestAPersonsWayThroughThePages(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p, other, pat, _ := w.two()
	b := newBrowser(t)
	q := url.Values{
		"response_type": {"code"},
		"client_id":     {client.ClientID},
		"redirect_uri":  {"http://app.example/cb"},
		"scope":         {"patient/$ehi-export"},
		"state":         {"s"},
		"aud":           {w.open.Base + "/fhir"},
	}
	b.visit(w.open.Base + "/auth/authorize?" + q.Encode())
	b.sees(200, "Sign in", p)
	b.submit("patient", "nobody", "password", "x")
	b.sees(401, "Unknown patient or wrong password")
	b.submit("patient", p, "password", "any")
	b.sees(200, "Allow access?", "copy of your health record", "http://app.example/cb")
	b.submit("decision", "allow")
	if b.at.Host != "app.example" || b.at.Query().Get("code") == "" ||
		b.at.Query().Get("state") != "s" {
		t.Fatalf("after consent: %s", b.at)
	}
	b.visit(w.open.Base + "/authorize-app?" + q.Encode())
	b.submit("decision", "deny")
	if b.at.Query().Get("error") != "access_denied" {
		t.Fatalf("after refusal: %s", b.at)
	}

	j := w.kickOff(pat, "", p, nil)
	b.visit(w.open.Base + "/jobs/" + j.ID + "/customize?redirect=http%3A%2F%2Fapp.example%2Fdone")
	b.sees(200, "Choose what to share", "Lab results", "a.hiv")
	b.submit("p.labs", "on", "p.visits", "on", "p.visits.from", "2020-02-01", "p.visits.to",
		"2019-01-01")
	b.sees(400, "There is a problem",
		`<a href="#p-visits-from">Clinic visits: the first date must not be after the last `+
			`date</a>`,
		`value="2020-02-01"`, `aria-invalid="true"`)
	first := *b
	b.submit("p.labs", "on", "a.hiv", "on", "a.genetic", "on", "a.genetic.text", "BRCA")
	if b.at.Host != "app.example" || b.at.Path != "/done" {
		t.Fatalf("after the form: %s %s", b.at, b.page)
	}
	job := w.wait(j.ID, ehi.Retrieved)
	if !job.Parameters["labs"].Enabled || job.Parameters["visits"].Enabled ||
		job.Counts["Encounter"] != 0 {
		t.Errorf("job %+v", job)
	}
	first.submit("p.labs", "on")
	first.sees(200, "Your request", "The hospital reviews the copy") // the first choices count
	b.visit(w.open.Base + "/jobs/" + j.ID + "/customize")
	// The form was already sent. The page of the request shows its state.
	b.sees(200, "Your request", "The hospital reviews the copy")

	theirs := w.kickOff(w.patient(other), "", other, nil)
	b.visit(w.open.Base + "/jobs/" + theirs.ID + "/customize")
	b.sees(200, "Sign in")
}

// EHI-7: visitors who are not signed in are redirected to sign-in, nobody else can post a form,
// and nobody is redirected to another site.
func TestPagesAreGuarded(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p, _, pat, _ := w.two()
	j := w.kickOff(pat, "", p, nil)
	a := w.do(w.open, "GET", "/jobs/"+j.ID+"/customize?redirect=http://app.example/")
	to, err := url.Parse(a.Header.Get("Location"))
	if err != nil || a.Status != 302 || to.Path != "/patient-login" ||
		to.Query().Get("redirect") != "http://app.example/" ||
		!strings.HasPrefix(to.Query().Get("action"), "/jobs/"+j.ID+"/customize") {
		t.Errorf("not signed in: %d %s", a.Status, to)
	}
	w.want(w.do(w.open, "GET", "/jobs/"+j.ID+"/customize?_patient="+p), 200, "Choose what to share")
	w.want(w.do(w.open, "GET", "/jobs/none/customize"), 404, "Export job not found!")
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/jobs/" + j.ID, "interaction=made-up&p.labs=on", 403},
		{"/jobs/" + j.ID, "p.labs=on", 403},
		{"/patient-login", "patient=" + p, 403}, {"/authorize-app", "decision=allow", 403},
	} {
		a, err := w.open.Do(t.Context(), "POST", c.path, strings.NewReader(c.body), "Content-Type",
			"application/x-www-form-urlencoded")
		if err != nil || a.Status != c.status {
			t.Errorf("POST %s %s: %d %.200s, %v", c.path, c.body, a.Status, a.Body, err)
		}
	}
	for _, next := range []string{
		"http://evil.example/", "//evil.example/", `/\evil.example`, "javascript:alert(1)",
	} {
		b := newBrowser(t)
		b.visit(w.open.Base + "/patient-login?action=" + url.QueryEscape(next))
		b.submit("patient", p, "password", "x")
		b.sees(200, "Your requests")
	}
	for _, bad := range []string{
		`{`,
		`{"parameters":[1]}`,
		`{"parameters":{},"authorizations":"x"}`,
		`{}`,
		`{"parameters":{"what":{"enabled":true}}}`,
		`{"parameters":{"labs":{"enabled":true,"from":"soon"}}}`,
	} {
		a, err := pat.Do(t.Context(), "POST", "/jobs/"+j.ID, strings.NewReader(bad), "Content-Type",
			"application/json")
		if err != nil {
			t.Fatal(err)
		}
		w.wantOutcome(a, 400, "")
	}
	if job, err := w.admin.Job(t.Context(), j.ID); err != nil || job.Status != ehi.AwaitingInput {
		t.Errorf("after bad forms: %+v, %v", job, err)
	}
}
