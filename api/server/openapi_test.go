package server

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ehi-server/api/fhirapi"
	"ehi-server/api/openapi"
	"ehi-server/api/request"
	"ehi-server/api/staff"
)

// The OpenAPI document has every route of the server, and no other.
func TestTheDocumentHasEveryRoute(t *testing.T) {
	s := routed(t)
	found := map[string]bool{}
	variants := regexp.MustCompile(`^(?:/faulty/:faults)?(/no-form|/auto-approve)*(/fhir)`)
	parameter := regexp.MustCompile(`:(\w+)`)
	for _, r := range s.app.GetRoutes(true) {
		// of each GET; the other spelling of $
		if r.Method == "HEAD" || strings.Contains(r.Path, "%24") {
			continue
		}
		path := parameter.ReplaceAllString(variants.ReplaceAllString(r.Path, "$2"), "{$1}")
		if path != "/" {
			path = strings.TrimSuffix(path, "/")
		}
		found[r.Method+" "+path] = true
	}
	for _, byMiddleware := range []string{"/assets/{file}", "/admin/debug/pprof/{profile}"} {
		// Fiber's middleware answers them; the end-to-end test asks them
		found["GET "+byMiddleware] = true
	}
	for _, o := range openapi.Operations() {
		what := o.String()
		if !found[what] {
			t.Errorf("the document has %s, which the server does not, or twice", what)
		}
		delete(found, what)
	}
	for what := range found {
		t.Errorf("the document lacks %s", what)
	}
	if n := len(openapi.Operations()); n < 50 {
		t.Errorf("only %d operations", n)
	}
}

// The OpenAPI document has the variants of the FHIR base that the server has.
func TestTheDocumentHasEveryVariant(t *testing.T) {
	if got := openapi.Variants(); !slices.Equal(got, request.Bases()) {
		t.Errorf("the document has %q, the server %q", got, request.Bases())
	}
}

// The OpenAPI document has the limits that the server has.
func TestTheDocumentHasTheLimits(t *testing.T) {
	text, err := json.Marshal(openapi.Document("https://ehi.example", "1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []string{
		fmt.Sprintf("The most entries on a page, up to %d;", fhirapi.MostCount),
		fmt.Sprintf("The most events to return; 0 for all. Default %d.", staff.DefaultEvents),
	} {
		if !strings.Contains(string(text), limit) {
			t.Errorf("the document does not say %q", limit)
		}
	}
}
