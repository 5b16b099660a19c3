package server

import (
	"strings"
	"testing"

	"ehi-server/shared/ehi"
)

// Every route of administrators says what it leaves in the audit trail: an event of its handler's, a
// record that it was read, or why nothing. What changes something leaves an event, and so does what
// shows patients' names, choices or withheld counts.
func TestEveryRouteOfAdministratorsLeavesItsTrail(t *testing.T) {
	personal := []string{"/admin", "/admin/jobs", "/admin/jobs/:id", "/admin/accounts", "/admin/ui/jobs", "/admin/ui/jobs/:id", "/admin/ui/jobs/:id/files", "/admin/ui/accounts"}
	used := map[string]bool{}
	for _, r := range routed(t).app.GetRoutes(true) {
		if r.Method == "HEAD" {
			continue
		}
		left, ofStaff, declared := trailOf(r.Method, r.Path)
		if !ofStaff {
			continue
		}
		name := r.Method + " " + r.Path
		used[name] = true
		switch {
		case !declared:
			t.Errorf("%s does not say what it leaves", name)
		case left.nothing != "" && r.Method != "GET" && !strings.HasSuffix(r.Path, "/openid"):
			t.Errorf("%s changes something, and leaves nothing: %s", name, left.nothing)
		case left.nothing == "" && left.action == "":
			t.Errorf("%s leaves an event of no action", name)
		}
	}
	for _, path := range personal {
		if !trails["GET "+path].reads {
			t.Errorf("GET %s shows persons, and nobody hears that it was read", path)
		}
	}
	for name := range trails {
		if !used[name] && name != "GET /admin/debug/pprof" { // of a middleware
			t.Errorf("the trail of %s is of no route", name)
		}
	}
	if trails["GET /admin/jobs"].action != ehi.ActionRead {
		t.Error("reads are not recorded as reads")
	}
}
