package smart

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Pages write hosts in ASCII: letters of other scripts can imitate a known host.
func TestAddressesAreShownInPlainLetters(t *testing.T) {
	for address, want := range map[string]string{
		"https://app.example.org/cb":      "https://app.example.org/cb",
		"https://\u0430pp.example.org/cb": "https://xn--pp-6kc.example.org/cb",
		"com.example.app:/cb":             "com.example.app:/cb",
	} {
		if got := plainAddress(address); got != want {
			t.Errorf("%q is shown as %q, want %q", address, got, want)
		}
	}
}

// consentPage opens the consent page, and returns its text, its token and its cookie.
func (f *fixture) consentPage(q url.Values) (text, token, cookie string) {
	f.t.Helper()
	a := f.ask(http.MethodGet, "/authorize-app?"+q.Encode(), "")
	m := regexp.MustCompile(`name="_csrf" value="([^"]+)"`).FindStringSubmatch(a.body)
	var c fasthttp.Cookie
	if a.status != http.StatusOK || m == nil || c.Parse(a.header("Set-Cookie")) != nil {
		f.t.Fatalf("%d %.400s", a.status, a.body)
	}
	if a.header("Cache-Control") != "no-store" {
		f.t.Errorf("caches may keep the page: %q", a.header("Cache-Control"))
	}
	return a.body, m[1], string(c.Key()) + "=" + string(c.Value())
}

// Nobody consents who is not signed in: the page leads to the sign-in, and back.
func TestConsentNeedsASession(t *testing.T) {
	f := newFixture(t)
	a := f.ask(http.MethodGet, "/authorize-app?"+asked().Encode(), "")
	to, q := f.way(a, http.StatusFound)
	back, err := url.Parse(q.Get("action"))
	if to != "/patient-login" || err != nil || back.Path != "/authorize-app" ||
		back.Query().Get("client_id") != auth.SandboxClientID {
		t.Errorf("it leads to %s %v", to, q)
	}
	f.patient = "p1"
	_, token, cookie := f.consentPage(asked())
	f.patient = ""
	form := asked("_csrf", token, "decision", "allow")
	to, _ = f.way(f.post("/authorize-app", form, "Cookie", cookie), http.StatusSeeOther)
	if to != "/patient-login" || len(f.events) != 0 {
		t.Errorf("without a session the form leads to %s, recorded is %+v", to, f.events)
	}
}

// The patient's decision takes the application's request back to it.
func TestTheDecisionGoesBackToTheApplication(t *testing.T) {
	f := newFixture(t)
	f.patient = "p1"
	text, token, cookie := f.consentPage(asked())
	for _, want := range []string{"Ada Lovelace", "https://app.example.org"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page: %s", want, text)
		}
	}
	for what, want := range map[string]string{
		"allow": "", "deny": "access_denied", "": "access_denied",
	} {
		form := asked("_csrf", token, "decision", what)
		to, q := f.way(f.post("/authorize-app", form, "Cookie", cookie), http.StatusSeeOther)
		if to != callback || q.Get("error") != want || (q.Get("code") != "") != (want == "") ||
			q.Get("state") != "st" {
			t.Errorf("%q leads to %s %v", what, to, q)
		}
		e := f.last()
		if e.Action != ehi.ActionAuthorize || (e.Outcome == ehi.Denied) != (want != "") {
			t.Errorf("%q: recorded is %+v", what, e)
		}
	}
	f.events = nil
	forged := f.post("/authorize-app", asked("decision", "allow"), "Cookie", cookie)
	if forged.header("Location") != "" || len(f.events) != 0 {
		t.Errorf("a form without the page's token leads to %q", forged.header("Location"))
	}
}

// The page says of an application that registered itself that nobody has checked it.
func TestTheConsentPageWarnsOfUncheckedApplications(t *testing.T) {
	f := newFixture(t)
	f.patient = "p1"
	const warning = "This app registered itself."
	if text, _, _ := f.consentPage(asked()); strings.Contains(text, warning) {
		t.Error("it warns of the sandbox's own client")
	}
	told := f.read(f.enroll(initialToken, registration(`,"token_endpoint_auth_method":"none"`)))
	id, _ := told["client_id"].(string)
	q := asked("client_id", id, "code_challenge_method", "S256",
		"code_challenge", strings.Repeat("c", 43))
	if text, _, _ := f.consentPage(q); !strings.Contains(text, warning) {
		t.Errorf("it does not warn: %s", text)
	}
}
