package server

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"ehi-server/api/staff"
	"ehi-server/shared/ehi"

	"github.com/pquerna/otp/totp"
	"github.com/valyala/fasthttp"
)

// seat is a browser of an administrator at a server without a listener.
type seat struct {
	t       *testing.T
	s       *Server
	cookies map[string]string
	token   string // of the pages' forms
	page    string // that sees has read
}

// Pages of administrators.
const (
	provePage   = "/admin/ui/prove"
	factorPage  = "/admin/ui/second-factor"
	clientsPage = "/admin/ui/clients"
)

const seatPassword = "a long password of a test"

// seated is a signed-in administrator at a server where a proof of identity is good for ten
// minutes, and what moves its clock.
func seated(t *testing.T, change ...func(*Config)) (b *seat, later func(time.Duration)) {
	t.Helper()
	s := routed(t, append(change, func(c *Config) {
		c.Admins.User, c.Admins.Password, c.Admins.ProofAge = "admin", seatPassword, 10*time.Minute
		c.Origins.BaseURL = "http://ehi.example"
	})...)
	ahead := time.Duration(0)
	s.clock = func() time.Time { return now().Add(ahead) }
	b = &seat{t: t, s: s, cookies: map[string]string{}}
	b.get("/admin/ui/login")
	a := b.post("/admin/ui/login", "username", "admin", "password", seatPassword)
	if a.StatusCode() != http.StatusSeeOther {
		t.Fatalf("the log-in answers %d", a.StatusCode())
	}
	return b, func(d time.Duration) { ahead += d }
}

func (b *seat) ask(method, path, body string, header ...string) *fasthttp.Response {
	b.t.Helper()
	a := answer(b.s, method, path, body, append(header, "Cookie", b.cookie())...)
	for name, set := range a.Header.Cookies() {
		var c fasthttp.Cookie
		if err := c.ParseBytes(set); err != nil {
			b.t.Fatal(err)
		}
		if b.cookies[string(name)] = string(c.Value()); len(c.Value()) == 0 {
			delete(b.cookies, string(name))
		}
	}
	return a
}

var tokenField = regexp.MustCompile(`name="_csrf" value="([^"]+)"`)

// get opens a page, and is its text.
func (b *seat) get(path string) string {
	b.t.Helper()
	page := string(b.ask("GET", path, "", "Accept", "text/html").Body())
	if m := tokenField.FindStringSubmatch(page); m != nil {
		b.token = m[1]
	}
	return page
}

// post sends a form of the page that was opened last.
func (b *seat) post(path string, fields ...string) *fasthttp.Response {
	b.t.Helper()
	form := url.Values{"_csrf": {b.token}, "_as": {"admin"}}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return b.ask("POST", path, form.Encode(), "Accept", "text/html", "Content-Type",
		"application/x-www-form-urlencoded")
}

// Each route of administrators that changes something asks for a recent proof of who they are,
// or its rule says why not; and what the rule says is what the route does, by page and by API.
func TestEveryChangeOfAdministratorsAsksForARecentProofOrSaysWhyNot(t *testing.T) {
	b, later := seated(t)
	later(11 * time.Minute)
	asks, exempt := 0, 0
	for _, r := range b.s.app.GetRoutes(true) {
		rule, _ := ruleOf(r.Method, r.Path)
		if r.Method == "HEAD" || !changesAsStaff(r.Method, r.Path) && !rule.proved {
			continue
		}
		if rule.proved == (rule.unproved != "") {
			t.Errorf("%s %s says neither that it asks for a proof nor why not, or both", r.Method,
				r.Path)
		}
		switch {
		case r.Path == staff.Base+"/logout", r.Path == staff.LogOutPath,
			r.Path == staff.LogInPath, strings.HasPrefix(r.Path, staff.Base+"/login"):
			exempt++ // they end the session
			continue
		}
		path := strings.NewReplacer(":id", "x", ":kind", "admin", ":name", "x", ":file",
			"x").Replace(r.Path)
		var a *fasthttp.Response
		asked := false
		if strings.HasPrefix(r.Path, staff.Base) {
			b.get("/admin/ui/jobs")
			a = b.post(path, "password", "not it")
			to := string(a.Header.Peek("Location"))
			asked = a.StatusCode() == http.StatusSeeOther &&
				strings.HasPrefix(to, provePage+"?next=") && r.Path != provePage
		} else {
			a = b.ask(r.Method, path, `{}`, "Content-Type", asJSON)
			asked = a.StatusCode() == http.StatusUnauthorized &&
				strings.Contains(string(a.Body()), "POST /admin/login") &&
				strings.Contains(string(a.Header.Peek("WWW-Authenticate")),
					`error="insufficient_user_authentication", max_age="600"`)
		}
		if asked != rule.proved {
			t.Errorf("%s %s: asked for a proof: %v, and the rule says %v: %d %s", r.Method, r.Path,
				asked, rule.proved, a.StatusCode(), a.Body())
		}
		if asks++; !rule.proved {
			asks--
			exempt++
		}
	}
	if asks < 18 {
		t.Errorf("%d routes only ask for a proof", asks)
	}
	t.Logf("%d routes ask for a recent proof, %d say why not", asks, exempt)
}

// A rule that says neither is a programmer's error when its route is registered.
func TestAChangeWithoutAWordAboutItsProofIsAProgrammersError(t *testing.T) {
	s := routed(t)
	const name = "POST /admin/new"
	rules[name] = atLeast("admin")
	defer delete(rules, name)
	defer func() {
		if said, _ := recover().(string); !strings.Contains(said, "recent proof") {
			t.Errorf("it was registered, or refused for another reason: %q", said)
		}
	}()
	s.on("POST", "/admin/new", s.handleAlive)
}

// What was typed waits for the proof, and is there again behind it; the proof is good for ten
// minutes, and only the administrator's own password gives it.
func TestWhatWasTypedWaitsForTheProof(t *testing.T) {
	b, later := seated(t)
	client := []string{
		"do", "add", "name", "An app of mine", "id", "mine", "kind", "public",
		"redirects", "https://app.example.org/cb", "scope", "patient/$ehi-export",
	}
	b.get(clientsPage)
	if a := b.post(clientsPage,
		append(client, "id", "first")...); string(a.Header.Peek("Location")) != clientsPage {
		t.Fatalf("with a recent proof: %d %s", a.StatusCode(), a.Header.Peek("Location"))
	}
	later(10*time.Minute + time.Second)
	b.get(clientsPage)
	a := b.post(clientsPage, client...)
	prove := string(a.Header.Peek("Location"))
	if prove != provePage+"?next="+url.QueryEscape(clientsPage) {
		t.Fatalf("it leads to %s", prove)
	}
	session := b.cookies["sid"]
	if page := b.get(prove); !strings.Contains(page, "Confirm that it is you") ||
		!strings.Contains(page, "Password for admin") {
		t.Fatalf("%s", page)
	}
	for _, wrong := range []string{"", "wrong", "admin"} {
		a = b.post(provePage, "next", clientsPage, "password", wrong, "username", "somebody")
		if string(a.Header.Peek("Location")) != prove {
			t.Errorf("with the password %q it leads to %s", wrong, a.Header.Peek("Location"))
		}
		a = b.ask("GET", prove, "", "Accept", "text/html")
		if a.StatusCode() != http.StatusUnauthorized ||
			!strings.Contains(string(a.Body()), "Invalid username or password") {
			t.Errorf("after a wrong password: %d", a.StatusCode())
		}
		b.get("/admin/ui/jobs")
		if a := b.post(clientsPage, client...); string(a.Header.Peek("Location")) != prove {
			t.Error("a wrong proof is one")
		}
	}
	b.get(prove)
	a = b.post(provePage, "next", clientsPage, "password", seatPassword)
	if string(a.Header.Peek("Location")) != clientsPage || b.cookies["sid"] == session {
		t.Errorf("the proof leads to %s, in the same session: %v", a.Header.Peek("Location"),
			b.cookies["sid"] == session)
	}
	page := b.get(clientsPage)
	for _, typed := range []string{
		"An app of mine", `value="mine"`, "https://app.example.org/cb", "Nothing was sent, because",
	} {
		if !strings.Contains(page, typed) {
			t.Errorf("%q is lost: %s", typed, page)
		}
	}
	later(9 * time.Minute)
	b.get("/admin/ui/jobs")
	b.post(clientsPage, client...)
	if page := b.get(clientsPage); !strings.Contains(page, "The client") &&
		!strings.Contains(page, "<code>mine</code>") {
		t.Errorf("behind the proof nothing is added: %s", page)
	}
	b.get("/admin/ui/jobs")
	if a := b.post(provePage, "next", "https://evil.example/", "password",
		seatPassword); string(a.Header.Peek("Location")) != "/admin/ui/jobs" {
		t.Errorf("the proof leads on to %s", a.Header.Peek("Location"))
	}
}

// Whoever takes long to set up a second factor that is required proves once more who he is, and
// goes on.
func TestASecondFactorCanBeSetUpLate(t *testing.T) {
	b, later := seated(t, func(c *Config) { c.Admins.RequireSecondFactor = true })
	shown := regexp.MustCompile(`Secret: <code>([A-Z2-7 ]+)<`)
	secret := func() string {
		if m := shown.FindStringSubmatch(b.get(factorPage)); m != nil {
			return strings.ReplaceAll(m[1], " ", "")
		}
		t.Fatal("no secret")
		return ""
	}
	first := secret()
	later(11 * time.Minute)
	a := b.post(factorPage, "do", "set-up", "code", "000000", "next", clientsPage)
	prove := string(a.Header.Peek("Location"))
	if !strings.HasPrefix(prove, provePage+"?next=") {
		t.Fatalf("it leads to %s", prove)
	}
	if page := b.get(prove); !strings.Contains(page, "Password for admin") {
		t.Fatalf("%s", page)
	}
	b.post(provePage, "next", factorPage, "password", seatPassword)
	code, err := totp.GenerateCode(secret(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b.post(factorPage, "do", "set-up", "code", code)
	if page := b.get(factorPage); !strings.Contains(page, "Recovery codes (shown only once)") ||
		strings.Contains(page, first) {
		t.Errorf("it is not set up: %s", page)
	}
	if page := b.get(clientsPage); !strings.Contains(page, "No clients registered") {
		t.Errorf("behind the set-up: %s", page)
	}
}

// With an old proof, an administrator approves nothing on the pages. What was typed is there
// again after the proof, and the export still waits. Documents can be added and exports viewed
// without a new proof.
func TestAnOldProofApprovesNothing(t *testing.T) {
	b, later := seated(t, func(c *Config) {
		c.AttachmentsPerCall, c.AttachmentBytes = 10, 1<<20
	})
	b.review()
	later(11 * time.Minute)
	b.wants("GET", "/admin/jobs/j", "", 200, "")
	letter := "--x\r\nContent-Disposition: form-data; name=\"attachments\"; " +
		"filename=\"letter.txt\"\r\n\r\na letter\r\n--x--\r\n"
	a := b.ask("POST", "/admin/jobs/j/add-files", letter, "Content-Type",
		"multipart/form-data; boundary=x")
	if a.StatusCode() != http.StatusOK {
		t.Errorf("a document: %d %s", a.StatusCode(), a.Body())
	}

	const page, reason = "/admin/ui/jobs/j", "All of it is hers"
	b.visit(page, 200, "Decide")
	b.sees(b.submit(page, "do", "approve", "reason", reason), 200, "Confirm that it is you")
	b.sees(b.submit(provePage, "password", seatPassword), 200,
		"Nothing was sent, because you had to confirm that it is you", `value="`+reason+`"`,
		"Waits for review")
	later(11 * time.Minute)
	b.visit("/admin/ui/jobs", 200)
	b.sees(b.submit("/admin/ui/jobs", "do", "approve", "job", "j"), 200, "Confirm that it is you")
	b.sees(b.submit(provePage, "password", seatPassword), 200, "Approve 1 export?")
	later(11 * time.Minute)
	b.sees(b.submit("/admin/ui/jobs", "reason", "yes"), 200, "Confirm that it is you")
	got, err := b.s.Bus.Jobs.Get(t.Context(), "j")
	if err != nil || got.Status != ehi.Retrieved {
		t.Errorf("%+v, %v", got, err)
	}
}
