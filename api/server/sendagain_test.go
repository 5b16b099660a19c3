package server

import (
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// While NATS is away nothing can be kept: the page that says so holds what was typed, of patients'
// and of administrators' forms alike, to be sent again as it was.
func TestAFormThatFailsForAWhileIsNotLost(t *testing.T) {
	s := routed(t)
	s.Bus.Close()
	words := `Ana "Núñez" <&> 山田`
	send := func(path string, form url.Values, header ...string) (int, string) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path,
			strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", "text/html")
		r.Header.Set("Cookie", "sid=session; ehi_patient=session; ehi_csrf=own; ehi_admin_csrf=own")
		r.Host = "server.test"
		r.Header.Set("Origin", "http://server.test")
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		a, err := s.app.Test(r, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		body, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		return a.StatusCode, html.UnescapeString(string(body))
	}
	form := url.Values{
		"interaction": {"token"}, "_csrf": {"own"}, "p.visits": {"on"}, "p.visits.notes": {words},
		"who": {"a", "b"}, "reason": {words},
	}
	paths := []string{
		"/jobs/j?lang=es", "/admin/ui/jobs/j", "/admin/ui/clients", "/authorize-app",
		"/my/requests/j",
	}
	for _, path := range paths {
		status, page := send(path, form)
		if status != http.StatusServiceUnavailable {
			t.Errorf("%s: %d", path, status)
			continue
		}
		if !strings.Contains(page, `<form method="post" action="`+path+`">`) {
			t.Errorf("%s: there is no form to send again in %s", path, page)
		}
		for name, values := range form {
			for _, value := range values {
				if !strings.Contains(page, `name="`+name+`" value="`+value+`"`) {
					t.Errorf("%s: %s %q is lost", path, name, value)
				}
			}
		}
	}
	for what, c := range map[string]struct {
		form   url.Values
		header []string
	}{
		"a password":   {url.Values{"user": {"a"}, "password": {"secret"}}, nil},
		"another site": {form, []string{"Origin", "https://other.test"}},
		"a client":     {form, []string{"Accept", "application/json"}},
	} {
		_, page := send("/jobs/j", c.form, c.header...)
		if strings.Contains(page, "<form method=\"post\" action=\"/jobs") ||
			strings.Contains(page, "secret") {
			t.Errorf("%s is repeated: %s", what, page)
		}
	}
}
