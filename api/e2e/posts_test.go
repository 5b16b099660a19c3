package e2e

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/api/openapi"
	"ehi-server/api/openid/openidtest"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/native/nativetest"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/subject"
)

// posts records the responses to browsers' forms.
type posts struct {
	t    *testing.T
	next http.RoundTripper
	mu   sync.Mutex
	seen map[string]map[int]int // by operation and status
}

// RoundTrip implements http.RoundTripper.
func (p *posts) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := p.next.RoundTrip(r)
	if err != nil || r.Method != http.MethodPost {
		return resp, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	operation := operationOf(r.Method, r.URL.Path)
	if p.seen[operation] == nil {
		p.seen[operation] = map[int]int{}
	}
	p.seen[operation][resp.StatusCode]++
	if resp.StatusCode != http.StatusSeeOther {
		p.t.Errorf("%s answers a form with %d", operation, resp.StatusCode)
	}
	secret := resp.Header.Get("Location")
	if strings.Contains(secret, "secret") || strings.Contains(secret, "password") {
		p.t.Errorf("%s leads to %s", operation, secret)
	}
	return resp, nil
}

// watched records the posts of a browser.
func (p *posts) watched(b *browser) *browser {
	if b.http.Transport == nil {
		b.http.Transport = p.next
	}
	b.http.Transport = p
	return b
}

func watchPosts(t *testing.T) *posts {
	next := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(next.CloseIdleConnections)
	return &posts{t: t, next: next, seen: map[string]map[int]int{}}
}

// again reloads the current page.
func (b *browser) again() {
	b.t.Helper()
	b.visit(b.at.String())
}

// Every form of a page is answered with a redirect, also one that comes too late. Neither a
// reload of the next page nor the back button repeats the action.
func TestEveryFormAnswersWithARedirect(t *testing.T) {
	t.Parallel()
	provider, cfg := openidtest.Open(t), config()
	cfg.StaffOIDC = provider.Config()
	waiting := nativetest.NewRecord(t,
		nativetest.Document(t, "", "letter.pdf", "", []byte("a letter")))
	w := start(t, t.TempDir(), cfg, node.Options{
		WrapSource: func(s source.Source) source.Source {
			return nativeStore{s.(*dataset.Store), waiting}
		},
	})
	p := w.demoPatient()
	pat := w.patient(p)
	seen := watchPosts(t)
	b := seen.watched(newBrowser(t))

	// A patient.
	j := w.kickOff(pat, "", p, nil)
	form := w.open.Base + "/jobs/" + j.ID + "/customize"
	b.visit(form)
	b.submit("patient", "nobody", "password", "x")
	b.sees(401, "Unknown patient")
	b.again()
	b.sees(200, "Sign in")
	b.submit("patient", p, "password", "x")
	b.submit("p.labs", "on", "do", "preview")
	b.counted()
	b.sees(200, "would be shared",
		` name="p.labs" value="on" aria-describedby="p-labs-hint p-labs-count" checked`)
	b.submit("p.labs", "on", "lang", "es")
	b.sees(200, `lang="es"`)
	b.submit("p.labs", "on", "lang", "en")
	b.submit("p.labs", "on", "p.labs.from", "never")
	b.sees(400, "There is a problem")
	b.again()
	b.sees(200, `value="never"`, "enter each date") // the problem is still shown next to its field
	twice := *b
	b.submit("p.labs", "on")
	b.sees(200, "Your request")
	w.wait(j.ID, ehi.Retrieved)
	twice.submit("p.labs", "on")
	twice.sees(200, "Your request")
	b.again()
	twice = *b
	b.submit()
	b.sees(200, "Your request was cancelled")
	b.again()
	b.sees(200, "Your requests")
	twice.submit()
	twice.sees(404, "Your requests", "This page may have been deleted")
	q := url.Values{
		"response_type": {"code"},
		"client_id":     {client.ClientID},
		"redirect_uri":  {"http://app.example/cb"},
		"scope":         {"patient/$ehi-export offline_access"},
		"state":         {"s"},
		"aud":           {w.open.Base + "/fhir"},
	}
	b.visit(w.open.Base + "/authorize-app?" + q.Encode())
	b.submit("decision", "allow")
	b.visit(w.open.Base + "/authorize-app?" + q.Encode())
	b.submit("decision", "deny")
	b.visit(w.open.Base + "/my/applications")
	twice = *b
	b.submit()
	twice.submit()
	twice.sees(404, "This page may have been deleted")
	b.visit(w.open.Base + "/my/applications")
	b.submitTo("/patient-logout")
	b.sees(200, "Sign in")

	// A visitor who is not signed in: the sandbox's shortcut.
	pat = w.patient(p) // the application's access was ended
	j = w.kickOff(pat, "", p, nil)
	b.visit(w.open.Base + "/jobs/" + j.ID + "/customize?_patient=" + p)
	b.submit("p.labs", "on", "p.labs.from", "2020-01-01", "p.labs.to", "2019-01-01")
	b.sees(400, "first date must not be after")
	b.submit("p.labs", "on")
	b.sees(200, "Thank you")
	w.wait(j.ID, ehi.Retrieved)

	// An administrator.
	b.visit(w.open.Base + "/admin")
	b.submit("username", "admin", "password", "wrong")
	b.sees(401, "Invalid username", `value="admin"`)
	b.again()
	b.sees(200, "Sign in")
	b.submit("username", "admin", "password", "admin-password")
	list := w.open.Base + "/admin/ui/jobs"
	b.visit(list + "?status=retrieved")
	b.submitTo("/admin/ui/jobs", "do", "approve")
	b.sees(400, "no export is ticked", "status=retrieved")
	if b.at.Query().Get("status") != "retrieved" {
		t.Errorf("nothing ticked leads to %s", b.at)
	}
	b.submitTo("/admin/ui/jobs", "do", "reject", "job", j.ID)
	b.sees(200, "Reject 1 export?")
	b.again()
	b.sees(200, "Reject 1 export?")
	b.visit(list + "/" + j.ID)
	twice = *b
	b.submitTo("/admin/ui/jobs/"+j.ID+"/held", "do", "release")
	b.sees(200, "Withhold")
	b.again()
	b.sees(200, "Withhold")
	twice.submitTo("/admin/ui/jobs/"+j.ID+"/held", "do", "release")
	twice.sees(400, "has changed since you looked at it")
	b.upload("/admin/jobs/"+j.ID+"/add-files", "large.txt", strings.Repeat("a", 1<<20+1))
	b.sees(413, "larger than", `id="reason"`)
	b.again()
	b.sees(200, "No documents.")
	b.upload("/admin/jobs/"+j.ID+"/add-files", "letter.txt", "a letter")
	b.sees(200, "letter.txt")
	twice = *b
	b.submitTo("/admin/ui/jobs/"+j.ID+"/remove-file", "name", "letter.txt")
	b.sees(200, "No documents.")
	twice.submitTo("/admin/ui/jobs/"+j.ID+"/remove-file", "name", "letter.txt")
	twice.sees(404, "There is no attachment", "No documents.")
	b.submitTo("/admin/ui/jobs/"+j.ID, "do", "reject", "reason", strings.Repeat("x", 5000))
	b.sees(400, strings.Repeat("x", 5000)) // the input is still there
	b.submitTo("/admin/ui/jobs/"+j.ID, "do", "reject", "reason", "it is somebody else's")
	b.sees(200, "Rejected")
	twice = *b
	b.submitTo("/admin/ui/jobs/" + j.ID + "/delete")
	b.sees(200, "The export was deleted")
	twice.submitTo("/admin/ui/jobs/" + j.ID + "/delete")
	twice.sees(404, "Export job not found!", `id="bulk"`)

	b.visit(w.open.Base + "/admin/ui/clients")
	b.submit("name", "An app", "kind", "confidential-symmetric", "redirects", "nonsense", "scope",
		"patient/$ehi-export")
	b.sees(400, "must be a whole URL", `value="An app"`, ">nonsense</textarea>")
	b.again()
	b.sees(200, "No clients registered")
	b.submit("do", "add", "name", "An app", "id", "an-app", "kind", "confidential-symmetric",
		"redirects", "https://app.example.org/cb", "scope", "patient/$ehi-export")
	b.sees(200, "Secret (shown only once)")
	b.again()
	b.sees(200, "an-app")
	if strings.Contains(b.page, "shown only once") ||
		strings.Count(b.page, "<code>an-app</code>") != 1 {
		t.Error("a reload shows the secret once more, or adds another client")
	}
	b.submit("id", "an-app", "do", "rotate")
	b.sees(200, "Secret (shown only once)")
	twice = *b
	b.submit("id", "an-app", "do", "remove")
	b.sees(200, "The client was removed", "No clients registered")
	twice.submit("id", "an-app", "do", "remove")
	twice.sees(404, "There is no such client", "No clients registered")
	b.visit(w.open.Base + "/admin/ui/accounts")
	b.submit("do", "add", "username", "vera", "password", "short", "role", "viewer")
	b.sees(400, `value="vera"`, "<option selected>viewer")
	b.submit("do", "add", "username", "pat", "password", "four plain words here", "patient",
		"nobody")
	b.sees(400, `value="nobody"`)
	b.submit("do", "add", "username", "vera", "password", "four plain words here", "role", "viewer")
	b.sees(200, "The account was added")
	b.again()
	if strings.Contains(b.page, "was added") {
		t.Error("a message stays over a reload")
	}
	b.visit(w.open.Base + "/admin/ui/second-factor")
	b.submitTo("/admin/ui/second-factor", "code", "none")
	b.sees(400, "The code does not fit")
	_, recovery := b.setUp()
	b.submitTo("/admin/ui/logout")
	b.submit("username", "admin", "password", "admin-password")
	b.sees(200, "Enter the six-digit code")
	b.submit("code", "none")
	b.sees(401, "wrong, or was used before")
	b.again()
	b.sees(200, "Enter the six-digit code")
	b.submit("code", recovery[0])
	b.sees(200, "Exports")
	b.visit(w.open.Base + "/admin/ui/prove")
	b.submit("password", "admin-password", "code", "none")
	b.sees(401, "wrong, or was used before")
	b.submit("password", "admin-password", "code", recovery[1])
	b.sees(200, "Exports")
	b.submitTo("/admin/ui/logout")
	b.sees(200, "Sign in")

	b.visit(provider.SignsIn("nora", w.toProvider(b)))
	b.sees(200, "You are signed in")

	for _, o := range openapi.Operations() {
		if o.Method == http.MethodPost && o.IsPage() && o.Path != "/jobs/{id}" &&
			seen.seen[o.String()][http.StatusSeeOther] == 0 {
			t.Errorf("nobody has sent the form of %s: %v", o, seen.seen[o.String()])
		}
	}
	if seen.seen["POST /jobs/{id}"][http.StatusSeeOther] == 0 {
		t.Errorf("nobody has sent a release form: %v", seen.seen)
	}
}

// A secret is shown once, only to the session that created it, whatever cookies others have.
func TestASecretIsShownToItsSessionOnly(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	b, other := staffIn(w, "admin", "admin-password"), staffIn(w, "admin", "admin-password")
	page := w.open.Base + "/admin/ui/clients"
	b.visit(page)
	b.http.CheckRedirect = func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}
	b.submit("do", "add", "name", "An app", "id", "an-app", "kind", "confidential-symmetric",
		"redirects", "https://app.example.org/cb", "scope", "patient/$ehi-export")
	if b.code != http.StatusSeeOther || b.at.String() != page || b.page != "" {
		t.Fatalf("%d to %s: %s", b.code, b.at, b.page)
	}
	at, err := url.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range b.http.Jar.Cookies(at) {
		if c.Name == "ehi_flash" {
			other.http.Jar.SetCookies(at, []*http.Cookie{
				{Name: c.Name, Value: c.Value, Path: at.Path},
			})
		}
	}
	other.visit(page)
	other.sees(200, "an-app")
	if strings.Contains(other.page, "shown only once") {
		t.Error("another session reads the secret")
	}
	b.visit(page)
	b.sees(200, "Secret (shown only once)")
	b.visit(page)
	if strings.Contains(b.page, "shown only once") {
		t.Error("the secret is shown twice")
	}
}

// expire ends a browser's sessions as time does; also its tokens, if the page was open even
// longer.
func (w *world) expire(b *browser, tokens bool) {
	w.t.Helper()
	at, err := url.Parse(w.open.Base + "/admin/ui/jobs")
	if err != nil {
		w.t.Fatal(err)
	}
	of := map[string]subject.Kind{
		"sid":         subject.KindOf("admin"),
		"ehi_patient": subject.KindOf("patient"),
	}
	if tokens {
		b.ageTokens(at)
	}
	for _, c := range b.http.Jar.Cookies(at) {
		if part, ends := of[c.Name]; ends {
			if err := w.node.Bus.Sessions.Part(part).Delete(c.Value); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// ageTokens makes the tokens of a browser's pages old.
func (b *browser) ageTokens(at *url.URL) {
	for _, c := range b.http.Jar.Cookies(at) {
		if strings.HasSuffix(c.Name, "_csrf") {
			token, _, _ := strings.Cut(c.Value, ".")
			b.http.Jar.SetCookies(at, []*http.Cookie{
				{Name: c.Name, Value: token + ".1." + token, Path: "/"},
			})
		}
	}
}

// EHI-10: an administrator's input outlasts the session. After a new sign-in it is on its page
// again, except passwords, and nobody else who signs in sees it.
func TestWhatAdministratorsTypeOutlastsTheirSession(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "", p, nil)
	w.submit(pat, j.ID, newForm("labs"))
	w.wait(j.ID, ehi.Retrieved)
	b := staffIn(w, "admin", "admin-password")
	ui := w.open.Base + "/admin/ui"
	b.visit(ui + "/accounts")
	b.submit("do", "add", "username", "ada", "password", "four plain words here", "role", "admin")
	b.sees(200, "The account was added")
	for _, tokens := range []bool{false, true} {
		for _, c := range []struct {
			page, form string
			fill       []string
			has        []string
		}{
			{
				"/jobs/" + j.ID,
				"",
				[]string{"do", "reject", "reason", "half a reason"},
				[]string{`value="half a reason"`, j.ID},
			},
			{
				"/jobs/" + j.ID,
				"/admin/ui/jobs/" + j.ID + "/delete",
				nil,
				[]string{j.ID, "Nothing was sent"},
			},
			{
				"/jobs?do=reject&job=" + j.ID,
				"",
				[]string{"reason", "of them all"},
				[]string{`value="of them all"`, "Reject 1 export?"},
			},
			{
				"/jobs?q=a",
				"/admin/ui/jobs",
				[]string{"do", "approve", "job", j.ID},
				[]string{"Approve 1 export?"},
			},
			{
				"/clients",
				"",
				[]string{
					"do", "add", "name", "An app", "kind", "confidential-symmetric", "redirects",
					"https://x.example/cb", "scope", "patient/$ehi-export",
				},
				[]string{
					`value="An app"`,
					">https://x.example/cb</textarea>",
					"<option selected>confidential-symmetric",
				},
			},
			{
				"/accounts", "/admin/ui/accounts",
				[]string{
					"do", "add", "username", "vera", "password", "never to be kept",
					"role", "reviewer",
				},
				[]string{`value="vera"`, "<option selected>reviewer", "except passwords"},
			},
		} {
			b.visit(ui + c.page)
			w.expire(b, tokens)
			b.submitTo(c.form, c.fill...)
			b.sees(200, "You were signed out. Sign in, and what you typed is there again.")
			b.submit("username", "admin", "password", "admin-password")
			b.sees(200, c.has...)
			if strings.Contains(b.page, "never to be kept") {
				t.Errorf("%s: a password was kept", c.page)
			}
		}
		if now := w.wait(j.ID, ehi.Retrieved); now.Reason != "" {
			t.Errorf("something was done without a session: %+v", now)
		}
	}

	// An upload cannot be kept. The page says so and leads back.
	b.visit(ui + "/jobs/" + j.ID)
	w.expire(b, false)
	b.upload("/admin/jobs/"+j.ID+"/add-files", "letter.txt", "a letter")
	b.sees(200, "choose the files again")
	b.submit("username", "admin", "password", "admin-password")
	b.sees(200, j.ID, "No documents.")

	// Somebody else at the same browser sees nothing of it.
	b.submitTo("/admin/ui/jobs/"+j.ID, "do", "nothing", "reason", "x")
	b.visit(ui + "/jobs/" + j.ID)
	w.expire(b, false)
	b.submit("do", "reject", "reason", "between us")
	b.submit("username", "ada", "password", "four plain words here")
	b.sees(200, j.ID)
	if strings.Contains(b.page, "between us") {
		t.Error("what one administrator typed is shown to another one")
	}

	// A page that was open for too long while the session continues; and a form of another site,
	// which leaves nothing.
	b.visit(ui + "/jobs/" + j.ID)
	token := b.field("_csrf")
	at, err := url.Parse(ui)
	if err != nil {
		t.Fatal(err)
	}
	b.ageTokens(at)
	b.submit("do", "reject", "reason", "too late")
	b.sees(200, "open for too long", `value="too late"`)
	w.expire(b, false)
	b.forge(ui+"/jobs/"+j.ID, "https://evil.example/",
		url.Values{"do": {"approve"}, "reason": {"planted"}, "_csrf": {token}}.Encode())
	b.sees(200, "Sign in")
	b.submit("username", "ada", "password", "four plain words here")
	b.sees(200, j.ID)
	if strings.Contains(b.page, "planted") {
		t.Error("another site fills forms in")
	}

	// The sign-in page itself may have been open for too long.
	late := newBrowser(t)
	late.visit(w.open.Base + "/admin/ui/jobs/" + j.ID)
	w.expire(late, true)
	late.submit("username", "admin", "password", "admin-password")
	late.sees(200, "open for too long", `value="admin"`)
	late.submit("username", "admin", "password", "admin-password")
	late.sees(200, j.ID)
}

// EHI-7: a form that a patient left open is useless to others: to somebody who uses the same
// browser after the session has ended, and to another patient. The choices are kept.
func TestEHI7AnOpenFormIsItsPatientsAlone(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p, other, _, _ := w.two()
	j, b := w.formOf(p)
	open := *b
	stranger := newBrowser(t)
	stranger.visit(w.open.Base + "/my/requests")
	stranger.submit("patient", other, "password", "any")
	stranger.at, stranger.page = open.at, open.page
	stranger.submit("p.labs", "on")
	stranger.sees(403, "expired")
	w.expire(b, false)
	b.submit("p.labs", "on", "p.labs.notes", "all of them")
	b.sees(200, "You were signed out")
	if got, err := w.admin.Job(t.Context(), j.ID); err != nil || got.Status != ehi.AwaitingInput {
		t.Fatalf("a form without a session was taken: %+v, %v", got, err)
	}
	b.submit("patient", p, "password", "any")
	b.sees(200, "all of them",
		`name="p.labs" value="on" aria-describedby="p-labs-hint p-labs-count" checked`)
	b.submit("p.labs", "on")
	b.sees(200, "Your request")
	w.wait(j.ID, ehi.Retrieved)
}

// A patient's choices outlast the session too, and lead back to the form.
func TestWhatPatientsChooseOutlastsTheirSession(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p, other, pat, _ := w.two()
	j := w.kickOff(pat, "", p, nil)
	b := newBrowser(t)
	b.visit(w.open.Base + "/jobs/" + j.ID + "/customize?redirect=http%3A%2F%2Fapp.example%2Fdone")
	b.submit("patient", p, "password", "any")
	chosen := []string{
		"p.labs", "on", "p.labs.from", "2015-01-01", "p.labs.notes", "all of them", "a.genetic",
		"on", "a.genetic.text", "BRCA", "interaction", "expired",
	}
	w.expire(b, true)
	before := *b
	b.submit(chosen...)
	b.sees(200, "You were signed out")
	b.submit("patient", other, "password", "any") // who has no such form
	if strings.Contains(b.page, "BRCA") {
		t.Error("another patient sees what was chosen")
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b = &before
	b.http.Jar = jar
	b.submit(chosen...)
	b.submit("patient", p, "password", "any")
	for range 2 { // also after a reload
		b.sees(200, "all of them", `value="2015-01-01"`, `value="BRCA"`, `checked`)
		b.again()
	}
	b.submit(chosen[:8]...)
	if b.at.Host != "app.example" {
		t.Errorf("after the form at %s", b.at)
	}
	w.wait(j.ID, ehi.Retrieved)

	// Consent, cancelling a request, and sign-in.
	q := url.Values{
		"response_type": {"code"},
		"client_id":     {client.ClientID},
		"redirect_uri":  {"http://app.example/cb"},
		"scope":         {"patient/$ehi-export"},
		"state":         {"s"},
		"aud":           {w.open.Base + "/fhir"},
	}
	for _, tokens := range []bool{false, true} {
		for page, back := range map[string]string{"/authorize-app?" + q.Encode(): "Allow access?",
			"/my/requests/" + j.ID: "Yes, cancel this request"} {
			b.visit(w.open.Base + page)
			if strings.Contains(b.page, "Sign in</h1>") {
				b.submit("patient", p, "password", "any")
			}
			w.expire(b, tokens)
			b.submit("decision", "allow")
			if tokens { // the problem that is found first
				b.sees(200, "Sign in")
			}
			b.submit("patient", p, "password", "any")
			b.sees(200, back)
		}
	}
	w.wait(j.ID, ehi.Retrieved)
	late := newBrowser(t)
	late.visit(w.open.Base + "/my/requests/" + j.ID)
	w.expire(late, true)
	late.submit("patient", p, "password", "any")
	late.sees(200, "open for too long", `<option value="`+p+`" selected>`)
	late.submit("patient", p, "password", "any")
	late.sees(200, "Your request")
}

// Visitors without a session can store little, and rarely: each such form counts as a failure of
// its address.
func TestVisitorsWithoutASessionCanStoreLittle(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Abuse.PerAddress, cfg.Abuse.Window = 5, time.Hour
	w := start(t, t.TempDir(), cfg, node.Options{})
	b := newBrowser(t)
	login := w.open.Base + "/admin/ui/login"
	b.visit(login)
	send := func(reason string) bool {
		t.Helper()
		b.visit(login)
		b.forge(w.open.Base+"/admin/ui/jobs/x", login,
			url.Values{"_csrf": {b.field("_csrf")}, "do": {"approve"}, "reason": {reason}}.Encode())
		b.sees(200, "Sign in")
		return strings.Contains(b.page, "what you typed is there again")
	}
	kept := 0
	for range 20 {
		if send(strings.Repeat("x", 1<<19)) {
			kept++
		}
	}
	if kept != 5 {
		t.Errorf("%d forms of a stranger were kept", kept)
	}
}
