package server

import (
	"slices"
	"strings"
	"testing"

	"ehi-server/api/openapi"
	"ehi-server/auth"
)

// byMiddleware are the routes that Fiber's middleware answers, which do not appear among an
// application's.
var byMiddleware = []string{"GET /assets", "GET /admin/debug/pprof"}

// Every route has a rule, every rule a route; and the OpenAPI document says of each what its
// rule says.
func TestEveryRouteHasARule(t *testing.T) {
	s := routed(t)
	used, spellings := map[string]bool{}, 0
	for _, r := range s.app.GetRoutes(true) {
		if r.Method == "HEAD" { // of each GET
			continue
		}
		spellings++
		if _, ok := ruleOf(r.Method, r.Path); !ok {
			t.Errorf("%s %s has no rule", r.Method, r.Path)
		}
		used[r.Method+" "+
			strings.ReplaceAll(variant.ReplaceAllString(r.Path, "/fhir"), "%24", "$")] = true
	}
	for _, name := range byMiddleware {
		used[name] = true
	}
	counts := map[string]int{}
	for name, r := range rules {
		if !used[name] {
			t.Errorf("the rule of %s is of no route", name)
		}
		counts[r.says]++
	}
	for name := range used {
		t.Logf("%-45s %s", name, rules[name].says)
	}
	t.Logf("%d routes in %d spellings: %v", len(used), spellings, counts)
	schemes := map[string]string{
		"role":        "session",
		"a token":     "bearer",
		"the form's":  "interaction",
		"the initial": "initial",
	}
	for _, o := range openapi.Operations() {
		r, ok := documentedRule(o)
		if !ok {
			t.Errorf("the document's %s has no rule", o)
		}
		for begins, scheme := range schemes {
			if strings.HasPrefix(r.says, begins) != (len(o.Security) > 0 &&
				slices.Contains(o.Security, scheme)) && !(len(o.Security) > 1) {
				t.Errorf("%s: the rule is %q, the document says %v", o, r.says, o.Security)
			}
		}
	}
}

// documentedRule is the rule of an operation of the OpenAPI document.
func documentedRule(o openapi.Operation) (rule, bool) {
	template := strings.NewReplacer("{", ":", "}", "",
		"/assets/{file}", "/assets", "/pprof/{profile}", "/pprof")
	return ruleOf(o.Method, template.Replace(o.Path))
}

// A route without a rule cannot be registered.
func TestARouteWithoutARuleIsAProgrammersError(t *testing.T) {
	s := routed(t)
	for _, register := range []func(){
		func() { s.on("GET", "/new", s.handleAlive) },
		func() { s.under("/new") },
		func() { s.on("DELETE", "/fhir/metadata", s.handleAlive) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("it was registered")
				}
			}()
			register()
		}()
	}
	r, ok := ruleOf("POST", "/no-form/auto-approve/fhir/Patient/:id/%24ehi-export")
	if !ok || !strings.Contains(r.says, auth.PatientExport.String()) {
		t.Errorf("%+v", r)
	}
}
