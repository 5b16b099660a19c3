package server

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/valyala/fasthttp"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Pages of administrators' sign-in.
const (
	signInPage = "/admin/ui/login"
	codePage   = "/admin/ui/login/code"
)

// another is another browser at the same server.
func (b *seat) another() *seat {
	return &seat{t: b.t, s: b.s, cookies: map[string]string{}}
}

// copied is another browser that has the same cookies.
func (b *seat) copied() *seat {
	out := b.another()
	for name, value := range b.cookies {
		out.cookies[name] = value
	}
	return out
}

// cookie is what the browser sends as Cookie.
func (b *seat) cookie() string {
	var jar []string
	for name, value := range b.cookies {
		jar = append(jar, name+"="+value)
	}
	return strings.Join(jar, "; ")
}

// sees follows an answer's redirects to a page, and requires a status and texts of it.
func (b *seat) sees(a *fasthttp.Response, status int, says ...string) {
	b.t.Helper()
	for range 5 {
		to := string(a.Header.Peek("Location"))
		if to == "" {
			break
		}
		a = b.ask("GET", strings.TrimPrefix(to, b.s.Origins.BaseURL), "", "Accept", "text/html")
	}
	b.page = string(a.Body())
	if a.StatusCode() != status {
		b.t.Errorf("%d, not %d: %s", a.StatusCode(), status, b.page)
	}
	for _, text := range says {
		if !strings.Contains(b.page, text) {
			b.t.Errorf("%q is not on the page: %s", text, b.page)
		}
	}
}

// visit opens a page, and requires a status and texts of it.
func (b *seat) visit(path string, status int, says ...string) {
	b.t.Helper()
	b.sees(b.ask("GET", path, "", "Accept", "text/html"), status, says...)
}

var (
	pageForms    = regexp.MustCompile(`(?s)<form method="post" action="([^"]*)"[^>]*>(.*?)</form>`)
	hiddenFields = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"[^>]*>`)
)

// submit sends the form of the page that has an address, with its hidden fields and pairs of name
// and value.
func (b *seat) submit(action string, fill ...string) *fasthttp.Response {
	b.t.Helper()
	for _, form := range pageForms.FindAllStringSubmatch(b.page, -1) {
		if form[1] != action {
			continue
		}
		sent := url.Values{}
		for _, field := range hiddenFields.FindAllStringSubmatch(form[2], -1) {
			sent.Add(field[1], html.UnescapeString(field[2]))
		}
		for pair := range slices.Chunk(fill, 2) {
			sent.Set(pair[0], pair[1])
		}
		return b.ask("POST", action, sent.Encode(), "Accept", "text/html", "Content-Type",
			"application/x-www-form-urlencoded")
	}
	b.t.Fatalf("no form for %s: %s", action, b.page)
	return nil
}

// field returns the value of a hidden field of the page.
func (b *seat) field(name string) string {
	b.t.Helper()
	for _, field := range hiddenFields.FindAllStringSubmatch(b.page, -1) {
		if field[1] == name {
			return html.UnescapeString(field[2])
		}
	}
	b.t.Fatalf("no field %s: %s", name, b.page)
	return ""
}

// signIn sends a name and a password, on the way to a page of administrators.
func (b *seat) signIn(to, name, password string) *fasthttp.Response {
	b.t.Helper()
	b.visit(to, http.StatusOK, "User name")
	return b.submit(signInPage, "username", name, "password", password)
}

// program signs in as programs do. Later requests of the seat are those of the program.
func (b *seat) program(name, password, code string) *fasthttp.Response {
	b.t.Helper()
	return b.ask("POST", "/admin/login",
		`{"username":"`+name+`","password":"`+password+`","code":"`+code+`"}`,
		"Content-Type", asJSON)
}

// wants sends a request of a program, and requires a status and a text of the answer.
func (b *seat) wants(method, path, body string, status int, says string) *fasthttp.Response {
	b.t.Helper()
	a := b.ask(method, path, body, "Content-Type", asJSON)
	if a.StatusCode() != status || !strings.Contains(string(a.Body()), says) {
		b.t.Errorf("%s %s: %d %s, want %d %q", method, path, a.StatusCode(), a.Body(), status, says)
	}
	return a
}

// appCode returns the code of an authenticator app for a secret, some steps of 30 s ahead.
func appCode(t *testing.T, secret string, ahead int) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, time.Now().Add(time.Duration(ahead)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

var (
	shownSecret = regexp.MustCompile(`Secret: <code>([A-Z2-7 ]+)</code>`)
	shownCode   = regexp.MustCompile(`<li><code>([a-z2-7-]+)</code></li>`)
)

// secret returns the secret on the page of the second factor.
func (b *seat) secret() string {
	b.t.Helper()
	m := shownSecret.FindStringSubmatch(b.page)
	if m == nil {
		b.t.Fatalf("no secret: %s", b.page)
	}
	return strings.ReplaceAll(m[1], " ", "")
}

// recovery returns the recovery codes on the page.
func (b *seat) recovery() (codes []string) {
	b.t.Helper()
	for _, m := range shownCode.FindAllStringSubmatch(b.page, -1) {
		codes = append(codes, m[1])
	}
	if len(codes) != 10 {
		b.t.Fatalf("%d recovery codes: %s", len(codes), b.page)
	}
	return codes
}

// setUp sets up a second factor on its page, with the code of the previous step, so that two more
// are still valid.
func (b *seat) setUp() (secret string, recovery []string) {
	b.t.Helper()
	secret = b.secret()
	a := b.submit(factorPage, "code", appCode(b.t, secret, -1))
	b.sees(a, http.StatusOK, "Recovery codes (shown only once)")
	return secret, b.recovery()
}

// review stores the export j, which a registered application has requested and which waits for
// its review.
func (b *seat) review() {
	b.t.Helper()
	app := auth.Client{
		ID: "app", Name: "An app", RedirectURIs: []string{"https://app.example/cb"},
		Scope: "patient/$ehi-export",
	}
	_, _, err := b.s.Auth.AddClient(b.t.Context(), app)
	if err == nil {
		err = b.s.Bus.Jobs.Create(b.t.Context(), &ehi.Job{
			Version: ehi.RecordVersion, Lane: ehi.Interactive, ID: "j", Level: ehi.OnePatient,
			Status: ehi.Retrieved, Patient: ehi.Patient{ID: "p", Name: "Ana"}, ClientID: app.ID,
			CreatedAt: now(), CompletedAt: now(), ExpiresAt: now().Add(time.Hour),
		})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
