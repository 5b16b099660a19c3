package server

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What passes in rescue mode although it is no reading is named here, one by one: a route that
// is added and says nothing is refused.
func TestRoutesThatWorkInRescueModeAreDeclared(t *testing.T) {
	var passing []string
	for route, r := range rules {
		method, path, _ := strings.Cut(route, " ")
		kicksOff := strings.Contains(path, "$")
		if passes := r.passesRescue(method); passes && method != "GET" {
			passing = append(passing, route)
		} else if method == "GET" && passes == (kicksOff || path == "/admin/backup") {
			t.Errorf("%s passes: %v", route, passes)
		}
		if r.rescue != "" && method == "GET" {
			t.Errorf("%s says why it passes, and needs no reason", route)
		}
	}
	slices.Sort(passing)
	want := []string{
		"DELETE /admin/accounts/:kind/:name",
		"DELETE /admin/clients/:id",
		"DELETE /admin/jobs/:id",
		"DELETE /jobs/:id/status",
		"POST /admin/jobs/:id/remove-files", "POST /admin/login", "POST /admin/sweep",
		"POST /admin/ui/jobs/:id/delete",
		"POST /admin/ui/jobs/:id/remove-file",
		"POST /admin/ui/login",
		"POST /admin/ui/login/code",
		"POST /admin/ui/login/openid", "POST /admin/ui/logout", "POST /admin/ui/prove",
		"POST /auth/authorize",
		"POST /auth/introspect",
		"POST /auth/revoke",
		"POST /auth/token",
		"POST /authorize-app",
		"POST /fhir/Group/_search", "POST /fhir/Patient/_search",
		"POST /my/applications",
		"POST /my/requests/:id",
		"POST /patient-login",
		"POST /patient-logout",
		"PUT /admin/log-level",
	}
	if d := cmp.Diff(want, passing); d != "" {
		t.Errorf("what passes in rescue mode (-want +got):\n%s", d)
	}
}
