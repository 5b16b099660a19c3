package server

import (
	"strings"
	"testing"
)

// Every page of a sandbox says at its top that it is one, in the visitor's language; no page of a
// production server does.
func TestPagesOfASandboxSayThatTheyAre(t *testing.T) {
	english, spanish :=
		"Test server: nothing here is protected.", "Servidor de pruebas: aquí nada está protegido."
	for _, sandbox := range []bool{true, false} {
		s := routed(t, func(c *Config) { c.Sandbox = sandbox })
		for _, page := range []struct{ path, language, banner string }{
			{"/patient-login", "en", english},
			{"/patient-login", "es", spanish},
			{"/my/requests/x", "es", spanish},
			{"/docs/ehi", "en", english},
			{"/docs/api", "en", english},
			{"/admin/ui/login", "es", english},
			{"/nowhere", "es", spanish},
		} {
			a := answer(s, "GET", page.path, "", "Accept", "text/html", "Accept-Language",
				page.language)
			if location := string(a.Header.Peek("Location")); location != "" {
				a = answer(s, "GET", location, "", "Accept", "text/html", "Accept-Language",
					page.language)
			}
			body := string(a.Body())
			if !strings.Contains(body, "<html") || strings.Contains(body, page.banner) != sandbox ||
				strings.Contains(body, `class="sandbox"`) != sandbox {
				t.Errorf("sandbox %v: %s (%s) %d: %.600s", sandbox, page.path, page.language,
					a.StatusCode(), body)
			}
		}
	}
}
