package smart

import (
	"net/http"
	"testing"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// RFC 6749 4.1.2.1: an error goes back to the application only if its redirect_uri can be trusted.
func TestSMART2ErrorsGoBackToWhomIsTrusted(t *testing.T) {
	f := newFixture(t)
	for what, c := range map[string]struct {
		change []string
		back   string // the error that the application gets; "" for none
	}{
		"no client":          {[]string{"client_id", ""}, ""},
		"an unknown client":  {[]string{"client_id", "nobody"}, ""},
		"a bad redirect_uri": {[]string{"redirect_uri", "ftp://app.example.org/"}, ""},
		"a bad type":         {[]string{"response_type", "token"}, "unsupported_response_type"},
		"a bad audience":     {[]string{"aud", "http://other.test/fhir"}, "invalid_request"},
		"an unknown patient": {
			[]string{"_patient", "p2", "_auth_success", "1"}, "invalid_request",
		},
		"a refusal": {[]string{"_patient", "p1", "_auth_success", "0"}, "access_denied"},
	} {
		a := f.ask(http.MethodGet, "/auth/authorize?"+asked(c.change...).Encode(), "")
		if c.back == "" {
			f.refused(what, a, http.StatusBadRequest, "invalid_request")
			continue
		}
		to, q := f.way(a, http.StatusFound)
		if to != callback || q.Get("error") != c.back || q.Get("state") != "st" ||
			q.Get("iss") != origin || q.Get("error_description") == "" || q.Has("code") {
			t.Errorf("%s: %s %v", what, to, q)
		}
	}
}

// RFC 9700 4.12: parameters may be posted, and are not posted again to where the answer leads.
func TestSMART2AuthorizationByPost(t *testing.T) {
	f := newFixture(t)
	to, q := f.way(
		f.post("/auth/authorize", asked("_patient", "p1", "_auth_success", "1")),
		http.StatusSeeOther)
	if to != callback || q.Get("code") == "" {
		t.Errorf("it leads to %s %v", to, q)
	}
	a := f.ask(http.MethodPost, "/auth/authorize", "{}", "Content-Type", "application/json")
	f.refused("a body of JSON", a, http.StatusBadRequest, "invalid_request")
}

// A client that has failed too often is refused before its request is looked at.
func TestAuthorizationAsksForTheFailuresOfItsClient(t *testing.T) {
	f := newFixture(t)
	a := f.ask(http.MethodGet, "/auth/authorize?"+asked("client_id", "locked").Encode(), "")
	f.refused("a locked client", a, http.StatusTooManyRequests, "temporarily_unavailable")
	if len(f.clients) != 1 || len(f.limited) != 1 {
		t.Errorf("asked for are the failures of %q at %q", f.clients, f.limited)
	}
}

// The patient's decision is recorded, whatever it is.
func TestDecisionsAreRecorded(t *testing.T) {
	f := newFixture(t)
	for success, want := range map[string]ehi.Outcome{"1": "", "0": ehi.Denied} {
		q := asked("_patient", "p1", "_auth_success", success)
		f.ask(http.MethodGet, "/auth/authorize?"+q.Encode(), "")
		e := f.last()
		if e.Action != ehi.ActionAuthorize || e.Outcome != want || e.Patient != "p1" ||
			e.Client != auth.SandboxClientID || e.Detail != "patient/$ehi-export" {
			t.Errorf("%s: %+v", success, e)
		}
	}
}

// Only the sandbox lets a request name its patient (SMART-10).
func TestSMART10TheShortcutIsTheSandboxs(t *testing.T) {
	f := newFixture(t)
	to, q := f.way(f.ask(http.MethodGet, "/auth/authorize?"+asked().Encode(), ""), http.StatusFound)
	if to != "/authorize-app" || q.Get("client_id") != auth.SandboxClientID {
		t.Errorf("a request without a patient leads to %s %v", to, q)
	}
	production := &Authorization{Auth: f.auth, Origins: f.discover.Origins, Failures: f}
	f.On("GET", "/production", production.handleAuthorize)
	sent := asked("_patient", "p1", "_auth_success", "1")
	to, q = f.way(f.ask(http.MethodGet, "/production?"+sent.Encode(), ""), http.StatusFound)
	if to != "/authorize-app" || q.Has("code") {
		t.Errorf("in production it leads to %s %v", to, q)
	}
	if len(f.events) != 0 {
		t.Errorf("recorded is %+v", f.events)
	}
}
